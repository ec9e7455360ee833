//! The caller leaves: the handler hears of it.

use std::sync::Arc;

use integration::{LIMIT, Peers};
use natstream::{CloseReason, HandlerError, ResponseSender, SendErrorKind};
use testkit::{unique_subject, within};
use tokio::sync::mpsc;

#[tokio::test]
async fn dropping_the_responses_ends_closed_and_send() {
    let Peers { pool, server } = Peers::connect().await;
    let subject = unique_subject("cancel");
    let (report, mut reports) = mpsc::unbounded_channel();
    let handler = move |_request, mut out: ResponseSender| {
        let report = report.clone();
        async move {
            out.send("one").await?;
            let reason = out.closed().await;
            assert!(out.is_closed());
            let error = out.send("two").await.expect_err("the caller has left");
            let _ = report.send((reason, error));
            Ok::<_, HandlerError>(())
        }
    };
    let endpoint = within(LIMIT, server.on(&subject, handler)).await.expect("served");
    let mut responses = within(LIMIT, pool.request_stream(&subject, "")).await.expect("sent");
    within(LIMIT, responses.try_next()).await.expect("an item");
    drop(responses);
    let (reason, error) = within(LIMIT, reports.recv()).await.expect("the handler's report");
    assert_eq!(reason, CloseReason::Cancelled);
    assert_eq!(
        (error.kind(), error.reason()),
        (SendErrorKind::Closed, Some(CloseReason::Cancelled))
    );
    assert_eq!(endpoint.stats().cancelled, 1);
}

#[tokio::test]
async fn a_call_dropped_before_its_first_item_is_cancelled_too() {
    let Peers { pool, server } = Peers::connect().await;
    let subject = unique_subject("cancel");
    let (report, mut reports) = mpsc::unbounded_channel();
    let handler = move |_request, out: ResponseSender| {
        let report = report.clone();
        async move {
            let _ = report.send(None);
            let _ = report.send(Some(out.closed().await));
            Ok(())
        }
    };
    within(LIMIT, server.on(&subject, handler)).await.expect("served");
    let responses = within(LIMIT, pool.request_stream(&subject, "")).await.expect("sent");
    assert_eq!(within(LIMIT, reports.recv()).await, Some(None), "the handler runs");
    drop(responses);
    let closed = within(LIMIT, reports.recv()).await.expect("a report");
    assert_eq!(closed, Some(CloseReason::Cancelled));
}

#[tokio::test]
async fn for_each_cancels_when_it_breaks() {
    let Peers { pool, server } = Peers::connect().await;
    let subject = unique_subject("cancel");
    let (report, mut reports) = mpsc::unbounded_channel();
    let handler = move |_request, mut out: ResponseSender| {
        let report = report.clone();
        async move {
            let mut sent = 0u64;
            let error = loop {
                match out.send(sent.to_string()).await {
                    Ok(()) => sent += 1,
                    Err(error) => break error,
                }
            };
            let _ = report.send(error.kind());
            Ok(())
        }
    };
    within(LIMIT, server.on(&subject, handler)).await.expect("served");
    let responses = within(LIMIT, pool.request_stream(&subject, "")).await.expect("sent");
    let mut seen = Vec::new();
    let each = responses.for_each(|item| {
        seen.push(item);
        if seen.len() == 10 {
            std::ops::ControlFlow::Break(())
        } else {
            std::ops::ControlFlow::Continue(())
        }
    });
    within(LIMIT, each).await.expect("breaking is no failure");
    assert_eq!(seen.len(), 10);
    assert_eq!(within(LIMIT, reports.recv()).await, Some(SendErrorKind::Closed));
}

#[tokio::test]
async fn a_cancelled_call_gives_its_place_back() {
    let Peers { pool, server } = Peers::connect().await;
    let subject = unique_subject("cancel");
    let ended = Arc::new(tokio::sync::Semaphore::new(0));
    let handler = {
        let ended = ended.clone();
        move |_request, out: ResponseSender| {
            let ended = ended.clone();
            async move {
                let permit = scopeguard(ended);
                out.closed().await;
                drop(permit);
                Ok(())
            }
        }
    };
    let endpoint = within(LIMIT, server.on(&subject, handler).max_concurrent(1))
        .await
        .expect("served");
    for _ in 0..3 {
        let mut responses = within(LIMIT, pool.request_stream(&subject, "")).await.expect("sent");
        // The first message comes within 200 ms, without an item.
        let waited = tokio::time::timeout(std::time::Duration::from_millis(400), responses.try_next()).await;
        assert!(waited.is_err(), "the call was refused or ended: {waited:?}");
        drop(responses);
        within(LIMIT, ended.acquire()).await.expect("open").forget();
        // The handler's future is gone; its task gives the place back right after.
        let free = async {
            while endpoint.stats().active > 0 {
                tokio::task::yield_now().await;
            }
        };
        within(LIMIT, free).await;
    }
    assert_eq!(endpoint.stats().refused, 0);
}

#[tokio::test]
async fn what_a_handler_waits_for_is_dropped_when_the_caller_leaves() {
    let Peers { pool, server } = Peers::connect().await;
    let subject = unique_subject("cancel");
    let dropped = Arc::new(tokio::sync::Semaphore::new(0));
    let (report, mut reports) = mpsc::unbounded_channel();
    let handler = {
        let dropped = dropped.clone();
        move |_request, mut out: ResponseSender| {
            let (dropped, report) = (dropped.clone(), report.clone());
            async move {
                out.send(out.until_closed(async { "one" }).await?).await?;
                let guard = scopeguard(dropped);
                let endless = async move {
                    let _guard = guard;
                    std::future::pending::<()>().await;
                };
                let error = out.until_closed(endless).await.expect_err("the caller has left");
                // Not even what is ready goes on.
                let late = out
                    .until_closed(async { "two" })
                    .await
                    .expect_err("the caller has left");
                let _ = report.send([error.clone(), late]);
                Err(error.into())
            }
        }
    };
    let endpoint = within(LIMIT, server.on(&subject, handler)).await.expect("served");
    let mut responses = within(LIMIT, pool.request_stream(&subject, "")).await.expect("sent");
    within(LIMIT, responses.try_next()).await.expect("an item");
    assert_eq!(dropped.available_permits(), 0);
    drop(responses);
    within(LIMIT, dropped.acquire()).await.expect("open").forget();
    for error in within(LIMIT, reports.recv()).await.expect("the handler's report") {
        assert_eq!(
            (error.kind(), error.reason()),
            (SendErrorKind::Closed, Some(CloseReason::Cancelled))
        );
    }
    let stats = || async { endpoint.stats() };
    testkit::settles_where(LIMIT, stats, |stats| stats.active == 0).await;
    // It was the caller who ended it, whatever the handler returns then.
    assert_eq!((endpoint.stats().cancelled, endpoint.stats().failed), (1, 0));
}

/// Adds a permit when dropped.
fn scopeguard(semaphore: Arc<tokio::sync::Semaphore>) -> impl Drop + Send {
    struct Guard(Arc<tokio::sync::Semaphore>);
    impl Drop for Guard {
        fn drop(&mut self) {
            self.0.add_permits(1);
        }
    }
    Guard(semaphore)
}
