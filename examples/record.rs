//! The seeds' `StreamSubscribeWithWriter`: the messages on a subject into files, in a form of one's own.
//! `cargo xtask nats up`, then `NATS_URL=… cargo run -p examples --example record -- [DIR]`; without a directory, one that
//! goes with the program.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::fs;
use std::time::Duration;

use natstream::recorder::RecordedFiles;
use natstream::sinks::{Format, Record};
use natstream::{ConnectConfig, Connection, Pool, Recorder, RollingWriter};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let temporary = std::env::temp_dir().join(format!("natstream-record-{}", std::process::id()));
    let given = std::env::args().nth(1);
    let dir = given.clone().map_or_else(|| temporary.clone(), Into::into);
    let url = std::env::var("NATS_URL").unwrap_or_else(|_| "nats://127.0.0.1:4222".to_owned());
    let connection = Connection::connect(ConnectConfig::new(url)).await?;
    let pool = Pool::new(connection.clone());

    let format = Format::custom(|record: &Record<'_>, out: &mut Vec<u8>| {
        out.extend_from_slice(record.subject_of().unwrap_or_default().as_bytes());
        out.extend_from_slice(b" -> ");
        out.extend_from_slice(record.payload());
        out.push(b'\n');
    });
    let files = RollingWriter::builder(&dir, "events")
        .template("{name}.log")
        .format(format)
        .open()?;
    // What a slow disk leaves no room for is dropped and counted, since NATS waits for nobody.
    let recording = Recorder::new(files)
        .subscribe(&connection, "examples.record.>", None)
        .await?;
    for name in ["Ada", "Grace"] {
        pool.publish("examples.record.user", name).await?;
    }
    pool.flush(Duration::from_secs(5)).await?;
    let end = recording.stop(Duration::from_secs(5)).await?;
    println!("{} events, {} dropped", end.stats.recorded, end.stats.dropped);

    for file in RecordedFiles::list(&dir)?.closed {
        let lines = fs::read_to_string(&file)?.lines().count();
        println!("{}: {lines} lines", file.file_name().unwrap_or_default().display());
    }
    if given.is_none() {
        fs::remove_dir_all(temporary)?;
    }
    Ok(())
}
