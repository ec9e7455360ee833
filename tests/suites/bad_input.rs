//! What is wrong works, or gives a typed error that says what was wrong. Nothing panics or hangs.

use std::time::Duration;

use futures_util::StreamExt as _;
use integration::{LIMIT, Peers, connection};
use natstream::async_nats::HeaderMap;
use natstream::{
    Clock, Code, Connection, HandlerError, Pool, Request, RequestErrorKind, ResponseSender, SendErrorKind,
    ServeErrorKind, Server,
};
use testkit::{NatsServer, unique_subject, within};
use tokio::sync::mpsc;

#[tokio::test]
async fn subjects_that_cannot_be_are_refused_before_anything_is_sent() {
    let Peers { pool, server } = Peers::connect().await;
    for subject in ["", "a b", "a..b", ".a", "a.", "a.*", "a.>", "a\r\nPUB b 0", "a\tb"] {
        let error = within(LIMIT, pool.request_stream(subject, ""))
            .await
            .expect_err(subject);
        assert_eq!(error.kind(), RequestErrorKind::InvalidRequest, "{subject:?}");
    }
    for subject in ["", "a b", "a..b", "a.>.b"] {
        let error = within(LIMIT, server.on(subject, |_, _| async { Ok(()) }))
            .await
            .expect_err(subject);
        assert_eq!(error.kind(), ServeErrorKind::InvalidConfig, "{subject:?}");
    }
    let spaces = server.on("fine", |_, _| async { Ok(()) }).queue_group("a b");
    let error = within(LIMIT, spaces).await.expect_err("a group with a blank");
    assert_eq!(error.kind(), ServeErrorKind::InvalidConfig);
}

#[tokio::test]
async fn a_request_larger_than_max_payload_is_refused_and_the_connection_lives() {
    let nats = NatsServer::builder().config("max_payload: 8192").start().await;
    let Peers { pool, server } = Peers::connect_to(&nats.url()).await;
    let subject = unique_subject("bad");
    within(LIMIT, server.on(&subject, |_, _| async { Ok(()) }))
        .await
        .expect("served");
    // The headers count too.
    for size in [8192, 8150, 1 << 20] {
        let error = within(LIMIT, pool.request_stream(&subject, vec![0; size]))
            .await
            .expect_err("too large");
        assert_eq!(error.kind(), RequestErrorKind::InvalidRequest, "{size}");
    }
    let mut responses = within(LIMIT, pool.request_stream(&subject, vec![0; 8000]))
        .await
        .expect("sent");
    assert!(within(LIMIT, responses.try_next()).await.expect("complete").is_none());
    assert_eq!(
        pool.connection().expect("one connection").state().borrow().epoch,
        1,
        "the connection was closed"
    );
}

#[tokio::test]
async fn headers_that_nobody_could_read_are_refused() {
    let Peers { pool, .. } = Peers::connect().await;
    for (name, value) in [
        ("", "x"),
        ("a b", "x"),
        ("Nats-Msg-Id", "x"),
        ("natstream", "1"),
        ("Größe", "1"),
        ("x", "a\nb"),
        ("x", "ü"),
    ] {
        let request = pool.request_stream("any", "").header(name, value);
        let error = within(LIMIT, request).await.expect_err(name);
        assert_eq!(error.kind(), RequestErrorKind::InvalidRequest, "{name}: {value}");
    }
}

/// Items of every awkward size come out as they went in, however small the server's messages are.
async fn sizes_arrive(url: &str) {
    let Peers { pool, server } = Peers::connect_to(url).await;
    let subject = unique_subject("sizes");
    const SIZES: [usize; 12] = [0, 1, 63, 64, 0, 4095, 4096, 8192, 65_535, 65_536, 1 << 20, 3 << 20];
    let handler = |_request, mut out: ResponseSender| async move {
        for (seed, size) in SIZES.into_iter().enumerate() {
            out.send(item(seed, size)).await?;
        }
        Ok(())
    };
    within(LIMIT, server.on(&subject, handler)).await.expect("served");
    let mut responses = within(LIMIT, pool.request_stream(&subject, "")).await.expect("sent");
    for (seed, size) in SIZES.into_iter().enumerate() {
        let received = within(LIMIT, responses.try_next())
            .await
            .expect("complete")
            .expect("an item");
        assert!(received == item(seed, size), "the item of {size} bytes differs");
    }
    assert!(within(LIMIT, responses.try_next()).await.expect("complete").is_none());
}

/// Bytes that are no UTF-8 and differ from place to place.
fn item(seed: usize, size: usize) -> Vec<u8> {
    (0..size)
        .map(|at| (at.wrapping_mul(31) ^ seed ^ (at >> 8)) as u8 | 0x80)
        .collect()
}

