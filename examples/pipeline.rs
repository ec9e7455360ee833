//! Streaming extract, transform and load: a handler that is a caller itself, and files at the end. Nobody holds more than a
//! window of it, and who leaves at the end of the pipe stops its beginning.
//! `cargo xtask nats up`, then `NATS_URL=… cargo run -p examples --example pipeline`.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::time::Duration;

use natstream::{
    ConnectConfig, Connection, HandlerError, Pool, Recorder, Request, ResponseSender, RollingWriter, Server,
};
use serde::Serialize;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

/// Readings that one average is of.
const GROUP: u64 = 100;

#[derive(Serialize)]
struct Average {
    group: u64,
    celsius: f64,
}

/// Extract: raw readings of a sensor. Every 50th line is none. It tells how many lines it has sent.
async fn extract(count: u64, mut out: ResponseSender, ended: UnboundedSender<u64>) -> Result<(), HandlerError> {
    for number in 0..count {
        let line = if number % 50 == 49 { "?" } else { "boiler 21.5" };
        if out.send(line).await.is_err() {
            break;
        }
    }
    let _ = ended.send(out.sent());
    Ok(())
}

/// Transform: averages of what is read from the other service, each sent as soon as it is known.
async fn transform(pool: Pool, request: Request, mut out: ResponseSender) -> Result<(), HandlerError> {
    let readings = pool
        .request_stream("examples.etl.extract", request.payload().clone())
        // What is left of the caller's time.
        .deadline_at(request.deadline());
    // The caller of this handler is told what is wrong with the one behind it.
    let mut readings = readings.await.map_err(HandlerError::upstream)?;
    let (mut sum, mut count, mut group) = (0.0, 0, 0);
    // When the caller leaves, whatever this waits for is dropped, and the call to the extractor with it.
    while let Some(line) = out
        .until_closed(readings.try_next())
        .await?
        .map_err(HandlerError::upstream)?
    {
        let line = String::from_utf8_lossy(&line);
        let Some(celsius) = line.strip_prefix("boiler ").and_then(|text| text.parse::<f64>().ok()) else {
            continue;
        };
        (sum, count) = (sum + celsius, count + 1);
        if count == GROUP {
            let celsius = sum / count as f64;
            // Waits for whoever reads the averages, and so does the extractor.
            out.send_as(&Average { group, celsius }).await?;
            (sum, count, group) = (0.0, 0, group + 1);
        }
    }
    Ok(())
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let url = std::env::var("NATS_URL").unwrap_or_else(|_| "nats://127.0.0.1:4222".to_owned());
    let connection = Connection::connect(ConnectConfig::new(url)).await?;
    let (server, pool) = (Server::new(connection.clone()), Pool::new(connection));
    let (ended, mut has_ended) = unbounded_channel();
    server
        .on_typed("examples.etl.extract", move |count, _request, out| {
            extract(count, out, ended.clone())
        })
        .await?;
    let readings = pool.clone();
    server
        .on("examples.etl.transform", move |request, out| {
            transform(readings.clone(), request, out)
        })
        .await?;

    // Load: into a file, as fast as the disk takes it.
    let dir = std::env::temp_dir().join(format!("natstream-etl-{}", std::process::id()));
    let mut recorder = Recorder::new(RollingWriter::builder(&dir, "averages").open()?);
    let request = pool.request_stream_as("examples.etl.transform", &100_000);
    let mut averages = request.deadline(Duration::from_secs(60)).await?;
    let recorded = recorder.record(&mut averages).await?;
    recorder.close().await?;
    let lines = has_ended.recv().await;
    println!("{} averages of {lines:?} lines", recorded.records);
    std::fs::remove_dir_all(dir)?;

    // More readings than there ever will be, and somebody who wants three averages.
    let mut averages = pool.request_stream_as("examples.etl.transform", &u64::MAX).await?;
    while averages.received() < 3 {
        anyhow::ensure!(averages.try_next().await?.is_some(), "the readings have ended");
    }
    drop(averages);
    println!("the extractor has ended: {}", has_ended.recv().await.is_some());
    server.drain(Duration::from_secs(5)).await;
    Ok(())
}
