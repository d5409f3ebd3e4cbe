//! What an application wrote, to a time, a message and fields: by a parser that was chosen for the
//! container or the host's file. A text that is not of the parser's form stays as it is.
//!
//! | parser | time | message | fields |
//! |---|---|---|---|
//! | `json` | – | – | none of its own: `record` merges JSON objects without any parser |
//! | `logfmt` | `time` or `ts`, where it is RFC 3339 | `_msg`, `message`, `msg` or `log` | each other pair |
//! | `klog` | of the header | the quoted or plain text | `severity` (`info`, `warning`, `error`, `fatal`), `thread`, `source` (`file.go:42`), each pair |
//! | `nginx`, `apache` | between brackets | the whole line | `remote_addr`, `ident`, `user`, `method`, `path`, `protocol` (or `request`, where it is none), `status`, `bytes`, `referer`, `user_agent`, `http_x_forwarded_for` |
//! | `syslog` | of the header | after the header | `facility` (`kern` … `local7`), `severity` (`emerg` … `debug`), `hostname`, `appname`, `procid`, `msgid`, each parameter of structured data as `ID.NAME` |
//! | regex | group `time` | group `message` | each other named group |
//!
//! Values are text, but for `status` and `bytes`, which are numbers. What is `-` or absent has no field.
//! Where the form has no message, it is the whole text, so that nothing of a text is ever lost. A text
//! with more than [`MAX_FIELDS`] fields, a name longer than [`MAX_NAME`], or a date that does not exist is
//! not of the form.

use std::borrow::Cow;

use jiff::tz::TimeZone;

mod access;
mod cursor;
mod klog;
mod logfmt;
mod pairs;
mod parsed;
mod pattern;
mod structured;
mod syslog;
mod when;

pub use parsed::{Parsed, Value};
pub use pattern::{Pattern, PatternError};

/// Fields of one text.
pub const MAX_FIELDS: usize = 100;
/// Bytes of a field's name.
pub const MAX_NAME: usize = 128;

/// How the messages of a source are written.
#[derive(Debug, Clone)]
pub enum Parser {
    /// A JSON object to a line.
    Json,
    /// `level=info msg="started the server" port=80`.
    Logfmt,
    /// `I1026 10:15:30.123456   12345 file.go:42] "Started" port=80`.
    Klog,
    /// Common and combined log format, nginx' and Apache's.
    Access,
    /// RFC 3164 and 5424, and what daemons write to files.
    Syslog,
    /// An operator's regular expression.
    Pattern(Pattern),
}

/// What a time lacks that does not say all of itself.
#[derive(Debug, Clone)]
pub struct TimeContext {
    /// Nanoseconds of the epoch: a time without a year is of the year that puts it nearest to this. Best
    /// the runtime's time of the line, which is right for old lines too.
    pub now: i64,
    /// Where a time without a zone was written: the node's zone for its own files; containers mostly have
    /// UTC.
    pub zone: TimeZone,
}

impl Parser {
    /// Every name that [`Parser::named`] knows.
    pub const NAMES: &[&str] = &["json", "logfmt", "klog", "nginx", "apache", "syslog"];

    /// The parser of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "json" => Some(Self::Json),
            "logfmt" => Some(Self::Logfmt),
            "klog" => Some(Self::Klog),
            "nginx" | "apache" => Some(Self::Access),
            "syslog" => Some(Self::Syslog),
            _ => None,
        }
    }

    /// A parser of texts in which `pattern` is found. Each named group becomes a field, but for `message`
    /// and `time`; `time_format` says in `strptime`'s letters how the latter is written, RFC 3339 without.
    ///
    /// # Errors
    /// What is wrong with the pattern or the format, and how to put it right.
    pub fn regex(pattern: &str, time_format: Option<&str>) -> Result<Self, PatternError> {
        Pattern::new(pattern, time_format).map(Self::Pattern)
    }

    /// Takes `text` apart into `parsed`, whose space is used again. `false`: it is not of the form, and
    /// `parsed` is empty.
    pub fn parse(&self, text: &str, context: &TimeContext, parsed: &mut Parsed) -> bool {
        parsed.clear();
        let found = match self {
            Self::Json => None,
            Self::Logfmt => logfmt::parse(text, parsed),
            Self::Klog => klog::parse(text, context, parsed),
            Self::Access => access::parse(text, context, parsed),
            Self::Syslog => syslog::parse(text, context, parsed),
            Self::Pattern(pattern) => pattern.parse(text, context, parsed),
        };
        if found.is_none() {
            parsed.clear();
        }
        found.is_some()
    }

    /// As [`Parser::parse`], of bytes that may be no UTF-8: they are read as the record will show them.
    pub fn parse_bytes(&self, content: &[u8], context: &TimeContext, parsed: &mut Parsed) -> bool {
        if matches!(self, Self::Json) {
            return false;
        }
        let text = match simdutf8::basic::from_utf8(content) {
            Ok(text) => Cow::Borrowed(text),
            Err(_) => String::from_utf8_lossy(content),
        };
        self.parse(&text, context, parsed)
    }
}

#[cfg(test)]
mod tests;
