//! Fast ingest: what a batch brings into a stream, and what becomes of it when something goes wrong.

mod doubts;
mod faults;
mod limits;
mod ordinary;

use std::collections::HashSet;
use std::time::Duration;

use integration::LIMIT;
use integration::bus::{numbers, stream};
use natstream::eventbus::topology::StreamSpec;
use natstream::eventbus::{FastBus, FastBusBuilder, FastStats, PublishErrorKind};
use natstream::{Connection, Event, PublishError};
use testkit::{settles_where, within};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

/// A cluster needs some time to form and to elect on a busy machine.
const LONG: Duration = Duration::from_secs(90);

/// What may come twice, or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doubt {
    /// It fails.
    Unknown,
    WithIds,
    AtLeastOnce,
}

/// The stream `S`, which takes fast batches on `s.>`.
async fn fast_stream(connection: &Connection, spec: impl FnOnce(StreamSpec) -> StreamSpec) {
    stream_of(connection, "S", spec).await;
}

/// A stream that takes fast batches on its name in small letters, and below.
async fn stream_of(connection: &Connection, name: &str, spec: impl FnOnce(StreamSpec) -> StreamSpec) {
    let subjects = [format!("{}.>", name.to_lowercase())];
    stream(connection, spec(StreamSpec::new(name, subjects).allow_batched(true))).await;
}

/// A bus to the stream `S`, and its failures.
async fn open(
    connection: &Connection,
    doubt: Doubt,
    set: impl FnOnce(FastBusBuilder) -> FastBusBuilder,
) -> (FastBus, mpsc::UnboundedReceiver<PublishError>) {
    open_to(connection, "S", doubt, set).await
}

async fn open_to(
    connection: &Connection,
    stream: &str,
    doubt: Doubt,
    set: impl FnOnce(FastBusBuilder) -> FastBusBuilder,
) -> (FastBus, mpsc::UnboundedReceiver<PublishError>) {
    let (failures, failed) = mpsc::unbounded_channel();
    let builder = FastBus::builder(connection.clone(), stream).on_failure(move |error| drop(failures.send(error)));
    let builder = match doubt {
        Doubt::Unknown => builder,
        Doubt::WithIds => builder.with_ids(),
        Doubt::AtLeastOnce => builder.at_least_once(),
    };
    let bus = within(LIMIT, set(builder).open()).await.expect("open");
    (bus, failed)
}

/// Publishes numbers to 20 subjects in the background.
fn publish(bus: &FastBus, events: u64) -> JoinHandle<()> {
    let bus = bus.clone();
    tokio::spawn(async move {
        for n in 0..events {
            let event = Event::new(format!("s.{}", n % 20), n.to_string());
            bus.enqueue(event).await.expect("accepted");
        }
    })
}

/// Publishes a few thousand events a second until it is enough, and says how many.
fn publish_until(bus: &FastBus, stream: &str, mut is_enough: watch::Receiver<bool>) -> JoinHandle<u64> {
    let (bus, subject) = (bus.clone(), stream.to_lowercase());
    tokio::spawn(async move {
        let mut events = 0;
        while !*is_enough.borrow_and_update() {
            for n in events..events + 20 {
                let event = Event::new(format!("{subject}.{}", n % 20), n.to_string());
                bus.enqueue(event).await.expect("accepted");
            }
            events += 20;
            // sleep: a pace at which elections do not make millions of events
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
        events
    })
}

fn adds_up(stats: &FastStats) {
    assert_eq!(stats.accepted, stats.acked + stats.failed + stats.pending as u64);
}

/// Waits until so many events are acked or have failed.
async fn settled(bus: &FastBus, events: u64) {
    let stats = || std::future::ready(bus.stats());
    settles_where(LONG, stats, |stats: &FastStats| {
        adds_up(stats);
        stats.acked + stats.failed >= events
    })
    .await;
}

/// All were published: what the stream has, against what became of each.
async fn complete(
    bus: &FastBus,
    publishing: JoinHandle<()>,
    events: u64,
    doubt: Doubt,
    failed: mpsc::UnboundedReceiver<PublishError>,
) -> FastStats {
    complete_in("S", bus, publishing, events, doubt, failed).await
}

async fn complete_in(
    stream: &str,
    bus: &FastBus,
    publishing: JoinHandle<()>,
    events: u64,
    doubt: Doubt,
    mut failed: mpsc::UnboundedReceiver<PublishError>,
) -> FastStats {
    within(LONG, publishing).await.expect("no panic");
    // It fails when events have failed, which are looked at below.
    let _ = within(LONG, bus.flush(LONG)).await;
    let stats = bus.stats();
    adds_up(&stats);
    assert_eq!((stats.accepted, stats.pending), (events, 0), "{stats:?}");
    let mut unknown = HashSet::new();
    while let Ok(error) = failed.try_recv() {
        assert_eq!(error.kind(), PublishErrorKind::Unknown, "{error}");
        assert!(error.may_be_stored());
        let number: u64 = std::str::from_utf8(error.event().payload())
            .expect("text")
            .parse()
            .expect("a number");
        assert!(unknown.insert(number), "each failure once");
    }
    assert_eq!(unknown.len() as u64, stats.failed);
    assert!(
        unknown.is_empty() || doubt == Doubt::Unknown,
        "{} are unknown",
        unknown.len()
    );
    let stored = numbers(bus.connection(), stream).await;
    let mut seen = HashSet::new();
    let first: Vec<u64> = stored.iter().copied().filter(|number| seen.insert(*number)).collect();
    if doubt != Doubt::AtLeastOnce {
        assert_eq!(stored.len(), first.len(), "nothing twice");
    }
    let acked: Vec<u64> = first.into_iter().filter(|number| !unknown.contains(number)).collect();
    assert!(acked.is_sorted(), "in the order of their acceptance");
    assert_eq!(acked.len() as u64, stats.acked, "what is acked is stored");
    stats
}
