//! A rolling writer beside plain writes and, with the feature `peers`, beside tracing-appender.
//!
//! All write the same lines to files that roll by the hour. The time of a round includes what is needed until the last
//! byte is handed to the operating system and the file is closed; then the bytes on the disk are counted.

use std::{
    fs,
    path::{Path, PathBuf},
    process,
    time::Instant,
};

use anyhow::{Context as _, Result, bail, ensure};
use serde::Serialize;

use crate::process::{cpu_seconds, peak_memory};
use crate::report::Spread;

mod load;

use self::load::{Load, Written};

/// What a run measures.
#[derive(Debug)]
pub(crate) struct Options {
    lines: u64,
    commit_lines: u64,
    size: usize,
    producers: usize,
    rounds: usize,
    dir: PathBuf,
    json: bool,
}

impl Options {
    pub(crate) fn parse<'a>(mut words: impl Iterator<Item = &'a str>) -> Result<Self> {
        let mut options = Self {
            lines: 8_000_000,
            commit_lines: 12_000_000,
            size: 128,
            producers: 4,
            rounds: 5,
            dir: std::env::temp_dir(),
            json: false,
        };
        while let Some(word) = words.next() {
            if word == "--json" {
                options.json = true;
                continue;
            }
            let value = words.next().with_context(|| format!("{word} needs a value"))?;
            match word {
                "--lines" => options.lines = value.parse()?,
                "--commit-lines" => options.commit_lines = value.parse()?,
                "--size" => options.size = value.parse()?,
                "--producers" => options.producers = value.parse()?,
                "--rounds" => options.rounds = value.parse()?,
                "--dir" => options.dir = value.into(),
                other => bail!("unknown option `{other}`"),
            }
        }
        if options.rounds == 0 || options.producers == 0 || options.size < 2 || options.lines < 1000 {
            bail!("at least 1000 lines of 2 bytes, one producer and one round");
        }
        if options.lines.max(options.commit_lines) * options.size as u64 > 4 << 30 {
            bail!("a round would write more than 4 GiB");
        }
        Ok(options)
    }
}

#[derive(Clone, Copy, Debug, Serialize)]
struct Round {
    lines_per_second: f64,
    cpu_ns: f64,
    peak_bytes: f64,
    syncs: u64,
}

#[derive(Debug, Serialize)]
struct Figures {
    load: &'static str,
    producers: usize,
    lines: u64,
    lines_per_second: Spread,
    /// Processor time a line, of all threads.
    cpu_ns: Spread,
    /// Most memory while it ran, with the program itself.
    peak_bytes: Spread,
    syncs: Spread,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let mut cases = vec![
        (Load::Sink, 1),
        (Load::Sink, options.producers),
        (Load::SinkSynced, 1),
        (Load::Plain, 1),
    ];
    if cfg!(feature = "peers") {
        cases.extend([(Load::TracingAppender, 1), (Load::TracingAppender, options.producers)]);
    }
    cases.extend([(Load::SinkCommit, 1), (Load::PlainCommit, 1)]);

