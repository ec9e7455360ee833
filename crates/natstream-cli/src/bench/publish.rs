//! Publishes events, each of which must be acked and stored.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use natstream::{Connection, Event};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::histogram::Times;
use super::publisher::Publisher;
use super::spent::{Spent, Stopwatch};
use super::temporary::Temporary;
use super::workers::{self, Done};
use crate::console::Console;
use crate::exit::{Exit, Failure};
use crate::size;

/// How to publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Mode {
    /// Pipelined, as fast as it goes.
    Async,
    /// Fast ingest; needs nats-server 2.14.
    Fast,
    /// Each event is acked before the next one is sent.
    Sync,
}

/// What is to be published.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    pub(super) mode: Mode,
    pub(super) count: u64,
    /// No event is published later.
    pub(super) time: Option<Duration>,
    /// Bytes of an event.
    pub(super) size: u64,
    /// Events under way, of each connection.
    pub(super) window: u64,
    pub(super) ids: bool,
}

/// What has come of it.
#[derive(Debug)]
pub(super) struct Published {
    pub(super) spent: Spent,
    pub(super) acked: u64,
    pub(super) retried: u64,
    pub(super) duplicates: u64,
    /// Of each event, where one is published after the other.
    pub(super) times: Times,
}

/// Publishes it all. The stream must have had nothing, and has it all then.
pub(super) async fn publish(
    connections: &[Connection],
    stream: &Temporary,
    load: Load,
    console: Console,
) -> Result<Published, Failure> {
    let (done, over) = (Done::default(), Arc::new(AtomicBool::new(false)));
    let payload = Bytes::from(vec![b'.'; size::to_usize(load.size)]);
    let watch = Stopwatch::start();
    let mut tasks = JoinSet::new();
    for (connection, count) in connections.iter().zip(workers::shares(load.count, connections.len())) {
        let publisher = Publisher {
            connection: connection.clone(),
            load: Load { count, ..load },
            event: Event::new(stream.subject.clone(), payload.clone()),
            done: done.clone(),
            over: over.clone(),
            trouble: Arc::default(),
        };
        let name = stream.name.clone();
        tasks.spawn(async move {
            match load.mode {
                Mode::Async => publisher.pipelined().await,
                Mode::Fast => publisher.fast(name).await,
                Mode::Sync => publisher.one_by_one().await,
            }
        });
    }
    let mut parts = std::pin::pin!(workers::all(tasks, console, &done, load.count, "events were published"));
    let parts = tokio::select! {
        biased;
        parts = &mut parts => parts?,
        () = sleep(load.time.unwrap_or(Duration::MAX)) => {
            over.store(true, Ordering::Relaxed);
            parts.await?
        }
    };
    let mut published = Published {
        spent: watch.read(),
        acked: 0,
        retried: 0,
        duplicates: 0,
        times: Times::new(),
    };
    for part in parts {
        published.acked += part.acked;
        published.retried += part.retried;
        published.duplicates += part.duplicates;
        published.times.add(&part.times);
    }
    let (stored, count) = (stream.info().await?.messages, done.load(Ordering::Relaxed));
    if (published.acked, stored) != (count, count) {
        let text = format!(
            "of {count} events {} were acked, and the stream has {stored}",
            published.acked
        );
        return Err(Failure::text(Exit::Incomplete, text));
    }
    Ok(published)
}
