//! Every event of a stream in a file, once, though the process that writes them is killed in the middle, and the next one goes
//! on. The program starts itself as that process.
//! `cargo xtask nats up`, then `NATS_URL=… cargo run -p examples --example exactly_once`.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use natstream::recorder::StreamVerifier;
use natstream::sinks::{Format, Rotation, Sync};
use natstream::{
    Bus, ConnectConfig, Connection, ConsumerSpec, Event, RollingWriter, StreamRecorder, StreamSpec, Topology,
};

const STREAM: &str = "EXAMPLE_ONCE";
const EVENTS: u64 = 20_000;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let url = std::env::var("NATS_URL").unwrap_or_else(|_| "nats://127.0.0.1:4222".to_owned());
    let connection = Connection::connect(ConnectConfig::new(url)).await?;
    if let Some(dir) = std::env::args().nth(1) {
        return record(connection, Path::new(&dir)).await;
    }
    let topology = Topology::new(connection.clone());
    topology.ensure(&StreamSpec::new(STREAM, ["examples.once.>"])).await?;
    let bus = Bus::open(connection.clone()).await?;
    for number in 0..EVENTS {
        bus.enqueue(Event::new("examples.once.event", number.to_string()))
            .await?;
    }
    bus.flush(Duration::from_secs(30)).await?;

    let dir = std::env::temp_dir().join(format!("natstream-once-{}", std::process::id()));
    let mut kills = 0;
    while consumed(&topology).await? < EVENTS {
        let mut recorder = Command::new(std::env::current_exe()?)
            .arg(&dir)
            .stderr(Stdio::null())
            .spawn()?;
        // Until it has acked some: then it is in the middle of the next ones.
        let before = consumed(&topology).await?;
        while consumed(&topology).await? == before && recorder.try_wait()?.is_none() {}
        // With SIGKILL: it has no time to do anything.
        recorder.kill()?;
        recorder.wait()?;
        kills += 1;
    }
    // The last one finds that all is recorded, and closes what was left in progress.
    let status = Command::new(std::env::current_exe()?).arg(&dir).status()?;

    let found = StreamVerifier::new(connection, STREAM).payloads().verify(&dir).await?;
    let recorder = &found.recorders[0];
    println!(
        "killed: {}, events: {EVENTS}, records: {}, missing: {}, different: {}, whole: {}",
        kills > 1 && status.success(),
        found.files.records,
        recorder.missing,
        recorder.differing,
        found.is_whole()
    );
    topology.delete(STREAM).await?;
    std::fs::remove_dir_all(dir)?;
    Ok(())
}

/// Up to which event a recorder has acked: what is acked is in its files.
async fn consumed(topology: &Topology) -> anyhow::Result<u64> {
    // There is no consumer before the first recorder has made one.
    let consumer = topology.consumer(STREAM, "archive").await;
    Ok(consumer.map_or(0, |consumer| consumer.ack_floor))
}

/// The process that is killed. It knows from its files where it is.
async fn record(connection: Connection, dir: &Path) -> anyhow::Result<()> {
    let files = RollingWriter::builder(dir, "events")
        .format(Format::json_lines())
        .rotation(Rotation::HOURLY.or_size(1 << 20))
        .sync(Sync::Commit);
    let recording = StreamRecorder::new(files, "jsonl")
        .slots(2000)
        .idle_timeout(Duration::from_millis(500))
        .record(connection, ConsumerSpec::new(STREAM, "archive"))
        .await?;
    recording.ended().await?;
    Ok(())
}
