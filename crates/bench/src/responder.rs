//! The process that answers.

use anyhow::{Context as _, Result};
use async_nats::Client;
use bytes::Bytes;
use futures_util::StreamExt as _;
use natstream::{ConnectConfig, Connection, HandlerError, Request, ResponseSender, Server};
use tokio::io::{AsyncBufReadExt as _, BufReader, stdin};

use crate::allocator;
use crate::task::{Task, parse, say};

pub(crate) const STREAM: &str = "bench.stream";
pub(crate) const PLAIN_STREAM: &str = "bench.plain.stream";
pub(crate) const ECHO: &str = "bench.echo";
pub(crate) const PLAIN_ECHO: &str = "bench.plain.echo";
pub(crate) const IDLE: &str = "bench.idle";

/// Serves every variant until its standard input ends: the parent closes the pipe when it is done, and when it dies.
pub(crate) async fn run(url: &str) -> Result<()> {
    let server = Server::new(Connection::connect(ConnectConfig::new(url)).await?);
    server.on(STREAM, stream).await?;
    server.on(ECHO, echo).await?;
    server.on(IDLE, idle).await?;
    let client = async_nats::connect(url).await?;
    let streams = tokio::spawn(plain_stream(client.clone()));
    let echoes = tokio::spawn(plain_echo(client));
    say(&"ready").await?;
    let mut lines = BufReader::new(stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        if let Task::Allocations = parse(&line)? {
            say(&allocator::count()).await?;
        }
    }
    streams.abort();
    echoes.abort();
    Ok(())
}

async fn stream(request: Request, mut out: ResponseSender) -> Result<(), HandlerError> {
    let (items, size) = numbers(request.payload()).map_err(|error| HandlerError::invalid(error.to_string()))?;
    let item = vec![b'.'; size];
    for _ in 0..items {
        out.send(&item).await?;
    }
    Ok(())
}

async fn echo(request: Request, mut out: ResponseSender) -> Result<(), HandlerError> {
    out.send(request.payload()).await?;
    Ok(())
}

async fn idle(_request: Request, mut out: ResponseSender) -> Result<(), HandlerError> {
    out.send("here").await?;
    out.closed().await;
    Ok(())
}

/// What a user of async-nats writes: a message for each item, an empty one at the end.
async fn plain_stream(client: Client) -> Result<()> {
    let mut requests = client.subscribe(PLAIN_STREAM).await?;
    while let Some(request) = requests.next().await {
        let (items, size) = numbers(&request.payload)?;
        let reply = request.reply.context("a reply subject")?;
        let item = Bytes::from(vec![b'.'; size]);
        for _ in 0..items {
            client.publish(reply.clone(), item.clone()).await?;
        }
        client.publish(reply, Bytes::new()).await?;
    }
    Ok(())
}

async fn plain_echo(client: Client) -> Result<()> {
    let mut requests = client.subscribe(PLAIN_ECHO).await?;
    while let Some(request) = requests.next().await {
        let reply = request.reply.context("a reply subject")?;
        client.publish(reply, request.payload).await?;
    }
    Ok(())
}

fn numbers(payload: &[u8]) -> Result<(u64, usize)> {
    let text = std::str::from_utf8(payload)?;
    let (items, size) = text.split_once(' ').context("two numbers")?;
    Ok((items.parse()?, size.parse()?))
}
