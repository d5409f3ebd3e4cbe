//! Times as containerd writes them: RFC 3339 with as many digits of the fraction as are not trailing zeros,
//! and the node's own zone.

use jiff::{Timestamp, tz::Offset};

/// Half an hour off the full one, so that who reads only the hours is found out.
const ZONE: (&str, i32) = ("+05:30", 5 * 3600 + 30 * 60);

const NANOS: u64 = 1_000_000_000;

/// Formats times that mostly share their second with the one before.
#[derive(Debug, Default)]
pub(crate) struct Stamps {
    second: Option<u64>,
    utc: String,
    zoned: String,
}

impl Stamps {
    pub(crate) fn push(&mut self, out: &mut Vec<u8>, unix_ns: u64, zoned: bool) {
        let second = unix_ns / NANOS;
        if self.second != Some(second) {
            self.second = Some(second);
            self.utc = to_the_second(second, 0);
            self.zoned = to_the_second(second, ZONE.1);
        }
        out.extend_from_slice(if zoned { self.zoned.as_bytes() } else { self.utc.as_bytes() });
        push_fraction(out, unix_ns % NANOS);
        out.extend_from_slice(if zoned { ZONE.0 } else { "Z" }.as_bytes());
    }
}

fn push_fraction(out: &mut Vec<u8>, mut nanos: u64) {
    if nanos == 0 {
        return;
    }
    let mut digits = [b'0'; 9];
    for digit in digits.iter_mut().rev() {
        *digit += u8::try_from(nanos % 10).expect("one digit");
        nanos /= 10;
    }
    let len = digits.iter().rposition(|digit| *digit != b'0').expect("not zero") + 1;
    out.push(b'.');
    out.extend_from_slice(&digits[..len]);
}

fn to_the_second(second: u64, offset: i32) -> String {
    let second = i64::try_from(second).expect("the clock is before the year 9999");
    let time = Timestamp::from_second(second).expect("the clock is before the year 9999");
    let offset = Offset::from_seconds(offset).expect("a constant below a day");
    offset.to_datetime(time).strftime("%Y-%m-%dT%H:%M:%S").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fractions_are_trimmed_and_zones_kept() {
        let mut stamps = Stamps::default();
        let mut render = |ns, zoned| {
            let mut out = Vec::new();
            stamps.push(&mut out, ns, zoned);
            String::from_utf8(out).expect("ASCII")
        };
        let base = 1_763_683_200 * NANOS;
        assert_eq!(render(base, false), "2025-11-21T00:00:00Z");
        assert_eq!(render(base + 120_000_000, false), "2025-11-21T00:00:00.12Z");
        assert_eq!(render(base + 1, true), "2025-11-21T05:30:00.000000001+05:30");
        assert_eq!(render(base + NANOS + 123_456_789, false), "2025-11-21T00:00:01.123456789Z");
    }
}