#[tokio::test]
async fn items_of_every_size_arrive() {
    sizes_arrive(testkit::shared_url()).await;
}

#[tokio::test]
async fn items_of_every_size_arrive_through_small_messages() {
    let nats = NatsServer::builder().config("max_payload: 4096").start().await;
    sizes_arrive(&nats.url()).await;
}

/// A failure arrives with its text however long that is, and however small the server's messages are.
async fn long_failure_arrives(url: &str, message: usize) {
    let Peers { pool, server } = Peers::connect_to(url).await;
    let subject = unique_subject("failure");
    let handler = move |_request, mut out: ResponseSender| async move {
        out.send([1; 1850]).await?;
        Err(HandlerError::internal("x".repeat(message)))
    };
    within(LIMIT, server.on(&subject, handler)).await.expect("served");
    let mut responses = within(LIMIT, pool.request_stream(&subject, "")).await.expect("sent");
    within(LIMIT, responses.try_next()).await.expect("the item before it");
    let error = within(LIMIT, responses.try_next()).await.expect_err("the failure");
    assert_eq!(error.kind(), RequestErrorKind::Failed);
    let text = &error.status().expect("a status").message;
    assert!(text.len() >= message.min(1000), "{} bytes of {message}", text.len());
}

#[tokio::test]
async fn a_failure_with_a_long_text_arrives() {
    long_failure_arrives(testkit::shared_url(), 1 << 20).await;
    let nats = NatsServer::builder().config("max_payload: 4096").start().await;
    long_failure_arrives(&nats.url(), 3500).await;
}

#[tokio::test]
async fn the_largest_item_arrives_when_the_handler_returns_at_once() {
    let Peers { pool, server } = Peers::connect().await;
    let subject = unique_subject("largest");
    let handler = |_request, mut out: ResponseSender| async move {
        out.send(vec![1; 16 << 20]).await?;
        Ok(())
    };
    within(LIMIT, server.on(&subject, handler)).await.expect("served");
    let mut responses = within(LIMIT, pool.request_stream(&subject, "")).await.expect("sent");
    let item = within(LIMIT, responses.try_next())
        .await
        .expect("complete")
        .expect("an item");
    assert_eq!(item.len(), 16 << 20);
    assert!(within(LIMIT, responses.try_next()).await.expect("complete").is_none());
}

#[tokio::test]
async fn an_item_of_64_mib_arrives_when_both_sides_allow_it() {
    let Peers { pool, server } = Peers::connect().await;
    let subject = unique_subject("largest");
    let handler = |_request, mut out: ResponseSender| async move {
        out.send(vec![1; 64 << 20]).await?;
        Ok(())
    };
    let endpoint = server.on(&subject, handler).max_item(64 << 20);
    within(LIMIT, endpoint).await.expect("served");
    let request = pool.request_stream(&subject, "").max_item(64 << 20);
    let mut responses = within(LIMIT, request).await.expect("sent");
    let item = within(LIMIT, responses.try_next())
        .await
        .expect("complete")
        .expect("an item");
    assert_eq!(item.len(), 64 << 20);
}

#[tokio::test]
async fn a_limit_on_all_items_counts_empty_ones_too() {
    let Peers { pool, server } = Peers::connect().await;
    let subject = unique_subject("limit");
    let handler = |_request, mut out: ResponseSender| async move {
        for _ in 0..10_000 {
            out.send("").await?;
        }
        Ok(())
    };
    within(LIMIT, server.on(&subject, handler)).await.expect("served");
    let responses = within(LIMIT, pool.request_stream(&subject, "")).await.expect("sent");
    let error = within(LIMIT, responses.collect_all(1024)).await.expect_err("too much");
    assert_eq!(error.kind(), RequestErrorKind::Cancelled);
}

#[tokio::test]
async fn an_item_above_the_limit_is_an_error_of_send_and_the_stream_goes_on() {
    let Peers { pool, server } = Peers::connect().await;
    let subject = unique_subject("bad");
    let (report, mut reports) = mpsc::unbounded_channel();
    let handler = move |_request, mut out: ResponseSender| {
        let report = report.clone();
        async move {
            let error = out.send(vec![0; 1001]).await.expect_err("too large");
            let _ = report.send(error.kind());
            out.send(vec![0; 1000]).await?;
            Ok::<_, HandlerError>(())
        }
    };
    within(LIMIT, server.on(&subject, handler)).await.expect("served");
    let request = pool.request_stream(&subject, "").max_item(1000);
    let mut responses = within(LIMIT, request).await.expect("sent");
    let item = within(LIMIT, responses.try_next())
        .await
        .expect("complete")
        .expect("an item");
    assert_eq!(item.len(), 1000);
    let kind = within(LIMIT, reports.recv()).await.expect("a report");
    assert!(
        matches!(
            kind,
            SendErrorKind::TooLarge {
                size: 1001,
                max: 1000,
                ..
            }
        ),
        "{kind:?}"
    );
}

