//! Minutes, hours and days of a zone as intervals of real time.

use jiff::{
    Timestamp, ToSpan,
    civil::DateTime,
    tz::{AmbiguousOffset, Offset, TimeZone},
};

use crate::{SinkError, SinkErrorKind};

/// In which zone hours begin and file names are written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Zone {
    /// The system's, as it is when the writer opens.
    Local,
    /// By its IANA name, such as `Europe/Berlin`. The database is compiled in.
    Named(String),
    /// The default: no hour comes twice, and names sort by time.
    #[default]
    Utc,
}

impl Zone {
    pub(crate) fn resolve(&self) -> Result<TimeZone, SinkError> {
        match self {
            Self::Local => Ok(TimeZone::system()),
            Self::Named(name) => TimeZone::get(name)
                .map_err(|_| SinkError::new(SinkErrorKind::InvalidConfig, format!("there is no time zone `{name}`"))),
            Self::Utc => Ok(TimeZone::UTC),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Unit {
    Minute,
    Hour,
    Day,
}

/// An interval in which the zone's clock shows one minute, hour or day.
///
/// An hour that comes twice is two periods. A day that a change of the clock makes longer or shorter is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Period {
    pub(crate) start: Timestamp,
    /// Exclusive.
    pub(crate) end: Timestamp,
    /// What the zone's clock shows at its beginning, cut to the unit.
    pub(crate) label: DateTime,
    pub(crate) offset: Offset,
    /// Whether another period, or a part of this one, has times that the clock shows twice.
    pub(crate) ambiguous: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Calendar {
    zone: TimeZone,
    unit: Option<Unit>,
}

impl Calendar {
    pub(crate) fn new(zone: TimeZone, unit: Option<Unit>) -> Self {
        Self { zone, unit }
    }

    /// Whether there is but one period.
    pub(crate) fn is_endless(&self) -> bool {
        self.unit.is_none()
    }

    /// The period that `at` lies in. Without a unit it is all time, labelled with the time that it was asked for.
    pub(crate) fn period(&self, at: Timestamp) -> Period {
        let offset = self.zone.to_offset(at);
        let local = offset.to_datetime(at);
        let Some(unit) = self.unit else {
            return Period {
                start: Timestamp::MIN,
                end: Timestamp::MAX,
                label: local,
                offset,
                ambiguous: false,
            };
        };
        let label = unit.floor(local);
        let next = unit.after(label);
        Period {
            start: self.start(unit, label, at),
            end: self.end(unit, label, next, at),
            label,
            offset,
            ambiguous: unit != Unit::Day && (self.folds(label) || self.folds(last_of(next))),
        }
    }

    fn end(&self, unit: Unit, label: DateTime, next: DateTime, mut at: Timestamp) -> Timestamp {
        loop {
            let offset = self.zone.to_offset(at);
            let regular = offset.to_timestamp(next).unwrap_or(Timestamp::MAX);
            let Some(change) = self.zone.following(at).next().filter(|it| it.timestamp() < regular) else {
                return regular;
            };
            let after = change.offset().to_datetime(change.timestamp());
            if unit.floor(after) != label || (unit != Unit::Day && change.offset() < offset) {
                return change.timestamp();
            }
            at = change.timestamp();
        }
    }

    fn start(&self, unit: Unit, label: DateTime, mut at: Timestamp) -> Timestamp {
        loop {
            let offset = self.zone.to_offset(at);
            let regular = offset.to_timestamp(label).unwrap_or(Timestamp::MIN);
            // `preceding` leaves out a change at the very instant.
            let behind = at.checked_add(1.nanosecond()).unwrap_or(at);
            let changes = self.zone.preceding(behind).next();
            let Some(change) = changes.filter(|it| it.timestamp() > regular) else {
                return regular;
            };
            let before = change.timestamp().checked_sub(1.nanosecond()).unwrap_or(Timestamp::MIN);
            let earlier = self.zone.to_offset(before);
            let is_start = unit.floor(earlier.to_datetime(before)) != label;
            if is_start || (unit != Unit::Day && change.offset() < earlier) {
                return change.timestamp();
            }
            at = before;
        }
    }

    /// Whether the zone's clock shows this time twice.
    fn folds(&self, time: DateTime) -> bool {
        matches!(
            self.zone.to_ambiguous_timestamp(time).offset(),
            AmbiguousOffset::Fold { .. }
        )
    }
}

impl Unit {
    fn floor(self, time: DateTime) -> DateTime {
        let (hour, minute) = match self {
            Self::Minute => (time.hour(), time.minute()),
            Self::Hour => (time.hour(), 0),
            Self::Day => (0, 0),
        };
        time.date().at(hour, minute, 0, 0)
    }

    fn after(self, label: DateTime) -> DateTime {
        let span = match self {
            Self::Minute => 1.minute(),
            Self::Hour => 1.hour(),
            Self::Day => 1.day(),
        };
        label.checked_add(span).unwrap_or(DateTime::MAX)
    }
}

fn last_of(next: DateTime) -> DateTime {
    next.checked_sub(1.nanosecond()).unwrap_or(next)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calendar(zone: &str, unit: Unit) -> Calendar {
        Calendar::new(TimeZone::get(zone).unwrap(), Some(unit))
    }

    fn at(time: &str) -> Timestamp {
        time.parse().unwrap()
    }

    #[test]
    fn an_hour_in_berlin() {
        let period = calendar("Europe/Berlin", Unit::Hour).period(at("2026-11-20T15:04:05Z"));
        assert_eq!(period.start, at("2026-11-20T15:00:00Z"));
        assert_eq!(period.end, at("2026-11-20T16:00:00Z"));
        assert_eq!(period.label.hour(), 16);
        assert!(!period.ambiguous);
    }

    #[test]
    fn the_repeated_hour_is_two_periods() {
        let calendar = calendar("Europe/Berlin", Unit::Hour);
        let first = calendar.period(at("2026-10-25T00:59:59Z"));
        let second = calendar.period(first.end);
        assert_eq!((first.label.hour(), second.label.hour()), (2, 2));
        assert_eq!(first.end, at("2026-10-25T01:00:00Z"));
        assert_eq!((second.start, second.end), (first.end, at("2026-10-25T02:00:00Z")));
        assert!(first.ambiguous && second.ambiguous && first.offset != second.offset);
        assert!(!calendar.period(second.end).ambiguous);
    }

    #[test]
    fn half_an_hour_that_repeats() {
        let calendar = calendar("Australia/Lord_Howe", Unit::Hour);
        // 01:30 to 02:00 comes twice.
        let first = calendar.period(at("2026-04-04T14:10:00Z"));
        let second = calendar.period(first.end);
        assert_eq!((first.label.hour(), second.label.hour()), (1, 1));
        assert_eq!(second.end, at("2026-04-04T15:30:00Z"));
        assert!(first.ambiguous && second.ambiguous);
    }

    #[test]
    fn a_day_with_a_change_is_one_period() {
        let day = calendar("America/New_York", Unit::Day).period(at("2026-11-01T15:00:00Z"));
        assert_eq!(
            (day.start, day.end),
            (at("2026-11-01T04:00:00Z"), at("2026-11-02T05:00:00Z"))
        );
    }

    #[test]
    fn a_day_without_its_midnight() {
        let day = calendar("America/Santiago", Unit::Day).period(at("2026-09-06T12:00:00Z"));
        assert_eq!(day.start, at("2026-09-06T04:00:00Z"));
        assert_eq!(day.label.to_string(), "2026-09-06T00:00:00");
    }

    /// Periods follow each other without holes, and no two have the same label and offset.
    #[test]
    fn periods_tile_a_year_in_ten_zones() {
        let zones = [
            "UTC",
            "Europe/Berlin",
            "America/New_York",
            "Australia/Lord_Howe",
            "America/Santiago",
            "Asia/Kathmandu",
            "Africa/Casablanca",
            "Pacific/Apia",
            "America/St_Johns",
            "Asia/Tehran",
        ];
        for zone in zones {
            let calendar = calendar(zone, Unit::Hour);
            // Apia left out a day at the end of 2011.
            for (from, to) in [
                ("2026-01-01T00:30:00Z", "2027-01-02T00:00:00Z"),
                ("2011-03-01T00:30:00Z", "2012-05-01T00:00:00Z"),
            ] {
                let mut seen = std::collections::HashSet::new();
                let mut period = calendar.period(at(from));
                while period.start < at(to) {
                    assert!(period.start < period.end);
                    assert!(
                        seen.insert((period.label, period.offset)),
                        "{zone} {} twice",
                        period.label
                    );
                    let next = calendar.period(period.end);
                    assert_eq!(next.start, period.end, "{zone} {}", period.label);
                    let last = period.end.checked_sub(1.nanosecond()).unwrap();
                    assert_eq!(calendar.period(last), period_of_end(&calendar, &period), "{zone}");
                    period = next;
                }
            }
        }
    }

    fn period_of_end(calendar: &Calendar, period: &Period) -> Period {
        // The offset is that of the time asked for, which may change within a period only forwards.
        let offset = calendar.zone.to_offset(period.end.checked_sub(1.nanosecond()).unwrap());
        Period { offset, ..*period }
    }
}
