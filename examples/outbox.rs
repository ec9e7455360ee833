//! Events that outlive the process: accepted while there is no server, from a process that is killed with SIGKILL, and delivered
//! once each by the next one. The program starts itself as the first one.
//! `cargo xtask nats up`, then `NATS_URL=… cargo run -p examples --example outbox`.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use natstream::eventbus::topology::Storage;
use natstream::{ConnectConfig, Connection, Event, Outbox, StreamSpec, Topology};

const STREAM: &str = "EXAMPLE_OUTBOX";
const EVENTS: u64 = 1000;

/// The process that is killed. It has no connection, and needs none.
async fn accept(dir: &Path) -> anyhow::Result<()> {
    let outbox = Outbox::builder(dir).open().await?;
    for number in 0..EVENTS {
        // In the files when this returns. With `SpoolLevel::Power` it is on the disk, too.
        outbox.enqueue(Event::json("examples.outbox", &number)).await?;
    }
    println!("{}", outbox.stats().accepted);
    std::future::pending().await
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    if let Some(dir) = std::env::args().nth(1) {
        return accept(Path::new(&dir)).await;
    }
    let url = std::env::var("NATS_URL").unwrap_or_else(|_| "nats://127.0.0.1:4222".to_owned());
    let dir = std::env::temp_dir().join(format!("natstream-outbox-{}", std::process::id()));
    let mut process = Command::new(std::env::current_exe()?)
        .arg(&dir)
        .stdout(Stdio::piped())
        .spawn()?;
    let mut accepted = String::new();
    if let Some(output) = process.stdout.take() {
        BufReader::new(output).read_line(&mut accepted)?;
    }
    // SIGKILL: it has no time to do anything.
    process.kill()?;
    process.wait()?;
    println!("{} events were accepted without a server", accepted.trim());

    let connection = Connection::connect(ConnectConfig::new(url)).await?;
    let topology = Topology::new(connection.clone());
    topology
        .ensure(&StreamSpec::new(STREAM, ["examples.outbox"]).storage(Storage::Memory))
        .await?;
    let outbox = Outbox::builder(&dir).open().await?;
    println!("{} were found", outbox.stats().found);
    // A program that can start without a server says `outbox.connect(config)`: it connects as soon as that is possible.
    outbox.deliver_by(connection);
    outbox.flush(Duration::from_secs(30)).await?;
    let stats = outbox.stats();
    println!("{} delivered, {} left", stats.acked, stats.spooled);
    println!("{} messages in the stream", topology.info(STREAM).await?.messages);

    outbox.close(Duration::from_secs(5)).await?;
    topology.delete(STREAM).await?;
    std::fs::remove_dir_all(dir)?;
    Ok(())
}
