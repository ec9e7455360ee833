//! A transfer between accounts, stored as a whole or not at all: `cargo run -p examples --example transaction`.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use natstream::eventbus::AtomicErrorKind;
use natstream::eventbus::topology::Storage;
use natstream::{AtomicBatch, AtomicBus, ConnectConfig, Connection, Event, StreamSpec, Topology};

/// An account's last booking, and its number in the stream: 0 for none.
#[derive(Clone, Copy)]
struct Account {
    number: u32,
    last: u64,
}

/// Takes from one account and gives to the other. Whoever has booked on one of them meanwhile makes the whole fail.
fn transfer(from: Account, to: Account, amount: i64) -> AtomicBatch {
    let booking = |account: Account, amount: i64| {
        Event::new(format!("examples.transfers.{}", account.number), amount.to_string())
            .expect_last_subject_sequence(account.last)
    };
    [booking(from, -amount), booking(to, amount)].into_iter().collect()
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let url = std::env::var("NATS_URL").unwrap_or_else(|_| "nats://127.0.0.1:4222".to_owned());
    let connection = Connection::connect(ConnectConfig::new(url)).await?;
    let topology = Topology::new(connection.clone());
    let accounts = StreamSpec::new("EXAMPLE_TRANSFERS", ["examples.transfers.*"])
        .storage(Storage::Memory)
        .allow_atomic(true);
    topology.ensure(&accounts).await?;
    let bus = AtomicBus::open(connection, "EXAMPLE_TRANSFERS").await?;

    let (seven, eight) = (Account { number: 7, last: 0 }, Account { number: 8, last: 0 });
    let ack = bus.commit(transfer(seven, eight, 5)).await?;
    println!(
        "{} bookings, numbers up to {}",
        ack.count,
        ack.last_sequence.unwrap_or(0)
    );

    // As if nothing had been booked: neither booking is stored.
    match bus.commit(transfer(seven, eight, 3)).await {
        Err(error) if error.kind() == AtomicErrorKind::WrongLast && !error.may_be_stored() => {
            println!(
                "somebody was faster: {} bookings are still here",
                error.into_batch().len()
            );
        }
        other => anyhow::bail!("not expected: {other:?}"),
    }
    println!(
        "{} messages in the stream",
        topology.info("EXAMPLE_TRANSFERS").await?.messages
    );
    topology.delete("EXAMPLE_TRANSFERS").await?;
    Ok(())
}
