//! A process that writes is killed at any instant, and the next one goes on.
#![allow(
    clippy::print_stdout,
    reason = "the process tells its parent, and the seed is for people"
)]

use std::{
    env,
    io::{BufRead, BufReader, Read, Write},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use integration::{
    sinks::{Random, directory, visible},
    variable,
};
use natstream::sinks::{Compression, Record, RollingWriter, RollingWriterBuilder, Rotation, Sync};

/// What is killed, by turns.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Mode {
    Unsynced,
    Commit,
    Interval,
    Zstd,
    /// Closed files are compressed in the background, which is killed too.
    Gzip,
    /// Goes on behind the last sequence that was recovered.
    Sequenced,
}

const MODES: [Mode; 6] = [
    Mode::Unsynced,
    Mode::Commit,
    Mode::Interval,
    Mode::Zstd,
    Mode::Gzip,
    Mode::Sequenced,
];

fn builder(dir: &Path, mode: Mode) -> RollingWriterBuilder {
    let builder = RollingWriter::builder(dir, "x")
        .buffer(256 << 10)
        .rotation(Rotation::size(300_000))
        .sync(Sync::None);
    match mode {
        Mode::Unsynced => builder,
        Mode::Commit => builder.sync(Sync::Commit),
        Mode::Interval => builder.sync(Sync::Interval(Duration::from_millis(5))),
        Mode::Zstd => builder.zstd(1),
        Mode::Gzip => builder.compression(Compression::Gzip(1)),
        Mode::Sequenced => builder.sync(Sync::Commit).template("{name}-{first}-{last}.log"),
    }
}

fn line(number: u64) -> String {
    format!("{number} {}", "p".repeat(usize::try_from(number * 37 % 400).unwrap()))
}

/// Not a test: the process that is killed, when the suite starts it.
#[test]
fn writer_process() {
    let Ok(dir) = env::var("NATSTREAM_SINK_DIR") else {
        return;
    };
    let mode = MODES[usize::try_from(variable("NATSTREAM_SINK_MODE").unwrap()).unwrap()];
    let writer = builder(Path::new(&dir), mode).open().unwrap();
    let mut out = std::io::stdout();
    let first = match mode {
        Mode::Sequenced => writer.recovery().last_sequence.map_or(0, |last| last + 1),
        _ => variable("NATSTREAM_SINK_FIRST").unwrap(),
    };
    for number in first.. {
        let line = line(number);
        let mut record = Record::from(&line);
        if mode == Mode::Sequenced {
            record = record.sequence(number);
        }
        writer.append_blocking(record).unwrap();
        if number * 31 % 97 == 0 {
            let receipt = writer.flush_blocking().unwrap();
            writeln!(out, "\nsafe {}", first + receipt.survive_kill).unwrap();
        }
    }
}

fn start(dir: &Path, mode: usize, first: u64) -> Child {
    Command::new(env::current_exe().unwrap())
        .args(["--exact", "kills::writer_process", "--nocapture"])
        .env("NATSTREAM_SINK_DIR", dir)
        .env("NATSTREAM_SINK_MODE", mode.to_string())
        .env("NATSTREAM_SINK_FIRST", first.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// All numbers in the files, in order; panics where a line is torn.
fn numbers(dir: &Path) -> Vec<u64> {
    let mut numbers = Vec::new();
    for (path, bytes) in visible(dir) {
        assert!(!path.ends_with(".part") && !path.contains("damaged"), "{path}");
        let bytes = plain(&path, bytes);
        assert!(bytes.ends_with(b"\n"), "{path} is torn");
        for text in String::from_utf8(bytes).unwrap().lines() {
            let number = text.split(' ').next().unwrap().parse().unwrap();
            assert_eq!(text, line(number), "{path} is torn");
            numbers.push(number);
        }
    }
    numbers
}

fn plain(path: &str, bytes: Vec<u8>) -> Vec<u8> {
    let mut plain = Vec::new();
    match path.rsplit_once('.') {
        Some((_, "zst")) => zstd::stream::copy_decode(&bytes[..], &mut plain).unwrap(),
        Some((_, "gz")) => drop(
            flate2::read::GzDecoder::new(&bytes[..])
                .read_to_end(&mut plain)
                .unwrap(),
        ),
        _ => plain = bytes,
    }
    plain
}

#[test]
fn a_killed_writer_keeps_what_it_promised() {
    let kills = variable("NATSTREAM_KILLS").unwrap_or(12);
    let seed = variable("NATSTREAM_SEED").unwrap_or_else(Random::seed);
    println!("NATSTREAM_SEED={seed}");
    let mut random = Random(seed);
    let (mut torn, mut longest, mut records) = (0, 0, 0);
    // So that a short run has all modes, and a long one many kills of each directory.
    let each = kills.div_ceil(MODES.len() as u64).min(5);
    for round in 0..kills.div_ceil(each) {
        let mode = usize::try_from(round).unwrap() % MODES.len();
        let (_guard, dir) = directory();
        let mut next = 0;
        for _ in 0..each.min(kills - round * each) {
            let what = format!("seed {seed}, {:?}", MODES[mode]);
            let safe = kill(start(&dir, mode, next), next, &mut random);
            let writer = builder(&dir, MODES[mode]).open().unwrap();
            let recovery = writer.recovery().clone();
            writer.close_blocking().unwrap();
            assert!(recovery.set_aside.is_empty(), "{what}: {recovery:?}");
            let cut = recovery.files.iter().map(|file| file.cut).max().unwrap_or(0);
            torn += u32::from(cut > 0);
            longest = longest.max(cut);
            let found = numbers(&dir);
            next = found.len() as u64;
            assert!(found.iter().copied().eq(0..next), "{what}: lost or repeated");
            assert!(next >= safe, "{what}: {next} of {safe} that were promised");
        }
        records += next;
    }
    println!("{kills} kills, {records} records; {torn} torn ends, the longest {longest} bytes");
}

/// Kills it after some of its promises and a moment: gives the last promise.
fn kill(mut child: Child, next: u64, random: &mut Random) -> u64 {
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut safe = next;
    let mut promise = |text: String| {
        if let Some(number) = text.strip_prefix("safe ") {
            safe = number.parse().unwrap();
        }
    };
    let wanted = random.up_to(150) * 2;
    lines.by_ref().map(Result::unwrap).take(wanted).for_each(&mut promise);
    for _ in 0..random.up_to(200_000) {
        std::hint::spin_loop();
    }
    child.kill().unwrap();
    child.wait().unwrap();
    // What it said before it died, and may be cut.
    let mut rest: Vec<String> = lines.map_while(Result::ok).collect();
    let _perhaps_cut = rest.pop();
    rest.into_iter().for_each(promise);
    safe
}
