//! What ends a stream: every combination of the handler's return and its sender's fate.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;

use integration::{LIMIT, Peers};
use natstream::{Code, HandlerError, RequestError, RequestErrorKind, ResponseSender, SendErrorKind};
use testkit::{unique_subject, within};
use tokio::sync::{Mutex, Notify, mpsc, oneshot};

/// Serves one call with `handler` and returns what the caller got: the items, and the error if there was one.
async fn outcome<F, Fut>(handler: F) -> (Vec<String>, Option<RequestError>)
where
    F: Fn(ResponseSender) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), HandlerError>> + Send + 'static,
{
    let Peers { pool, server } = Peers::connect().await;
    let subject = unique_subject("end");
    within(LIMIT, server.on(&subject, move |_, out| handler(out)))
        .await
        .expect("served");
    let mut responses = within(LIMIT, pool.request_stream(&subject, "")).await.expect("sent");
    let mut items = Vec::new();
    loop {
        match within(LIMIT, responses.try_next()).await {
            Ok(Some(item)) => items.push(String::from_utf8_lossy(&item).into_owned()),
            Ok(None) => return (items, None),
            Err(error) => return (items, Some(error)),
        }
    }
}

fn failure(error: Option<RequestError>) -> Code {
    let error = error.expect("a failure");
    assert_eq!(error.kind(), RequestErrorKind::Failed);
    error.status().expect("a status").code
}

#[tokio::test]
async fn ok_with_the_sender_gone_is_complete() {
    let (items, error) = outcome(|mut out| async move {
        out.send("a").await?;
        drop(out);
        Ok(())
    })
    .await;
    assert_eq!(items, ["a"]);
    assert!(error.is_none(), "dropping the sender decided something: {error:?}");
}

#[tokio::test]
async fn ok_without_an_item_is_complete() {
    let (items, error) = outcome(|_out| async { Ok(()) }).await;
    assert!(items.is_empty() && error.is_none());
}

#[tokio::test]
async fn an_error_with_the_sender_gone_fails() {
    let (items, error) = outcome(|mut out| async move {
        out.send("a").await?;
        drop(out);
        Err(HandlerError::invalid("no"))
    })
    .await;
    assert_eq!((items, failure(error)), (vec!["a".to_owned()], Code::InvalidArgument));
}

#[tokio::test]
async fn finish_decides_even_when_the_handler_fails_later() {
    let (items, error) = outcome(|mut out| async move {
        out.send("a").await?;
        out.finish();
        Err(HandlerError::invalid("too late"))
    })
    .await;
    assert_eq!(items, ["a"]);
    assert!(error.is_none(), "{error:?}");
}

#[tokio::test]
async fn fail_decides_even_when_the_handler_succeeds_later() {
    let (_, error) = outcome(|out| async move {
        out.fail(HandlerError::not_found("gone"));
        Ok(())
    })
    .await;
    assert_eq!(failure(error), Code::NotFound);
}

#[tokio::test]
async fn a_panic_fails_and_the_server_goes_on() {
    let (items, error) = outcome(|mut out| async move {
        out.send("a").await?;
        panic!("a handler that panics, as the test wants");
    })
    .await;
    assert_eq!((items, failure(error)), (vec!["a".to_owned()], Code::Internal));
}

/// The seeds' style: the handler returns at once, a task of its own goes on sending.
async fn from_a_task<F, Fut>(task: F) -> (Vec<String>, Option<RequestError>)
where
    F: Fn(ResponseSender) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    outcome(move |out| {
        let work = task(out);
        async move {
            tokio::task::spawn(work);
            Ok(())
        }
    })
    .await
}

#[tokio::test]
async fn a_task_ends_the_stream_with_finish() {
    let (items, error) = from_a_task(|mut out| async move {
        for number in 0..3 {
            out.send(number.to_string()).await.expect("the caller is there");
            tokio::task::yield_now().await;
        }
        out.finish();
    })
    .await;
    assert_eq!(items, ["0", "1", "2"]);
    assert!(error.is_none(), "{error:?}");
}

#[tokio::test]
async fn a_task_that_drops_its_sender_has_aborted() {
    let (items, error) = from_a_task(|mut out| async move {
        out.send("a").await.expect("the caller is there");
    })
    .await;
    assert_eq!((items, failure(error)), (vec!["a".to_owned()], Code::Aborted));
}

