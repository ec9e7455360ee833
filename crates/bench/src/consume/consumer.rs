//! The process that consumes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use async_nats::Client;
use async_nats::jetstream::consumer::PullConsumer;
use futures_util::{StreamExt as _, TryStreamExt as _};
use natstream::eventbus::topology::ConsumerSpec;
use natstream::eventbus::{Consumer, HandlerError};
use natstream::{ConnectConfig, Connection};
use serde::{Deserialize, Serialize};
use serde_json::to_value;

use crate::role::{Done, serve};

/// How to consume.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Way {
    /// natstream, whose acks are confirmed.
    Natstream(Ours),
    /// async-nats: `messages()`, and `ack()` for each, which nobody confirms.
    Messages,
    /// The same with `double_ack()`, so many at a time.
    MessagesConfirmed,
    /// async-nats: `fetch()`, and `ack()` for each.
    Fetch,
    /// The same with `double_ack()`, so many at a time.
    FetchConfirmed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Ours {
    /// `Consumer::for_each`.
    ForEach,
    /// `Consumer::fetch`, and `Batch::ack`.
    Fetch,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Task {
    /// All messages of a consumer. Answer: [`Done`].
    Consume {
        way: Way,
        stream: String,
        consumer: String,
        batch: usize,
        /// Handlers, or acks that are waited for, at a time.
        concurrency: usize,
        messages: u64,
    },
}

/// Does what its standard input says, one thing after the other.
pub(crate) async fn run(url: &str) -> Result<()> {
    let connection = Connection::connect(ConnectConfig::new(url)).await?;
    let client = async_nats::connect(url).await?;
    serve(url, |task| {
        let (connection, client) = (connection.clone(), client.clone());
        async move { Ok(to_value(consume(connection, client, task).await?)?) }
    })
    .await
}

async fn consume(connection: Connection, client: Client, task: Task) -> Result<Done> {
    let Task::Consume {
        way,
        stream,
        consumer,
        batch,
        concurrency,
        messages,
    } = task;
    let work = Work {
        batch,
        concurrency,
        messages,
    };
    match way {
        Way::Natstream(ours) => {
            let spec = ConsumerSpec::new(stream, consumer);
            match ours {
                Ours::ForEach => work.for_each(connection, spec).await,
                Ours::Fetch => work.our_fetch(connection, spec).await,
            }
        }
        Way::Messages | Way::MessagesConfirmed => {
            let consumer = open(&client, &stream, &consumer).await?;
            work.messages(&client, &consumer, way == Way::MessagesConfirmed).await
        }
        Way::Fetch | Way::FetchConfirmed => {
            let consumer = open(&client, &stream, &consumer).await?;
            work.fetch(&client, &consumer, way == Way::FetchConfirmed).await
        }
    }
}

async fn open(client: &Client, stream: &str, consumer: &str) -> Result<PullConsumer> {
    let context = async_nats::jetstream::new(client.clone());
    let stream = context.get_stream(stream).await?;
    stream.get_consumer(consumer).await.map_err(|error| anyhow!(error))
}

struct Work {
    batch: usize,
    concurrency: usize,
    messages: u64,
}

impl Work {
    async fn for_each(&self, connection: Connection, spec: ConsumerSpec) -> Result<Done> {
        let consumer = Consumer::builder(connection, spec)
            .concurrency(self.concurrency)
            .prefetch(self.batch + self.batch / 2)
            .limit(usize::try_from(self.messages)?)
            .create(false)
            .open()
            .await?;
        let handled = Arc::new(AtomicU64::new(0));
        let started = Instant::now();
        let handler = {
            let handled = handled.clone();
            move |_| {
                handled.fetch_add(1, Ordering::Relaxed);
                std::future::ready(Ok::<_, HandlerError>(()))
            }
        };
        consumer.for_each(handler).await?;
        let seconds = started.elapsed().as_secs_f64();
        let stats = consumer.stats();
        ensure!(stats.handled == self.messages && stats.unconfirmed == 0, "{stats:?}");
        ensure!(handled.load(Ordering::Relaxed) == self.messages, "each is handled once");
        Ok(self.done(seconds))
    }

    async fn our_fetch(&self, connection: Connection, spec: ConsumerSpec) -> Result<Done> {
        let consumer = Consumer::builder(connection, spec)
            .prefetch(self.batch)
            .create(false)
            .open()
            .await?;
        let started = Instant::now();
        let mut count = 0;
        while count < self.messages {
            let batch = consumer.fetch(self.batch, Duration::ZERO).await?;
            ensure!(!batch.messages().is_empty(), "there are {count} messages");
            count += batch.messages().len() as u64;
            batch.ack().await?;
        }
        ensure!(count == self.messages, "{count}");
        Ok(self.done(started.elapsed().as_secs_f64()))
    }

    async fn messages(&self, client: &Client, consumer: &PullConsumer, is_confirmed: bool) -> Result<Done> {
        let started = Instant::now();
        let stream = consumer.stream().max_messages_per_batch(self.batch).messages().await?;
        let mut messages = stream.take(usize::try_from(self.messages)?);
        if is_confirmed {
            messages
                .map_err(anyhow::Error::from)
                .try_for_each_concurrent(self.concurrency, async |message| {
                    message.double_ack().await.map_err(|error| anyhow!(error))
                })
                .await?;
        } else {
            while let Some(message) = messages.next().await {
                message?.ack().await.map_err(|error| anyhow!(error))?;
            }
            // The acks are written.
            client.flush().await?;
        }
        Ok(self.done(started.elapsed().as_secs_f64()))
    }

    async fn fetch(&self, client: &Client, consumer: &PullConsumer, is_confirmed: bool) -> Result<Done> {
        let started = Instant::now();
        let mut count = 0;
        while count < self.messages {
            let before = count;
            let mut batch = consumer.fetch().max_messages(self.batch).messages().await?;
            let mut unacked = Vec::with_capacity(self.batch);
            while let Some(message) = batch.next().await {
                let message = message.map_err(|error| anyhow!(error))?;
                count += 1;
                if is_confirmed {
                    unacked.push(message);
                } else {
                    message.ack().await.map_err(|error| anyhow!(error))?;
                }
            }
            futures_util::stream::iter(unacked)
                .map(Ok)
                .try_for_each_concurrent(self.concurrency, async |message| {
                    message.double_ack().await.map_err(|error| anyhow!(error))
                })
                .await?;
            (count > before).then_some(()).context("there are more messages")?;
        }
        client.flush().await?;
        Ok(self.done(started.elapsed().as_secs_f64()))
    }

    fn done(&self, seconds: f64) -> Done {
        Done {
            items: self.messages,
            seconds,
        }
    }
}
