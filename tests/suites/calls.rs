//! Calls that succeed, fail, and are cancelled.

use integration::{LIMIT, Peers};
use natstream::{Code, HandlerError, RequestErrorKind, SendErrorKind, Termination};
use testkit::{unique_subject, within};

#[tokio::test]
async fn items_arrive_in_order_and_the_end_says_how_many() {
    let Peers { pool, server } = Peers::connect().await;
    let subject = unique_subject("calls");
    let count = |_request, mut out: natstream::ResponseSender| async move {
        for number in 0..100_000u32 {
            out.send(number.to_be_bytes()).await?;
        }
        out.finish_with("trailers");
        Ok(())
    };
    within(LIMIT, server.on(&subject, count)).await.expect("served");

    let mut responses = within(LIMIT, pool.request_stream(&subject, "")).await.expect("sent");
    let mut expected = 0u32;
    while let Some(item) = within(LIMIT, responses.try_next()).await.expect("complete") {
        assert_eq!(item, expected.to_be_bytes()[..]);
        expected += 1;
    }
    assert_eq!(expected, 100_000);
    assert_eq!(
        responses.trailers().map(|trailers| &trailers[..]),
        Some(&b"trailers"[..])
    );
    assert!(matches!(
        responses.termination(),
        Some(Termination::Ended { items: 100_000, .. })
    ));
}

#[tokio::test]
async fn a_failure_comes_after_the_items_before_it() {
    let Peers { pool, server } = Peers::connect().await;
    let subject = unique_subject("calls");
    let fail = |_request, mut out: natstream::ResponseSender| async move {
        out.send("one").await?;
        Err(HandlerError::not_found("沒有了").with_details("details"))
    };
    within(LIMIT, server.on(&subject, fail)).await.expect("served");

    let mut responses = within(LIMIT, pool.request_stream(&subject, "")).await.expect("sent");
    let first = within(LIMIT, responses.try_next()).await.expect("an item");
    assert_eq!(first.as_deref(), Some(&b"one"[..]));
    let error = within(LIMIT, responses.try_next()).await.expect_err("the failure");
    assert_eq!(error.kind(), RequestErrorKind::Failed);
    let status = error.status().expect("the handler's words");
    assert_eq!((status.code, status.message.as_str()), (Code::NotFound, "沒有了"));
    assert_eq!(status.details, "details");
    assert!(
        within(LIMIT, responses.next()).await.is_none(),
        "one error, then nothing"
    );
}

#[tokio::test]
async fn what_came_before_a_failure_is_kept() {
    let Peers { pool, server } = Peers::connect().await;
    let subject = unique_subject("calls");
    let fail = |_request, mut out: natstream::ResponseSender| async move {
        for item in ["one", "two", "three"] {
            out.send(item).await?;
        }
        Err(HandlerError::unavailable("no more"))
    };
    within(LIMIT, server.on(&subject, fail)).await.expect("served");
    let mut responses = within(LIMIT, pool.request_stream(&subject, "")).await.expect("sent");
    let first = within(LIMIT, responses.try_next()).await.expect("an item");
    assert_eq!(first.as_deref(), Some(&b"one"[..]));
    // What is there already stays, and what was read before is the reader's.
    let mut items = vec!["mine".into()];
    let verdict = within(LIMIT, responses.collect_into(&mut items, 1024)).await;
    let error = verdict.expect_err("the failure");
    assert_eq!((error.kind(), error.items()), (RequestErrorKind::Failed, 3));
    assert_eq!(items, ["mine", "two", "three"]);
    assert!(matches!(responses.termination(), Some(Termination::Failed(_))));
    // The verdict is given once.
    within(LIMIT, responses.collect_into(&mut items, 1024))
        .await
        .expect("over");
    assert_eq!(items.len(), 3);
}

#[tokio::test]
async fn what_exceeds_the_limit_cancels_the_call_and_the_rest_is_kept() {
    let Peers { pool, server } = Peers::connect().await;
    let subject = unique_subject("calls");
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let endless = move |_request, mut out: natstream::ResponseSender| {
        let tell = tell.clone();
        async move {
            while out.send([7; 68]).await.is_ok() {}
            let _ = tell.send(out.closed().await);
            Ok(())
        }
    };
    within(LIMIT, server.on(&subject, endless)).await.expect("served");
    let mut responses = within(LIMIT, pool.request_stream(&subject, "")).await.expect("sent");
    let mut items = Vec::new();
    // An item counts 100 bytes.
    let verdict = within(LIMIT, responses.collect_into(&mut items, 1050)).await;
    assert_eq!(verdict.expect_err("too much").kind(), RequestErrorKind::Cancelled);
    assert_eq!(items.len(), 10);
    // The handler hears of it while the answer is still held.
    assert_eq!(
        within(LIMIT, told.recv()).await,
        Some(natstream::CloseReason::Cancelled)
    );
    assert_eq!(responses.termination(), Some(&Termination::Cancelled));
    assert!(
        within(LIMIT, responses.next()).await.is_none(),
        "one error, then nothing"
    );
}

#[tokio::test]
async fn nobody_serving_is_known_at_once() {
    let Peers { pool, .. } = Peers::connect().await;
    let mut responses = within(LIMIT, pool.request_stream(unique_subject("nobody"), ""))
        .await
        .expect("sent");
    let error = within(LIMIT, responses.try_next()).await.expect_err("nobody");
    assert_eq!(error.kind(), RequestErrorKind::NoResponders);
}

#[tokio::test]
async fn headers_of_the_handler_arrive_with_its_first_message() {
    let Peers { pool, server } = Peers::connect().await;
    let subject = unique_subject("calls");
    let handler = |_request, mut out: natstream::ResponseSender| async move {
        out.header("X-Columns", "id,name").expect("valid");
        let invalid = out.header("Nats-Msg-Id", "1").map_err(|error| error.kind());
        assert_eq!(invalid, Err(SendErrorKind::InvalidHeader));
        let large = out.header("X-Large", "x".repeat(4096)).map_err(|error| error.kind());
        assert_eq!(large, Err(SendErrorKind::InvalidHeader));
        out.send("item").await?;
        out.flush().await;
        let late = out.header("X-Late", "1").map_err(|error| error.kind());
        assert_eq!(late, Err(SendErrorKind::HeadersSent));
        Ok(())
    };
    within(LIMIT, server.on(&subject, handler)).await.expect("served");
    let mut responses = within(LIMIT, pool.request_stream(&subject, "")).await.expect("sent");
    assert!(within(LIMIT, responses.try_next()).await.expect("no failure").is_some());
    let headers = responses.headers().expect("headers");
    assert_eq!(headers.get("X-Columns").map(|value| value.as_str()), Some("id,name"));
    assert_eq!(responses.header("X-Columns").as_deref(), Some("id,name"));
    for absent in ["X-Large", "x-columns", "no: name", ""] {
        assert_eq!(responses.header(absent), None);
    }
    assert!(headers.get("X-Large").is_none() && headers.get("X-Late").is_none());
    assert!(within(LIMIT, responses.try_next()).await.expect("complete").is_none());
}
