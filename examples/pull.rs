//! A stream of orders that is kept, and a durable consumer that is asked for some of them at a time, and acks what is done. What
//! is not acked comes again. `cargo xtask nats up`, then `NATS_URL=… cargo run -p examples --example pull`.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::time::Duration;

use natstream::eventbus::topology::{AckPolicy, Storage};
use natstream::{Bus, ConnectConfig, Connection, Consumer, ConsumerSpec, Event, StreamSpec, Topology};

const STREAM: &str = "EXAMPLE_PULL";
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// The seeds' `order-processor`: the same for everybody who asks for it by this name, wherever they are.
async fn order_processor(connection: Connection) -> anyhow::Result<Consumer> {
    let spec = ConsumerSpec::new(STREAM, "order-processor")
        .filters(["examples.pull.created"])
        .ack_policy(AckPolicy::Explicit)
        // What was not acked for so long comes again.
        .ack_wait(Duration::from_secs(30));
    Ok(Consumer::builder(connection, spec).open().await?)
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let url = std::env::var("NATS_URL").unwrap_or_else(|_| "nats://127.0.0.1:4222".to_owned());
    let connection = Connection::connect(ConnectConfig::new(url)).await?;
    let topology = Topology::new(connection.clone());
    // The stream is made, or found as it should be; one that differs is an error.
    let spec = StreamSpec::new(STREAM, ["examples.pull.>"])
        .max_age(30 * DAY)
        .storage(Storage::Memory);
    topology.ensure(&spec).await?;
    let bus = Bus::open(connection.clone()).await?;
    let mut last = 0;
    for id in 1..=10 {
        last = bus.publish(Event::json("examples.pull.created", &id)).await?.sequence;
        bus.enqueue(Event::json("examples.pull.shipped", &id)).await?;
    }
    bus.flush(Duration::from_secs(10)).await?;
    println!("the last order has the number {last}");

    let consumer = order_processor(connection.clone()).await?;
    let mut batch = consumer.fetch(6, Duration::from_secs(10)).await?;
    let orders: Vec<u64> = batch.iter().map(|message| message.sequence()).collect();
    println!("fetched {orders:?}");
    // Four are done, and confirmed to be. The other two are given back at once.
    if let Some(done) = orders.get(3) {
        batch.ack_through(*done).await?;
    }
    batch.nak(Duration::from_millis(1));

    // Another process that goes on where this one stopped.
    let consumer = order_processor(connection).await?;
    let (mut orders, mut again) = (0, 0);
    while orders < 6 {
        let batch = consumer.fetch(10, Duration::from_secs(1)).await?;
        orders += batch.messages().len();
        again += batch.iter().filter(|message| message.attempt() > 1).count();
        batch.ack().await?;
    }
    println!("fetched {orders} more, {again} of them again");
    let info = consumer.info().await?;
    println!("{} left, {} not acked", info.pending, info.ack_pending);

    let info = topology.info(STREAM).await?;
    println!("{} messages in the stream, for other consumers", info.messages);
    topology.delete(STREAM).await?;
    bus.close(Duration::from_secs(5)).await?;
    Ok(())
}