#[tokio::test]
async fn calls_above_the_limit_are_refused_at_once() {
    let Peers { pool, server } = Peers::connect().await;
    let subject = unique_subject("limit");
    let handler = |_request, mut out: ResponseSender| async move {
        out.send("in").await?;
        out.closed().await;
        Ok(())
    };
    let endpoint = within(LIMIT, server.on(&subject, handler).max_concurrent(2))
        .await
        .expect("served");
    let mut running = Vec::new();
    for _ in 0..2 {
        let mut responses = within(LIMIT, pool.request_stream(&subject, "")).await.expect("sent");
        within(LIMIT, responses.try_next()).await.expect("an item");
        running.push(responses);
    }
    let mut third = within(LIMIT, pool.request_stream(&subject, "")).await.expect("sent");
    let error = within(LIMIT, third.try_next()).await.expect_err("refused");
    assert_eq!(error.kind(), RequestErrorKind::Refused);
    assert!(error.is_retryable());
    let status = error.status().expect("a status");
    assert_eq!((status.code, status.not_processed), (Code::ResourceExhausted, true));
    assert_eq!((endpoint.stats().active, endpoint.stats().refused), (2, 1));
}

#[tokio::test]
async fn the_three_clocks_say_which_ran_out() {
    let Peers { pool, server } = Peers::connect().await;
    let subject = unique_subject("clocks");
    let handler = |request: Request, mut out: ResponseSender| async move {
        if request.payload() == "one" {
            out.send("one").await?;
        }
        out.closed().await;
        Ok(())
    };
    within(LIMIT, server.on(&subject, handler)).await.expect("served");
    let short = Duration::from_millis(50);
    for (request, clock) in [
        (
            pool.request_stream(&subject, "").first_item_timeout(short),
            Clock::FirstItem,
        ),
        (pool.request_stream(&subject, "one").idle_timeout(short), Clock::Idle),
        (pool.request_stream(&subject, "one").deadline(short), Clock::Deadline),
    ] {
        let mut responses = within(LIMIT, request).await.expect("sent");
        let error = loop {
            match within(LIMIT, responses.try_next()).await {
                Ok(item) => assert!(item.is_some(), "an endless call ended"),
                Err(error) => break error,
            }
        };
        assert_eq!((error.kind(), error.clock()), (RequestErrorKind::Timeout, Some(clock)));
    }
}

#[tokio::test]
async fn the_idle_clock_stands_still_while_nobody_waits() {
    let Peers { pool, server } = Peers::connect().await;
    let subject = unique_subject("clocks");
    let go_on = std::sync::Arc::new(tokio::sync::Notify::new());
    let handler = {
        let go_on = go_on.clone();
        move |_request, mut out: ResponseSender| {
            let go_on = go_on.clone();
            async move {
                out.send("1").await?;
                go_on.notified().await;
                out.send("2").await?;
                Ok(())
            }
        }
    };
    within(LIMIT, server.on(&subject, handler)).await.expect("served");
    let request = pool
        .request_stream(&subject, "")
        .idle_timeout(Duration::from_millis(300));
    let mut responses = within(LIMIT, request).await.expect("sent");
    within(LIMIT, responses.try_next()).await.expect("an item");
    let short = tokio::time::timeout(Duration::from_millis(50), responses.try_next());
    assert!(short.await.is_err(), "nothing comes yet");
    // sleep: longer than the clock, which must not run meanwhile
    tokio::time::sleep(Duration::from_millis(600)).await;
    go_on.notify_one();
    let item = within(LIMIT, responses.try_next())
        .await
        .expect("the clock stood still");
    assert_eq!(item.as_deref(), Some(&b"2"[..]));
}

#[tokio::test]
async fn any_length_of_time_is_taken() {
    let Peers { pool, .. } = Peers::connect().await;
    let request = pool
        .request_stream(unique_subject("nobody"), "")
        .connect_timeout(Duration::MAX)
        .first_item_timeout(Duration::MAX)
        .idle_timeout(Duration::MAX)
        .deadline(Duration::MAX);
    let mut responses = within(LIMIT, request).await.expect("sent");
    let error = within(LIMIT, responses.try_next()).await.expect_err("nobody");
    assert_eq!(error.kind(), RequestErrorKind::NoResponders);
}

