//! Power lost, or the process killed, in every call that changes something.

use std::time::Duration;

use super::world::{World, builder, names, time, visible};
use crate::{
    Boundary, CrashImage, Format, Formatter, Frames, ManualClock, Receipt, Record, RollingWriter, RollingWriterBuilder,
    Rotation, SinkError, Sync,
};

/// Records of a run: enough for several files by time and size.
const RECORDS: u64 = 60;

/// How records are written, and read back.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Lines,
    Frames,
    /// Records whose end is only known from the journal.
    Fixed,
    Sequenced,
    #[cfg(feature = "zstd")]
    Zstd,
}

struct FixedWidth;

impl Formatter for FixedWidth {
    fn encode(&self, record: &Record<'_>, out: &mut Vec<u8>) {
        out.extend_from_slice(record.payload());
        out.resize(out.len() + WIDTH - record.payload().len(), b'.');
    }

    fn boundary(&self) -> Boundary {
        Boundary::Unknown
    }
}

const WIDTH: usize = 300;

impl Kind {
    fn set(self, builder: RollingWriterBuilder) -> RollingWriterBuilder {
        match self {
            Self::Lines | Self::Sequenced => builder,
            Self::Frames => builder.format(Format::length_prefixed()),
            Self::Fixed => builder.format(Format::custom(FixedWidth)),
            #[cfg(feature = "zstd")]
            Self::Zstd => builder.zstd(1),
        }
    }

    /// The numbers in a file; panics where anything is torn.
    fn read(self, bytes: &[u8]) -> Vec<u64> {
        let number = |record: &[u8]| {
            let text = std::str::from_utf8(record).unwrap();
            let (number, padding) = text.split_once(' ').unwrap_or_else(|| panic!("torn: {text:?}"));
            let number: u64 = number.parse().unwrap();
            assert_eq!(
                padding.trim_end_matches('.'),
                payload(number).split_once(' ').unwrap().1,
                "torn"
            );
            number
        };
        let lines = |bytes: &[u8]| {
            assert!(bytes.ends_with(b"\n"), "torn");
            bytes[..bytes.len() - 1]
                .split(|byte| *byte == b'\n')
                .map(number)
                .collect()
        };
        match self {
            Self::Lines | Self::Sequenced => lines(bytes),
            Self::Frames => Frames::new(bytes).map(|frame| number(frame.unwrap())).collect(),
            Self::Fixed => {
                assert_eq!(bytes.len() % WIDTH, 0, "torn");
                bytes.chunks(WIDTH).map(number).collect()
            }
            #[cfg(feature = "zstd")]
            Self::Zstd => lines(&zstd::decode_all(bytes).unwrap()),
        }
    }
}

fn payload(number: u64) -> String {
    format!("{number} {}", "p".repeat(usize::try_from(number * 7 % 250).unwrap()))
}

fn open(image: &CrashImage, clock: &ManualClock, kind: Kind, sync: Sync) -> Result<World, SinkError> {
    let builder = kind
        .set(builder(image))
        .sync(sync)
        .rotation(Rotation::HOURLY.or_size(4000));
    World::open(builder.close_timeout(Duration::ZERO), clock)
}

/// Appends from number `from` on, with flushes and hours in between: gives the last receipt, until the power fails.
fn run(world: &mut World, kind: Kind, from: u64, receipt: &mut Receipt) -> Result<(), SinkError> {
    for number in from..RECORDS {
        let payload = payload(number);
        let mut record = Record::from(&payload);
        if kind == Kind::Sequenced {
            record = record.sequence(number);
        }
        world.append_waiting(record)?;
        if number % 5 == 4 {
            let result = world.flush();
            *receipt = world.receipt();
            result?;
        }
        if number % 17 == 16 {
            world.pass(Duration::from_secs(1800));
            *receipt = world.receipt();
        }
    }
    let result = world.close();
    *receipt = world.receipt();
    result.map(drop)
}

fn clock() -> ManualClock {
    ManualClock::new(time("2026-11-20T04:10:00Z"))
}

/// All that is in final files, in the order of their names.
fn read(image: &CrashImage, kind: Kind) -> Vec<u64> {
    let files = visible(image);
    // Sizes make more than ten files in an hour in no run, so that names sort by number.
    let mut sorted: Vec<_> = files.iter().collect();
    sorted.sort_by_key(|(path, _)| {
        let name = path.display().to_string();
        let (hour, rest) = name
            .split_once(".log")
            .map_or((name.as_str(), ""), |(hour, rest)| (hour, rest));
        let _ = rest;
        let (hour, index) = hour.split_once('.').unwrap_or((hour, "0"));
        (hour.to_owned(), index.parse::<u64>().unwrap())
    });
    let all = sorted
        .into_iter()
        .filter(|(path, _)| !path.display().to_string().contains("damaged"));
    all.flat_map(|(path, bytes)| {
        assert!(!path.display().to_string().ends_with(".part"));
        kind.read(bytes)
    })
    .collect()
}

/// After a crash: opens, closes, and compares.
fn check(image: &CrashImage, kind: Kind, sync: Sync, promised: u64, what: &str) -> Vec<u64> {
    let clock = clock();
    clock.advance(Duration::from_secs(40 * 3600));
    let mut world = open(image, &clock, kind, sync).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert!(world.recovery().set_aside.is_empty(), "{what}: {:?}", world.recovery());
    world.close().unwrap();
    let found = read(image, kind);
    let count = found.len() as u64;
    assert_eq!(
        found,
        (0..count).collect::<Vec<_>>(),
        "{what}: lost, repeated or out of order"
    );
    assert!(
        count >= promised,
        "{what}: {count} of {promised} promised, {:?}",
        names(image)
    );
    found
}

