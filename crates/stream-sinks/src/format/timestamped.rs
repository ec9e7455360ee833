//! The seeds' lines: `[time] subject: data`.

use std::io::Write;

use jiff::{Timestamp, tz::TimeZone};

use super::{Boundary, Formatter};
use crate::{Record, Zone};

pub(super) struct Timestamped {
    zone: TimeZone,
}

impl Timestamped {
    /// A zone that does not exist becomes UTC here; the writer's own zone is checked when it opens.
    pub(super) fn new(zone: Zone) -> Self {
        Self {
            zone: zone.resolve().unwrap_or(TimeZone::UTC),
        }
    }
}

impl Formatter for Timestamped {
    fn encode(&self, record: &Record<'_>, out: &mut Vec<u8>) {
        let time = record.time_of().and_then(|time| Timestamp::try_from(time).ok());
        let time = self.zone.to_datetime(time.unwrap_or_default());
        // Writing to a vector does not fail.
        let _ = write!(
            out,
            "[{:04}-{:02}-{:02} {:02}:{:02}:{:02}.{:03}] ",
            time.year(),
            time.month(),
            time.day(),
            time.hour(),
            time.minute(),
            time.second(),
            time.millisecond()
        );
        out.extend_from_slice(record.subject_of().unwrap_or_default().as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(record.payload());
        out.push(b'\n');
    }

    fn boundary(&self) -> Boundary {
        Boundary::Line
    }

    fn needs_time(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;

    #[test]
    fn a_line_is_the_seeds() {
        let mut out = Vec::new();
        let time = SystemTime::UNIX_EPOCH + Duration::from_millis(1_795_147_200_123);
        let record = Record::new(b"hello").subject("logs.a").time(time);
        Timestamped::new(Zone::Utc).encode(&record, &mut out);
        assert_eq!(out, b"[2026-11-20 04:00:00.123] logs.a: hello\n");
    }
}
