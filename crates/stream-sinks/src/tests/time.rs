//! Invented hours: clocks that jump, days that are longer, a year in a moment.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    time::{Duration, SystemTime},
};

use super::world::{World, builder, names, time, visible};
use crate::{Clock, CrashImage, FileBy, ManualClock, Record, Rotation, Zone};

fn open(image: &CrashImage, clock: &ManualClock, zone: &str) -> World {
    let zone = Zone::Named(zone.to_owned());
    World::open(builder(image).zone(zone), clock).unwrap()
}

fn text(files: &BTreeMap<PathBuf, Vec<u8>>, name: &str) -> String {
    let bytes = files.iter().find(|(path, _)| path.display().to_string() == name);
    let bytes = bytes.unwrap_or_else(|| panic!("no {name} in {:?}", files.keys()));
    String::from_utf8(bytes.1.clone()).unwrap()
}

#[test]
fn an_idle_hour_is_closed_on_time() {
    let image = CrashImage::new();
    let clock = ManualClock::new(time("2026-11-20T04:59:00Z"));
    let mut world = open(&image, &clock, "UTC");
    world.append("x").unwrap();
    world.pass(Duration::from_secs(59));
    assert_eq!(names(&image), ["20261120/x_2026112004.log.part"]);
    world.pass(Duration::from_secs(1));
    assert_eq!(names(&image), ["20261120/x_2026112004.log"]);
    // Nothing comes of hours without records.
    world.pass(Duration::from_secs(5 * 3600));
    world.close().unwrap();
    assert_eq!(names(&image).len(), 1);
}

/// A record every ten minutes through the days around each change of the clock, of five zones: each hour has its own file,
/// with its own records only.
#[test]
fn days_when_the_clock_changes() {
    let zones = [
        ("Europe/Berlin", "2026-03-28T12:00:00Z", "2026-10-24T12:00:00Z"),
        ("America/New_York", "2026-03-07T12:00:00Z", "2026-10-31T12:00:00Z"),
        ("Australia/Lord_Howe", "2026-04-03T12:00:00Z", "2026-10-02T12:00:00Z"),
        ("America/Santiago", "2026-04-04T12:00:00Z", "2026-09-05T12:00:00Z"),
        ("Africa/Casablanca", "2026-02-14T12:00:00Z", "2026-03-21T12:00:00Z"),
    ];
    for (zone, spring, autumn) in zones {
        for start in [spring, autumn] {
            let image = CrashImage::new();
            let clock = ManualClock::new(time(start));
            let mut world = open(&image, &clock, zone);
            let mut stamps = Vec::new();
            for _ in 0..48 * 6 {
                let now = jiff::Timestamp::try_from(clock.now()).unwrap();
                let local = jiff::tz::TimeZone::get(zone).unwrap().to_offset(now);
                // What the zone's clock shows, with the offset in force: unique for each instant.
                let stamp = format!("{} {local}", local.to_datetime(now).strftime("%Y%m%d%H"));
                world.append(&stamp).unwrap();
                stamps.push(stamp);
                world.pass(Duration::from_secs(600));
            }
            world.close().unwrap();
            let files = visible(&image);
            for (path, bytes) in &files {
                let content = String::from_utf8(bytes.clone()).unwrap();
                let hours: std::collections::HashSet<&str> =
                    content.lines().map(|line| line.split_once(' ').unwrap().0).collect();
                assert_eq!(hours.len(), 1, "{zone}: {}", path.display());
                let hour = hours.into_iter().next().unwrap();
                let name = path.file_name().unwrap().to_str().unwrap();
                assert!(name.starts_with(&format!("x_{hour}")), "{zone}: {name} has {hour}");
            }
            // As many files as there were hours with an offset; forward changes within an hour share one.
            let hours: std::collections::HashSet<&String> = stamps.iter().collect();
            assert_eq!(files.len(), hours.len(), "{zone}: {:?}", files.keys());
            let lines: usize = files
                .values()
                .map(|bytes| bytes.iter().filter(|byte| **byte == b'\n').count())
                .sum();
            assert_eq!(lines, stamps.len(), "{zone}");
        }
    }
}

#[test]
fn the_clock_is_set_back_and_forth() {
    let image = CrashImage::new();
    let clock = ManualClock::new(time("2026-11-20T04:30:00Z"));
    let mut world = open(&image, &clock, "UTC");
    let jumps = [
        ("2026-11-20T05:30:00Z", "forward"),
        ("2026-11-20T04:40:00Z", "back"),
        ("2027-01-01T00:00:00Z", "far forward"),
        ("2026-11-20T04:45:00Z", "back again"),
        ("1970-01-01T00:00:00Z", "reset"),
        ("2026-11-20T04:50:00Z", "mended"),
    ];
    world.append("first").unwrap();
    world.settle();
    for (now, what) in jumps {
        clock.set(time(now));
        world.settle();
        world.append(what).unwrap();
        world.settle();
    }
    world.close().unwrap();
    let files = visible(&image);
    assert_eq!(text(&files, "20261120/x_2026112004.log"), "first\n");
    assert_eq!(text(&files, "20261120/x_2026112004.1.log"), "back\n");
    assert_eq!(text(&files, "20261120/x_2026112004.2.log"), "back again\n");
    assert_eq!(text(&files, "20261120/x_2026112004.3.log"), "mended\n");
    assert_eq!(text(&files, "20261120/x_2026112005.log"), "forward\n");
    assert_eq!(text(&files, "20270101/x_2027010100.log"), "far forward\n");
    assert_eq!(text(&files, "19700101/x_1970010100.log"), "reset\n");
}

