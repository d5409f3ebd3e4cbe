//! Records of `/dev/kmsg`, one for each read (kernel `Documentation/ABI/testing/dev-kmsg`).
//!
//! ```text
//! 6,339,5140900,-;NET: Registered protocol family 10\n SUBSYSTEM=acpi\n DEVICE=+acpi:PNP0A03:00\n
//! │  │   └ microseconds  └ text, what is not printable as \xHH      └ said of it, each on a line of its own
//! │  └ sequence number
//! └ syslog facility * 8 + severity
//! ```

use std::borrow::Cow;

use memchr::memchr;

/// One record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record<'a> {
    /// 0 (emergency) to 7 (debug).
    pub severity: u8,
    /// 0 is the kernel; others were written into its log by programs.
    pub facility: u64,
    /// Rising by one from record to record, since boot.
    pub sequence: u64,
    /// Since boot.
    pub microseconds: u64,
    /// What was logged.
    pub text: Cow<'a, [u8]>,
    details: &'a [u8],
}

impl<'a> Record<'a> {
    /// Takes what one read gave apart; `None`: it is no record.
    #[must_use]
    pub fn parse(record: &'a [u8]) -> Option<Self> {
        let (prefix, rest) = record.split_at(memchr(b';', record)?);
        let mut parts = prefix.split(|byte| *byte == b',');
        let mut number = || std::str::from_utf8(parts.next()?).ok()?.parse::<u64>().ok();
        let (priority, sequence, microseconds) = (number()?, number()?, number()?);
        let rest = &rest[1..];
        let end = memchr(b'\n', rest).unwrap_or(rest.len());
        let (text, details) = rest.split_at(end);
        let severity = u8::try_from(priority & 7).unwrap_or(7);
        (sequence < u64::MAX).then_some(Self {
            severity,
            facility: priority >> 3,
            sequence,
            microseconds,
            text: unescaped(text),
            details,
        })
    }

    /// `SUBSYSTEM`, `DEVICE` and what else is said of it.
    pub fn details(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + use<'a> {
        self.details.split(|byte| *byte == b'\n').filter_map(|line| {
            let line = line.strip_prefix(b" ")?;
            let at = memchr(b'=', line)?;
            Some((&line[..at], &line[at + 1..]))
        })
    }
}

/// The kernel writes what is not printable, and the backslash, as `\xHH`.
fn unescaped(text: &[u8]) -> Cow<'_, [u8]> {
    let Some(first) = memchr(b'\\', text) else { return Cow::Borrowed(text) };
    let mut out = text[..first].to_vec();
    let mut rest = &text[first..];
    while let Some((byte, behind)) = rest.split_first() {
        let escaped = rest.strip_prefix(b"\\x").and_then(|hex| Some((hex_byte(hex.first_chunk()?)?, &hex[2..])));
        let (byte, behind) = escaped.unwrap_or((*byte, behind));
        out.push(byte);
        rest = behind;
    }
    Cow::Owned(out)
}

fn hex_byte(hex: &[u8; 2]) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    Some(digit(hex[0])? << 4 | digit(hex[1])?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn records_as_the_kernel_writes_them() {
        for (record, severity, facility, sequence, microseconds, text) in [
            (&b"5,0,0,-;Linux version 6.1\n"[..], 5, 0, 0, 0, &b"Linux version 6.1"[..]),
            (b"30,17,9000,-,caller=T1;systemd[1]: a;b\n", 6, 3, 17, 9000, b"systemd[1]: a;b"),
            (b"6,1,2,c;half", 6, 0, 1, 2, b"half"),
            (b"6,1,2,-;a\\x0ab\\x5cx41 \\xzz \\\n", 6, 0, 1, 2, b"a\nb\\x41 \\xzz \\"),
            (b"6,1,2;\n", 6, 0, 1, 2, b""),
        ] {
            let found = Record::parse(record).unwrap();
            let parts = (found.severity, found.facility, found.sequence, found.microseconds, &*found.text);
            assert_eq!(parts, (severity, facility, sequence, microseconds, text));
        }
        let record = b"7,160,424069,-;pci_root\n SUBSYSTEM=acpi\n DEVICE=+acpi:PNP0A03:00\nno detail\n";
        let details: Vec<_> = Record::parse(record).unwrap().details().collect();
        assert_eq!(details, [(&b"SUBSYSTEM"[..], &b"acpi"[..]), (b"DEVICE", b"+acpi:PNP0A03:00")]);
    }

    #[test]
    fn what_is_no_record_is_none() {
        for record in ["", "6,1,2", "6;x", "x,1,2,-;y", "6,-1,2,-;y", "6,18446744073709551615,0,-;y"] {
            assert_eq!(Record::parse(record.as_bytes()), None, "{record}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken_apart_without_a_panic(record in prop::collection::vec(any::<u8>(), 0..200), head in "(6,1,2,-;|)") {
            let record = [head.as_bytes(), &record].concat();
            if let Some(record) = Record::parse(&record) {
                record.details().for_each(drop);
            }
        }

        #[test]
        fn a_text_survives_the_kernels_escapes(text in prop::collection::vec(any::<u8>(), 0..60)) {
            let mut record = b"6,1,2,-;".to_vec();
            for byte in &text {
                match byte {
                    b' '..=b'~' if *byte != b'\\' => record.push(*byte),
                    _ => record.extend_from_slice(format!("\\x{byte:02x}").as_bytes()),
                }
            }
            prop_assert_eq!(&*Record::parse(&record).unwrap().text, &text[..]);
        }
    }
}
