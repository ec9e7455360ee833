//! Workers that share their messages: each message goes to one of the queue group. Without a stream, what no worker takes is
//! lost; `task_queue` keeps it. `cargo xtask nats up`, then `NATS_URL=… cargo run -p examples --example queue_group`.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use natstream::{ConnectConfig, Connection, Pool, Server};
use tokio::sync::mpsc::unbounded_channel;

const TASKS: usize = 100;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let url = std::env::var("NATS_URL").unwrap_or_else(|_| "nats://127.0.0.1:4222".to_owned());
    let (done, mut results) = unbounded_channel();
    let mut workers = Vec::new();
    for name in ["worker 1", "worker 2", "worker 3"] {
        // In earnest each is a process of its own, so each has its own connection here.
        let connection = Connection::connect(ConnectConfig::new(&url).name(name)).await?;
        let (worker, done) = (Server::new(connection), done.clone());
        worker
            .on_message("examples.queue.tasks", move |task| {
                let done = done.clone();
                async move {
                    // A database that takes four at a time, say.
                    tokio::time::sleep(Duration::from_millis(1)).await;
                    let _ = done.send((name, task.json::<usize>()?));
                    Ok(())
                }
            })
            .queue_group("workers")
            .max_concurrent(4) // others wait, and above `max_queued` they are dropped and counted
            .await?;
        workers.push(worker);
    }

    let pool = Pool::new(Connection::connect(ConnectConfig::new(&url)).await?);
    for task in 0..TASKS {
        pool.publish_as("examples.queue.tasks", &task).await?;
    }
    let (mut tasks, mut shares) = (vec![0; TASKS], BTreeMap::new());
    for _ in 0..TASKS {
        let Some((worker, task)) = results.recv().await else {
            break;
        };
        tasks[task] += 1;
        *shares.entry(worker).or_insert(0) += 1;
    }
    println!("each task once: {}", tasks.iter().all(|times| *times == 1));
    println!("by {} workers: {shares:?}", shares.len());

    // A worker that leaves finishes what it has and what is on its way to it, and the others take the rest: a rolling update
    // loses nothing.
    let leaving = workers.remove(0);
    let publishing = async {
        for task in 0..TASKS {
            pool.publish_as("examples.queue.tasks", &task).await?;
        }
        anyhow::Ok(())
    };
    let (drained, published) = tokio::join!(leaving.drain(Duration::from_secs(5)), publishing);
    published?;
    let mut again = BTreeSet::new();
    while again.len() < TASKS
        && let Some((_worker, task)) = results.recv().await
    {
        again.insert(task);
    }
    println!(
        "{} tasks while a worker left, which has given up {}",
        again.len(),
        drained.messages
    );
    for worker in workers {
        worker.drain(Duration::from_secs(5)).await;
    }
    Ok(())
}