#[test]
fn a_small_step_back_over_the_hour_stays_in_the_file() {
    let image = CrashImage::new();
    let clock = ManualClock::new(time("2026-11-20T05:00:01Z"));
    let mut world = open(&image, &clock, "UTC");
    world.append("a").unwrap();
    world.flush().unwrap();
    clock.set(time("2026-11-20T04:59:58Z"));
    world.append("b").unwrap();
    world.close().unwrap();
    assert_eq!(text(&visible(&image), "20261120/x_2026112005.log"), "a\nb\n");
}

/// A year of hours in a zone, with a record in most of them, and restarts.
#[test]
fn a_year_of_hours() {
    let mut image = CrashImage::new();
    let clock = ManualClock::new(time("2026-01-01T00:00:00Z"));
    let mut world = open(&image, &clock, "Europe/Berlin");
    let mut expected = 0;
    for hour in 0..365 * 24_u64 {
        if hour % 7 != 3 {
            world.append(&hour.to_string()).unwrap();
            expected += 1;
        }
        world.pass(Duration::from_secs(3600));
        if hour % 168 == 0 {
            world.close().unwrap();
            let files = visible(&image);
            let mut found: Vec<u64> = files
                .values()
                .map(|bytes| String::from_utf8_lossy(bytes).trim().parse().unwrap())
                .collect();
            found.sort_unstable();
            found.dedup();
            assert_eq!(found.len(), expected, "hour {hour}");
            expected = 0;
            // The image keeps all that ever was.
            image = CrashImage::new();
            world = open(&image, &clock, "Europe/Berlin");
        }
    }
    world.close().unwrap();
}

/// The same records make the same files, whenever they come.
#[test]
fn record_times_decide_where_that_is_asked_for() {
    let records: Vec<(u64, SystemTime)> = (0..300_u64)
        .map(|number| {
            // Every tenth one is late by up to forty minutes.
            let late = if number % 10 == 9 { number * 7 % 2400 } else { 0 };
            let at = time("2026-11-20T04:00:00Z") + Duration::from_secs(number * 60 - late.min(number * 60));
            (number, at)
        })
        .collect();
    let run = |pause: Duration| {
        let image = CrashImage::new();
        let clock = ManualClock::new(time("2026-12-24T18:00:00Z"));
        let builder = builder(&image)
            .file_by(FileBy::RecordTime)
            .rotation(Rotation::HOURLY.or_size(300));
        let mut world = World::open(builder, &clock).unwrap();
        for (number, at) in &records {
            let line = number.to_string();
            world.append_waiting(Record::from(&line).time(*at)).unwrap();
            clock.advance(pause);
        }
        world.close().unwrap();
        visible(&image)
    };
    let files = run(Duration::ZERO);
    assert_eq!(files, run(Duration::from_millis(1)));
    assert_eq!(files.len(), 5, "{:?}", files.keys());
    let all: Vec<u8> = files.into_values().flatten().collect();
    let expected: String = (0..300).map(|number| format!("{number}\n")).collect();
    assert_eq!(String::from_utf8(all).unwrap(), expected);
}

/// Old records that are replayed: the clock says that their hours are over, and must not cut them into small files.
#[test]
fn a_replay_of_old_records_makes_one_file_an_hour() {
    let image = CrashImage::new();
    let clock = ManualClock::new(time("2026-12-24T18:00:00Z"));
    let mut world = World::open(builder(&image).file_by(FileBy::RecordTime), &clock).unwrap();
    let begin = time("2026-11-20T04:00:00Z");
    for number in 0..180_u64 {
        let record = Record::from("x").time(begin + Duration::from_secs(number * 60));
        world.append_waiting(record).unwrap();
        // The thread looks, writes, and a second passes.
        world.flush().unwrap();
        world.pass(Duration::from_secs(1));
    }
    let hour = |hour: &str| format!("20261120/x_20261120{hour}");
    assert_eq!(names(&image), [hour("04.log"), hour("05.log"), hour("06.log.part")]);
    // When no more come, the last one is closed.
    world.pass(Duration::from_secs(61));
    assert_eq!(names(&image), [hour("04.log"), hour("05.log"), hour("06.log")]);
}

/// A record that is stamped late after a restart goes where the killed writer would have put it.
#[test]
fn record_times_do_not_go_back_behind_a_kill() {
    let clock = ManualClock::new(time("2026-11-20T09:00:00Z"));
    let image = CrashImage::new();
    let record = |at: &str| Record::from("x").sequence(1).time(time(at));
    let by_record_time = |image: &CrashImage| builder(image).file_by(FileBy::RecordTime);
    let mut world = World::open(by_record_time(&image), &clock).unwrap();
    world.append_waiting(record("2026-11-20T05:59:59Z")).unwrap();
    world.append_waiting(record("2026-11-20T06:00:00Z")).unwrap();
    world.flush().unwrap();
    let image = image.killed();
    let mut world = World::open(by_record_time(&image), &clock).unwrap();
    assert_eq!(world.recovery().last_period, Some(time("2026-11-20T06:00:00Z")));
    world.append_waiting(record("2026-11-20T05:59:58Z")).unwrap();
    world.close().unwrap();
    let hour = |name: &str| format!("20261120/x_20261120{name}.log");
    assert_eq!(names(&image), [hour("05"), hour("06.1"), hour("06")]);
    // Of files that were closed somebody else must tell.
    let image = image.killed();
    let since = time("2026-11-20T06:00:00Z");
    let mut world = World::open(by_record_time(&image).not_before(since), &clock).unwrap();
    world.append_waiting(record("2026-11-20T05:59:57Z")).unwrap();
    world.close().unwrap();
    assert_eq!(names(&image).len(), 4);
    assert!(names(&image).contains(&hour("06.2")), "{:?}", names(&image));
}
