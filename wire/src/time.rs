//! RFC 3339 times to nanoseconds since the Unix epoch and back, for the one format that runs once a
//! line. (A general date library costs several times the whole line; tests compare with one.)

/// Nanoseconds in a second.
pub const SECOND: i64 = 1_000_000_000;

/// Parses `YYYY-MM-DDTHH:MM:SS[.fraction](Z|±HH:MM)` with a fraction of 1 to 9 digits, as Go's
/// `RFC3339Nano` writes it (containerd trims trailing zeros, conmon writes nine digits, both use the
/// node's own offset). Years 1678 to 2261, what fits 64 bits. Leap seconds are refused.
#[must_use]
pub fn parse(text: &[u8]) -> Option<i64> {
    if text.len() < 20 || text.len() > 35 {
        return None;
    }
    let minute = parse_minute(text.first_chunk()?)?;
    parse_rest(minute, &text[17..])
}

/// Parses many times that mostly share their minute: keeps the last one's text and value.
#[derive(Debug, Default)]
pub struct Parser {
    text: [u8; 17],
    minute: Option<i64>,
}

impl Parser {
    /// As [`parse`].
    pub fn parse(&mut self, text: &[u8]) -> Option<i64> {
        if text.len() < 20 || text.len() > 35 {
            return None;
        }
        let prefix: &[u8; 17] = text.first_chunk()?;
        if *prefix != self.text || self.minute.is_none() {
            self.minute = parse_minute(prefix);
            self.text = *prefix;
        }
        parse_rest(self.minute?, &text[17..])
    }
}

/// `YYYY-MM-DDTHH:MM:` in nanoseconds.
fn parse_minute(text: &[u8; 17]) -> Option<i64> {
    let separators = [text[4], text[7], text[10], text[13], text[16]];
    if separators != *b"--T::" {
        return None;
    }
    let year = two(text[0], text[1])? * 100 + two(text[2], text[3])?;
    let month = two(text[5], text[6])?;
    let day = two(text[8], text[9])?;
    let hour = two(text[11], text[12])?;
    let minute = two(text[14], text[15])?;
    if !(1678..=2261).contains(&year) || !(1..=12).contains(&month) || day < 1 || day > days_in(year, month) {
        return None;
    }
    if hour > 23 || minute > 59 {
        return None;
    }
    let seconds = days_from_civil(year, month, day) * 86_400 + hour * 3_600 + minute * 60;
    Some(seconds * SECOND)
}

/// `SS[.fraction](Z|±HH:MM)` after `minute`.
fn parse_rest(minute: i64, text: &[u8]) -> Option<i64> {
    let second = two(text[0], text[1])?;
    if second > 59 {
        return None;
    }
    let mut rest = &text[2..];
    let mut nanos = 0;
    if let Some(fraction) = rest.strip_prefix(b".") {
        let digits = fraction.iter().take_while(|byte| byte.is_ascii_digit()).count();
        if digits == 0 || digits > 9 {
            return None;
        }
        nanos = fraction[..digits].iter().fold(0, |n, digit| n * 10 + i64::from(digit - b'0'));
        nanos *= POWERS_OF_TEN[9 - digits];
        rest = &fraction[digits..];
    }
    let offset = match *rest {
        [b'Z'] => 0,
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
            let (hours, minutes) = (two(h1, h2)?, two(m1, m2)?);
            if hours > 23 || minutes > 59 {
                return None;
            }
            let seconds = hours * 3_600 + minutes * 60;
            if sign == b'+' { seconds } else { -seconds }
        }
        _ => return None,
    };
    Some(minute + (second - offset) * SECOND + nanos)
}

const POWERS_OF_TEN: [i64; 9] = [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000];

fn two(tens: u8, ones: u8) -> Option<i64> {
    (tens.is_ascii_digit() && ones.is_ascii_digit()).then(|| i64::from(tens - b'0') * 10 + i64::from(ones - b'0'))
}

fn days_in(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970-01-01 in the proleptic Gregorian calendar, counting years from March so that the
/// leap day comes last.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// Writes a time as `YYYY-MM-DDTHH:MM:SS.nnnnnnnnnZ`.
pub fn write(nanos: i64, out: &mut Vec<u8>) {
    let seconds = nanos.div_euclid(SECOND);
    let days = seconds.div_euclid(86_400);
    let of_day = seconds.rem_euclid(86_400);

    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);

    digits::<4>(year, out);
    out.push(b'-');
    digits::<2>(month, out);
    out.push(b'-');
    digits::<2>(day, out);
    out.push(b'T');
    digits::<2>(of_day / 3_600, out);
    out.push(b':');
    digits::<2>(of_day / 60 % 60, out);
    out.push(b':');
    digits::<2>(of_day % 60, out);
    out.push(b'.');
    digits::<9>(nanos.rem_euclid(SECOND), out);
    out.push(b'Z');
}

fn digits<const N: usize>(mut value: i64, out: &mut Vec<u8>) {
    let mut text = [b'0'; N];
    for digit in text.iter_mut().rev() {
        *digit += (value % 10) as u8;
        value /= 10;
    }
    out.extend_from_slice(&text);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text_of(nanos: i64) -> String {
        let mut out = Vec::new();
        write(nanos, &mut out);
        String::from_utf8(out).unwrap()
    }

    proptest! {
        #[test]
        fn a_time_reads_back_as_it_prints(nanos in -9_214_646_400_000_000_000_i64..9_214_646_400_000_000_000) {
            prop_assert_eq!(parse(text_of(nanos).as_bytes()), Some(nanos));
        }

        #[test]
        fn it_agrees_with_a_date_library(nanos in -9_214_646_400_000_000_000_i64..9_214_646_400_000_000_000, minutes in -1439_i32..1440) {
            let moment = jiff::Timestamp::from_nanosecond(nanos.into()).unwrap();
            let zone = jiff::tz::Offset::from_seconds(minutes * 60).unwrap();
            // Go's form: fraction trimmed, numeric offset.
            let text = format!("{}", moment.display_with_offset(zone));
            prop_assert_eq!(parse(text.as_bytes()), Some(nanos), "{}", text);
        }

        #[test]
        fn a_parser_that_remembers_agrees_with_one_that_does_not(texts in prop::collection::vec("[0-9]{4}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-6][0-9](\\.[0-9]{1,10})?(Z|[+-][0-9]{2}:[0-9]{2})", 1..8)) {
            let mut parser = Parser::default();
            for text in &texts {
                prop_assert_eq!(parser.parse(text.as_bytes()), parse(text.as_bytes()), "{}", text);
            }
        }

        #[test]
        fn any_bytes_are_looked_at_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = parse(&bytes);
        }
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "2025-10-26",
            "2025-10-26T10:15:30",
            "2025-02-29T00:00:00Z",
            "2025-13-01T00:00:00Z",
            "2025-10-26T24:00:00Z",
            "2025-10-26T10:60:00Z",
            "2025-10-26T10:15:60Z",
            "2025-10-26T10:15:30.Z",
            "2025-10-26T10:15:30.1234567890Z",
            "2025-10-26 10:15:30Z",
            "2025-10-26T10:15:30+0200",
            "1677-01-01T00:00:00Z",
        ] {
            assert_eq!(parse(text.as_bytes()), None, "{text}");
        }
        assert_eq!(parse(b"1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(parse(b"1970-01-01T02:00:00.5+02:00"), Some(500_000_000));
    }
}
