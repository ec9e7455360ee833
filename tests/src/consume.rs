//! What the suites of consumers share.

use std::collections::HashMap;
use std::time::Duration;

use natstream::eventbus::topology::{ConsumerSpec, StreamSpec, Topology};
use natstream::eventbus::{ConsumeError, Consumer, ConsumerBuilder, HandlerError, Message};
use natstream::{Bus, Connection, Event};
use testkit::{unique_name, unique_subject, within};
use tokio::task::JoinHandle;

use crate::LIMIT;
use crate::bus::stream;

/// A stream, and somebody who publishes numbers to it.
#[derive(Debug)]
pub struct Desk {
    /// Of the publisher, and of consumers unless they have one of their own.
    pub connection: Connection,
    /// To publish with.
    pub bus: Bus,
    /// The stream's name.
    pub stream: String,
    /// Its subjects without their last part.
    pub subject: String,
}

impl Desk {
    /// A stream of its own on this connection.
    ///
    /// # Panics
    /// When it cannot be made.
    pub async fn new(connection: Connection) -> Self {
        Self::of(connection, |spec| spec).await
    }

    /// A stream that is declared by `declare`.
    ///
    /// # Panics
    /// When it cannot be made.
    pub async fn of(connection: Connection, declare: impl FnOnce(StreamSpec) -> StreamSpec) -> Self {
        let (name, subject) = (unique_name("CONSUME"), unique_subject("consume"));
        stream(&connection, declare(StreamSpec::new(&name, [format!("{subject}.>")]))).await;
        let bus = within(LIMIT, Bus::open(connection.clone())).await.expect("open");
        Self {
            connection,
            bus,
            stream: name,
            subject,
        }
    }

    /// Publishes a number.
    ///
    /// # Panics
    /// When it is not accepted.
    pub async fn publish(&self, part: &str, number: u64) {
        let event = Event::new(format!("{}.{part}", self.subject), number.to_string());
        within(LIMIT, self.bus.enqueue(event)).await.expect("accepted");
    }

    /// Publishes numbers below `count`, the last part of their subjects being `<number> % <keys>`.
    ///
    /// # Panics
    /// When they are not acked.
    pub async fn publish_keys(&self, count: u64, keys: u64) {
        for number in 0..count {
            self.publish(&(number % keys).to_string(), number).await;
        }
        self.flush().await;
    }

    /// Waits until the stream has all.
    ///
    /// # Panics
    /// When that fails.
    pub async fn flush(&self) {
        within(LIMIT, self.bus.flush(LIMIT)).await.expect("all acked");
    }

    /// The consumer `c`.
    pub fn spec(&self) -> ConsumerSpec {
        ConsumerSpec::new(&self.stream, "c")
    }

    /// A consumer with short pauses.
    pub fn consumer(&self, spec: ConsumerSpec) -> ConsumerBuilder {
        Consumer::builder(self.connection.clone(), spec).backoff([Duration::from_millis(20)])
    }

    /// Waits until nats-server knows of nothing that is not acked; at most so long.
    pub async fn all_acked(&self, limit: Duration) {
        let topology = Topology::new(self.connection.clone());
        let acked = async {
            loop {
                // A server that is being restarted does not answer.
                let info = topology.consumer(&self.stream, "c").await;
                if info.is_ok_and(|info| info.pending == 0 && info.ack_pending == 0) {
                    return;
                }
                // sleep: nats-server is asked now and then.
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        within(limit, acked).await;
    }

    /// What a stream with this one's name has for a subject of dead letters.
    ///
    /// # Panics
    /// When it cannot be made.
    pub async fn dead_letters(&self) -> (String, String) {
        let (name, subject) = (unique_name("DEAD"), unique_subject("dead"));
        stream(&self.connection, StreamSpec::new(&name, [&subject])).await;
        (name, subject)
    }

    /// Makes a consumer as nats-server's API has it.
    ///
    /// # Panics
    /// When that fails.
    pub async fn foreign_consumer(&self, more: &str) {
        let config = format!(
            r#"{{"stream_name":"{0}","config":{{"name":"c","durable_name":"c","ack_policy":"explicit",{more}}}}}"#,
            self.stream
        );
        let subject = format!("$JS.API.CONSUMER.CREATE.{}.c", self.stream);
        let answer = self.connection.nats().request(subject, config.into());
        let answer = within(LIMIT, answer).await.expect("an answer");
        let text = String::from_utf8_lossy(&answer.payload);
        assert!(!text.contains("\"error\""), "{text}");
    }
}

/// Runs `for_each` in a task of its own.
pub fn run<H, F>(consumer: &Consumer, handler: H) -> JoinHandle<Result<(), ConsumeError>>
where
    H: Fn(Message) -> F + Send + Sync + 'static,
    F: Future<Output = Result<(), HandlerError>> + Send + 'static,
{
    let consumer = consumer.clone();
    tokio::spawn(async move { consumer.for_each(handler).await })
}

/// Drains, and waits for the end.
///
/// # Panics
/// When it did not end well.
pub async fn drained(consumer: &Consumer, running: JoinHandle<Result<(), ConsumeError>>) {
    consumer.drain();
    within(LIMIT, running).await.expect("no panic").expect("drained");
}

/// The number that a message carries.
///
/// # Panics
/// When it carries none.
#[must_use]
pub fn number(message: &Message) -> u64 {
    let text = std::str::from_utf8(message.payload()).expect("digits");
    text.parse().expect("digits")
}

/// What must hold of messages with keys: number `n` has the key `n % keys`, and begins when all smaller ones of its key are
/// done.
#[derive(Debug)]
pub struct Ledger {
    keys: u64,
    /// The next number of each key that is not done.
    next: HashMap<u64, u64>,
    running: HashMap<u64, u64>,
    /// How many were done, each counted once.
    pub done: u64,
    /// How often one was handled that was done.
    pub repeated: u64,
    /// What did not hold.
    pub faults: Vec<String>,
}

impl Ledger {
    /// Nothing has begun.
    #[must_use]
    pub fn new(keys: u64) -> Self {
        Self {
            keys,
            next: HashMap::new(),
            running: HashMap::new(),
            done: 0,
            repeated: 0,
            faults: Vec::new(),
        }
    }

    /// The numbers whose handlers run.
    #[must_use]
    pub fn running(&self) -> Vec<u64> {
        self.running.values().copied().collect()
    }

    /// A handler of this number begins.
    pub fn begin(&mut self, number: u64) {
        let key = number % self.keys;
        let next = *self.next.entry(key).or_insert(key);
        if number > next {
            self.faults.push(format!("{number} begins before {next} is done"));
        }
        if let Some(other) = self.running.insert(key, number) {
            self.faults.push(format!("{number} begins while {other} runs"));
        }
    }

    /// It ends, well or not.
    pub fn end(&mut self, number: u64, is_done: bool) {
        let key = number % self.keys;
        self.running.remove(&key);
        if !is_done {
            return;
        }
        let next = self.next.entry(key).or_insert(key);
        if number < *next {
            self.repeated += 1;
        } else {
            self.done += 1;
            *next = number + self.keys;
        }
    }
}
