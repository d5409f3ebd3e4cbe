//! Times as logs write them, some without a year or a zone.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::Offset;
use sluice_wire::time;

use super::TimeContext;
use super::cursor::Cursor;

/// What a clock on the wall showed.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Wall {
    pub(super) month: u32,
    pub(super) day: u32,
    pub(super) hour: u32,
    pub(super) minute: u32,
    pub(super) second: u32,
    pub(super) nanosecond: i32,
}

const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// An English month's first three letters, to 1 to 12.
pub(super) fn month(cursor: &mut Cursor<'_>) -> Option<u32> {
    let at = MONTHS.iter().position(|name| cursor.rest().starts_with(name.as_bytes()))?;
    cursor.eat(MONTHS[at])?;
    u32::try_from(at + 1).ok()
}

impl Wall {
    /// `HH:MM:SS`, and a fraction after `.` or `,` if there is one.
    pub(super) fn clock(&mut self, cursor: &mut Cursor<'_>) -> Option<()> {
        self.hour = cursor.digits(2)?;
        cursor.eat(":")?;
        self.minute = cursor.digits(2)?;
        cursor.eat(":")?;
        self.second = cursor.digits(2)?;
        if cursor.eat(".").or_else(|| cursor.eat(",")).is_some() {
            self.nanosecond = cursor.fraction()?;
        }
        Some(())
    }

    /// Nanoseconds of the epoch; `None`: there is no such time.
    pub(super) fn at(self, year: Option<u32>, offset: Option<Offset>, context: &TimeContext) -> Option<i64> {
        match year {
            Some(year) => self.in_year(i16::try_from(year).ok()?, offset, context),
            None => self.nearest(offset, context),
        }
    }

    /// In the year that puts it nearest to now: a line of December may be read in January.
    fn nearest(self, offset: Option<Offset>, context: &TimeContext) -> Option<i64> {
        let now = Timestamp::from_nanosecond(context.now.into()).ok()?;
        let year = context.zone.to_datetime(now).year();
        // With next year's 29 February as well: this year may have none.
        [year, year - 1, year + 1]
            .into_iter()
            .filter_map(|year| self.in_year(year, offset, context))
            .min_by_key(|time| time.abs_diff(context.now))
    }

    fn in_year(self, year: i16, offset: Option<Offset>, context: &TimeContext) -> Option<i64> {
        let part = |value: u32| i8::try_from(value).ok();
        let (month, day, hour) = (part(self.month)?, part(self.day)?, part(self.hour)?);
        let (minute, second) = (part(self.minute)?, part(self.second)?);
        let wall = DateTime::new(year, month, day, hour, minute, second, self.nanosecond).ok()?;
        instant(wall, offset, context)
    }
}

/// Nanoseconds of the epoch at which clocks showed `wall`; where clocks were put back, the first time.
pub(super) fn instant(wall: DateTime, offset: Option<Offset>, context: &TimeContext) -> Option<i64> {
    let time = match offset {
        Some(offset) => offset.to_timestamp(wall),
        None => context.zone.to_timestamp(wall),
    };
    i64::try_from(time.ok()?.as_nanosecond()).ok()
}

/// RFC 3339, also with a space for the `T` and without a zone.
pub(super) fn rfc3339(text: &str, context: &TimeContext) -> Option<i64> {
    if let Some(time) = time::parse(text.as_bytes()) {
        return Some(time);
    }
    let cursor = &mut Cursor::new(text);
    let time = date_time(cursor, context)?;
    cursor.is_at_end().then_some(time)
}

/// `YYYY-MM-DD(T| )HH:MM:SS[.fraction][zone]`.
pub(super) fn date_time(cursor: &mut Cursor<'_>, context: &TimeContext) -> Option<i64> {
    let mut wall = Wall::default();
    let year = cursor.digits(4)?;
    cursor.eat("-")?;
    wall.month = cursor.digits(2)?;
    cursor.eat("-")?;
    wall.day = cursor.digits(2)?;
    cursor.eat("T").or_else(|| cursor.eat(" "))?;
    wall.clock(cursor)?;
    let offset = match cursor.peek() {
        Some(b'Z' | b'+' | b'-') => Some(offset(cursor)?),
        _ => None,
    };
    wall.at(Some(year), offset, context)
}