fn crash_everywhere(kind: Kind, sync: Sync) {
    let image = CrashImage::new();
    let mut receipt = Receipt::default();
    run(&mut open(&image, &clock(), kind, sync).unwrap(), kind, 0, &mut receipt).unwrap();
    assert_eq!(receipt.survive_kill, RECORDS);
    assert_eq!(read(&image, kind).len() as u64, RECORDS);
    let calls = image.calls();
    assert!(calls > 50, "{calls}");
    for call in 1..=calls {
        let image = CrashImage::new();
        image.power_off_at(call);
        let mut receipt = Receipt::default();
        if let Ok(mut world) = open(&image, &clock(), kind, sync) {
            let result = run(&mut world, kind, 0, &mut receipt);
            assert!(result.is_err() || call == calls, "the power failed in call {call}");
        }
        let what = format!("{kind:?} {sync:?} killed in call {call}");
        check(&image.killed(), kind, sync, receipt.survive_kill, &what);
        if sync == Sync::None {
            continue;
        }
        for seed in 0..8 {
            let what = format!("{kind:?} {sync:?} power lost in call {call}, seed {seed}");
            let after = image.power_loss(seed);
            let found = check(&after, kind, sync, receipt.survive_power_loss, &what);
            // Once more, while it recovers.
            let again = image.power_loss(seed);
            again.power_off_at(1 + (call + seed) % 12);
            drop(open(&again, &clock(), kind, sync));
            let found_again = check(
                &again.power_loss(seed + 2),
                kind,
                sync,
                receipt.survive_power_loss,
                &what,
            );
            assert_eq!(found, found_again, "{what}: and again");
        }
    }
}

#[test]
fn lines_survive_what_their_mode_promises() {
    crash_everywhere(Kind::Lines, Sync::Commit);
    crash_everywhere(Kind::Lines, Sync::Interval(Duration::from_secs(1)));
    crash_everywhere(Kind::Lines, Sync::None);
}

#[test]
fn frames_survive() {
    crash_everywhere(Kind::Frames, Sync::Commit);
}

#[test]
fn records_without_an_end_survive_by_the_journal() {
    crash_everywhere(Kind::Fixed, Sync::Commit);
    crash_everywhere(Kind::Fixed, Sync::None);
}

#[test]
fn sequences_survive() {
    crash_everywhere(Kind::Sequenced, Sync::Commit);
}

#[cfg(feature = "zstd")]
#[test]
fn zstd_survives() {
    crash_everywhere(Kind::Zstd, Sync::Commit);
    crash_everywhere(Kind::Zstd, Sync::None);
}

/// Whoever resumes behind the last sequence that was recovered has each record once.
#[test]
fn resuming_by_sequence_repeats_nothing() {
    let template = "{date}{hour}-{first}-{last}.log";
    let open = |image: &CrashImage, clock: &ManualClock| {
        let builder = builder(image)
            .sync(Sync::Commit)
            .rotation(Rotation::HOURLY.or_size(4000));
        World::open(builder.template(template).close_timeout(Duration::ZERO), clock)
    };
    let whole = CrashImage::new();
    run(
        &mut open(&whole, &clock()).unwrap(),
        Kind::Sequenced,
        0,
        &mut Receipt::default(),
    )
    .unwrap();
    for call in 1..=whole.calls() {
        for seed in 0..4 {
            let image = CrashImage::new();
            image.power_off_at(call);
            let mut receipt = Receipt::default();
            if let Ok(mut world) = open(&image, &clock()) {
                let _ = run(&mut world, Kind::Sequenced, 0, &mut receipt);
            }
            let image = image.power_loss(seed);
            let mut world = open(&image, &clock()).unwrap();
            let next = world.recovery().last_sequence.map_or(0, |last| last + 1);
            assert!(next >= receipt.survive_power_loss);
            run(&mut world, Kind::Sequenced, next, &mut receipt).unwrap();
            let all: Vec<u64> = {
                let mut files: Vec<_> = visible(&image).into_iter().collect();
                files.sort_by_key(|(path, _)| {
                    path.display()
                        .to_string()
                        .split_once('-')
                        .map(|(_, name)| name.to_owned())
                });
                files.iter().flat_map(|(_, bytes)| Kind::Lines.read(bytes)).collect()
            };
            assert_eq!(all, (0..RECORDS).collect::<Vec<_>>(), "call {call}, seed {seed}");
        }
    }
}

/// Also directories above the writer's own, where it made them.
#[test]
fn new_directories_survive_with_what_is_in_them() {
    let image = CrashImage::new();
    let builder = RollingWriter::builder("/a/b/c/d", "x").storage(std::sync::Arc::new(image.clone()));
    let mut world = World::open(builder.sync(Sync::Commit), &clock()).unwrap();
    world.append_waiting("line").unwrap();
    assert_eq!(world.flush().unwrap().survive_power_loss, 1);
    let after = image.power_loss(0).files();
    let part = std::path::Path::new("/a/b/c/d/20261120/x_2026112004.log.part");
    assert_eq!(after.get(part).map(Vec::as_slice), Some(&b"line\n"[..]));
}
