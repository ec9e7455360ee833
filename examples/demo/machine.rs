//! Figures of this machine once a second, until the caller has seen enough.

use std::fs;
use std::io;
use std::time::Duration;

use natstream::{HandlerError, Pool, Request, ResponseSender, ServeError, Server};

use super::Summary;

const SUBJECT: &str = "demo.machine";

pub(super) async fn serve(server: &Server) -> Result<(), ServeError> {
    server.on(SUBJECT, watch).await?;
    Ok(())
}

/// Ends only when the caller leaves.
async fn watch(_request: Request, mut out: ResponseSender) -> Result<(), HandlerError> {
    let closed = out.closed();
    tokio::pin!(closed);
    let mut before = cpu_ticks().map_err(HandlerError::internal)?;
    loop {
        tokio::select! {
            reason = &mut closed => {
                println!("  the handler was told: {reason:?}");
                return Ok(());
            }
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
        }
        let now = cpu_ticks().map_err(HandlerError::internal)?;
        let (busy, all) = (now.0 - before.0, (now.1 - before.1).max(1));
        before = now;
        let available = available_memory().map_err(HandlerError::internal)?;
        let line = format!(
            "processors {:>3} % busy, {available} MiB of memory available",
            busy * 100 / all
        );
        out.send(line).await?;
    }
}

/// Ticks that the processors were busy, and all their ticks.
fn cpu_ticks() -> io::Result<(u64, u64)> {
    let stat = fs::read_to_string("/proc/stat")?;
    let line = stat.lines().next().unwrap_or_default();
    let ticks: Vec<u64> = line.split_whitespace().filter_map(|field| field.parse().ok()).collect();
    let all: u64 = ticks.iter().take(8).sum();
    let idle: u64 = ticks.iter().skip(3).take(2).sum();
    Ok((all - idle, all))
}

fn available_memory() -> io::Result<u64> {
    let info = fs::read_to_string("/proc/meminfo")?;
    let line = info.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    Ok(kib.unwrap_or_default() / 1024)
}

pub(super) async fn call(pool: &Pool) -> anyhow::Result<Summary> {
    println!("machine: live figures, until the caller cancels");
    let mut figures = pool.request_stream(SUBJECT, "").await?;
    let mut bytes = 0;
    while let Some(line) = figures.try_next().await? {
        bytes += line.len() as u64;
        println!("  {}", String::from_utf8_lossy(&line));
        if figures.received() == 5 {
            break;
        }
    }
    Ok(Summary {
        items: figures.received(),
        bytes,
        verdict: "cancelled by the caller, as meant".to_owned(),
    })
}