/// `Z`, `+HH:MM`, `+HHMM`, and the same with `-`.
pub(super) fn offset(cursor: &mut Cursor<'_>) -> Option<Offset> {
    if cursor.eat("Z").is_some() {
        return Some(Offset::UTC);
    }
    let sign = if cursor.eat("-").is_some() { -1 } else { cursor.eat("+").map(|()| 1)? };
    let hours = cursor.digits(2)?;
    let _ = cursor.eat(":");
    let minutes = cursor.digits(2)?;
    (hours < 24 && minutes < 60).then_some(())?;
    Offset::from_seconds(sign * i32::try_from(hours * 3600 + minutes * 60).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::tz::TimeZone;
    use proptest::prelude::*;

    fn context(now: &str, hours: i8) -> TimeContext {
        TimeContext { now: time::parse(now.as_bytes()).unwrap(), zone: TimeZone::fixed(jiff::tz::offset(hours)) }
    }

    fn wall(month: u32, day: u32, hour: u32) -> Wall {
        Wall { month, day, hour, ..Wall::default() }
    }

    #[test]
    fn a_year_is_the_one_that_is_nearest_to_now() {
        let check = |now: &str, (month, day, hour): (u32, u32, u32), expected: &str| {
            let found = wall(month, day, hour).at(None, None, &context(now, 0));
            assert_eq!(found, time::parse(expected.as_bytes()), "{now} {month}-{day}");
        };
        check("2026-01-02T00:00:00Z", (12, 31, 23), "2025-12-31T23:00:00Z");
        check("2025-12-31T23:59:00Z", (1, 1, 0), "2026-01-01T00:00:00Z");
        check("2025-06-15T00:00:00Z", (6, 14, 1), "2025-06-14T01:00:00Z");
        check("2025-06-15T00:00:00Z", (12, 1, 0), "2025-12-01T00:00:00Z");
        check("2025-06-15T00:00:00Z", (12, 31, 0), "2024-12-31T00:00:00Z");
        check("2025-01-10T00:00:00Z", (2, 29, 0), "2024-02-29T00:00:00Z");
        assert_eq!(wall(2, 29, 0).at(None, None, &context("2026-03-01T00:00:00Z", 0)), None);
        assert_eq!(wall(2, 30, 0).at(None, None, &context("2024-03-01T00:00:00Z", 0)), None);
    }

    #[test]
    fn a_time_without_a_zone_is_of_the_contexts() {
        let east = context("2026-01-01T01:00:00Z", 8);
        assert_eq!(wall(1, 1, 8).at(None, None, &east), time::parse(b"2026-01-01T00:00:00Z"));
        assert_eq!(wall(12, 31, 23).at(None, None, &east), time::parse(b"2025-12-31T15:00:00Z"));
        assert_eq!(rfc3339("2025-10-26 10:15:30,250", &east), time::parse(b"2025-10-26T02:15:30.25Z"));
        assert_eq!(rfc3339("2025-10-26 10:15:30+0200", &east), time::parse(b"2025-10-26T08:15:30Z"));
        // Clocks go back at 3 (zone of Berlin, by its rule): twice 02:30, the first counts.
        let berlin = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
        let berlin = TimeContext { zone: berlin, ..east };
        assert_eq!(rfc3339("2025-10-26T02:30:00", &berlin), time::parse(b"2025-10-26T00:30:00Z"));
        assert_eq!(rfc3339("2025-10-26T03:30:00", &berlin), time::parse(b"2025-10-26T02:30:00Z"));
    }

    #[test]
    fn what_is_no_time_is_none() {
        let context = context("2026-01-01T01:00:00Z", 0);
        for text in [
            "",
            "2025-10-26",
            "2025-02-29 10:15:30",
            "2025-13-01 10:15:30",
            "2025-10-26 24:00:00",
            "2025-10-26 10:15:60",
            "2025-10-26 10:15:30 ",
            "2025-10-26 10:15:30.",
            "2025-10-26 10:15:30.1234567890",
            "2025-10-26 10:15:30+24:00",
            "2025-10-26 10:15:30+2",
            "9999-12-31 23:59:59",
            "0001-01-01T00:00:00Z",
        ] {
            assert_eq!(rfc3339(text, &context), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_time_without_its_year_is_found_again(seconds in 0_i64..4_000_000_000, days in -180_i64..180, hours in -12_i8..13) {
            let zone = TimeZone::fixed(jiff::tz::offset(hours));
            let time = Timestamp::from_second(seconds).unwrap();
            let context = TimeContext { now: (seconds + days * 86_400) * time::SECOND, zone };
            let shown = context.zone.to_datetime(time);
            let part = |value: i8| u32::try_from(value).unwrap();
            let wall = Wall {
                month: part(shown.month()),
                day: part(shown.day()),
                hour: part(shown.hour()),
                minute: part(shown.minute()),
                second: part(shown.second()),
                nanosecond: 0,
            };
            prop_assert_eq!(wall.at(None, None, &context), Some(seconds * time::SECOND));
            let year = u32::try_from(shown.year()).unwrap();
            prop_assert_eq!(wall.at(Some(year), None, &context), Some(seconds * time::SECOND));
            prop_assert_eq!(rfc3339(&shown.to_string(), &context), Some(seconds * time::SECOND));
        }

        #[test]
        fn any_text_is_looked_at_without_a_panic(text in "\\PC{0,40}|[0-9TZ:. +-]{0,40}", now in any::<i64>()) {
            let _ = rfc3339(&text, &TimeContext { now, zone: TimeZone::UTC });
        }
    }
}
