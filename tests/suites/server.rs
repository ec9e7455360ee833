//! Queue groups, wildcards, foreign callers, draining.

use std::sync::Arc;
use std::time::Duration;

use integration::{LIMIT, Peers, connection};
use natstream::{Code, Pool, RequestErrorKind, ResponseSender, Server};
use testkit::{shared_url, unique_subject, within};
use tokio::sync::{Barrier, watch};

/// Serves `subject` with a handler that says who it is.
async fn member(subject: &str, name: &'static str, group: &str) -> Server {
    let server = Server::new(connection(shared_url()).await);
    let endpoint = server
        .on(subject, move |_request, mut out: ResponseSender| async move {
            out.send(name).await?;
            Ok(())
        })
        .queue_group(group);
    within(LIMIT, endpoint).await.expect("served");
    server
}

#[tokio::test]
async fn one_member_of_a_queue_group_answers() {
    let subject = unique_subject("group");
    let _a = member(&subject, "a", "workers").await;
    let _b = member(&subject, "b", "workers").await;
    let pool = Pool::new(connection(shared_url()).await);
    let mut seen = std::collections::BTreeMap::<String, u32>::new();
    for _ in 0..100 {
        let responses = within(LIMIT, pool.request_stream(&subject, "")).await.expect("sent");
        let items = within(LIMIT, responses.collect_all(1024)).await.expect("complete");
        assert_eq!(items.len(), 1, "one member answers, once");
        *seen.entry(String::from_utf8_lossy(&items[0]).into_owned()).or_default() += 1;
    }
    assert_eq!(seen.len(), 2, "both members got calls: {seen:?}");
}

#[tokio::test]
async fn without_a_common_group_the_caller_takes_one_answer() {
    let subject = unique_subject("group");
    let _a = member(&subject, "a", "one").await;
    let _b = member(&subject, "b", "other").await;
    let pool = Pool::new(connection(shared_url()).await);
    for _ in 0..50 {
        let responses = within(LIMIT, pool.request_stream(&subject, "")).await.expect("sent");
        let items = within(LIMIT, responses.collect_all(1024)).await.expect("complete");
        assert_eq!(items.len(), 1, "answers of two responders were mixed");
    }
}

#[tokio::test]
async fn a_wildcard_endpoint_knows_what_was_asked() {
    let Peers { pool, server } = Peers::connect().await;
    let subject = unique_subject("wild");
    let handler = |request: natstream::Request, mut out: ResponseSender| async move {
        out.send(request.subject()).await?;
        out.send(request.header("X-Name").unwrap_or("none")).await?;
        Ok(())
    };
    within(LIMIT, server.on(format!("{subject}.*"), handler))
        .await
        .expect("served");
    let request = pool
        .request_stream(format!("{subject}.x"), "")
        .header("X-Name", "value");
    let responses = within(LIMIT, request).await.expect("sent");
    let items = within(LIMIT, responses.collect_all(1024)).await.expect("complete");
    assert_eq!(items, [format!("{subject}.x").as_bytes(), b"value"]);
}

#[tokio::test]
async fn unsubscribing_leaves_nobody_to_answer() {
    let Peers { pool, server } = Peers::connect().await;
    let subject = unique_subject("leave");
    let endpoint = within(LIMIT, server.on(&subject, |_, _| async { Ok(()) }))
        .await
        .expect("served");
    within(LIMIT, endpoint.unsubscribe()).await;
    let mut responses = within(LIMIT, pool.request_stream(&subject, "")).await.expect("sent");
    let error = within(LIMIT, responses.try_next()).await.expect_err("nobody");
    assert_eq!(error.kind(), RequestErrorKind::NoResponders);
}

