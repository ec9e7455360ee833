//! The process that publishes.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use async_nats::Client;
use async_nats::jetstream::context::{ContextBuilder, PublishAckFuture};
use async_nats::jetstream::message::PublishMessage;
use async_nats::subject::Subject;
use bytes::Bytes;
use natstream::eventbus::{AtomicBatch, AtomicBus, Dedup, FastBus, Outbox, SpoolLevel};
use natstream::{Bus, ConnectConfig, Connection, Event};
use serde::{Deserialize, Serialize};
use serde_json::{Value, to_value};

use super::acknowledger;
use crate::process::resident_memory;
use crate::report::Spread;
use crate::role::{Done, serve};

const LIMIT: Duration = Duration::from_secs(120);

/// Who publishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Publisher {
    /// `Bus::enqueue`, and a flush at the end.
    Natstream,
    /// async-nats: `publish`, and each ack future awaited when the window is full.
    AsyncNats,
    /// `FastBus::enqueue`, and a flush at the end.
    Fast,
    /// `Outbox::enqueue` at level `Process`, and a flush at the end: all are stored then.
    Outbox,
    /// The same at level `Power`.
    OutboxPower,
    /// `AtomicBus::commit` of batches as large as the window, one after the other: not for speed.
    Atomic,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Task {
    /// Many events through a window. Answer: [`Done`].
    Window {
        publisher: Publisher,
        ids: bool,
        window: usize,
        events: u64,
        size: usize,
        stream: String,
        subject: String,
    },
    /// Each event when the one before is acked. Answer: [`Done`], and the median in µs.
    OneByOne {
        publisher: Publisher,
        ids: bool,
        events: u64,
        size: usize,
        subject: String,
    },
    /// A bus alone, acked in this process. Answer: [`Done`], and the bytes that the process grew by.
    InProcess { window: usize, events: u64, size: usize },
}

/// Does what its standard input says, one thing after the other.
pub(crate) async fn run(url: &str) -> Result<()> {
    let connection = Connection::connect(ConnectConfig::new(url)).await?;
    let client = async_nats::connect(url).await?;
    serve(url, |task| answer(connection.clone(), client.clone(), task)).await
}

async fn answer(connection: Connection, client: Client, task: Task) -> Result<Value> {
    Ok(match task {
        Task::Window {
            publisher,
            ids,
            window,
            events,
            size,
            stream,
            subject,
        } => {
            let work = Work::new(ids, events, size, &subject);
            to_value(match publisher {
                Publisher::Natstream => work.bus(connection, window).await?,
                Publisher::AsyncNats => work.plain(client, window).await?,
                Publisher::Fast => work.fast(connection, window, &stream).await?,
                Publisher::Atomic => work.atomic(connection, window, &stream).await?,
                Publisher::Outbox => work.outbox(connection, window, SpoolLevel::Process).await?,
                Publisher::OutboxPower => work.outbox(connection, window, SpoolLevel::Power).await?,
            })?
        }
        Task::OneByOne {
            publisher,
            ids,
            events,
            size,
            subject,
        } => {
            let work = Work::new(ids, events, size, &subject);
            to_value(match publisher {
                Publisher::Natstream => work.bus_one_by_one(connection).await?,
                Publisher::AsyncNats => work.plain_one_by_one(client).await?,
                _ => bail!("through a window only"),
            })?
        }
        Task::InProcess { window, events, size } => to_value(in_process(window, events, size).await?)?,
    })
}

/// Events of a bus that is acked in this process, all in one thread.
pub(crate) fn alone(events: u64, size: usize) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(in_process(1000, events, size)).map(drop)
}

async fn in_process(window: usize, events: u64, size: usize) -> Result<(Done, u64)> {
    let url = acknowledger::start().await?;
    // Acks of the whole window may come at once.
    let config = ConnectConfig::new(url).subscription_capacity(window.max(1 << 16) * 2);
    let connection = Connection::connect(config).await?;
    let work = Work::new(false, events, size, "in.process");
    let before = resident_memory(std::process::id())?;
    let done = work.bus(connection, window).await?;
    let grown = resident_memory(std::process::id())?.saturating_sub(before);
    Ok((done, grown))
}

/// What all publish.
struct Work {
    ids: bool,
    events: u64,
    subject: Subject,
    payload: Bytes,
    /// Of the ids that async-nats is given, as long as those of the bus.
    prefix: String,
}

impl Work {
    fn new(ids: bool, events: u64, size: usize, subject: &str) -> Self {
        Self {
            ids,
            events,
            subject: subject.into(),
            payload: vec![b'.'; size].into(),
            prefix: nuid(),
        }
    }

    async fn open(&self, connection: Connection, window: usize) -> Result<Bus> {
        let dedup = if self.ids { Dedup::Id } else { Dedup::Off };
        let bus = Bus::builder(connection)
            .window(window)
            .window_bytes(1 << 30)
            .dedup(dedup);
        Ok(bus.open().await?)
    }

    fn event(&self) -> Event {
        Event::new(self.subject.clone(), self.payload.clone())
    }

