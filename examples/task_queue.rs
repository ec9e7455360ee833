//! A queue of tasks and several workers: each task is done by one of them, and stays until it is done.
//! `cargo run -p examples --example task_queue`.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::collections::BTreeSet;
use std::time::Duration;

use natstream::eventbus::topology::{Retention, Storage};
use natstream::eventbus::{HandlerError, Message};
use natstream::{Bus, ConnectConfig, Connection, Consumer, ConsumerSpec, Event, StreamSpec, Topology};
use tokio::sync::mpsc::{self, UnboundedSender};
use tokio::task::JoinSet;

const TASKS: u64 = 100;

/// One worker; in earnest each is a process of its own. All have the same durable consumer, and share its messages.
async fn worker(connection: Connection) -> anyhow::Result<Consumer> {
    // A worker that dies gives its tasks to others after this time. One that is at work says so.
    let spec = ConsumerSpec::new("EXAMPLE_TASKS", "workers").ack_wait(Duration::from_secs(10));
    let consumer = Consumer::builder(connection, spec)
        .concurrency(4)
        // Nothing waits here for a free hand while another worker has one.
        .prefetch(4)
        .open()
        .await?;
    Ok(consumer)
}

async fn work(name: usize, task: Message, done: UnboundedSender<(usize, u64)>) -> Result<(), HandlerError> {
    let number: u64 = task.json()?;
    if number.is_multiple_of(10) && task.attempt() == 1 {
        // It comes again after a pause, to this worker or to another one.
        return Err(HandlerError::retry("the service is busy"));
    }
    tokio::time::sleep(Duration::from_millis(2)).await;
    let _ = done.send((name, number));
    Ok(())
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let url = std::env::var("NATS_URL").unwrap_or_else(|_| "nats://127.0.0.1:4222".to_owned());
    let connection = Connection::connect(ConnectConfig::new(url)).await?;
    let topology = Topology::new(connection.clone());
    let stream = StreamSpec::new("EXAMPLE_TASKS", ["examples.tasks.>"])
        .storage(Storage::Memory)
        // A task that is done leaves the stream.
        .retention(Retention::WorkQueue);
    topology.ensure(&stream).await?;
    let bus = Bus::open(connection.clone()).await?;
    let tasks = (0..TASKS).map(|number| Event::json("examples.tasks.resize", &number));
    anyhow::ensure!(bus.publish_batch(tasks).await.is_complete(), "tasks were not published");

    let (done, mut results) = mpsc::unbounded_channel();
    let (mut running, mut workers) = (JoinSet::new(), Vec::new());
    for name in 0..3 {
        let worker = worker(connection.clone()).await?;
        workers.push(worker.clone());
        let done = done.clone();
        running.spawn(async move { worker.for_each(move |task| work(name, task, done.clone())).await });
    }
    let (mut tasks, mut busy) = (BTreeSet::new(), BTreeSet::new());
    while tasks.len() < TASKS as usize
        && let Some((worker, task)) = results.recv().await
    {
        tasks.insert(task);
        busy.insert(worker);
    }
    println!(
        "{} tasks done, by more than one worker: {}",
        tasks.len(),
        busy.len() > 1
    );

    // The end: what runs is finished and acked.
    workers.iter().for_each(Consumer::drain);
    while let Some(ended) = running.join_next().await {
        ended??;
    }
    println!("{} tasks are left", topology.info("EXAMPLE_TASKS").await?.messages);
    topology.delete("EXAMPLE_TASKS").await?;
    Ok(())
}
