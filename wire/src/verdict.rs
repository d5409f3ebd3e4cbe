//! The fate of one block, as the gateway tells it: one line of text for each.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// What the gateway did with a block. Only a verdict in the gateway's own reply is definite; a
/// proxy's answer, a reset or silence leaves the block in doubt, to be sent again byte for byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The journal holds the block durably, or held it already.
    Accepted,
    /// Not stored; may be sent again after the wait, under a new number.
    RetryAfter(Duration, Reason),
    /// Not stored, and never will be at this size: cut it below the limit (bytes, raw).
    TooLarge(u32, Reason),
    /// Not stored, and never will be.
    Rejected(Reason),
    /// May be stored: send the same bytes again under the same number.
    Unknown(Reason),
}

impl Verdict {
    /// True where the block is certainly not stored by this attempt.
    #[must_use]
    pub fn is_definite_refusal(self) -> bool {
        matches!(self, Self::RetryAfter(..) | Self::TooLarge(..) | Self::Rejected(_))
    }

    /// The reason, where there is one.
    #[must_use]
    pub fn reason(self) -> Option<Reason> {
        match self {
            Self::Accepted => None,
            Self::RetryAfter(_, reason)
            | Self::TooLarge(_, reason)
            | Self::Rejected(reason)
            | Self::Unknown(reason) => Some(reason),
        }
    }
}

/// Declares the closed list once: the word in the reply, in the metric label and in the runbook.
macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $word:literal,)*) => {
        /// Why a block was not accepted. The same word stands in the reply, in the metric's label and
        /// in the runbook.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Reason {
            $($(#[$doc])* $name,)*
        }

        impl Reason {
            /// Every reason there is.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The word for it.
            #[must_use]
            pub const fn word(self) -> &'static str {
                match self {
                    $(Self::$name => $word,)*
                }
            }

            fn from_word(word: &str) -> Option<Self> {
                match word {
                    $($word => Some(Self::$name),)*
                    _ => None,
                }
            }
        }
    };
}

reasons! {
    /// The tenant's bytes per second are used up.
    LimitBytes = "limit-bytes",
    /// The tenant's lines per second are used up.
    LimitLines = "limit-lines",
    /// Larger than the tenant's burst: could never pass.
    Burst = "burst",
    /// The gateway's memory for requests under way is used up.
    Overload = "overload",
    /// The gateway is shutting down.
    Draining = "draining",
    /// The journal has no room left.
    JournalFull = "journal-full",
    /// The journal cannot be written to at present; nothing of the block was written.
    JournalUnavailable = "journal-unavailable",
    /// The write or its fsync failed: nobody knows what the disk holds.
    JournalFailed = "journal-failed",
    /// A wire version that this gateway does not speak (yet).
    Version = "version",
    /// An earlier block of the same lane in this request was not accepted (rule 4).
    Behind = "behind",
    /// The request was meant for another journal.
    WrongJournal = "wrong-journal",
    /// No credential, or one that is not known.
    Unauthenticated = "unauthenticated",
    /// The credential does not cover the block's cluster, category, namespace or producer.
    Forbidden = "forbidden",
    /// The request is over its size, or over its number of blocks.
    Request = "request",
    /// The body is not a sequence of frames: nothing of it was looked at further.
    Framing = "framing",
    /// A header field is out of its bounds.
    Header = "header",
    /// Header or payload do not match their CRC32C.
    Checksum = "checksum",
    /// The payload is over the size limit, compressed or raw.
    BlockSize = "block-size",
    /// The payload cannot be decompressed, or is not as long as the header says.
    Encoding = "encoding",
    /// The number of records, or the longest line, is not what the header says.
    Count = "count",
    /// A record is longer than one line may be.
    LineTooLong = "line-too-long",
    /// A line is not `{"_time":"…` to `}`, the last newline is missing, or the text is not UTF-8.
    NotRecords = "not-records",
    /// A line is not JSON.
    Json = "json",
    /// A record's time is no RFC 3339 time, or outside what the header says.
    Times = "times",
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accepted => f.write_str("accepted"),
            Self::RetryAfter(wait, reason) => write!(f, "retry-after {} {reason}", wait.as_millis()),
            Self::TooLarge(limit, reason) => write!(f, "too-large {limit} {reason}"),
            Self::Rejected(reason) => write!(f, "rejected {reason}"),
            Self::Unknown(reason) => write!(f, "unknown {reason}"),
        }
    }
}

/// A line that is no verdict of this version: the block that it stands for is in doubt.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a verdict")]
pub struct InvalidVerdict;

impl FromStr for Verdict {
    type Err = InvalidVerdict;

    fn from_str(line: &str) -> Result<Self, InvalidVerdict> {
        let mut words = line.split(' ');
        let kind = words.next().ok_or(InvalidVerdict)?;
        let mut word = || words.next().ok_or(InvalidVerdict);
        let verdict = match kind {
            "accepted" => Self::Accepted,
            "retry-after" => {
                let wait: u32 = number(word()?)?;
                Self::RetryAfter(Duration::from_millis(wait.into()), reason(word()?)?)
            }
            "too-large" => Self::TooLarge(number(word()?)?, reason(word()?)?),
            "rejected" => Self::Rejected(reason(word()?)?),
            "unknown" => Self::Unknown(reason(word()?)?),
            _ => return Err(InvalidVerdict),
        };
        match words.next() {
            None => Ok(verdict),
            Some(_) => Err(InvalidVerdict),
        }
    }
}

fn number(word: &str) -> Result<u32, InvalidVerdict> {
    word.parse().map_err(|_| InvalidVerdict)
}

fn reason(word: &str) -> Result<Reason, InvalidVerdict> {
    Reason::from_word(word).ok_or(InvalidVerdict)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_verdict() -> impl Strategy<Value = Verdict> {
        let reason = prop::sample::select(Reason::ALL);
        prop_oneof![
            Just(Verdict::Accepted),
            (any::<u32>(), reason.clone()).prop_map(|(ms, r)| Verdict::RetryAfter(Duration::from_millis(ms.into()), r)),
            (any::<u32>(), reason.clone()).prop_map(|(limit, r)| Verdict::TooLarge(limit, r)),
            reason.clone().prop_map(Verdict::Rejected),
            reason.prop_map(Verdict::Unknown),
        ]
    }

    proptest! {
        #[test]
        fn a_verdict_reads_back_as_it_prints(verdict in any_verdict()) {
            prop_assert_eq!(verdict.to_string().parse(), Ok(verdict));
        }
    }

    #[test]
    fn what_is_no_verdict_is_refused() {
        for line in [
            "",
            "Accepted",
            "accepted ",
            "retry-after",
            "retry-after x overload",
            "retry-after 1 because",
            "retry-after 99999999999 overload",
            "rejected",
            "rejected json more",
            "too-large -1 burst",
        ] {
            assert_eq!(line.parse::<Verdict>(), Err(InvalidVerdict), "{line:?}");
        }
    }
}
