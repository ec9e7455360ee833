//! A recorder of a stream as a process of its own, which can be killed.

use std::env;
use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use natstream::Connection;
use natstream::eventbus::topology::ConsumerSpec;
use natstream::recorder::{StreamRecorder, StreamVerified, StreamVerifier};
use natstream::sinks::{Compression, Format, RollingWriter, RollingWriterBuilder, Rotation, Sync, Zone};
use testkit::within;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use crate::{LIMIT, connection, variable};

/// How files are recorded, by turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mode {
    /// JSON, synced with each commit.
    Json,
    /// Frames, synced every few milliseconds.
    Frames,
    /// JSON, compressed in the background.
    Gzip,
    /// Lines that are never synced: they survive a kill.
    Unsynced,
    /// JSON, compressed as it is written.
    Zstd,
    /// JSON in minutes of the process's own zone.
    Minutes,
}

/// All but the last.
pub const MODES: [Mode; 5] = [Mode::Json, Mode::Frames, Mode::Gzip, Mode::Unsynced, Mode::Zstd];

impl Mode {
    /// The files, and the name of their format.
    pub fn files(self, dir: &Path) -> (RollingWriterBuilder, &'static str) {
        let files = RollingWriter::builder(dir, "x")
            .rotation(Rotation::size(200_000))
            .format(Format::json_lines())
            .sync(Sync::Commit);
        match self {
            Self::Json => (files, "jsonl"),
            Self::Frames => {
                let files = files.sync(Sync::Interval(Duration::from_millis(5)));
                (files.format(Format::length_prefixed()), "length-prefixed")
            }
            Self::Gzip => (files.compression(Compression::Gzip(1)), "jsonl"),
            Self::Unsynced => (files.format(Format::lines()).sync(Sync::None), "line"),
            Self::Zstd => (files.zstd(1), "jsonl"),
            Self::Minutes => {
                let rotation = Rotation::MINUTELY.or_size(60_000);
                (files.rotation(rotation).zone(Zone::Local), "jsonl")
            }
        }
    }
}

/// What such a process is told.
#[derive(Clone, Debug)]
pub struct Task<'a> {
    /// Where nats-server is.
    pub url: &'a str,
    /// What is recorded.
    pub stream: &'a str,
    /// By which consumer.
    pub durable: &'a str,
    /// Where to.
    pub dir: &'a Path,
    /// In which form.
    pub mode: Mode,
    /// End when the files have the message with this sequence.
    pub until: Option<u64>,
    /// The zone of the process, as the variable `TZ` has it.
    pub zone: Option<&'a str>,
}

/// A process that runs.
#[derive(Debug)]
pub struct Recorder {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    /// Where it began, once it has said so.
    pub began: Option<u64>,
    /// Up to where messages are safe, as it has said.
    pub safe: u64,
}

impl Recorder {
    /// Starts the suite's own test `recorder_process`, which calls [`process`].
    ///
    /// # Panics
    /// When that cannot be.
    #[must_use]
    pub fn start(task: &Task<'_>) -> Self {
        let mut command = Command::new(env::current_exe().expect("a suite"));
        command
            .args(["--exact", "recorder_process", "--nocapture"])
            .env("NATSTREAM_RECORD_URL", task.url)
            .env("NATSTREAM_RECORD_STREAM", task.stream)
            .env("NATSTREAM_RECORD_DURABLE", task.durable)
            .env("NATSTREAM_RECORD_DIR", task.dir)
            .env("NATSTREAM_RECORD_MODE", (task.mode as u8).to_string())
            .stdout(Stdio::piped())
            // A panic there is the reason of a failure here.
            .stderr(Stdio::inherit())
            .kill_on_drop(true);
        if let Some(until) = task.until {
            command.env("NATSTREAM_RECORD_UNTIL", until.to_string());
        }
        if let Some(zone) = task.zone {
            command.env("TZ", zone);
        }
        let mut child = command.spawn().expect("a process");
        let stdout = child.stdout.take().expect("a pipe");
        Self {
            child,
            lines: BufReader::new(stdout).lines(),
            began: None,
            safe: 0,
        }
    }

    /// Waits until it says something new; false when it has ended.
    ///
    /// # Panics
    /// When it says nothing for long.
    pub async fn news(&mut self) -> bool {
        loop {
            let Some(line) = within(LIMIT, self.lines.next_line()).await.expect("text") else {
                return false;
            };
            if self.hear(&line) {
                return true;
            }
        }
    }

