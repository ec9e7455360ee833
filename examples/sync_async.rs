//! Publishing with and without waiting for the ack: `cargo xtask nats up`, then
//! `NATS_URL=… cargo run -p examples --example sync_async`. It prints six lines, and goes on until Ctrl-C.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::time::Duration;

use anyhow::Context as _;
use futures_util::StreamExt as _;
use natstream::async_nats::Subscriber;
use natstream::eventbus::topology::Storage;
use natstream::{Bus, ConnectConfig, Connection, Event, Pool, StreamSpec, Topology};
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let url = std::env::var("NATS_URL").unwrap_or_else(|_| "nats://127.0.0.1:4222".to_owned());
    let connection = Connection::connect(ConnectConfig::new(url)).await?;
    let topology = Topology::new(connection.clone());
    let stream = StreamSpec::new("EXAMPLE_SYNC", ["examples.sync"]).storage(Storage::Memory);
    topology.ensure(&stream).await?;

    let mut received = listen(&connection).await?;
    let mut print_received = async || -> anyhow::Result<()> {
        let message = received.next().await.context("the subscription has ended")?;
        // $JS.ACK.<stream>.<consumer>.<delivered>.<number in the stream>.…
        let number = message.reply.as_ref().and_then(|reply| reply.split('.').nth(5));
        let data = String::from_utf8_lossy(&message.payload);
        println!("收到消息 seq={} data={data}", number.unwrap_or("?"));
        Ok(())
    };
    let bus = Bus::open(connection).await?;

    // Sync: when this returns, the stream has it.
    bus.publish(Event::new("examples.sync", "sync-1")).await?;
    print_received().await?;
    println!("同步发布完成");

    // Async: these return when there is room in the window.
    let first = bus.enqueue_pending(Event::new("examples.sync", "async-1")).await?;
    bus.enqueue(Event::new("examples.sync", "async-2")).await?;
    print_received().await?;
    print_received().await?;
    // One ack if it matters, or all.
    first.await?;
    bus.flush(Duration::from_secs(3)).await?;
    println!("所有异步发布已确认");

    // Before it is said that it can be pressed.
    let mut ctrl_c = signal(SignalKind::interrupt())?;
    println!("同步/异步发布演示运行中；按 Ctrl+C 退出");
    ctrl_c.recv().await;
    bus.close(Duration::from_secs(5)).await?;
    topology.delete("EXAMPLE_SYNC").await?;
    Ok(())
}

/// Lets the stream push its messages.
async fn listen(connection: &Connection) -> anyhow::Result<Subscriber> {
    let received = connection.nats().subscribe("examples.received").await?;
    let consumer = r#"{"stream_name": "EXAMPLE_SYNC", "config": {
        "deliver_subject": "examples.received", "deliver_policy": "all", "ack_policy": "none"}}"#;
    let pool = Pool::new(connection.clone());
    pool.request("$JS.API.CONSUMER.CREATE.EXAMPLE_SYNC", consumer).await?;
    Ok(received)
}
