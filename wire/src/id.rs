//! The two identities that "once" rests on.

use std::fmt;
use std::str::FromStr;

/// 16 random bytes, printed as 32 hexadecimal digits.
macro_rules! random_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub [u8; 16]);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                let digits = text.as_bytes();
                if digits.len() != 32 {
                    return Err(InvalidId);
                }
                let mut bytes = [0; 16];
                for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
                    *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
                }
                Ok(Self(bytes))
            }
        }
    };
}

random_id! {
    /// One life of an agent's state: drawn at random, kept with its checkpoints and its ring, drawn
    /// anew when either is lost (rule 1 of "once", `docs/wire.md`).
    ProducerId
}

random_id! {
    /// One journal: what a gateway's embedded log, or a generation of a Kafka topic, is recognised by.
    /// A block in doubt goes back to the journal that may hold it (rule 7).
    JournalId
}

/// Not 32 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an id is 32 hexadecimal digits")]
pub struct InvalidId;

fn nibble(digit: u8) -> Result<u8, InvalidId> {
    match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        b'A'..=b'F' => Ok(digit - b'A' + 10),
        _ => Err(InvalidId),
    }
}

/// What a block is called: never used twice (rules 1 and 2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BlockId {
    /// Whose number it is.
    pub producer: ProducerId,
    /// Rising.
    pub number: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_back_as_it_prints() {
        let id = ProducerId(*b"\x00\x01\xfe\xff0123456789ab");
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(id.to_string(), "0001feff303132333435363738396162");
    }

    #[test]
    fn what_is_not_an_id_is_refused() {
        for text in ["", "00", "zz000000000000000000000000000000", "é0000000000000000000000000000000"] {
            assert_eq!(text.parse::<JournalId>(), Err(InvalidId), "{text}");
        }
    }
}