    /// Waits until messages up to this one are safe.
    ///
    /// # Panics
    /// When it ends before.
    pub async fn safe_through(&mut self, sequence: u64) {
        while self.safe < sequence {
            assert!(self.news().await, "it has ended at {}", self.safe);
        }
    }

    /// Kills it, and hears what it had said.
    ///
    /// # Panics
    /// When it had ended by itself.
    pub async fn kill(&mut self) {
        self.child.start_kill().expect("it runs");
        within(LIMIT, self.child.wait()).await.expect("it ends");
        let mut heard = Vec::new();
        while let Ok(Some(line)) = within(LIMIT, self.lines.next_line()).await {
            heard.push(line);
        }
        // The last one may be cut off.
        heard.pop();
        for line in heard {
            self.hear(&line);
        }
    }

    /// Waits until it has ended, as it was told.
    ///
    /// # Panics
    /// When it fails.
    pub async fn ended(&mut self) {
        while self.news().await {}
        let status = within(LIMIT, self.child.wait()).await.expect("it ends");
        assert!(status.success(), "{status}");
    }

    fn hear(&mut self, line: &str) -> bool {
        let number = |prefix| {
            line.strip_prefix(prefix)
                .map(|number| number.parse().expect("a number"))
        };
        if let Some(began) = number("began ") {
            self.began = Some(began);
            return true;
        }
        match number("safe ") {
            Some(safe) => {
                self.safe = safe;
                true
            }
            None => false,
        }
    }
}

/// The process: records, and says how far it is, until it is killed or has enough. Nothing, when it was not started by
/// [`Recorder::start`].
///
/// # Panics
/// When it cannot record.
pub async fn process() {
    let Ok(url) = env::var("NATSTREAM_RECORD_URL") else {
        return;
    };
    let text = |name: &str| env::var(format!("NATSTREAM_RECORD_{name}")).expect("it is told");
    let modes = [
        Mode::Json,
        Mode::Frames,
        Mode::Gzip,
        Mode::Unsynced,
        Mode::Zstd,
        Mode::Minutes,
    ];
    let mode = text("MODE").parse::<u8>().expect("a number");
    let mode = modes.into_iter().find(|known| *known as u8 == mode).expect("a mode");
    let (files, format) = mode.files(Path::new(&text("DIR")));
    let spec = ConsumerSpec::new(text("STREAM"), text("DURABLE")).ack_wait(Duration::from_secs(5));
    let recording = StreamRecorder::new(files, format)
        .commit_interval(Duration::from_millis(5))
        .slots(2000)
        .record(connection(&url).await, spec)
        .await
        .expect("recording");
    let mut out = std::io::stdout();
    let mut told = recording.stats().position;
    writeln!(out, "\nbegan {told}").expect("told");
    let until = variable("NATSTREAM_RECORD_UNTIL").unwrap_or(u64::MAX);
    let mut looks = tokio::time::interval(Duration::from_millis(1));
    while told < until {
        tokio::select! {
            _ = looks.tick() => {}
            end = recording.ended() => panic!("{end:?}"),
        }
        let position = recording.stats().position;
        if position > told {
            told = position;
            writeln!(out, "\nsafe {told}").expect("told");
        }
    }
    let end = recording.stop().await.expect("stopped");
    assert!(end.confirmed);
}

/// Compares the files with the stream, which has messages 1 to `last`, all of which must be there once.
///
/// # Panics
/// When something is wrong.
pub async fn verify(connection: &Connection, stream: &str, dir: &Path, last: u64) -> StreamVerified {
    let verifier = StreamVerifier::new(connection.clone(), stream).payloads();
    let verified = within(LIMIT, verifier.verify(dir)).await.expect("compared");
    assert!(verified.is_whole(), "{verified:?}");
    let [recorder] = &verified.recorders[..] else {
        panic!("one recorder: {verified:?}")
    };
    assert_eq!(
        (recorder.matched, recorder.not_yet, recorder.gone),
        (last, 0, 0),
        "{verified:?}"
    );
    assert_eq!(verified.files.records, last);
    assert!(verified.files.in_progress.is_empty(), "{verified:?}");
    verified
}
