//! Messages that come without a stream go into one, where they are kept: in strict order, and without waiting for each ack.
//! `cargo xtask nats up`, then `NATS_URL=… cargo run -p examples --example forward`.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::time::Duration;

use natstream::eventbus::Ordering;
use natstream::eventbus::topology::Storage;
use natstream::{
    Bus, ConnectConfig, Connection, Consumer, ConsumerSpec, Event, HandlerError, Pool, Server, StreamSpec,
    Subscription, Topology,
};

const STREAM: &str = "EXAMPLE_FORWARD";
const MESSAGES: usize = 300;
const LIMIT: Duration = Duration::from_secs(10);

/// The seeds' `forwardMessages`. It takes no more messages than the bus has room for: others wait, and above a limit they are
/// dropped and counted.
async fn forward(server: &Server, bus: &Bus) -> anyhow::Result<Subscription> {
    let bus = bus.clone();
    let forward = server.on_message("examples.forward.incoming.>", move |message| {
        let bus = bus.clone();
        async move {
            let subject = message.subject().replace(".incoming.", ".kept.");
            let event = Event::new(subject, message.payload().clone());
            bus.enqueue(event).await.map_err(HandlerError::internal)
        }
    });
    // One after the other, so that they go into the window in their order.
    Ok(forward.max_concurrent(1).await?)
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let url = std::env::var("NATS_URL").unwrap_or_else(|_| "nats://127.0.0.1:4222".to_owned());
    let connection = Connection::connect(ConnectConfig::new(url)).await?;
    let topology = Topology::new(connection.clone());
    let spec = StreamSpec::new(STREAM, ["examples.forward.kept.>"]).storage(Storage::Memory);
    topology.ensure(&spec).await?;
    // The order of a subject holds whatever has to be sent again.
    let bus = Bus::builder(connection.clone())
        .ordering(Ordering::Strict)
        .open()
        .await?;
    let server = Server::new(connection.clone());
    let forwarded = forward(&server, &bus).await?;

    let pool = Pool::new(connection.clone());
    for number in 0..MESSAGES {
        let subject = format!("examples.forward.incoming.{}", number % 3);
        pool.publish_as(subject, &number).await?;
    }
    pool.flush(LIMIT).await?;
    // First whatever brings messages, then the bus, which delivers what it has.
    server.drain(LIMIT).await;
    bus.close(LIMIT).await?;
    let stats = forwarded.stats();
    println!(
        "{} messages, {} forwarded, {} dropped",
        stats.received, stats.processed, stats.dropped
    );

    let consumer = Consumer::builder(connection, ConsumerSpec::new(STREAM, "check"))
        .open()
        .await?;
    let batch = consumer.fetch(MESSAGES, LIMIT).await?;
    let (mut next, mut in_order) = ([0, 1, 2], 0);
    for message in &batch {
        let number: usize = std::str::from_utf8(message.payload())?.parse()?;
        in_order += usize::from(next[number % 3] == number);
        next[number % 3] = number + 3;
    }
    println!("{in_order} in the order of their subjects");
    batch.ack().await?;
    topology.delete(STREAM).await?;
    Ok(())
}
