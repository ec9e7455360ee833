//! What is set when an outbox is opened.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;

use natstream_connect::token;
use tokio::sync::{Mutex, watch};

use super::deliveries::Deliveries;
use super::feeder::{Feeder, FeederConfig};
use super::spool::Spool;
use super::syncer::Syncer;
use super::{Handle, Outbox, OutboxError};
use crate::engine::{MAX_WINDOW, Ordering};
use crate::error::PublishError;
use crate::shared::OnFailure;

/// What accepted events survive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SpoolLevel {
    /// The death of the process, by `kill -9` too: the operating system has them.
    #[default]
    Process,
    /// The loss of power: the disk has them. Each event waits for a sync, which many share.
    Power,
}

/// An outbox that is not open yet. Each setting has a default.
///
/// | setting | default |
/// |---|---|
/// | [`level`](Self::level) | [`SpoolLevel::Process`] |
/// | [`max_bytes`](Self::max_bytes) | 1 GiB |
/// | [`window`](Self::window) | 1000 events |
/// | [`window_bytes`](Self::window_bytes) | 32 MiB |
/// | [`ordering`](Self::ordering) | [`Ordering::Fast`] |
/// | [`deadline`](Self::deadline) | 30 s |
#[must_use = "an outbox is there when it was opened"]
pub struct OutboxBuilder {
    dir: PathBuf,
    level: SpoolLevel,
    max_bytes: u64,
    window: usize,
    window_bytes: usize,
    ordering: Ordering,
    deadline: Duration,
    on_failure: Option<OnFailure>,
}

impl OutboxBuilder {
    pub(super) fn new(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
            level: SpoolLevel::default(),
            max_bytes: 1 << 30,
            window: 1000,
            window_bytes: 32 << 20,
            ordering: Ordering::default(),
            deadline: Duration::from_secs(30),
            on_failure: None,
        }
    }

    /// What accepted events survive; by default the death of the process.
    pub fn level(mut self, level: SpoolLevel) -> Self {
        self.level = level;
        self
    }

    /// Most bytes of files; by default 1 GiB. What comes then waits until some events are delivered. Refused events, in
    /// `rejected`, have another 1 GiB.
    ///
    /// The files give room back from the oldest event on that is not delivered. Events that are not taken for 5 to 10 s while
    /// later ones are, are set aside, in `waiting`: a quarter of these bytes of them, in files of up to as many bytes again. When
    /// there are more, the files fill.
    pub fn max_bytes(mut self, bytes: u64) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// How many events may be under way; see [`BusBuilder::window`](crate::BusBuilder::window). Those that are refused for now,
    /// by a full stream for instance, count too, and in strict order those that wait for an older one of their subject: when
    /// there are so many, the others wait.
    pub fn window(mut self, events: usize) -> Self {
        self.window = events;
        self
    }

    /// How many bytes of subjects, headers and payloads may be under way, counted as [`window`](Self::window) counts; by default
    /// 32 MiB. The last one that is taken may be larger than what is left of them.
    pub fn window_bytes(mut self, bytes: usize) -> Self {
        self.window_bytes = bytes;
        self
    }

    /// The order within a subject, by default [`Ordering::Fast`].
    ///
    /// An event may be refused for now: the stream is full, or there is none for its subject. It is tried again, after a full
    /// stream every two seconds.
    ///
    /// - [`Fast`](Ordering::Fast): others pass it meanwhile.
    /// - [`Strict`](Ordering::Strict): it keeps its place, and later ones of its subject wait behind it, over restarts too.
    ///   Events of other subjects go on, as long as the [window](Self::window) has room. An event that is refused for good frees
    ///   its place as soon as it is in `rejected`.
    pub fn ordering(mut self, ordering: Ordering) -> Self {
        self.ordering = ordering;
        self
    }

    /// How long [`publish`](Outbox::publish) waits for the ack of an event that says nothing else; by default 30 s. Then it
    /// says [`Spooled`](super::Published::Spooled).
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Is told of every event that can never be delivered; it is kept in `rejected` too.
    ///
    /// It is called from tasks of the connection, or of the outbox, and must not block.
    pub fn on_failure(mut self, on_failure: impl Fn(PublishError) + Send + Sync + 'static) -> Self {
        self.on_failure = Some(Box::new(on_failure));
        self
    }

    /// Reads the directory, and takes it for this process.
    ///
    /// Damaged files are copied to `damaged`, and what is whole in them is delivered: damage never keeps it from opening.
    ///
    /// # Errors
    /// [`OutboxError`].
    ///
    /// # Panics
    /// Outside of a tokio runtime with time.
    ///
    /// # Cancel safety
    /// Dropped early, the directory may have been made, and is in use for a moment more.
    pub async fn open(self) -> Result<Outbox, OutboxError> {
        let wrong = |setting, problem| Err(OutboxError::InvalidSetting { setting, problem });
        if !(1..=MAX_WINDOW).contains(&self.window) {
            return wrong("window", "must be between 1 and 1,048,575");
        }
        if self.window_bytes == 0 || self.max_bytes == 0 {
            return wrong("max_bytes", "and `window_bytes` must not be 0");
        }
        let Self { dir, max_bytes, .. } = self;
        let is_durable = self.level == SpoolLevel::Power;
        let spool = tokio::task::spawn_blocking(move || Spool::open(&dir, is_durable, max_bytes)).await;
        let spool = spool.map_err(|error| OutboxError::Task(error.into()))??;
        let deliveries = Arc::new(Deliveries::new(spool, is_durable, self.ordering, self.on_failure));
        let syncer = match self.level {
            SpoolLevel::Process => None,
            SpoolLevel::Power => {
                Some(Syncer::begin(deliveries.clone()).map_err(|error| OutboxError::Task(error.into()))?)
            }
        };
        let (routes, stops) = (watch::Sender::new(None), watch::Sender::new(false));
        let config = FeederConfig {
            window: self.window,
            window_bytes: self.window_bytes,
            is_durable,
        };
        let feeder = Feeder::new(deliveries.clone(), config, routes.subscribe(), stops.subscribe());
        Ok(Outbox {
            handle: Arc::new(Handle {
                deliveries,
                syncer,
                feeder: Mutex::new(Some(feeder.begin())),
                routes,
                stops,
                is_closed: AtomicBool::new(false),
                deadline: self.deadline,
                max_bytes,
                ids: token(),
                next_id: AtomicU64::new(0),
            }),
        })
    }
}

impl std::fmt::Debug for OutboxBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OutboxBuilder")
            .field("dir", &self.dir)
            .field("level", &self.level)
            .finish_non_exhaustive()
    }
}
