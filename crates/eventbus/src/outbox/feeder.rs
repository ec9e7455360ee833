//! The task that hands events of the spool to a bus.

use std::sync::Arc;
use std::time::Duration;

use natstream_connect::{ConnectConfig, Connection, Lease};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::deliveries::Deliveries;
use super::keeper::{self, blocking};
use super::spool::{Next, Reading, Records};
use super::turns::Turn;
use crate::bus::Bus;
use crate::event::Event;
use crate::watcher::Watcher;

/// The pause before another attempt to connect, to open a bus, or to use files that have failed.
const PAUSE: Duration = Duration::from_secs(1);

/// How often the spool forgets what is done, while nothing else happens.
const FORGET: Duration = Duration::from_millis(50);

/// After so many events it forgets in any case.
const FORGET_EVERY: u32 = 1024;

/// Of so many attempts to connect that fail, one is told.
const TELL_EVERY: u32 = 30;

/// The bus does not give up an event of the outbox by time.
const FOR_EVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// Where events go.
#[derive(Clone)]
pub(super) enum Route {
    Connection(Lease),
    /// A connection that is made when that is possible.
    Config(Box<ConnectConfig>),
}

#[derive(Clone, Copy, Debug)]
pub(super) struct FeederConfig {
    pub(super) window: usize,
    pub(super) window_bytes: usize,
    pub(super) is_durable: bool,
}

pub(super) struct Feeder {
    pub(super) deliveries: Arc<Deliveries>,
    pub(super) config: FeederConfig,
    pub(super) routes: watch::Receiver<Option<Route>>,
    /// Nothing is delivered any more.
    pub(super) stops: watch::Receiver<bool>,
    /// What was read from the files and not handed over.
    loaded: Records,
    /// The files have nothing more below this number.
    loaded_to: u64,
    reader: Option<Reading>,
    /// Events that were handed over since the spool was told to forget.
    since_forget: u32,
    /// It has forgotten what is below this number.
    forgotten: u64,
    /// How long what is done may stay in the files: longer when they have failed.
    forget_pause: Duration,
    /// Attempts to connect that have failed.
    refusals: u32,
}

impl Feeder {
    pub(super) fn new(
        deliveries: Arc<Deliveries>,
        config: FeederConfig,
        routes: watch::Receiver<Option<Route>>,
        stops: watch::Receiver<bool>,
    ) -> Self {
        Self {
            loaded: deliveries.spool.found_aside(),
            deliveries,
            config,
            routes,
            stops,
            loaded_to: 0,
            reader: None,
            since_forget: 0,
            forgotten: 0,
            forget_pause: FORGET,
            refusals: 0,
        }
    }

    #[expect(clippy::disallowed_methods, reason = "this is the driver of the outbox")]
    pub(super) fn begin(self) -> JoinHandle<()> {
        tokio::spawn(self.run())
    }

    /// Delivers until it is stopped, and has written what can be written.
    async fn run(mut self) {
        let (deliveries, stops) = (self.deliveries.clone(), self.stops.clone());
        tokio::select! {
            _ = async { tokio::join!(self.deliver_all(), keeper::keep(deliveries.clone(), stops)) } => {}
            () = deliveries.mend() => {}
        }
        blocking(&deliveries, Deliveries::keep_refused).await;
        self.forget().await;
    }

    async fn deliver_all(&mut self) {
        let mut stops = self.stops.clone();
        while !*stops.borrow() {
            let connected = tokio::select! {
                biased;
                _ = stops.changed() => return,
                connected = self.connect() => connected,
            };
            if let Some(bus) = connected {
                tokio::select! {
                    biased;
                    // Whatever it waits for: a window, or a disk.
                    _ = stops.wait_for(|stops| *stops) => {}
                    () = self.deliver(&bus) => {}
                }
                // What is under way comes back, to be delivered by the next bus, or after a restart.
                let limit = Duration::ZERO;
                if let Err(undelivered) = bus.close(limit).await {
                    tracing::debug!(pending = undelivered.given_up.len(), "a bus of the outbox was closed");
                }
            }
        }
    }

    /// A bus, as soon as there is a connection.
    async fn connect(&mut self) -> Option<Bus> {
        let route = self.routes.wait_for(Option::is_some).await.ok()?.clone()?;
        let lease = match route {
            Route::Connection(lease) if lease.state().borrow().is_closed() => {
                tracing::error!("the connection of an outbox is closed: events stay in its files");
                // Another route, or the end of the outbox.
                let _ = self.routes.changed().await;
                return None;
            }
            Route::Connection(lease) => lease,
            Route::Config(config) => match Connection::connect(*config).await {
                Ok(connection) => connection.into(),
                Err(error) => {
                    if self.refusals.is_multiple_of(TELL_EVERY) {
                        tracing::warn!(%error, "an outbox has no connection yet: events stay in its files");
                    }
                    self.refusals += 1;
                    tokio::time::sleep(PAUSE).await;
                    return None;
                }
            },
        };
        let bus = Bus::builder(lease)
            .window(self.config.window)
            // The outbox has counted them, and keeps the order within a subject.
            .window_bytes(usize::MAX)
            .deadline(FOR_EVER)
            // Failures are told by the outbox.
            .on_failure(|_| {})
            .open()
            .await;
        match bus {
            Ok(bus) => Some(bus),
            Err(error) => {
                tracing::warn!(%error, "an outbox cannot publish yet: events stay in its files");
                tokio::time::sleep(PAUSE).await;
                None
            }
        }
    }

