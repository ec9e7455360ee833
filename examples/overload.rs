//! More calls than a service can serve: so many run, so many wait, and the others are refused at once. Their callers take what
//! they have, or ask again. `cargo xtask nats up`, then `NATS_URL=… cargo run -p examples --example overload`.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::time::Duration;

use natstream::{Code, ConnectConfig, Connection, Pool, RequestError, RequestErrorKind, RetryPolicy, Server};
use tokio::sync::watch;
use tokio::task::JoinSet;

const CALLS: usize = 10;

/// A report, fresh if the service has the time, and else the one of yesterday.
async fn report(pool: Pool) -> Result<&'static str, RequestError> {
    let report = pool
        .request_stream("examples.overload", "")
        .await?
        .collect_all(1 << 20)
        .await;
    match report {
        Ok(_items) => Ok("fresh"),
        // Certainly not processed. `retry_after` in the status says when it is worth asking again.
        Err(error)
            if error.kind() == RequestErrorKind::Refused
                && error
                    .status()
                    .is_some_and(|status| status.code == Code::ResourceExhausted) =>
        {
            Ok("yesterday's")
        }
        Err(error) => Err(error),
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let url = std::env::var("NATS_URL").unwrap_or_else(|_| "nats://127.0.0.1:4222".to_owned());
    let connection = Connection::connect(ConnectConfig::new(url)).await?;
    let server = Server::new(connection.clone());
    // The service stands still until it is let go, so that the calls pile up.
    let (go, is_let_go) = watch::channel(false);
    let endpoint = server
        .on("examples.overload", move |_request, mut out| {
            let mut is_let_go = is_let_go.clone();
            async move {
                // An error would mean that the example has ended.
                let _ = is_let_go.wait_for(|go| *go).await;
                Ok(out.send("report").await?)
            }
        })
        .max_concurrent(2)
        .max_queued(3)
        .retry_after(Duration::from_millis(20))
        .await?;

    let pool = Pool::new(connection);
    let mut reports: JoinSet<_> = (0..CALLS).map(|_| report(pool.clone())).collect();
    let (mut fresh, mut old) = (0, 0);
    while let Some(report) = reports.join_next().await {
        match report?? {
            "fresh" => fresh += 1,
            _ => old += 1,
        }
        if fresh == 0 && old == CALLS - 5 {
            // All are refused for which there is no room. The others wait.
            println!("so far {fresh} fresh reports, {old} of yesterday");
            go.send_replace(true);
        }
    }
    println!("in the end {fresh} fresh reports, {old} of yesterday");
    println!(
        "refused calls have cost nothing: {} handlers were begun",
        endpoint.stats().begun
    );

    // Who can wait asks again: a retry waits as long as the service says, and its pauses grow.
    let patient = RetryPolicy::exponential_between(20, Duration::from_millis(10), Duration::from_millis(200));
    let mut calls = JoinSet::new();
    for _ in 0..CALLS {
        let request = pool.request_stream("examples.overload", "").retry(patient.clone());
        calls.spawn(async move { request.await?.collect_all(1 << 20).await });
    }
    let mut complete = 0;
    while let Some(call) = calls.join_next().await {
        call??;
        complete += 1;
    }
    println!("with patience {complete} of {CALLS} are fresh");
    server.drain(Duration::from_secs(5)).await;
    Ok(())
}