#[tokio::test]
async fn a_task_that_panics_has_aborted_even_before_the_handler_returns() {
    let (_, error) = outcome(|mut out| async move {
        out.send("half").await?;
        let task = tokio::task::spawn(async move {
            let _out = out;
            panic!("a panic of a test");
        });
        // A handler that does not look at what became of its task.
        let _ = task.await;
        Ok(())
    })
    .await;
    assert_eq!(failure(error), Code::Aborted);
}

#[tokio::test]
async fn a_task_fails_the_stream() {
    let (_, error) = from_a_task(|out| async move { out.fail(HandlerError::unavailable("later")) }).await;
    assert_eq!(failure(error), Code::Unavailable);
}

#[tokio::test]
async fn an_error_fails_at_once_though_the_sender_lives_on() {
    let (sender, kept) = oneshot::channel::<ResponseSender>();
    let sender = Arc::new(Mutex::new(Some(sender)));
    let (_, error) = outcome(move |mut out| {
        let sender = sender.clone();
        async move {
            out.send("a").await?;
            let _ = sender.lock().await.take().map(|sender| sender.send(out));
            Err(HandlerError::invalid("no"))
        }
    })
    .await;
    assert_eq!(failure(error), Code::InvalidArgument);
    let mut out = within(LIMIT, kept).await.expect("the sender");
    let error = within(LIMIT, out.send("late")).await.expect_err("the stream has ended");
    assert_eq!(error.kind(), SendErrorKind::Closed);
}

#[tokio::test]
async fn a_moved_sender_shows_each_item_at_once() {
    let Peers { pool, server } = Peers::connect().await;
    let subject = unique_subject("end");
    let go_on = Arc::new(Notify::new());
    let handler = {
        let go_on = go_on.clone();
        move |_request, mut out: ResponseSender| {
            let go_on = go_on.clone();
            async move {
                tokio::task::spawn(async move {
                    out.send("first").await.expect("the caller is there");
                    // Nothing is sent, flushed or ended until the caller has seen the first item.
                    go_on.notified().await;
                    out.finish();
                });
                Ok(())
            }
        }
    };
    within(LIMIT, server.on(&subject, handler)).await.expect("served");
    let mut responses = within(LIMIT, pool.request_stream(&subject, "")).await.expect("sent");
    let first = within(LIMIT, responses.try_next()).await.expect("an item");
    assert_eq!(first.as_deref(), Some(&b"first"[..]));
    go_on.notify_one();
    assert!(within(LIMIT, responses.try_next()).await.expect("complete").is_none());
}

#[tokio::test]
async fn a_code_that_travels_as_success_is_still_a_failure() {
    let (_, error) = outcome(|_out| async { Err(HandlerError::new(Code::Other(0), "half")) }).await;
    assert_eq!(failure(error), Code::Unknown);
}

#[tokio::test]
async fn a_send_that_waits_and_closed_hear_that_the_handler_failed() {
    let Peers { pool, server } = Peers::connect().await;
    let subject = unique_subject("end");
    let (report, mut reports) = mpsc::unbounded_channel();
    let handler = move |_request, mut out: ResponseSender| {
        let report = report.clone();
        async move {
            let (blocked, is_blocked) = oneshot::channel();
            let closed = out.closed();
            let closes = report.clone();
            tokio::spawn(async move { closes.send(format!("closed: {:?}", closed.await)) });
            tokio::spawn(async move {
                let mut blocked = Some(blocked);
                let error = loop {
                    let mut send = pin!(out.send([0; 8000]));
                    // The caller does not read: at some point there is no credit.
                    let sent = poll_fn(|cx| {
                        let sent = send.as_mut().poll(cx);
                        if sent.is_pending() {
                            blocked.take().map(|blocked| blocked.send(()));
                        }
                        sent
                    });
                    if let Err(error) = sent.await {
                        break error;
                    }
                };
                report.send(format!("send: {:?}", error.kind()))
            });
            is_blocked.await.map_err(HandlerError::internal)?;
            Err(HandlerError::invalid("no"))
        }
    };
    within(LIMIT, server.on(&subject, handler)).await.expect("served");
    let _unread = within(LIMIT, pool.request_stream(&subject, "")).await.expect("sent");
    let mut heard = [within(LIMIT, reports.recv()).await, within(LIMIT, reports.recv()).await].map(Option::unwrap);
    heard.sort();
    assert_eq!(heard, ["closed: Local", "send: Closed"]);
}
