//! A projection: balances of accounts from their events. Those of one account are applied in their order, though some fail at
//! first, and different accounts at the same time. `cargo run -p examples --example projection`.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use natstream::eventbus::topology::Storage;
use natstream::eventbus::{HandlerError, Message};
use natstream::{Bus, ConnectConfig, Connection, Consumer, ConsumerSpec, Event, Key, StreamSpec, Topology};

const ACCOUNTS: u64 = 10;
const EVENTS: u64 = 50;

#[derive(Default)]
struct Account {
    balance: i64,
    /// The last event that was applied. Delivery is at least once: an event that comes again is known by its number.
    applied: u64,
    log: String,
}

type Accounts = Arc<Mutex<BTreeMap<String, Account>>>;

async fn apply(accounts: Accounts, message: Message) -> Result<(), HandlerError> {
    let name = message.subject().rsplit('.').next().unwrap_or_default().to_owned();
    let amount: i64 = message.json()?;
    if message.sequence().is_multiple_of(40) && message.attempt() == 1 {
        return Err(HandlerError::retry("the database is busy"));
    }
    // Some take longer than those behind them.
    tokio::time::sleep(Duration::from_millis(message.sequence() % 3)).await;
    let mut accounts = accounts
        .lock()
        .map_err(|_| HandlerError::retry("another handler has panicked"))?;
    let account = accounts.entry(name).or_default();
    if message.sequence() > account.applied {
        account.applied = message.sequence();
        account.balance += amount;
        account.log.push_str(&format!("{amount:+} "));
    }
    Ok(())
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let url = std::env::var("NATS_URL").unwrap_or_else(|_| "nats://127.0.0.1:4222".to_owned());
    let connection = Connection::connect(ConnectConfig::new(url)).await?;
    let topology = Topology::new(connection.clone());
    let stream = StreamSpec::new("EXAMPLE_ACCOUNTS", ["examples.accounts.*"]).storage(Storage::Memory);
    topology.ensure(&stream).await?;
    let bus = Bus::open(connection.clone()).await?;
    for number in 1..=EVENTS {
        for account in 0..ACCOUNTS {
            let amount = if number % 5 == 0 { -1 } else { number as i64 };
            let event = Event::new(format!("examples.accounts.{account}"), amount.to_string());
            bus.enqueue(event).await?;
        }
    }
    bus.flush(Duration::from_secs(30)).await?;

    let consumer = Consumer::builder(connection, ConsumerSpec::new("EXAMPLE_ACCOUNTS", "balances"))
        // The account, which is the third part of the subject. Others go on while one waits for another attempt.
        .key(Key::SubjectPart(3))
        .concurrency(8)
        .prefetch(100)
        .backoff([Duration::from_millis(20)])
        .limit((EVENTS * ACCOUNTS) as usize)
        .open()
        .await?;
    let accounts = Accounts::default();
    consumer
        .for_each({
            let accounts = accounts.clone();
            move |message| apply(accounts.clone(), message)
        })
        .await?;
    topology.delete("EXAMPLE_ACCOUNTS").await?;
    let accounts = accounts.lock().map_err(|_| anyhow::anyhow!("a handler has panicked"))?;
    let first = accounts.values().next();
    let is_same = accounts
        .values()
        .all(|account| Some(&account.log) == first.map(|first| &first.log));
    println!(
        "{} accounts, balance {}, all in the same order: {is_same}",
        accounts.len(),
        first.map_or(0, |account| account.balance)
    );
    println!("{} attempts failed", consumer.stats().failed);
    Ok(())
}
