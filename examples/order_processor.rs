//! What matters is waited for, what does not is not: payments, orders and messages with a priority.
//! `cargo run -p examples --example order_processor`.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::time::Duration;

use natstream::eventbus::envelope::Envelope;
use natstream::eventbus::topology::Storage;
use natstream::{Bus, ConnectConfig, Connection, Event, PublishError, StreamSpec, Topology};

/// A payment is confirmed before anybody is told so. Sent again with the same id, it is stored once.
async fn process_payment(bus: &Bus, payment: u64) -> anyhow::Result<()> {
    let data = format!(r#"{{"amount":{payment}}}"#);
    let event = Event::new("examples.shop.payments", data).message_id(format!("payment-{payment}"));
    let ack = bus.publish(event).await?;
    println!("payment confirmed: seq={}", ack.sequence);
    Ok(())
}

struct OrderProcessor {
    bus: Bus,
}

impl OrderProcessor {
    /// The order is in the stream when this returns; its notification follows.
    async fn process_order(&self, id: u64) -> anyhow::Result<()> {
        let envelope = Envelope::new("/shop", "order.created", id).aggregate(format!("order-{id}"), 1);
        let ack = self.bus.publish(envelope.event("examples.shop.orders")?).await?;
        println!("order confirmed: id={id}, seq={}", ack.sequence);
        self.bus
            .enqueue(Event::json("examples.shop.notifications", &id))
            .await?;
        Ok(())
    }
}

enum Priority {
    High,
    Low,
}

/// Waits for the ack where the priority is high.
async fn publish(bus: &Bus, priority: Priority, data: &'static str) -> Result<(), PublishError> {
    let event = Event::new("examples.shop.messages", data);
    match priority {
        Priority::High => bus.publish(event).await.map(drop),
        Priority::Low => bus.enqueue(event).await,
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let url = std::env::var("NATS_URL").unwrap_or_else(|_| "nats://127.0.0.1:4222".to_owned());
    let connection = Connection::connect(ConnectConfig::new(url)).await?;
    let topology = Topology::new(connection.clone());
    let stream = StreamSpec::new("EXAMPLE_SHOP", ["examples.shop.>"]).storage(Storage::Memory);
    topology.ensure(&stream).await?;
    let bus = Bus::open(connection).await?;
    process_payment(&bus, 100).await?;
    OrderProcessor { bus: bus.clone() }.process_order(7).await?;
    publish(&bus, Priority::High, "now").await?;
    publish(&bus, Priority::Low, "some time").await?;
    bus.close(Duration::from_secs(5)).await?;
    let messages = topology.info("EXAMPLE_SHOP").await?.messages;
    println!("{messages} messages in the stream");
    topology.delete("EXAMPLE_SHOP").await?;
    Ok(())
}
