//! Which file a record belongs into, and when a file ends. No clock, no files.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::calendar::{Calendar, Period, Unit};

/// How far the clock may step back without another file: more than time services step a running machine by.
const STEP: SignedDuration = SignedDuration::from_secs(10);

/// When a file ends and the next one begins.
///
/// ```
/// use stream_sinks::Rotation;
///
/// let rotation = Rotation::HOURLY.or_size(512 * 1024 * 1024);
/// # let _ = rotation;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rotation {
    unit: Option<Unit>,
    max_bytes: Option<u64>,
}

impl Rotation {
    /// A file for each minute.
    pub const MINUTELY: Self = Self::every(Unit::Minute);
    /// A file for each hour; the default.
    pub const HOURLY: Self = Self::every(Unit::Hour);
    /// A file for each day.
    pub const DAILY: Self = Self::every(Unit::Day);
    /// One file until the writer is closed or told to [roll](crate::RollingWriter::roll).
    pub const NEVER: Self = Self {
        unit: None,
        max_bytes: None,
    };

    const fn every(unit: Unit) -> Self {
        Self {
            unit: Some(unit),
            max_bytes: None,
        }
    }

    /// A file for each `max_bytes`, see [`or_size`](Self::or_size).
    #[must_use]
    pub const fn size(max_bytes: u64) -> Self {
        Self::NEVER.or_size(max_bytes)
    }

    /// Ends a file also before it would exceed `max_bytes`, counted before compression. A record that is larger has a file of
    /// its own.
    #[must_use]
    pub const fn or_size(mut self, max_bytes: u64) -> Self {
        self.max_bytes = Some(max_bytes);
        self
    }

    pub(crate) fn unit(self) -> Option<Unit> {
        self.unit
    }
}

impl Default for Rotation {
    fn default() -> Self {
        Self::HOURLY
    }
}

/// Which time decides about a record's file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FileBy {
    /// The clock when it is appended. Read once for each block of the buffer, and watched by the writer: at full load a
    /// record that is appended within some milliseconds of the full hour may be counted to the hour before; while the storage
    /// stalls over the full hour, those that fit into the block that was begun before it.
    #[default]
    Clock,
    /// The record's own [time](crate::Record::time), exactly. A record that is late goes to the file of the one before it:
    /// the same records in the same order make the same files. Records without a time have that of the clock.
    RecordTime,
}

/// The file that a record belongs into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// Counts files, from 1.
    pub(crate) file: u64,
    pub(crate) period: Period,
}

/// A pure machine: time is an argument.
#[derive(Clone, Debug)]
pub(crate) struct Planner {
    calendar: Calendar,
    file_by: FileBy,
    max_bytes: u64,
    /// How long after its end, and after the last record, a file of record times waits for others.
    grace: Duration,
    current: Option<Current>,
    files: u64,
    /// Record times do not go back behind this.
    floor: Timestamp,
    /// When records were last seen to come, by the clock.
    arrival: Timestamp,
}

#[derive(Clone, Debug)]
struct Current {
    target: Target,
    bytes: u64,
}

impl Planner {
    pub(crate) fn new(calendar: Calendar, rotation: Rotation, file_by: FileBy, grace: Duration) -> Self {
        Self {
            calendar,
            file_by,
            max_bytes: rotation.max_bytes.unwrap_or(u64::MAX).max(1),
            grace,
            current: None,
            files: 0,
            floor: Timestamp::MIN,
            arrival: Timestamp::MIN,
        }
    }

    /// Record times do not go back behind this.
    pub(crate) fn not_before(mut self, floor: Timestamp) -> Self {
        self.floor = self.floor.max(floor);
        self
    }

    /// Whether the current file's period has been over for so long.
    pub(crate) fn is_overdue(&self, now: Timestamp, wait: Duration) -> bool {
        let end = self.current.as_ref().map(|current| current.target.period.end);
        let end = end.and_then(|end| end.checked_add(wait).ok());
        end.is_some_and(|end| end <= now)
    }

    /// Records have come, and the clock shows `now`.
    pub(crate) fn handle_arrival(&mut self, now: Timestamp) {
        self.arrival = now;
    }

    /// The file for a record of `len` bytes at `time`. Its bytes are counted by [`count`](Self::count).
    pub(crate) fn handle_record(&mut self, time: Timestamp, len: u64) -> Target {
        let time = match self.file_by {
            FileBy::Clock => time,
            FileBy::RecordTime => time.max(self.floor),
        };
        if let Some(current) = &self.current {
            let period = &current.target.period;
            if !self.has_left(period, time) {
                if current.bytes == 0 || len <= self.max_bytes.saturating_sub(current.bytes) {
                    return current.target;
                }
                let mut period = *period;
                if self.calendar.is_endless() {
                    // Its label is the time of the file's beginning.
                    period = self.calendar.period(time);
                }
                return self.open(period);
            }
        }
        self.open(self.calendar.period(time))
    }

    fn open(&mut self, period: Period) -> Target {
        self.files += 1;
        self.floor = self.floor.max(period.start);
        let target = Target {
            file: self.files,
            period,
        };
        self.current = Some(Current { target, bytes: 0 });
        target
    }

    fn has_left(&self, period: &Period, time: Timestamp) -> bool {
        time >= period.end
            || (self.file_by == FileBy::Clock
                && period.start.duration_since(time) > STEP
                && !self.calendar.is_endless())
    }

    /// Counts bytes to the current file.
    pub(crate) fn count(&mut self, bytes: u64) {
        if let Some(current) = &mut self.current {
            current.bytes += bytes;
        }
    }

