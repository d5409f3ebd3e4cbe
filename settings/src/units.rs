//! Sizes and durations as people write them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Not a size or duration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a number with its unit")]
pub struct InvalidUnit;

const SIZES: [(&str, u64); 11] = [
    ("TiB", 1 << 40),
    ("TB", 1_000_000_000_000),
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("KB", 1_000),
    ("kB", 1_000),
    ("B", 1),
    ("", 1),
];

/// A number of bytes: reads `64MiB`, `1 GB` and `4096`; prints in the largest unit that is exact.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub u64);

impl FromStr for Bytes {
    type Err = InvalidUnit;

    fn from_str(text: &str) -> Result<Self, InvalidUnit> {
        let (number, unit) = text.split_at(text.bytes().take_while(u8::is_ascii_digit).count());
        let unit = unit.trim_start_matches(' ');
        let (_, factor) = SIZES.iter().find(|(name, _)| *name == unit).ok_or(InvalidUnit)?;
        let number: u64 = number.parse().map_err(|_| InvalidUnit)?;
        number.checked_mul(*factor).map(Self).ok_or(InvalidUnit)
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exact = |(_, factor): &&(&str, u64)| self.0 >= *factor && self.0.is_multiple_of(*factor);
        let (unit, factor) = SIZES.iter().find(exact).unwrap_or(&("B", 1));
        write!(f, "{}{unit}", self.0 / factor)
    }
}

const SPANS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// A duration: reads and prints `250ms`, `1m30s`, `24h`, `7d`; whole milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

impl FromStr for Span {
    type Err = InvalidUnit;

    fn from_str(text: &str) -> Result<Self, InvalidUnit> {
        let mut total: u64 = 0;
        let mut rest = text;
        loop {
            let (number, after) = rest.split_at(rest.bytes().take_while(u8::is_ascii_digit).count());
            let (unit, after) = after.split_at(after.bytes().take_while(u8::is_ascii_lowercase).count());
            let (_, factor) = SPANS.iter().find(|(name, _)| *name == unit).ok_or(InvalidUnit)?;
            let number: u64 = number.parse().map_err(|_| InvalidUnit)?;
            let part = number.checked_mul(*factor).ok_or(InvalidUnit)?;
            total = total.checked_add(part).ok_or(InvalidUnit)?;
            if after.is_empty() {
                return Ok(Self(Duration::from_millis(total)));
            }
            rest = after;
        }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        if rest == 0 {
            return f.write_str("0s");
        }
        for (unit, factor) in SPANS {
            if rest >= factor {
                write!(f, "{}{unit}", rest / factor)?;
                rest %= factor;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes_are_read() {
        for (text, expected) in [
            ("0", Some(0)),
            ("4096", Some(4096)),
            ("64MiB", Some(64 << 20)),
            ("64 MiB", Some(64 << 20)),
            ("1GB", Some(1_000_000_000)),
            ("1kB", Some(1_000)),
            ("5B", Some(5)),
            ("", None),
            ("MiB", None),
            ("1.5GiB", None),
            ("-1", None),
            ("1Mb", None),
            ("99999999TiB", None),
            ("1é", None),
        ] {
            assert_eq!(text.parse().ok(), expected.map(Bytes), "{text}");
        }
    }

    #[test]
    fn durations_are_read() {
        for (text, expected) in [
            ("250ms", Some(250)),
            ("1m30s", Some(90_000)),
            ("24h", Some(86_400_000)),
            ("7d", Some(604_800_000)),
            ("0s", Some(0)),
            ("30", None),
            ("", None),
            ("s", None),
            ("1.5s", None),
            ("1m30", None),
            ("-1s", None),
            ("1S", None),
            ("1 s", None),
            ("999999999999999d", None),
            ("1é", None),
        ] {
            assert_eq!(text.parse().ok(), expected.map(|ms| Span(Duration::from_millis(ms))), "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_size_reads_back_as_it_prints(bytes: u64) {
            prop_assert_eq!(Bytes(bytes).to_string().parse(), Ok(Bytes(bytes)));
        }

        #[test]
        fn a_duration_reads_back_as_it_prints(ms: u64) {
            let span = Span(Duration::from_millis(ms));
            prop_assert_eq!(span.to_string().parse(), Ok(span));
        }
    }
}
