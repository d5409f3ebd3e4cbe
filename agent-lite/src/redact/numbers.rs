//! Payment cards and bank accounts: runs of digits that prove themselves by their check.
//!
//! Finding a run is cheap: whatever is at least n bytes long covers one of each n bytes in a row, so only
//! every nth byte is looked at until one fits.

use std::ops::Range;

use super::builtin::{ends_escape, is_within_word};

/// The shortest card.
const CARD: usize = 13;
/// The shortest IBAN, Norway's.
const IBAN: usize = 15;
/// The longest of today.
const IBAN_LONGEST: usize = 33;

fn runs(bytes: &[u8], shortest: usize, is_in: impl Fn(u8) -> bool) -> impl Iterator<Item = Range<usize>> {
    let mut probe = shortest - 1;
    std::iter::from_fn(move || {
        while probe < bytes.len() {
            if !is_in(bytes[probe]) {
                probe += shortest;
                continue;
            }
            // What lies before the last probe cannot belong to it: that byte did not fit.
            let before = bytes[..probe].iter().rev().take_while(|byte| is_in(**byte)).count();
            let after = bytes[probe..].iter().take_while(|byte| is_in(**byte)).count();
            let found = probe - before..probe + after;
            probe = found.end + shortest;
            if found.len() >= shortest {
                return Some(found);
            }
        }
        None
    })
}

fn is_of_card(byte: u8) -> bool {
    byte.is_ascii_digit() || matches!(byte, b' ' | b'-')
}

fn is_of_iban(byte: u8) -> bool {
    byte.is_ascii_digit() || byte.is_ascii_uppercase() || byte == b' '
}

/// Many lines have a long number, most of all a time; few a card.
pub(super) fn may_hold_card(bytes: &[u8]) -> bool {
    let is_long = |run: Range<usize>| bytes[run].iter().filter(|byte| byte.is_ascii_digit()).count() >= CARD;
    if !runs(bytes, CARD, is_of_card).any(is_long) {
        return false;
    }
    // The end of an escape may stand right before a card, and be taken for its beginning.
    let mut found = memchr::memchr(b'\\', bytes).is_some();
    if !found {
        cards(bytes, &mut |_| found = true);
    }
    found
}

pub(super) fn may_hold_iban(bytes: &[u8]) -> bool {
    runs(bytes, IBAN, is_of_iban).any(|run| bytes[run].windows(4).any(begins_iban))
}

fn begins_iban(bytes: &[u8]) -> bool {
    matches!(bytes, [b'A'..=b'Z', b'A'..=b'Z', b'0'..=b'9', b'0'..=b'9', ..])
}

/// How a number is written in groups, as cards show it; the last group of the first kind may be missing.
const GROUPS: [&[usize]; 6] =
    [&[4, 4, 4, 4, 3], &[4, 4, 4, 4, 2], &[4, 4, 4, 4, 1], &[4, 4, 4, 4], &[4, 6, 5], &[4, 6, 4]];

pub(super) fn cards(bytes: &[u8], each: &mut dyn FnMut(Range<usize>)) {
    for run in runs(bytes, CARD, is_of_card) {
        let mut at = run.start;
        while at < run.end {
            if !bytes[at].is_ascii_digit() {
                at += 1;
                continue;
            }
            let group = digits_at(bytes, at);
            // The last digits of an escape, as of `\x20`, may have been taken for its first.
            let past_escape = (at + 1..group).take(4).find(|start| ends_escape(&bytes[..*start]));
            let mut begins = std::iter::once(at).chain(past_escape);
            match begins.find_map(|start| Some(start..card_at(bytes, start, group)?)) {
                Some(card) => {
                    at = card.end;
                    each(card);
                }
                None => at = group,
            }
        }
    }
}

/// Where the digits end that stand at `at`.
fn digits_at(bytes: &[u8], at: usize) -> usize {
    at + bytes[at..].iter().take_while(|byte| byte.is_ascii_digit()).count()
}

/// Where the card ends whose first group of digits is `at..group`.
fn card_at(bytes: &[u8], at: usize, group: usize) -> Option<usize> {
    let is_card = |end: usize| {
        let is_begin = match bytes[..at] {
            // A fraction.
            [.., digit, b'.'] if digit.is_ascii_digit() => false,
            _ => !is_within_word(bytes, at),
        };
        let is_end = match bytes[end..] {
            [b'.', digit, ..] if digit.is_ascii_digit() => false,
            [byte, ..] => !byte.is_ascii_alphanumeric(),
            [] => true,
        };
        is_begin && is_end && is_card_number(&bytes[at..end])
    };
    if (CARD..=19).contains(&(group - at)) {
        return is_card(group).then_some(group);
    }
    if group - at != 4 {
        return None;
    }
    let separator = *bytes.get(group)?;
    GROUPS.iter().find_map(|lengths| {
        let mut end = at;
        for (index, length) in lengths.iter().enumerate() {
            let start = end + usize::from(index > 0);
            if index > 0 && bytes.get(end) != Some(&separator) {
                return None;
            }
            end = start + length;
            // Also where a group is longer: its rest would not be a separator.
            if !bytes.get(start..end)?.iter().all(u8::is_ascii_digit) {
                return None;
            }
        }
        is_card(end).then_some(end)
    })
}

fn is_card_number(text: &[u8]) -> bool {
    let digits = || text.iter().filter(|byte| byte.is_ascii_digit()).map(|byte| u32::from(byte - b'0'));
    let prefix = digits().take(4).fold(0, |number, digit| number * 10 + digit);
    is_issued(prefix, digits().count()) && passes_luhn(digits())
}

