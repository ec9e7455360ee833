//! The process that asks.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use async_nats::Client;
use bytes::Bytes;
use futures_util::StreamExt as _;
use natstream::{ConnectConfig, Connection, Pool, Responses};
use tokio::io::{AsyncBufReadExt as _, BufReader, stdin};

use crate::allocator;
use crate::responder::{ECHO, IDLE, PLAIN_ECHO, PLAIN_STREAM, STREAM};
use crate::task::{Latency, Streamed, Task, Variant, parse, say};

/// Longer than any call takes; a plain stream that lost its end would wait for ever.
const LIMIT: Duration = Duration::from_secs(60);

/// Does what its standard input says, one thing after the other.
pub(crate) async fn run(url: &str) -> Result<()> {
    let pool = Pool::new(Connection::connect(ConnectConfig::new(url)).await?);
    // The default capacity of 65,536 messages loses some of them; this one loses none.
    let options = async_nats::ConnectOptions::new().subscription_capacity(16 << 20);
    let plain = options.connect(url).await?;
    let mut idle = Vec::new();
    say(&"ready").await?;
    let mut lines = BufReader::new(stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        match parse(&line)? {
            Task::Stream { variant, items, size } => {
                // In a task, as in a service: the main thread is not one of the runtime's workers.
                let call = tokio::spawn(stream(pool.clone(), plain.clone(), variant, items, size));
                say(&tokio::time::timeout(LIMIT, call).await???).await?;
            }
            Task::Latency { variant, calls } => {
                let calls = tokio::spawn(latency(pool.clone(), plain.clone(), variant, calls));
                say(&tokio::time::timeout(LIMIT, calls).await???).await?;
            }
            Task::Open { streams } => {
                idle.reserve_exact(streams);
                for _ in 0..streams {
                    idle.push(open(&pool).await?);
                }
                say(&idle.len()).await?;
            }
            Task::Close => {
                idle.clear();
                say(&0).await?;
            }
            Task::Allocations => say(&allocator::count()).await?,
        }
    }
    Ok(())
}

async fn stream(pool: Pool, plain: Client, variant: Variant, items: u64, size: usize) -> Result<Streamed> {
    let request = format!("{items} {size}");
    let started = Instant::now();
    let mut half = started;
    let received = match variant {
        Variant::Native => native_stream(&pool, request, items, size, &mut half).await?,
        Variant::Plain => plain_stream(&plain, request, items, size, &mut half).await?,
    };
    let seconds = started.elapsed().as_secs_f64();
    ensure!(received == items, "{received} of {items} items arrived");
    Ok(Streamed {
        items,
        seconds,
        later_half_seconds: half.elapsed().as_secs_f64(),
    })
}

async fn native_stream(pool: &Pool, request: String, expected: u64, size: usize, half: &mut Instant) -> Result<u64> {
    let mut responses = pool.request_stream(STREAM, request).await?;
    let mut items = 0;
    while let Some(item) = responses.try_next().await? {
        ensure!(item.len() == size, "an item of {} bytes", item.len());
        items += 1;
        if items == expected / 2 {
            *half = Instant::now();
        }
    }
    Ok(items)
}

async fn plain_stream(client: &Client, request: String, expected: u64, size: usize, half: &mut Instant) -> Result<u64> {
    let inbox = client.new_inbox();
    let mut responses = client.subscribe(inbox.clone()).await?;
    client.publish_with_reply(PLAIN_STREAM, inbox, request.into()).await?;
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
        if items == expected / 2 {
            *half = Instant::now();
        }
    }
    bail!("the subscription ended")
}

/// Calls of 128 B, each answered with one item of 128 B.
async fn latency(pool: Pool, plain: Client, variant: Variant, calls: usize) -> Result<Latency> {
    let body = Bytes::from_static(&[b'.'; 128]);
    let mut micros = Vec::with_capacity(calls);
    for _ in 0..calls {
        let started = Instant::now();
        match variant {
            Variant::Native => {
                let mut responses = pool.request_stream(ECHO, body.clone()).await?;
                let item = responses.try_next().await?.context("an item")?;
                micros.push(started.elapsed().as_secs_f64() * 1e6);
                ensure!(item == body && responses.try_next().await?.is_none(), "a wrong answer");
            }
            Variant::Plain => {
                let answer = plain.request(PLAIN_ECHO, body.clone()).await?;
                micros.push(started.elapsed().as_secs_f64() * 1e6);
                ensure!(answer.payload == body, "a wrong answer");
            }
        }
    }
    micros.sort_by(f64::total_cmp);
    let at = |share: f64| micros[((micros.len() - 1) as f64 * share) as usize];
    Ok(Latency {
        p50_us: at(0.5),
        p99_us: at(0.99),
    })
}

async fn open(pool: &Pool) -> Result<Responses> {
    let mut responses = pool.request_stream(IDLE, "").await?;
    let first = responses.try_next().await?;
    ensure!(first.is_some(), "an idle stream ended");
    Ok(responses)
}