#[tokio::test]
async fn a_drain_lets_running_calls_end() {
    let Peers { pool, server } = Peers::connect().await;
    let subject = unique_subject("drain");
    let (go_on, wait) = watch::channel(false);
    let handler = move |_request, mut out: ResponseSender| {
        let mut wait = wait.clone();
        async move {
            out.send("first").await?;
            // The sender is dropped at the end of the test only.
            let _ = wait.wait_for(|go_on| *go_on).await;
            out.send("last").await?;
            Ok(())
        }
    };
    within(LIMIT, server.on(&subject, handler)).await.expect("served");
    let mut responses = within(LIMIT, pool.request_stream(&subject, "")).await.expect("sent");
    within(LIMIT, responses.try_next()).await.expect("an item");

    let barrier = Arc::new(Barrier::new(2));
    let drain = tokio::task::spawn({
        let (server, barrier) = (server.clone(), barrier.clone());
        async move {
            barrier.wait().await;
            server.drain(LIMIT).await
        }
    });
    barrier.wait().await;
    // Once nobody answers, the server has left the group; the running call goes on.
    loop {
        let mut probe = within(LIMIT, pool.request_stream(&subject, "")).await.expect("sent");
        match within(LIMIT, probe.try_next()).await.map_err(|error| error.kind()) {
            Err(RequestErrorKind::NoResponders) => break,
            // It was on its way when the server left.
            Ok(_) => {}
            Err(other) => panic!("{other:?}"),
        }
    }
    assert!(!drain.is_finished(), "a call is still running");
    go_on.send_replace(true);
    let last = within(LIMIT, responses.try_next()).await.expect("complete");
    assert_eq!(last.as_deref(), Some(&b"last"[..]));
    assert!(within(LIMIT, responses.try_next()).await.expect("complete").is_none());
    drop(responses);
    let drained = within(LIMIT, drain).await.expect("no panic");
    assert_eq!(drained.aborted, 0);
}

#[tokio::test]
async fn a_drain_ends_what_is_left_as_unavailable() {
    let Peers { pool, server } = Peers::connect().await;
    let subject = unique_subject("drain");
    let handler = |_request, mut out: ResponseSender| async move {
        out.send("first").await?;
        std::future::pending::<()>().await;
        Ok(())
    };
    within(LIMIT, server.on(&subject, handler)).await.expect("served");
    let mut responses = within(LIMIT, pool.request_stream(&subject, "")).await.expect("sent");
    within(LIMIT, responses.try_next()).await.expect("an item");
    let drained = within(LIMIT, server.drain(Duration::from_millis(50))).await;
    assert_eq!(drained.aborted, 1);
    let error = within(LIMIT, responses.try_next()).await.expect_err("ended");
    let status = error.status().expect("a status");
    assert_eq!((status.code, status.retryable), (Code::Unavailable, true));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_waits_for_what_a_caller_has_not_taken_yet() {
    let Peers { pool, server } = Peers::connect().await;
    let subject = unique_subject("drain");
    // The handler returns at once; most of the item waits for credit.
    let handler = |_request, mut out: ResponseSender| async move {
        out.send(vec![1; 4 << 20]).await?;
        Ok(())
    };
    let endpoint = within(LIMIT, server.on(&subject, handler)).await.expect("served");
    let mut responses = within(LIMIT, pool.request_stream(&subject, "")).await.expect("sent");
    while endpoint.stats().active == 0 {
        tokio::task::yield_now().await;
    }
    let drained = within(LIMIT, server.drain(Duration::from_millis(200))).await;
    assert_eq!(drained.aborted, 1, "an unsent answer was left behind without a word");
    let error = within(LIMIT, responses.try_next()).await.expect_err("ended");
    assert_eq!(error.status().map(|status| status.code), Some(Code::Unavailable));
}

#[tokio::test]
async fn a_server_that_was_drained_serves_nothing_more() {
    let Peers { server, .. } = Peers::connect().await;
    within(LIMIT, server.drain(LIMIT)).await;
    let error = within(LIMIT, server.on(unique_subject("late"), |_, _| async { Ok(()) })).await;
    assert!(error.is_err(), "an endpoint that nobody can stop");
}

#[tokio::test]
async fn other_styles_of_handlers_send_the_same_items() {
    let Peers { pool, server } = Peers::connect().await;
    let subject = unique_subject("styles");
    let name = |style: &str| format!("{subject}.{style}");
    within(LIMIT, server.on_items(name("items"), |_| async { Ok(["0", "1", "2"]) }))
        .await
        .expect("served");
    let indexed = |_request, index: u64| async move { Ok((Some(index.to_string()), index < 2)) };
    within(LIMIT, server.on_indexed(name("indexed"), indexed))
        .await
        .expect("served");
    let batches = |_request, index: u64| async move {
        Ok(match index {
            0 => (vec!["0", "1"], true),
            1 => (vec![], true),
            _ => (vec!["2"], false),
        })
    };
    within(LIMIT, server.on_batches(name("batches"), batches))
        .await
        .expect("served");
    let streamed = |_| async { Ok(futures_util::stream::iter(["0", "1", "2"].map(Ok))) };
    within(LIMIT, server.on_stream(name("stream"), streamed))
        .await
        .expect("served");
    for style in ["items", "indexed", "batches", "stream"] {
        let responses = within(LIMIT, pool.request_stream(name(style), "")).await.expect("sent");
        let items = within(LIMIT, responses.collect_all(1024)).await.expect("complete");
        assert_eq!(items, ["0", "1", "2"], "{style}");
    }
}
