//! The same stream recorded again gives the same files, byte for byte, also on a day when the clock changes; killed recorders
//! leave the same records in the same order in the same periods, in more files.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, SystemTime};

use futures_util::FutureExt as _;
use integration::bus::stream;
use integration::recording::{self, Mode, Recorder, Task, verify};
use integration::sinks::{directory, visible};
use integration::{LIMIT, connection};
use natstream::eventbus::topology::{StreamSpec, Topology};
use natstream::{Bus, Connection, Event};
use testkit::{shared_url, unique_name, within};

/// Not a test: the recorder, when the suite starts it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recorder_process() {
    recording::process().await;
}

/// A zone, as `TZ` has it, whose clock goes an hour ahead at one instant and back at another.
fn zone(ahead: SystemTime, back: SystemTime) -> String {
    let (day, ahead) = day_and_time(ahead);
    // It is given by the clock that is an hour ahead.
    let (last_day, back) = day_and_time(back + Duration::from_secs(3600));
    format!("NOW0THEN-1,{day}/{ahead},{last_day}/{back}")
}

/// The day of the year, from 0, and the time of day, both in UTC.
fn day_and_time(time: SystemTime) -> (u64, String) {
    let seconds = time.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let (mut day, second) = (seconds / 86_400, seconds % 86_400);
    for year in 1970_u64.. {
        let is_leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
        let days = if is_leap { 366 } else { 365 };
        if day < days {
            break;
        }
        day -= days;
    }
    let (hours, minutes) = (second / 3600, second / 60 % 60);
    (day, format!("{hours:02}:{minutes:02}:{:02}", second % 60))
}

/// Publishes until this instant: gives how many messages there are.
async fn publish(connection: &Connection, name: &str, until: SystemTime) -> u64 {
    let bus = within(LIMIT, Bus::open(connection.clone())).await.expect("open");
    let mut pace = tokio::time::interval(Duration::from_millis(4));
    for number in 0_u64.. {
        if SystemTime::now() > until {
            break;
        }
        pace.tick().await;
        for part in 0..4 {
            let event = Event::new(format!("{name}.{part}"), number.to_string()).header("part", "x");
            within(LIMIT, bus.enqueue(event)).await.expect("accepted");
        }
    }
    within(LIMIT, bus.flush(LIMIT)).await.expect("all acked");
    let info = Topology::new(connection.clone()).info(name).await.expect("info");
    info.last_sequence
}

/// The name without its number.
fn stem(path: &str) -> &str {
    let stem = path.strip_suffix(".log").expect("a file");
    match stem.rsplit_once('.') {
        Some((stem, number)) if number.parse::<u64>().is_ok() => stem,
        _ => stem,
    }
}

/// The names of periods, in the order of their records.
fn course(dir: &Path) -> Vec<String> {
    let files = visible(dir).into_iter().map(|(path, bytes)| {
        let line = bytes.split(|byte| *byte == b'\n').next().expect("a line");
        let line: serde_json::Value = serde_json::from_slice(line).expect("an object");
        let first = line["sequence"].as_u64().expect("a sequence");
        (first, stem(&path).to_owned())
    });
    let mut files: Vec<_> = files.collect();
    files.sort();
    let mut names: Vec<_> = files.into_iter().map(|(_, name)| name).collect();
    names.dedup();
    names
}

/// What files of a period have, one after the other.
fn periods(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut periods: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    for (path, bytes) in visible(dir) {
        periods.entry(stem(&path).to_owned()).or_default().extend(bytes);
    }
    periods
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_gives_the_same_files() {
    let connection = connection(shared_url()).await;
    let name = unique_name("REPLAY");
    stream(&connection, StreamSpec::new(&name, [format!("{name}.>")])).await;
    let now = SystemTime::now();
    let (ahead, back) = (now + Duration::from_secs(2), now + Duration::from_secs(4));
    let zone = zone(ahead, back);
    let dirs: Vec<_> = (0..4).map(|_| directory()).collect();
    let task = |number: usize, durable, until| Task {
        url: shared_url(),
        stream: &name,
        durable,
        dir: &dirs[number].1,
        mode: Mode::Minutes,
        until,
        zone: Some(&zone),
    };
    // One records while they come, in many small commits.
    let mut live = Recorder::start(&task(0, "live", None));
    assert!(live.news().await, "it has begun");
    let publishing = tokio::spawn({
        let (connection, name) = (connection.clone(), name.clone());
        async move { publish(&connection, &name, back + Duration::from_secs(1)).await }
    });
    // Another one is killed again and again meanwhile: messages come slowly, so that it cannot be far ahead.
    let mut kills = 0;
    while !publishing.is_finished() {
        let mut killed = Recorder::start(&task(3, "killed", None));
        while killed.began.is_none() {
            assert!(killed.news().await, "it has begun");
        }
        let enough = killed.began.unwrap_or_default() + 100;
        while killed.safe < enough && !publishing.is_finished() {
            tokio::select! {
                is_alive = killed.news() => assert!(is_alive),
                // It looks again whether there is more to come.
                () = testkit::settles_where(LIMIT, || std::future::ready(publishing.is_finished()), |is| *is).map(drop) => {}
            }
        }
        killed.kill().await;
        kills += 1;
    }
    assert!(kills > 2, "{kills} kills");
    let last = within(LIMIT, publishing).await.expect("no panic");
    live.safe_through(last).await;
    live.kill().await;
    // What is left in progress is closed.
    Recorder::start(&task(0, "live", Some(last))).ended().await;
    for (number, durable) in [(1, "one"), (2, "other")] {
        Recorder::start(&task(number, durable, Some(last))).ended().await;
    }
    Recorder::start(&task(3, "killed", Some(last))).ended().await;
    for (_, dir) in &dirs {
        verify(&connection, &name, dir, last).await;
    }
    let files: Vec<_> = dirs.iter().map(|(_, dir)| visible(dir)).collect();
    assert!(
        files[1].len() > 3,
        "{zone}: {:?}",
        files[1].iter().map(|file| &file.0).collect::<Vec<_>>()
    );
    assert!(files[1] == files[2], "two replays differ");
    assert!(
        files[0] == files[1],
        "a replay differs from what was recorded at the time"
    );
    assert!(files[3].len() > files[1].len(), "restarts begin other files");
    let names = course(&dirs[1].1);
    assert!(names.len() >= 3, "{zone}: the clock went ahead, and back: {names:?}");
    assert_eq!(course(&dirs[3].1), names);
    assert!(
        periods(&dirs[3].1) == periods(&dirs[1].1),
        "kills move records, or change their order"
    );
}
