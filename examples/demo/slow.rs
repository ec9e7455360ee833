//! A reader that stops for a while on a large stream: the handler waits for it, and nothing is lost.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::ensure;
use natstream::{HandlerError, Pool, Request, ResponseSender, ServeError, Server};

use super::{Summary, memory};

const SUBJECT: &str = "demo.large";

/// 400,000 items of 1 KiB.
const ITEMS: u64 = 400_000;
const SIZE: usize = 1024;

/// What the handler has sent; both ends are in this process, so the demo can show it.
static SENT: AtomicU64 = AtomicU64::new(0);

pub(super) async fn serve(server: &Server) -> Result<(), ServeError> {
    server.on(SUBJECT, send).await?;
    Ok(())
}

async fn send(_request: Request, mut out: ResponseSender) -> Result<(), HandlerError> {
    let mut item = vec![0; SIZE];
    for number in 0..ITEMS {
        item[..8].copy_from_slice(&number.to_be_bytes());
        out.send(&item).await?;
        SENT.store(number + 1, Ordering::Relaxed);
    }
    Ok(())
}

pub(super) async fn call(pool: &Pool) -> anyhow::Result<Summary> {
    println!(
        "slow reader: {} MiB, read with a pause of 3 s",
        (ITEMS * SIZE as u64) >> 20
    );
    let mut items = pool.request_stream(SUBJECT, "").await?;
    let mut expected = 0u64;
    while let Some(item) = items.try_next().await? {
        ensure!(item[..8] == expected.to_be_bytes(), "item {expected} is missing");
        expected += 1;
        if expected == ITEMS / 4 {
            println!("  {expected} items read, the reader stops");
            tokio::time::sleep(Duration::from_secs(3)).await;
            let ahead = SENT.load(Ordering::Relaxed) - expected;
            println!("  meanwhile the handler got {ahead} items ahead, then waited");
        }
    }
    ensure!(expected == ITEMS, "{expected} of {ITEMS} items");
    let (_, peak) = memory::resident()?;
    println!("  {expected} items, each once, in order; peak memory of both ends together: {peak} MiB");
    Ok(Summary {
        items: expected,
        bytes: expected * SIZE as u64,
        verdict: format!("complete; peak memory {peak} MiB"),
    })
}