/// Whether anyone issues cards of this length that begin so.
fn is_issued(prefix: u32, length: usize) -> bool {
    match prefix {
        // Visa
        4000..=4999 => matches!(length, 13 | 16 | 19),
        // Mastercard, Mir
        5100..=5599 | 2221..=2720 | 2200..=2204 => length == 16,
        // American Express
        3400..=3499 | 3700..=3799 => length == 15,
        // Diners Club
        3000..=3059 | 3090..=3099 | 3600..=3699 | 3800..=3999 => length == 14 || length == 16,
        // JCB, Discover, UnionPay, Maestro
        3528..=3589 | 6011 | 6440..=6599 | 6200..=6299 => (16..=19).contains(&length),
        5018 | 5020 | 5038 | 5893 | 6304 | 6759 | 6761..=6763 => (16..=19).contains(&length),
        _ => false,
    }
}

fn passes_luhn(digits: impl DoubleEndedIterator<Item = u32>) -> bool {
    let doubled = |digit: u32| if digit > 4 { digit * 2 - 9 } else { digit * 2 };
    let sum: u32 = digits.rev().enumerate().map(|(at, digit)| if at % 2 == 1 { doubled(digit) } else { digit }).sum();
    sum.is_multiple_of(10)
}

pub(super) fn ibans(bytes: &[u8], each: &mut dyn FnMut(Range<usize>)) {
    for run in runs(bytes, IBAN, is_of_iban) {
        let mut at = run.start;
        while at + IBAN <= run.end {
            match (!is_within_word(bytes, at) && begins_iban(&bytes[at..])).then(|| iban_at(&bytes[at..])).flatten() {
                Some(length) => {
                    each(at..at + length);
                    at += length;
                }
                None => at += 1,
            }
        }
    }
}

/// Bytes of the IBAN that the text begins with, in groups of four or without any.
fn iban_at(bytes: &[u8]) -> Option<usize> {
    let length = (LENGTHS.iter()).find_map(|(country, length)| bytes.starts_with(&country[..]).then_some(*length))?;
    let mut account = [0_u8; IBAN_LONGEST];
    let mut at = 0;
    let is_grouped = bytes.get(4) == Some(&b' ');
    for (index, slot) in account[..length].iter_mut().enumerate() {
        if is_grouped && index > 0 && index % 4 == 0 {
            if bytes.get(at) != Some(&b' ') {
                return None;
            }
            at += 1;
        }
        *slot = *bytes.get(at).filter(|byte| byte.is_ascii_digit() || byte.is_ascii_uppercase())?;
        at += 1;
    }
    let ends = !bytes.get(at).is_some_and(u8::is_ascii_alphanumeric);
    (ends && passes_mod_97(&account[..length])).then_some(at)
}

fn passes_mod_97(account: &[u8]) -> bool {
    let (country, rest) = account.split_at(4);
    let step = |rest: u32, byte: &u8| match byte {
        b'0'..=b'9' => (rest * 10 + u32::from(byte - b'0')) % 97,
        _ => (rest * 100 + u32::from(byte - b'A') + 10) % 97,
    };
    rest.iter().chain(country).fold(0, step) == 1
}

/// Facts: the IBAN registry of SWIFT.
#[rustfmt::skip]
const LENGTHS: [(&[u8; 2], usize); 88] = [
    (b"AD", 24), (b"AE", 23), (b"AL", 28), (b"AT", 20), (b"AZ", 28), (b"BA", 20), (b"BE", 16), (b"BG", 22),
    (b"BH", 22), (b"BI", 27), (b"BR", 29), (b"BY", 28), (b"CH", 21), (b"CR", 22), (b"CY", 28), (b"CZ", 24),
    (b"DE", 22), (b"DJ", 27), (b"DK", 18), (b"DO", 28), (b"EE", 20), (b"EG", 29), (b"ES", 24), (b"FI", 18),
    (b"FK", 18), (b"FO", 18), (b"FR", 27), (b"GB", 22), (b"GE", 22), (b"GI", 23), (b"GL", 18), (b"GR", 27),
    (b"GT", 28), (b"HN", 28), (b"HR", 21), (b"HU", 28), (b"IE", 22), (b"IL", 23), (b"IQ", 23), (b"IS", 26),
    (b"IT", 27), (b"JO", 30), (b"KW", 30), (b"KZ", 20), (b"LB", 28), (b"LC", 32), (b"LI", 21), (b"LT", 20),
    (b"LU", 20), (b"LV", 21), (b"LY", 25), (b"MC", 27), (b"MD", 24), (b"ME", 22), (b"MK", 19), (b"MN", 20),
    (b"MR", 27), (b"MT", 31), (b"MU", 30), (b"NI", 28), (b"NL", 18), (b"NO", 15), (b"OM", 23), (b"PK", 24),
    (b"PL", 28), (b"PS", 29), (b"PT", 25), (b"QA", 29), (b"RO", 24), (b"RS", 22), (b"RU", 33), (b"SA", 24),
    (b"SC", 31), (b"SD", 18), (b"SE", 24), (b"SI", 19), (b"SK", 24), (b"SM", 27), (b"SO", 23), (b"ST", 25),
    (b"SV", 28), (b"TL", 23), (b"TN", 24), (b"TR", 26), (b"UA", 29), (b"VA", 22), (b"VG", 24), (b"XK", 20),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_not_taken_for_a_card_and_what_follows_an_escape_is() {
        assert!(!may_hold_card(br#"{"wt":1795186800000000000,"ms":"1795186800123","card":"none"}"#));
        assert!(may_hold_card(br#"{"wt":1795186800000000000,"card":4111111111111111}"#));
        assert!(may_hold_card(br#"{"card":"\u00a04111111111111111"}"#));
        assert!(may_hold_card(br#"{"card":"\n4111111111111111"}"#));
    }
}
