//! The two ends of a run, each a process of its own: a responder, and a caller that does what its standard input says.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use async_nats::Client;
use bytes::Bytes;
use futures_util::StreamExt as _;
use natstream::{ConnectConfig, Connection, HandlerError, Pool, Request, Server};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, stdin, stdout};

/// How a stream is carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Variant {
    /// natstream's native dialect.
    Native,
    /// async-nats, one message an item, an empty message at the end.
    Plain,
}

/// One call, as a line of JSON.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Task {
    pub(crate) variant: Variant,
    pub(crate) items: u64,
    pub(crate) size: usize,
}

/// What came of it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Outcome {
    pub(crate) items: u64,
    pub(crate) seconds: f64,
}

const NATIVE: &str = "bench.native";
const PLAIN: &str = "bench.plain";

/// Longer than any call takes; a plain stream that lost its end would wait for ever.
const LIMIT: Duration = Duration::from_secs(60);

/// Serves both variants until its standard input ends.
pub(crate) async fn responder(url: &str) -> Result<()> {
    let server = Server::new(Connection::connect(ConnectConfig::new(url)).await?);
    let native = |request: Request, mut out: natstream::ResponseSender| async move {
        let (items, size) = parse(request.payload()).map_err(|error| HandlerError::invalid(error.to_string()))?;
        let item = vec![b'.'; size];
        for _ in 0..items {
            out.send(&item).await?;
        }
        Ok(())
    };
    server.on(NATIVE, native).await?;
    let plain = tokio::task::spawn(plain_responder(async_nats::connect(url).await?));
    say("ready").await?;
    // The parent closes the pipe when it is done, and when it dies.
    let mut lines = BufReader::new(stdin()).lines();
    while lines.next_line().await?.is_some() {}
    plain.abort();
    Ok(())
}

/// What a user of async-nats writes: a message for each item.
async fn plain_responder(client: Client) -> Result<()> {
    let mut requests = client.subscribe(PLAIN).await?;
    while let Some(request) = requests.next().await {
        let (items, size) = parse(&request.payload)?;
        let reply = request.reply.context("a reply subject")?;
        let item = Bytes::from(vec![b'.'; size]);
        for _ in 0..items {
            client.publish(reply.clone(), item.clone()).await?;
        }
        client.publish(reply, Bytes::new()).await?;
    }
    Ok(())
}

/// Makes the calls that its standard input names, one after the other.
pub(crate) async fn caller(url: &str) -> Result<()> {
    let pool = Pool::new(Connection::connect(ConnectConfig::new(url)).await?);
    // The default capacity of 65,536 messages loses some of them; this one loses none.
    let options = async_nats::ConnectOptions::new().subscription_capacity(16 << 20);
    let plain = options.connect(url).await?;
    say("ready").await?;
    let mut lines = BufReader::new(stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        let task: Task = serde_json::from_str(&line)?;
        let outcome = tokio::time::timeout(LIMIT, call(&pool, &plain, &task)).await??;
        say(&serde_json::to_string(&outcome)?).await?;
    }
    Ok(())
}

async fn call(pool: &Pool, plain: &Client, task: &Task) -> Result<Outcome> {
    let request = format!("{} {}", task.items, task.size);
    let started = std::time::Instant::now();
    let items = match task.variant {
        Variant::Native => native_call(pool, request, task.size).await?,
        Variant::Plain => plain_call(plain, request, task.size).await?,
    };
    let seconds = started.elapsed().as_secs_f64();
    ensure!(items == task.items, "{items} of {} items arrived", task.items);
    Ok(Outcome { items, seconds })
}

async fn native_call(pool: &Pool, request: String, size: usize) -> Result<u64> {
    let mut responses = pool.request_stream(NATIVE, request).await?;
    let mut items = 0;
    while let Some(item) = responses.try_next().await? {
        ensure!(item.len() == size, "an item of {} bytes", item.len());
        items += 1;
    }
    Ok(items)
}

async fn plain_call(client: &Client, request: String, size: usize) -> Result<u64> {
    let inbox = client.new_inbox();
    let mut responses = client.subscribe(inbox.clone()).await?;
    client.publish_with_reply(PLAIN, inbox, request.into()).await?;
    let mut items = 0;
    while let Some(message) = responses.next().await {
        if message.payload.is_empty() {
            return Ok(items);
        }
        ensure!(
            message.payload.len() == size,
            "an item of {} bytes",
            message.payload.len()
        );
        items += 1;
    }
    bail!("the subscription ended")
}

fn parse(payload: &[u8]) -> Result<(u64, usize)> {
    let text = std::str::from_utf8(payload)?;
    let (items, size) = text.split_once(' ').context("two numbers")?;
    Ok((items.parse()?, size.parse()?))
}

async fn say(line: &str) -> Result<()> {
    let mut out = stdout();
    out.write_all(format!("{line}\n").as_bytes()).await?;
    out.flush().await?;
    Ok(())
}
