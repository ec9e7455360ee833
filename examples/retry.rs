//! Who tries again: the handler, what it asks of others; the caller, what the handler could not do. And what a caller gets whose
//! answer broke off midway. `cargo xtask nats up`, then `NATS_URL=… cargo run -p examples --example retry`.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use natstream::{ConnectConfig, Connection, HandlerError, Pool, ResponseSender, RetryPolicy, Server};
use tokio::time::sleep;

const PAUSE: Duration = Duration::from_millis(10);

/// Somebody else's API, which fails so many times before it works.
struct Upstream {
    failures: AtomicU32,
}

impl Upstream {
    fn failing(times: u32) -> Arc<Self> {
        let failures = AtomicU32::new(times);
        Arc::new(Self { failures })
    }

    async fn ask(&self) -> std::io::Result<&'static str> {
        let left = self
            .failures
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        left.map_or(Ok("fresh"), |_| Err(std::io::ErrorKind::TimedOut.into()))
    }
}

/// Tries three times, with pauses that grow, and leaves the rest to the caller: it may ask another responder.
async fn answer(upstream: Arc<Upstream>, mut out: ResponseSender) -> Result<(), HandlerError> {
    for attempt in 1.. {
        match upstream.ask().await {
            Ok(item) => return Ok(out.send(item).await?),
            Err(error) if attempt == 3 => return Err(HandlerError::unavailable(error).retry_after(PAUSE)),
            // Nobody may be left to wait for it.
            Err(_) if out.is_closed() => break,
            Err(_) => sleep(attempt * PAUSE).await,
        }
    }
    Ok(())
}

/// Sends ten items, but breaks off after four of them so many times.
async fn break_off(breaks: Arc<Upstream>, mut out: ResponseSender) -> Result<(), HandlerError> {
    for number in 0..10 {
        if number == 4 {
            breaks.ask().await.map_err(HandlerError::unavailable)?;
        }
        out.send(number.to_string()).await?;
    }
    Ok(())
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let url = std::env::var("NATS_URL").unwrap_or_else(|_| "nats://127.0.0.1:4222".to_owned());
    let connection = Connection::connect(ConnectConfig::new(url)).await?;
    let server = Server::new(connection.clone());
    let pool = Pool::new(connection);
    let policy = RetryPolicy::fixed(3, PAUSE);

    // Two failures are the handler's business, seven are three calls', and ten are more than anybody has patience for.
    for (name, failures) in [("once", 2), ("thrice", 7), ("hopeless", 100)] {
        let (upstream, subject) = (Upstream::failing(failures), format!("examples.retry.{name}"));
        server
            .on(&subject, move |_request, out| answer(upstream.clone(), out))
            .await?;
        let mut responses = pool.request_stream(subject, "").retry(policy.clone()).await?;
        match responses.try_next().await {
            Ok(item) => println!("{name}: {item:?} on attempt {}", responses.attempt()),
            Err(error) => println!("{name}: {:?} after attempt {}", error.kind(), responses.attempt()),
        }
    }

    // After items were delivered, asking again would deliver them again. So the error is the caller's...
    let subject = "examples.retry.breaks";
    let breaks = Upstream::failing(2);
    server
        .on(subject, move |_request, out| break_off(breaks.clone(), out))
        .await?;
    let mut responses = pool.request_stream(subject, "").retry(policy.clone()).await?;
    let Err(error) = responses.collect_into(&mut Vec::new(), 1 << 20).await else {
        anyhow::bail!("a broken answer looked complete");
    };
    println!(
        "broken: {:?} after {} items, attempt {}",
        error.kind(),
        error.items(),
        responses.attempt()
    );

    // ... unless it says that it begins anew, as the seeds do. `received` and `attempt` tell it that items come again.
    let mut responses = pool.request_stream(subject, "").retry(policy.restart()).await?;
    let mut items = Vec::new();
    while let Some(item) = responses.try_next().await? {
        if responses.received() == 1 {
            items.clear();
        }
        items.push(item);
    }
    println!(
        "from the beginning: {} items on attempt {}",
        items.len(),
        responses.attempt()
    );
    server.drain(Duration::from_secs(5)).await;
    Ok(())
}
