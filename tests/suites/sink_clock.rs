//! The suite `sink-clock`: the writer with its thread, and a clock of the test. Planner and parts have tests of their own,
//! with clocks that jump, days of five zones, and a year of hours.

use std::{
    sync::{Arc, mpsc},
    time::{Duration, SystemTime},
};

use natstream::sinks::{Manifest, ManualClock, RollingWriter, Zone};

use integration::sinks::{directory, visible};

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

/// 2026-10-25T00:30:00Z: the first of two hours that are the second of the day in Berlin.
const NIGHT: u64 = 1_792_888_200;

#[test]
fn idle_hours_are_closed_by_the_thread_and_the_repeated_one_is_two_files() {
    let (_guard, dir) = directory();
    let clock = ManualClock::new(at(NIGHT));
    let (closed, manifests) = mpsc::channel::<Manifest>();
    let writer = RollingWriter::builder(&dir, "x")
        .zone(Zone::Named("Europe/Berlin".to_owned()))
        .clock(Arc::new(clock.clone()))
        .on_close(move |manifest| closed.send(manifest.clone()).unwrap())
        .open()
        .unwrap();
    for hour in 0..3 {
        writer.append_blocking(&format!("hour {hour}")).unwrap();
        clock.advance(Duration::from_secs(3600));
        // Nothing else happens in this hour.
        let manifest = manifests.recv_timeout(Duration::from_secs(60)).unwrap();
        assert_eq!((manifest.records, manifest.recovered), (1, false));
        assert_eq!(manifest.crc32c, crc32c::crc32c(format!("hour {hour}\n").as_bytes()));
    }
    writer.close_blocking().unwrap();
    let names: Vec<String> = visible(&dir).into_iter().map(|(name, _)| name).collect();
    let expected = ["x_2026102502+0100.log", "x_2026102502+0200.log", "x_2026102503.log"];
    assert_eq!(names, expected.map(|name| format!("20261025/{name}")));
}
