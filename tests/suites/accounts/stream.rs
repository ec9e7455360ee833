//! Long streams with pauses.

use std::time::Duration;

use integration::LIMIT;
use integration::numbers::{complete, count, item, rest, sent};
use natstream::{HandlerError, Request, ResponseSender};
use testkit::within;

use crate::Accounts;

/// Shorter than the pauses.
const STREAM_2S: &str = ", response_type: stream, response_threshold: \"2s\"";

/// More items than fit into any window.
const ITEMS: u32 = 100_000;

/// Longer than the threshold after which nats-server forgets a silent stream.
const PAUSE: Duration = Duration::from_millis(2500);

/// Two pauses between its items.
async fn pauses(_: Request, mut out: ResponseSender) -> Result<(), HandlerError> {
    for number in 0..ITEMS {
        if number % 40_000 == 39_999 {
            // sleep: longer than the threshold
            tokio::time::sleep(PAUSE).await;
        }
        out.send(item(number)).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_crosses_accounts_and_outlives_its_threshold() {
    let stage = Accounts::start(STREAM_2S).await;
    within(LIMIT, stage.server.on("svc.pauses", pauses))
        .await
        .expect("served");
    // One whose handler is silent before its first item too: the first message goes out without one.
    let late = |request, out| async move {
        // sleep: longer than the threshold
        tokio::time::sleep(PAUSE).await;
        count(request, out).await
    };
    within(LIMIT, stage.server.on("svc.late", late)).await.expect("served");
    let request = |subject, payload| stage.pool.request_stream(subject, payload);
    tokio::join!(
        complete(request("svc.pauses", ""), ITEMS.into()),
        complete(request("svc.late", "2000"), 2000)
    );
    stage.settled().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_pauses_for_longer_than_the_threshold_loses_nothing() {
    let stage = Accounts::start(STREAM_2S).await;
    within(LIMIT, stage.server.on("svc.count", count))
        .await
        .expect("served");
    let mut responses = sent(stage.pool.request_stream("svc.count", "100000")).await;
    within(LIMIT, responses.try_next()).await.expect("an item");
    // sleep: the responder waits for credit for longer than the threshold
    tokio::time::sleep(PAUSE).await;
    assert_eq!(rest(&mut responses).await.expect("complete"), u64::from(ITEMS));
    stage.settled().await;
}