#[tokio::test]
async fn a_closed_connection_is_an_error_and_no_hang() {
    let url = testkit::shared_url();
    let connection = connection(url).await;
    let (pool, server) = (Pool::new(connection.clone()), Server::new(connection.clone()));
    within(LIMIT, connection.close(LIMIT)).await.expect("closed");
    let error = within(LIMIT, pool.request_stream("any", "")).await.expect_err("closed");
    assert_eq!(error.kind(), RequestErrorKind::Connection);
    let error = within(LIMIT, server.on("any", |_, _| async { Ok(()) }))
        .await
        .expect_err("closed");
    assert_eq!(error.kind(), ServeErrorKind::Connection);
}

#[tokio::test]
async fn a_server_never_answers_to_a_subject_that_it_serves() {
    let (subject, elsewhere) = (unique_subject("served"), unique_subject("elsewhere"));
    let server = Server::builder(connection(testkit::shared_url()).await)
        .reply_prefix(subject.clone())
        .reply_prefix(elsewhere.clone())
        .build();
    let echo = |request: Request, mut out: ResponseSender| async move {
        out.send(request.payload()).await?;
        Ok(())
    };
    let endpoint = within(LIMIT, server.on(&subject, echo)).await.expect("served");
    let caller = connection(testkit::shared_url()).await;
    let nats = caller.nats();
    let mut answers = within(LIMIT, nats.subscribe(elsewhere.clone()))
        .await
        .expect("subscribed");
    for reply in [&subject, &elsewhere] {
        let mut headers = HeaderMap::new();
        headers.insert("Natstream", "1;w=65536");
        nats.publish_with_reply_and_headers(subject.clone(), reply.clone(), headers, "x".into())
            .await
            .expect("sent");
    }
    // The second request is answered, and it came after the first.
    within(LIMIT, answers.next()).await.expect("an answer");
    let stats = endpoint.stats();
    assert_eq!((stats.requests, stats.refused_subjects), (2, 1));
}

#[tokio::test]
async fn strays_are_counted_and_told_on_both_sides() {
    let Peers { pool, server } = Peers::connect().await;
    let subject = unique_subject("stray");
    let endpoint = within(LIMIT, server.on(&subject, |_, _| async { Ok(()) }))
        .await
        .expect("served");
    let responses = within(LIMIT, pool.request_stream(&subject, "")).await.expect("sent");
    within(LIMIT, responses.collect_all(10)).await.expect("complete");
    assert_eq!((pool.stats().attempts, pool.stats().items), (1, 0));
    assert_eq!(endpoint.stats().finished, 1);

    // What a caller asks for a stream that is over gets a RESET.
    let stranger = connection(testkit::shared_url()).await;
    let nats = stranger.nats();
    let inbox = nats.new_inbox();
    let mut answers = within(LIMIT, nats.subscribe(inbox.clone())).await.expect("subscribed");
    let state = [&[0xfe, 0x11, 0, 0, 0, 7, 0, 0][..], &[0x40, 100]].concat();
    let control = format!(
        "{}.1234567890123456789012",
        control_prefix(&server, &subject, &stranger).await
    );
    nats.publish_with_reply(control, inbox, state.into())
        .await
        .expect("sent");
    let answer = within(LIMIT, answers.next()).await.expect("an answer");
    assert_eq!(answer.payload[..], [0xfe, 0x03, 0, 0, 0, 7]);
    assert_eq!((server.stats().strays, server.stats().resets), (1, 1));
}

/// What the control subjects of `server` begin with, as a caller sees it.
async fn control_prefix(server: &Server, near: &str, stranger: &Connection) -> String {
    let subject = format!("{near}.control");
    let hold = |_request, mut out: ResponseSender| async move {
        out.send("x").await?;
        out.closed().await;
        Ok(())
    };
    within(LIMIT, server.on(&subject, hold)).await.expect("served");
    let nats = stranger.nats();
    let inbox = nats.new_inbox();
    let mut answers = within(LIMIT, nats.subscribe(inbox.clone())).await.expect("subscribed");
    let mut headers = HeaderMap::new();
    headers.insert("Natstream", "1;w=65536");
    nats.publish_with_reply_and_headers(subject, inbox, headers, "".into())
        .await
        .expect("sent");
    let first = within(LIMIT, answers.next()).await.expect("a first message");
    let control = first.reply.expect("a control subject");
    control.rsplit_once('.').expect("tokens").0.to_owned()
}