    async fn bus(&self, connection: Connection, window: usize) -> Result<Done> {
        let bus = self.open(connection, window).await?;
        let started = Instant::now();
        for _ in 0..self.events {
            bus.enqueue(self.event()).await?;
        }
        bus.flush(LIMIT).await?;
        let seconds = started.elapsed().as_secs_f64();
        let stats = bus.stats();
        ensure!(stats.acked == self.events && stats.duplicates == 0, "{stats:?}");
        bus.close(LIMIT).await?;
        Ok(Done {
            items: self.events,
            seconds,
        })
    }

    async fn outbox(&self, connection: Connection, window: usize, level: SpoolLevel) -> Result<Done> {
        let dir = std::env::temp_dir().join(format!("natstream-bench-outbox-{}", std::process::id()));
        let outbox = Outbox::builder(&dir).level(level).window(window).window_bytes(1 << 30);
        let outbox = outbox.open().await?;
        outbox.deliver_by(connection);
        let started = Instant::now();
        for _ in 0..self.events {
            outbox.enqueue(self.event()).await?;
        }
        outbox.flush(LIMIT).await?;
        let seconds = started.elapsed().as_secs_f64();
        let stats = outbox.stats();
        outbox.close(LIMIT).await?;
        std::fs::remove_dir_all(&dir)?;
        ensure!(stats.acked == self.events && stats.duplicates == 0, "{stats:?}");
        Ok(Done {
            items: self.events,
            seconds,
        })
    }

    async fn fast(&self, connection: Connection, window: usize, stream: &str) -> Result<Done> {
        let builder = FastBus::builder(connection, stream)
            .window(window)
            .window_bytes(1 << 30);
        let bus = if self.ids { builder.with_ids() } else { builder }.open().await?;
        let started = Instant::now();
        for _ in 0..self.events {
            bus.enqueue(self.event()).await?;
        }
        bus.flush(LIMIT).await?;
        let seconds = started.elapsed().as_secs_f64();
        let stats = bus.stats();
        ensure!(stats.acked == self.events && stats.retried == 0, "{stats:?}");
        bus.close(LIMIT).await?;
        Ok(Done {
            items: self.events,
            seconds,
        })
    }

    async fn atomic(&self, connection: Connection, size: usize, stream: &str) -> Result<Done> {
        let dedup = if self.ids { Dedup::Id } else { Dedup::Off };
        let bus = AtomicBus::builder(connection, stream).dedup(dedup).open().await?;
        let started = Instant::now();
        let mut left = self.events as usize;
        while left > 0 {
            let events = left.min(size);
            let batch: AtomicBatch = (0..events).map(|_| self.event()).collect();
            bus.commit(batch).await?;
            left -= events;
        }
        Ok(Done {
            items: self.events,
            seconds: started.elapsed().as_secs_f64(),
        })
    }

    async fn plain(&self, client: Client, window: usize) -> Result<Done> {
        let context = ContextBuilder::new().max_ack_inflight(window).build(client);
        let mut acks: VecDeque<PublishAckFuture> = VecDeque::with_capacity(window);
        let started = Instant::now();
        for number in 0..self.events {
            if acks.len() == window
                && let Some(ack) = acks.pop_front()
            {
                ack.await?;
            }
            let subject = self.subject.clone();
            acks.push_back(context.send_publish(subject, self.message(number)).await?);
        }
        for ack in acks {
            ack.await?;
        }
        Ok(Done {
            items: self.events,
            seconds: started.elapsed().as_secs_f64(),
        })
    }

    fn message(&self, number: u64) -> PublishMessage {
        let message = PublishMessage::build().payload(self.payload.clone());
        if self.ids {
            message.message_id(format!("{}.{number}", self.prefix))
        } else {
            message
        }
    }

    async fn bus_one_by_one(&self, connection: Connection) -> Result<(Done, f64)> {
        let bus = self.open(connection, 1000).await?;
        let mut clock = Clock::new(self.events);
        for _ in 0..self.events {
            let started = Instant::now();
            bus.publish(self.event()).await?;
            clock.note(started);
        }
        bus.close(LIMIT).await?;
        Ok(clock.read())
    }

    async fn plain_one_by_one(&self, client: Client) -> Result<(Done, f64)> {
        let context = ContextBuilder::new().build(client);
        let mut clock = Clock::new(self.events);
        for number in 0..self.events {
            let started = Instant::now();
            let ack = context.send_publish(self.subject.clone(), self.message(number)).await?;
            ack.await?;
            clock.note(started);
        }
        Ok(clock.read())
    }
}

struct Clock {
    began: Instant,
    micros: Vec<f64>,
}

impl Clock {
    fn new(events: u64) -> Self {
        Self {
            began: Instant::now(),
            micros: Vec::with_capacity(events as usize),
        }
    }

    fn note(&mut self, started: Instant) {
        self.micros.push(started.elapsed().as_secs_f64() * 1e6);
    }

    fn read(self) -> (Done, f64) {
        let done = Done {
            items: self.micros.len() as u64,
            seconds: self.began.elapsed().as_secs_f64(),
        };
        (done, Spread::of(self.micros).median)
    }
}

fn nuid() -> String {
    natstream::connect::token()
}