    /// Hands over what there is, until it is stopped or the connection is closed.
    async fn deliver(&mut self, bus: &Bus) {
        let mut state = bus.connection().state();
        loop {
            if state.borrow_and_update().is_closed() || self.routes.has_changed().unwrap_or(true) {
                return;
            }
            if let Some((turn, event)) = self.take().await {
                self.hand_over(bus, turn, event).await;
                continue;
            }
            let wake_at = self.deliveries.turns.lock().wake_at();
            let wake = wake_at.map(|at| Duration::from_nanos(at.saturating_sub(self.deliveries.now())));
            let forget = self.deliveries.may_forget(self.forgotten).then_some(self.forget_pause);
            let pause = wake.into_iter().chain(forget).min();
            tokio::select! {
                () = self.deliveries.work.notified() => {}
                _ = state.changed() => {}
                _ = self.routes.changed() => return,
                () = sleep(pause) => self.forget().await,
            }
        }
    }

    /// There is room for it in the bus, whose window is not smaller.
    async fn hand_over(&mut self, bus: &Bus, turn: Turn, event: Event) {
        let watcher = Watcher::Outbox(self.deliveries.clone(), turn);
        // A deadline ends the wait of whoever publishes, not the delivery.
        bus.accept_or_tell(event.without_deadline(), watcher).await;
        self.since_forget += 1;
        if self.since_forget >= FORGET_EVERY {
            self.forget().await;
        }
    }

    /// What is to be handed to the bus now.
    async fn take(&mut self) -> Option<(Turn, Event)> {
        let now = self.deliveries.now();
        loop {
            if let Some(next) = self.deliveries.turns.lock().next(now) {
                return Some(next);
            }
            if self.deliveries.is_full(self.config.window, self.config.window_bytes) {
                return None;
            }
            if let Some((number, record)) = self.loaded.pop_front() {
                match record {
                    Ok(event) => self.deliveries.hand_over(number, event),
                    Err(record) => self.discard(number, &record).await,
                }
            } else {
                self.deliveries.pass(self.loaded_to);
                match self.deliveries.spool.next() {
                    Next::Event(number, event) => self.deliveries.hand_over(number, event),
                    Next::OnDisk(from) => self.load(from).await,
                    Next::Nothing => return None,
                }
            }
            // A large window may be filled by events that wait for one.
            tokio::task::coop::consume_budget().await;
        }
    }

    async fn discard(&self, number: u64, record: &[u8]) {
        self.deliveries.ledger.lock().hand_over(number);
        while let Err(error) = self.deliveries.discard(number, record) {
            tracing::warn!(number, %error, "a record that cannot be read cannot be kept; it is tried again");
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn load(&mut self, from: u64) {
        let (deliveries, reader) = (self.deliveries.clone(), self.reader.take());
        let loaded = tokio::task::spawn_blocking(move || deliveries.spool.load(from, reader)).await;
        match loaded {
            Ok(Ok(loaded)) => {
                self.loaded = loaded.records;
                self.loaded_to = loaded.to;
                self.reader = loaded.reader;
            }
            Ok(Err(error)) => {
                tracing::warn!(%error, "the files of an outbox cannot be read; it is tried again");
                tokio::time::sleep(PAUSE).await;
            }
            Err(error) => {
                tracing::error!(%error, "reading the files of an outbox has failed");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    async fn forget(&mut self) {
        self.since_forget = 0;
        let forgotten = if self.config.is_durable || self.deliveries.has_returned() {
            let deliveries = self.deliveries.clone();
            let forgotten = tokio::task::spawn_blocking(move || deliveries.forget()).await;
            forgotten.unwrap_or_else(|error| {
                tracing::error!(%error, "deleting from the files of an outbox has failed");
                None
            })
        } else {
            self.deliveries.forget()
        };
        self.forget_pause = if forgotten.is_some() { FORGET } else { PAUSE };
        self.forgotten = forgotten.unwrap_or(self.forgotten);
    }
}

async fn sleep(pause: Option<Duration>) {
    match pause {
        Some(pause) => tokio::time::sleep(pause).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
