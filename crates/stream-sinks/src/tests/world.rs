//! A writer without threads, over a file system and a clock of the test.

use std::{
    collections::{BTreeMap, HashSet},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use jiff::Timestamp;

use crate::{
    Clock, CrashImage, ManualClock, Receipt, Record, Recovery, RollingWriter, RollingWriterBuilder, SinkError,
    builder::Opened,
    clock::timestamp,
    committer::Closed,
    format::Encoder,
    queue::{Piece, Refusal, Work},
};

pub(super) const DIR: &str = "/d";

pub(super) struct World {
    pub(super) opened: Opened,
    /// Closed files that nobody has cared for yet, while it lags.
    pub(super) lagging: Option<Vec<Closed>>,
    pub(super) clock: ManualClock,
    scratch: Vec<u8>,
}

pub(super) fn time(text: &str) -> SystemTime {
    text.parse::<Timestamp>().unwrap().into()
}

pub(super) fn builder(image: &CrashImage) -> RollingWriterBuilder {
    RollingWriter::builder(DIR, "x")
        .storage(Arc::new(image.clone()))
        .buffer(64 << 10)
}

impl World {
    pub(super) fn open(builder: RollingWriterBuilder, clock: &ManualClock) -> Result<Self, SinkError> {
        let mut world = Self::open_lagging(builder, clock)?;
        world.catch_up();
        Ok(world)
    }

    /// As long as it has not [caught up](Self::catch_up), nobody calls hooks, compresses or removes.
    pub(super) fn open_lagging(builder: RollingWriterBuilder, clock: &ManualClock) -> Result<Self, SinkError> {
        let opened = builder.clock(Arc::new(clock.clone())).prepare()?;
        Ok(Self {
            opened,
            lagging: Some(Vec::new()),
            clock: clock.clone(),
            scratch: Vec::new(),
        })
    }

    pub(super) fn catch_up(&mut self) {
        let left = std::mem::take(&mut self.opened.left);
        let mut closed = self.lagging.take().unwrap_or_default();
        let pending = |closed: &[Closed]| closed.iter().map(|it| it.manifest.path.clone()).collect();
        self.opened.care.start(left, &|| pending(&closed));
        while !closed.is_empty() {
            let next = closed.remove(0);
            self.opened.care.closed(next, &|| pending(&closed));
        }
    }

    pub(super) fn recovery(&self) -> &Recovery {
        &self.opened.recovery
    }

    pub(super) fn append<'a>(&mut self, record: impl Into<Record<'a>>) -> Result<u64, Refusal> {
        let mut record = record.into();
        let (bytes, newline) = match &self.opened.encoder {
            Encoder::Copy(newline) => (record.payload(), *newline),
            Encoder::Custom(formatter) => {
                if formatter.needs_time() && record.time_of().is_none() {
                    record = record.time(self.clock.now());
                }
                self.scratch.clear();
                formatter.encode(&record, &mut self.scratch);
                (&self.scratch[..], false)
            }
        };
        let time = record.time_of().filter(|_| self.opened.by_record_time);
        let piece = Piece {
            bytes,
            newline,
            sequence: record.sequence_of(),
            time: time.map(timestamp),
        };
        self.opened.queue.push(&piece, &self.clock).map(|(number, _)| number)
    }

    /// Appends, and lets the writer work while there is no room.
    pub(super) fn append_waiting<'a>(&mut self, record: impl Into<Record<'a>>) -> Result<u64, SinkError> {
        let record = record.into();
        loop {
            match self.append(record) {
                Err(Refusal::Full) => assert!(self.step(), "no room, and nothing to do"),
                Err(Refusal::Error(error)) => return Err(error),
                Ok(number) => return Ok(number),
            }
        }
    }

    /// What the thread would do once. `false`: it would wait.
    pub(super) fn step(&mut self) -> bool {
        let (elapsed, now) = (self.clock.elapsed(), timestamp(self.clock.now()));
        let Work::Run(order) = self.opened.queue.poll_work(elapsed, now) else {
            return false;
        };
        let done = order.run(&mut self.opened.committer, now);
        for closed in self.opened.committer.take_closed() {
            match &mut self.lagging {
                Some(lagging) => lagging.push(closed),
                None => self.opened.care.closed(closed, &HashSet::new),
            }
        }
        self.opened.queue.complete(done, elapsed);
        true
    }

    pub(super) fn settle(&mut self) {
        while self.step() {}
    }

    pub(super) fn pass(&mut self, by: Duration) {
        self.clock.advance(by);
        self.settle();
    }

    pub(super) fn flush(&mut self) -> Result<Receipt, SinkError> {
        let target = self.opened.queue.ask_flush();
        let failures = self.opened.queue.failures();
        self.settle();
        let result = self.opened.queue.poll_flush(target, failures);
        result
            .expect("a flush ends when the thread waits")
            .map(|()| self.receipt())
    }

    pub(super) fn roll(&mut self) -> Result<Receipt, SinkError> {
        self.opened.queue.ask_roll();
        self.flush()
    }

    pub(super) fn close(&mut self) -> Result<Receipt, SinkError> {
        self.opened.queue.ask_close(self.clock.elapsed());
        self.settle();
        while self.opened.queue.poll_closed().is_none() {
            self.pass(Duration::from_secs(1));
        }
        let result = self.opened.queue.poll_closed();
        result.unwrap_or(Ok(())).map(|()| self.receipt())
    }

    pub(super) fn receipt(&self) -> Receipt {
        Receipt {
            survive_kill: self.opened.queue.written(),
            survive_power_loss: self.opened.queue.synced(),
        }
    }

    pub(super) fn buffered(&self) -> usize {
        self.opened.queue.buffered()
    }

    pub(super) fn failures(&self) -> u64 {
        self.opened.queue.failures()
    }
}

/// Files that are there for others: no hidden ones.
pub(super) fn visible(image: &CrashImage) -> BTreeMap<PathBuf, Vec<u8>> {
    let files = image.files().into_iter();
    let shown = |path: &Path| {
        !path
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with('.'))
    };
    let relative = |path: PathBuf| path.strip_prefix(DIR).unwrap().to_owned();
    files
        .filter(|(path, _)| shown(path))
        .map(|(path, bytes)| (relative(path), bytes))
        .collect()
}

pub(super) fn names(image: &CrashImage) -> Vec<String> {
    visible(image).keys().map(|path| path.display().to_string()).collect()
}
