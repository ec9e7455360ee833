//! Atomic batches: all or nothing, whatever happens, and an answer that is true.

mod doubt;
mod faults;
mod ordinary;

use std::time::Duration;

use integration::LIMIT;
use integration::bus::{messages, stream};
use natstream::eventbus::topology::StreamSpec;
use natstream::eventbus::{AtomicBatch, AtomicBus, AtomicBusBuilder, AtomicErrorKind};
use natstream::{Connection, Event};
use testkit::{NatsServer, within};

/// A cluster needs some time to form and to elect on a busy machine.
const LONG: Duration = Duration::from_secs(90);

async fn server(jetstream: &str) -> (NatsServer, Connection) {
    let config = format!("jetstream {{ {jetstream} }}");
    let nats = NatsServer::builder().jetstream(true).config(config).start().await;
    let connection = integration::connection(&nats.url()).await;
    (nats, connection)
}

/// The stream `S`, which takes atomic batches on `s.>`.
async fn atomic_stream(connection: &Connection, spec: impl FnOnce(StreamSpec) -> StreamSpec) {
    stream(connection, spec(StreamSpec::new("S", ["s.>"]).allow_atomic(true))).await;
}

async fn open(connection: &Connection, set: impl FnOnce(AtomicBusBuilder) -> AtomicBusBuilder) -> AtomicBus {
    let builder = AtomicBus::builder(connection.clone(), "S");
    within(LIMIT, set(builder).open()).await.expect("open")
}

/// Events with these payloads, to subjects of their own.
fn batch(name: &str, events: usize) -> AtomicBatch {
    (0..events)
        .map(|n| Event::new(format!("s.{name}.{n}"), format!("{name} {n}")))
        .collect()
}

async fn payloads(connection: &Connection) -> Vec<String> {
    let messages = messages(connection, "S").await;
    messages.into_iter().map(|message| message.payload).collect()
}

fn expected(name: &str, events: usize) -> Vec<String> {
    (0..events).map(|n| format!("{name} {n}")).collect()
}