    let mut rounds: Vec<Vec<Round>> = vec![Vec::new(); cases.len()];
    // The first round warms up and does not count.
    for round in 0..=options.rounds {
        // As many as our writer made just before, in this round.
        let mut syncs = 0;
        for ((load, producers), rounds) in cases.iter().zip(&mut rounds) {
            let measured = measure(options, *load, *producers, syncs)?;
            syncs = measured.syncs;
            if round > 0 {
                rounds.push(measured);
            }
        }
    }
    let figures: Vec<Figures> = cases
        .iter()
        .zip(&rounds)
        .map(|((load, producers), rounds)| Figures {
            load: load.name(),
            producers: *producers,
            lines: lines_of(options, *load),
            lines_per_second: Spread::of(rounds.iter().map(|round| round.lines_per_second)),
            cpu_ns: Spread::of(rounds.iter().map(|round| round.cpu_ns)),
            peak_bytes: Spread::of(rounds.iter().map(|round| round.peak_bytes)),
            syncs: Spread::of(rounds.iter().map(|round| round.syncs as f64)),
        })
        .collect();
    if options.json {
        println!("{}", serde_json::to_string(&figures)?);
        return Ok(());
    }
    println!(
        "lines of {} B; {} rounds after a warm-up; median (min–max)\n",
        options.size, options.rounds
    );
    println!("| | producers | M lines | M lines/s | CPU ns/line | peak MiB | syncs |");
    println!("|---|--:|--:|---|---|---|--:|");
    for of in &figures {
        println!(
            "| {} | {} | {} | {} | {} | {} | {:.0} |",
            of.load,
            of.producers,
            of.lines as f64 / 1e6,
            of.lines_per_second.scaled(1e-6, 2),
            of.cpu_ns.scaled(1.0, 0),
            of.peak_bytes.scaled(1.0 / f64::from(1 << 20), 0),
            of.syncs.median,
        );
    }
    println!();
    let ratio = |what: &str, ours: (Load, usize), theirs: (Load, usize)| {
        let of = |case| Some(&rounds[cases.iter().position(|other| *other == case)?]);
        let (Some(ours), Some(theirs)) = (of(ours), of(theirs)) else {
            return;
        };
        let pairs = ours.iter().zip(theirs);
        let ratio = Spread::of(pairs.map(|(ours, theirs)| ours.lines_per_second / theirs.lines_per_second));
        println!("{what}: {}×", ratio.scaled(1.0, 2));
    };
    let many = options.producers;
    ratio("to plain writes", (Load::Sink, 1), (Load::Plain, 1));
    ratio(
        "to tracing-appender, one producer",
        (Load::Sink, 1),
        (Load::TracingAppender, 1),
    );
    ratio(
        "to tracing-appender, all producers",
        (Load::Sink, many),
        (Load::TracingAppender, many),
    );
    ratio(
        "with commits, to plain writes with as many",
        (Load::SinkCommit, 1),
        (Load::PlainCommit, 1),
    );
    Ok(())
}

fn lines_of(options: &Options, load: Load) -> u64 {
    match load {
        Load::SinkCommit | Load::PlainCommit => options.commit_lines,
        _ => options.lines,
    }
}

/// One round in a directory of its own, which is removed.
fn measure(options: &Options, load: Load, producers: usize, syncs: u64) -> Result<Round> {
    let dir = options.dir.join(format!("natstream-bench-sink-{}", process::id()));
    fs::create_dir_all(&dir)?;
    let lines = lines_of(options, load) / producers as u64;
    reset_peak()?;
    let cpu = cpu_seconds(process::id())?;
    let begin = Instant::now();
    let written = load.run(&dir, producers, lines, options.size, syncs);
    let seconds = begin.elapsed().as_secs_f64();
    let cpu = cpu_seconds(process::id())? - cpu;
    let size = size_of(&dir);
    fs::remove_dir_all(&dir)?;
    let Written { syncs } = written?;
    let count = lines * producers as u64;
    ensure!(
        size? == count * options.size as u64,
        "{} has not written all lines",
        load.name()
    );
    Ok(Round {
        lines_per_second: count as f64 / seconds,
        cpu_ns: cpu * 1e9 / count as f64,
        peak_bytes: peak_memory(process::id())? as f64,
        syncs,
    })
}

/// Lets the kernel forget the most memory of this process so far.
fn reset_peak() -> Result<()> {
    Ok(fs::write("/proc/self/clear_refs", "5")?)
}

/// Bytes in the visible files below a directory.
fn size_of(dir: &Path) -> Result<u64> {
    let mut size = 0;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        if metadata.is_dir() {
            size += size_of(&entry.path())?;
        } else if !entry.file_name().to_string_lossy().starts_with('.') {
            size += metadata.len();
        }
    }
    Ok(size)
}
