//! Orders that cannot be processed are put aside with the reason, looked at, and sent on their way again when the cause is gone.
//! `cargo run -p examples --example dead_letters`.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::time::Duration;

use natstream::eventbus::topology::Storage;
use natstream::eventbus::{HandlerError, Message};
use natstream::{Bus, ConnectConfig, Connection, Consumer, ConsumerSpec, DeadLetters, Event, StreamSpec, Topology};

/// An order is a customer and an amount.
fn process(order: &Message, shop_is_open: bool) -> Result<u64, HandlerError> {
    let text = std::str::from_utf8(order.payload())?;
    let (customer, amount) = text
        .split_once(' ')
        .ok_or_else(|| HandlerError::reject(format!("no order: {text}")))?;
    if customer == "new" && !shop_is_open {
        return Err(HandlerError::retry("the customer is not known yet"));
    }
    Ok(amount.parse()?)
}

/// Processes so many orders, or puts them aside; gives the sum of the amounts.
async fn run(connection: &Connection, orders: usize, shop_is_open: bool) -> anyhow::Result<u64> {
    let topology = Topology::new(connection.clone());
    // Makes the stream EXAMPLE_ORDERS-dlq, unless it is there.
    let dead = topology.ensure_dead_letters("EXAMPLE_ORDERS", "process").await?;
    let consumer = Consumer::builder(connection.clone(), ConsumerSpec::new("EXAMPLE_ORDERS", "process"))
        .backoff([Duration::from_millis(20)])
        .dead_letters(dead, 3)
        .limit(orders)
        .open()
        .await?;
    let (amounts, mut received) = tokio::sync::mpsc::unbounded_channel();
    consumer
        .for_each(move |order| {
            let amounts = amounts.clone();
            async move {
                let _ = amounts.send(process(&order, shop_is_open)?);
                Ok::<_, HandlerError>(())
            }
        })
        .await?;
    let mut sum = 0;
    while let Ok(amount) = received.try_recv() {
        sum += amount;
    }
    let stats = consumer.stats();
    println!("{} processed, {} put aside, sum {sum}", stats.handled, stats.dead);
    Ok(sum)
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let url = std::env::var("NATS_URL").unwrap_or_else(|_| "nats://127.0.0.1:4222".to_owned());
    let connection = Connection::connect(ConnectConfig::new(url)).await?;
    let topology = Topology::new(connection.clone());
    let stream = StreamSpec::new("EXAMPLE_ORDERS", ["examples.orders.>"]).storage(Storage::Memory);
    topology.ensure(&stream).await?;
    let bus = Bus::open(connection.clone()).await?;
    for order in ["ada 10", "new 20", "rubbish", "grace 30"] {
        bus.publish(Event::new("examples.orders.created", order)).await?;
    }
    run(&connection, 4, false).await?;

    // Each letter has the message, where it was, and why it is here.
    let letters = DeadLetters::new(connection.clone(), DeadLetters::stream_of("EXAMPLE_ORDERS"));
    let mut from = 0;
    let mut redriven = 0;
    let mut found = Vec::new();
    while let Some(letter) = letters.next(from).await? {
        from = letter.sequence + 1;
        found.push(format!(
            "{} (tried {} times)",
            letter.reason,
            letter.attempts.unwrap_or(0)
        ));
        if letter.reason.starts_with("no order") {
            letters.remove(letter.sequence).await?;
        } else {
            // It is deleted when its stream has the message.
            letters.redrive(&bus, &letter).await?;
            redriven += 1;
        }
    }
    found.sort();
    found.iter().for_each(|line| println!("{line}"));
    run(&connection, redriven, true).await?;
    topology.delete(&DeadLetters::stream_of("EXAMPLE_ORDERS")).await?;
    topology.delete("EXAMPLE_ORDERS").await?;
    Ok(())
}
