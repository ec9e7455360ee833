//! A streamed answer into files: its handler is as fast as the disk, and nothing is dropped.
//! `cargo xtask nats up`, then `NATS_URL=… cargo run -p examples --example record_answer -- [DIR]`; without a directory, one
//! that goes with the program.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::fs;
use std::time::Duration;

use natstream::recorder::RecordedFiles;
use natstream::sinks::Rotation;
use natstream::{ConnectConfig, Connection, Pool, Recorder, RollingWriter, Server};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let temporary = std::env::temp_dir().join(format!("natstream-answer-{}", std::process::id()));
    let given = std::env::args().nth(1);
    let dir = given.clone().map_or_else(|| temporary.clone(), Into::into);
    let url = std::env::var("NATS_URL").unwrap_or_else(|_| "nats://127.0.0.1:4222".to_owned());
    let connection = Connection::connect(ConnectConfig::new(url)).await?;
    let server = Server::new(connection.clone());
    server
        .on("examples.answer.count", |_request, mut out| async move {
            for number in 1..=1000 {
                out.send(number.to_string()).await?;
            }
            Ok(())
        })
        .await?;

    // A file is closed when it has 1 KiB, and would be at the end of the hour.
    let files = RollingWriter::builder(&dir, "numbers")
        .rotation(Rotation::HOURLY.or_size(1024))
        .open()?;
    let mut recorder = Recorder::new(files);
    let mut answer = Pool::new(connection)
        .request_stream("examples.answer.count", "")
        .await?;
    // An answer that breaks off is an error, after all that had come: nobody takes half of it for the whole.
    let recorded = recorder.record(&mut answer).await?;
    let receipt = recorder.close().await?;
    println!(
        "{} numbers, {} survive a power loss",
        recorded.records, receipt.survive_power_loss
    );

    let files = RecordedFiles::list(&dir)?;
    let mut lines = 0;
    for file in &files.closed {
        lines += fs::read_to_string(file)?.lines().count();
    }
    println!("{lines} lines, in several files: {}", files.closed.len() > 1);
    if given.is_none() {
        fs::remove_dir_all(temporary)?;
    }
    server.drain(Duration::from_secs(5)).await;
    Ok(())
}