    /// How many bytes the current file takes yet.
    pub(crate) fn room(&self) -> u64 {
        let bytes = self.current.as_ref().map_or(0, |current| current.bytes);
        self.max_bytes.saturating_sub(bytes)
    }

    /// Whether a record of this time belongs into another file than the current one.
    pub(crate) fn leaves(&self, time: Timestamp) -> bool {
        let time = time.max(self.floor);
        self.current
            .as_ref()
            .is_some_and(|current| time >= current.target.period.end)
    }

    /// When [`handle_timeout`](Self::handle_timeout) has something to do, by the clock.
    pub(crate) fn poll_timeout(&self) -> Option<Timestamp> {
        let end = self.current.as_ref()?.target.period.end;
        match self.file_by {
            FileBy::Clock => Some(end),
            // While records come, their own times end files: those of a replay are long past.
            FileBy::RecordTime => Some(end.max(self.arrival).checked_add(self.grace).unwrap_or(Timestamp::MAX)),
        }
    }

    /// The clock shows `now`: gives the number of the file that ends, if one does.
    pub(crate) fn handle_timeout(&mut self, now: Timestamp) -> Option<u64> {
        let current = self.current.as_ref()?;
        let ends = match self.file_by {
            FileBy::Clock => self.has_left(&current.target.period, now),
            FileBy::RecordTime => self.poll_timeout().is_some_and(|end| now >= end),
        };
        ends.then(|| self.close()).flatten()
    }

    /// Ends the current file: gives its number. The next record begins another one.
    pub(crate) fn close(&mut self) -> Option<u64> {
        self.current.take().map(|current| current.target.file)
    }
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;

    use super::*;

    fn planner(rotation: Rotation, file_by: FileBy) -> Planner {
        let calendar = Calendar::new(TimeZone::UTC, rotation.unit());
        Planner::new(calendar, rotation, file_by, Duration::from_secs(60))
    }

    fn at(minute: i64) -> Timestamp {
        Timestamp::from_second(1_795_147_200 + minute * 60).unwrap()
    }

    #[test]
    fn an_idle_hour_is_closed_on_time() {
        let mut planner = planner(Rotation::HOURLY, FileBy::Clock);
        assert_eq!(planner.poll_timeout(), None);
        planner.handle_record(at(5), 1);
        assert_eq!(planner.poll_timeout(), Some(at(60)));
        assert_eq!(planner.handle_timeout(at(59)), None);
        assert_eq!(planner.handle_timeout(at(60)), Some(1));
        assert_eq!(planner.poll_timeout(), None);
    }

    #[test]
    fn a_small_step_back_stays_and_a_large_one_moves() {
        let mut planner = planner(Rotation::HOURLY, FileBy::Clock);
        let first = planner.handle_record(at(60), 1);
        let near = at(60).checked_sub(SignedDuration::from_secs(9)).unwrap();
        assert_eq!(planner.handle_record(near, 1), first);
        let back = planner.handle_record(at(30), 1);
        assert_eq!((back.file, back.period.start), (2, at(0)));
        assert_eq!(planner.handle_timeout(at(-200)), Some(2));
    }

    #[test]
    fn records_do_not_go_back_behind_the_writer_before() {
        let mut planner = planner(Rotation::HOURLY, FileBy::RecordTime).not_before(at(60));
        assert_eq!(planner.handle_record(at(5), 1).period.start, at(60));
        assert_eq!(planner.handle_record(at(121), 1).period.start, at(120));
    }

    #[test]
    fn a_period_is_overdue_after_its_end_and_the_wait() {
        let minute = Duration::from_secs(60);
        let mut planner = planner(Rotation::HOURLY, FileBy::RecordTime);
        assert!(!planner.is_overdue(at(600), minute), "there is no file");
        planner.handle_record(at(5), 1);
        assert!(!planner.is_overdue(at(60), minute) && planner.is_overdue(at(61), minute));
        assert!(!planner.is_overdue(at(600), Duration::MAX));
    }

    #[test]
    fn late_records_go_to_the_current_file() {
        let mut planner = planner(Rotation::HOURLY, FileBy::RecordTime);
        assert_eq!(planner.handle_record(at(61), 1).period.start, at(60));
        assert_eq!(planner.handle_record(at(5), 1).period.start, at(60));
        assert!(!planner.leaves(at(5)) && planner.leaves(at(120)));
        // The clock closes it after the grace, and a late one opens the same hour again.
        assert_eq!(planner.handle_timeout(at(120)), None);
        assert_eq!(planner.handle_timeout(at(121)), Some(1));
        assert_eq!(planner.handle_record(at(7), 1).period.start, at(60));
    }

    #[test]
    fn sizes_end_files_between_records() {
        let mut planner = planner(Rotation::HOURLY.or_size(10), FileBy::Clock);
        let files: Vec<u64> = [4, 6, 1, 25, 1, 9]
            .into_iter()
            .map(|len| {
                let target = planner.handle_record(at(0), len);
                planner.count(len);
                target.file
            })
            .collect();
        assert_eq!(files, [1, 1, 2, 3, 4, 4]);
        assert_eq!(planner.room(), 0);
    }

    #[test]
    fn endless_files_do_not_care_about_the_clock() {
        let mut planner = planner(Rotation::size(10), FileBy::Clock);
        let first = planner.handle_record(at(60), 1);
        assert_eq!(planner.handle_record(at(-6000), 1), first);
        assert_eq!(planner.handle_timeout(at(1_000_000)), None);
    }
}
