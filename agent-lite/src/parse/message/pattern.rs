//! An operator's regular expression: its named groups become fields.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use jiff::fmt::strtime::{self, BrokenDownTime};
use jiff::tz::{Offset, TimeZone};
use regex::{CaptureLocations, Regex, RegexBuilder};

use super::when::{self, Wall};
use super::{MAX_FIELDS, MAX_NAME, Parsed, TimeContext};

/// Bytes of a pattern as it is written.
const MAX_PATTERN: usize = 4096;
/// Bytes of a compiled pattern; also what its automaton may cache while it searches.
const MAX_COMPILED: usize = 1024 * 1024;
/// The groups that are no fields.
const TIME: &str = "time";
const MESSAGE: &str = "message";

/// A compiled pattern; a clone shares it. Searching takes time linear in the text.
#[derive(Clone)]
pub struct Pattern(Arc<Compiled>);

struct Compiled {
    regex: Regex,
    /// Number and name of each named group.
    groups: Box<[(usize, Group)]>,
    /// Where groups were found last: kept so that nothing is allocated for a text.
    locations: Mutex<CaptureLocations>,
    time_format: Option<Box<str>>,
}

enum Group {
    Time,
    Message,
    Field(Box<str>),
}

/// Why an operator's pattern is no parser.
#[derive(Debug, thiserror::Error)]
pub enum PatternError {
    /// Longer than is read.
    #[error("the pattern has {0} bytes, more than {MAX_PATTERN}: shorten it")]
    TooLong(usize),
    /// Not a regular expression, or too large once compiled.
    #[error("the pattern cannot be compiled (look-around and back references are not supported)")]
    Syntax(#[source] Box<regex::Error>),
    /// Nothing would come of it.
    #[error("the pattern has no named group: write (?<name>…) around what is to become a field")]
    NoGroups,
    /// More than a record is to have.
    #[error("the pattern has {0} named groups, more than {MAX_FIELDS}: name fewer")]
    TooManyGroups(usize),
    /// Longer than a field's name may be.
    #[error("the name of group {0} has more than {MAX_NAME} bytes: shorten it")]
    LongName(usize),
    /// A format that nothing is read with.
    #[error("a time format is given, but the pattern has no group {TIME}: write (?<{TIME}>…) around the time")]
    FormatWithoutTime,
    /// Not a format.
    #[error("the time format {format:?} is none: use letters of strptime, such as %Y-%m-%d %H:%M:%S%.f")]
    Format {
        /// As it was given.
        format: Box<str>,
        /// What the date library says.
        #[source]
        source: jiff::Error,
    },
    /// A format that leaves out too much.
    #[error("the time format {0:?} says no moment: it needs month, day and hour (such as %m, %d, %H), or %s")]
    Incomplete(Box<str>),
}

impl Pattern {
    pub(super) fn new(pattern: &str, time_format: Option<&str>) -> Result<Self, PatternError> {
        if pattern.len() > MAX_PATTERN {
            return Err(PatternError::TooLong(pattern.len()));
        }
        let regex = RegexBuilder::new(pattern)
            .size_limit(MAX_COMPILED)
            .dfa_size_limit(MAX_COMPILED)
            .build()
            .map_err(|error| PatternError::Syntax(Box::new(error)))?;
        let groups: Box<[_]> =
            regex.capture_names().enumerate().filter_map(|(at, name)| Some((at, Group::of(name?)))).collect();
        if groups.is_empty() {
            return Err(PatternError::NoGroups);
        }
        if groups.len() > MAX_FIELDS {
            return Err(PatternError::TooManyGroups(groups.len()));
        }
        let is_long = |group: &&(usize, Group)| matches!(&group.1, Group::Field(name) if name.len() > MAX_NAME);
        if let Some((at, _)) = groups.iter().find(is_long) {
            return Err(PatternError::LongName(*at));
        }
        if let Some(format) = time_format {
            if !groups.iter().any(|(_, group)| matches!(group, Group::Time)) {
                return Err(PatternError::FormatWithoutTime);
            }
            check_format(format)?;
        }
        let locations = Mutex::new(regex.capture_locations());
        Ok(Self(Arc::new(Compiled { regex, groups, locations, time_format: time_format.map(Box::from) })))
    }

    pub(super) fn parse(&self, text: &str, context: &TimeContext, parsed: &mut Parsed) -> Option<()> {
        let Compiled { regex, groups, locations, time_format } = &*self.0;
        let mut locations = locations.lock().unwrap_or_else(PoisonError::into_inner);
        regex.captures_read(&mut locations, text)?;
        for (at, group) in groups {
            let Some((start, end)) = locations.get(*at) else { continue };
            match group {
                Group::Time => {
                    let text = &text[start..end];
                    let time = match time_format {
                        Some(format) => formatted(format, text, context),
                        None => when::rfc3339(text, context),
                    };
                    parsed.set_time(time?);
                }
                Group::Message => parsed.set_message(start..end),
                Group::Field(name) => {
                    let name = parsed.composed(&[name]);
                    parsed.push(name, start..end)?;
                }
            }
        }
        Some(())
    }
}

impl Group {
    fn of(name: &str) -> Self {
        match name {
            TIME => Self::Time,
            MESSAGE => Self::Message,
            name => Self::Field(name.into()),
        }
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pattern").field(&self.0.regex.as_str()).finish()
    }
}

/// A format is good if it reads what it writes.
fn check_format(format: &str) -> Result<(), PatternError> {
    let fault = |source| PatternError::Format { format: format.into(), source };
    let moment = Timestamp::UNIX_EPOCH.to_zoned(TimeZone::UTC);
    let written = BrokenDownTime::from(&moment).to_string(format).map_err(fault)?;
    strtime::parse(format, &written).map_err(fault)?;
    let context = TimeContext { now: 0, zone: TimeZone::UTC };
    match formatted(format, &written, &context) {
        Some(_) => Ok(()),
        None => Err(PatternError::Incomplete(format.into())),
    }
}

fn formatted(format: &str, text: &str, context: &TimeContext) -> Option<i64> {
    let time = strtime::parse(format, text).ok()?;
    if let Some(moment) = time.timestamp() {
        return i64::try_from(moment.as_nanosecond()).ok();
    }
    if time.year().is_some() {
        return when::instant(time.to_datetime().ok()?, time.offset(), context);
    }
    // What the library makes of a year that is not there is no date.
    let part = |value: i8| u32::try_from(value).ok();
    let wall = Wall {
        month: part(time.month()?)?,
        day: part(time.day()?)?,
        hour: part(time.hour()?)?,
        minute: part(time.minute().unwrap_or(0))?,
        second: part(time.second().unwrap_or(0))?,
        nanosecond: time.subsec_nanosecond().unwrap_or(0),
    };
    let offset: Option<Offset> = time.offset();
    wall.at(None, offset, context)
}
