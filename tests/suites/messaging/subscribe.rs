//! Handlers of messages: who gets what, limits, failures and the end.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use integration::{LIMIT, Peers, connection};
use natstream::{
    Code, ConnectConfig, Connection, HandlerError, Message, Pool, RequestErrorKind, SendErrorKind, ServeErrorKind,
    Server,
};
use testkit::{settles, shared_url, unique_subject, within};
use tokio::sync::{mpsc, watch};

use crate::{listen, next, publish};

/// So short that it runs out while the test looks on.
const SHORT: Duration = Duration::from_millis(100);

#[tokio::test]
async fn wildcards_match() {
    let Peers { pool, server } = Peers::connect().await;
    let subject = unique_subject("wild");
    let (_one, mut one) = listen(&server, &format!("{subject}.*"), None).await;
    let (_all, mut all) = listen(&server, &format!("{subject}.>"), None).await;
    publish(&pool, &format!("{subject}.a.b"), "").await;
    publish(&pool, &format!("{subject}.c"), "").await;
    assert_eq!(next(&mut one).await.subject(), format!("{subject}.c"));
    assert_eq!(next(&mut all).await.subject(), format!("{subject}.a.b"));
    assert_eq!(next(&mut all).await.subject(), format!("{subject}.c"));
}

#[tokio::test]
async fn without_a_group_everybody_gets_everything_and_in_a_group_one_does() {
    const MESSAGES: u64 = 200;
    let Peers { pool, server } = Peers::connect().await;
    let other = Server::new(connection(shared_url()).await);
    let subject = unique_subject("group");
    let (alone, _first) = listen(&server, &subject, None).await;
    let (a, _second) = listen(&server, &subject, Some("workers")).await;
    let (b, _third) = listen(&other, &subject, Some("workers")).await;
    for number in 0..MESSAGES {
        publish(&pool, &subject, number.to_string()).await;
    }
    settles(LIMIT, async || alone.stats().processed, MESSAGES).await;
    settles(LIMIT, async || a.stats().processed + b.stats().processed, MESSAGES).await;
    assert!(a.stats().processed > 0 && b.stats().processed > 0, "{a:?} {b:?}");
}

/// A handler that waits until it is told to go on.
fn waits(go_on: &watch::Sender<bool>) -> impl Fn(Message) -> Waiting + Send + Sync + 'static {
    let wait = go_on.subscribe();
    move |_| {
        let mut wait = wait.clone();
        Box::pin(async move {
            let _ = wait.wait_for(|go_on| *go_on).await;
            Ok(())
        })
    }
}

type Waiting = std::pin::Pin<Box<dyn Future<Output = Result<(), HandlerError>> + Send>>;

#[tokio::test]
async fn what_is_above_the_limits_is_dropped_and_counted() {
    let Peers { pool, server } = Peers::connect().await;
    let subject = unique_subject("busy");
    let go_on = watch::Sender::new(false);
    let subscription = server
        .on_message(&subject, waits(&go_on))
        .max_concurrent(2)
        .max_queued(3);
    let subscription = within(LIMIT, subscription).await.expect("subscribed");
    for _ in 0..9 {
        publish(&pool, &subject, "").await;
    }
    settles(LIMIT, async || subscription.stats().dropped, 4).await;
    assert_eq!(
        (subscription.stats().received, subscription.stats().in_progress()),
        (9, 5)
    );
    go_on.send_replace(true);
    settles(LIMIT, async || subscription.stats().processed, 5).await;
    assert_eq!(
        (subscription.stats().in_progress(), subscription.stats().failed),
        (0, 0)
    );
}

#[tokio::test]
async fn a_requester_hears_of_a_full_group() {
    let Peers { pool, server } = Peers::connect().await;
    let go_on = watch::Sender::new(false);
    let busy = |subject: &str| {
        let subscription = server.on_message(subject, waits(&go_on)).max_concurrent(1);
        subscription.max_queued(0)
    };
    let grouped = unique_subject("busy");
    within(LIMIT, busy(&grouped).queue_group("workers"))
        .await
        .expect("subscribed");
    publish(&pool, &grouped, "").await;
    let error = within(LIMIT, pool.request(&grouped, "")).await.expect_err("busy");
    assert_eq!(error.kind(), RequestErrorKind::Failed);
    assert_eq!(error.status().map(|status| status.code), Some(Code::ResourceExhausted));
    // Another subscription may answer, where there is no group.
    let alone = unique_subject("busy");
    within(LIMIT, busy(&alone)).await.expect("subscribed");
    publish(&pool, &alone, "").await;
    let error = within(LIMIT, pool.request(&alone, "").timeout(SHORT))
        .await
        .expect_err("no answer");
    assert_eq!(error.kind(), RequestErrorKind::Timeout);
}

#[tokio::test]
async fn one_handler_at_a_time_keeps_the_order() {
    let Peers { pool, server } = Peers::connect().await;
    let subject = unique_subject("order");
    let running = Arc::new(AtomicUsize::new(0));
    let (done, mut order) = mpsc::unbounded_channel();
    let handler = move |message: Message| {
        let (running, done) = (running.clone(), done.clone());
        async move {
            assert_eq!(running.fetch_add(1, Ordering::SeqCst), 0, "two at a time");
            // Others would run now.
            tokio::task::yield_now().await;
            running.fetch_sub(1, Ordering::SeqCst);
            done.send(message).map_err(HandlerError::internal)
        }
    };
    let subscription = server.on_message(&subject, handler).max_concurrent(1);
    within(LIMIT, subscription).await.expect("subscribed");
    for number in 0..500 {
        within(LIMIT, pool.publish(&subject, number.to_string()))
            .await
            .expect("published");
    }
    for number in 0..500 {
        assert_eq!(next(&mut order).await.payload(), number.to_string().as_bytes());
    }
}

#[tokio::test]
async fn panics_and_errors_are_contained() {
    let Peers { pool, server } = Peers::connect().await;
    let subject = unique_subject("panic");
    let handler = |message: Message| async move {
        match &message.payload()[..] {
            b"panic" => panic!("as the test wants it"),
            b"error" => Err(HandlerError::not_found("no such thing")),
            b"late error" => {
                message.respond("well").await?;
                Err(HandlerError::internal("after the response"))
            }
            _ => Ok(message.respond("well").await?),
        }
    };
    let subscription = server.on_message(&subject, handler).queue_group("workers");
    let subscription = within(LIMIT, subscription).await.expect("subscribed");
    for (payload, code) in [("panic", Code::Internal), ("error", Code::NotFound)] {
        let error = within(LIMIT, pool.request(&subject, payload))
            .await
            .expect_err("failed");
        assert_eq!(error.status().map(|status| status.code), Some(code), "{payload}");
    }
    // Who was answered hears nothing more: what comes next on the same connection is the marker.
    let reply = format!("_INBOX.{}", unique_subject("reply"));
    let (_replies, mut replies) = listen(&server, &reply, None).await;
    for payload in ["late error", ""] {
        let message = pool.publish(&subject, payload).reply_to(&reply);
        within(LIMIT, message).await.expect("published");
    }
    settles(LIMIT, async || subscription.stats().received, 4).await;
    settles(LIMIT, async || subscription.stats().in_progress(), 0).await;
    publish(&Pool::new(server.connection().clone()), &reply, "marker").await;
    for payload in ["well", "well", "marker"] {
        assert_eq!(next(&mut replies).await.payload(), payload);
    }
    let stats = subscription.stats();
    assert_eq!((stats.processed, stats.failed, stats.dropped), (1, 3, 0));
}

#[tokio::test]
async fn responses_go_to_safe_subjects_only() {
    let Peers { pool, server } = Peers::connect().await;
    let subject = unique_subject("reply");
    let (subscription, mut inbox) = listen(&server, &subject, None).await;
    publish(&pool, &subject, "").await;
    let message = next(&mut inbox).await;
    let error = within(LIMIT, message.respond("")).await.expect_err("nowhere");
    assert_eq!(error.kind(), SendErrorKind::NoReply);
    let unsafe_reply = pool.publish(&subject, "").reply_to("$JS.API.STREAM.DELETE.x");
    within(LIMIT, unsafe_reply).await.expect("published");
    let message = next(&mut inbox).await;
    assert_eq!(message.reply(), None);
    let error = within(LIMIT, message.respond_error(Code::Internal, ""))
        .await
        .expect_err("not there");
    assert_eq!(error.kind(), SendErrorKind::NoReply);
    assert_eq!(subscription.stats().refused_subjects, 1);
    let large = pool.publish(&subject, "").reply_to("_INBOX.x.y");
    within(LIMIT, large).await.expect("published");
    let message = next(&mut inbox).await;
    let max = server.connection().max_payload();
    let error = within(LIMIT, message.respond(vec![0; max + 1]))
        .await
        .expect_err("large");
    assert!(matches!(error.kind(), SendErrorKind::TooLarge { .. }));
}

#[tokio::test]
async fn unsubscribing_leaves_nobody() {
    let Peers { pool, server } = Peers::connect().await;
    let subject = unique_subject("leave");
    let (subscription, mut inbox) = listen(&server, &subject, None).await;
    publish(&pool, &subject, "").await;
    next(&mut inbox).await;
    within(LIMIT, subscription.unsubscribe()).await;
    let error = within(LIMIT, pool.request(&subject, "")).await.expect_err("nobody");
    assert_eq!(error.kind(), RequestErrorKind::NoResponders);
    assert_eq!(subscription.stats().received, 1);
    assert_eq!(subscription.subject(), subject);
}

#[tokio::test]
async fn dropping_the_server_ends_its_subscriptions() {
    let Peers { pool, server } = Peers::connect().await;
    let subject = unique_subject("drop");
    let (_subscription, _inbox) = listen(&server, &subject, None).await;
    drop(server);
    let nobody = async || {
        let error = within(LIMIT, pool.request(&subject, "").timeout(SHORT)).await;
        error.expect_err("no response").kind()
    };
    settles(LIMIT, nobody, RequestErrorKind::NoResponders).await;
}

#[tokio::test]
async fn a_drain_waits_for_running_and_queued_messages() {
    let Peers { pool, server } = Peers::connect().await;
    let subject = unique_subject("drain");
    let go_on = watch::Sender::new(false);
    let subscription = server.on_message(&subject, waits(&go_on)).max_concurrent(1);
    let subscription = within(LIMIT, subscription).await.expect("subscribed");
    publish(&pool, &subject, "").await;
    publish(&pool, &subject, "").await;
    settles(LIMIT, async || subscription.stats().in_progress(), 2).await;
    let drain = tokio::task::spawn({
        let server = server.clone();
        async move { server.drain(LIMIT).await }
    });
    // Once nobody is subscribed, the drain has begun.
    let nobody = async || {
        let error = within(LIMIT, pool.request(&subject, "").timeout(SHORT)).await;
        error.expect_err("no response").kind()
    };
    settles(LIMIT, nobody, RequestErrorKind::NoResponders).await;
    assert!(!drain.is_finished(), "it waits");
    go_on.send_replace(true);
    let drained = within(LIMIT, drain).await.expect("no panic");
    assert_eq!((drained.aborted, drained.messages), (0, 0));
    assert_eq!(subscription.stats().in_progress(), 0);
    assert_eq!(subscription.stats().dropped, 0);
}

#[tokio::test]
async fn a_drain_drops_at_its_deadline_what_still_waits() {
    let Peers { pool, server } = Peers::connect().await;
    let subject = unique_subject("drain");
    let go_on = watch::Sender::new(false);
    let subscription = server.on_message(&subject, waits(&go_on)).max_concurrent(1);
    let subscription = within(LIMIT, subscription).await.expect("subscribed");
    publish(&pool, &subject, "").await;
    publish(&pool, &subject, "").await;
    settles(LIMIT, async || subscription.stats().in_progress(), 2).await;
    let drained = within(LIMIT, server.drain(SHORT)).await;
    assert_eq!(drained.messages, 2);
    go_on.send_replace(true);
    settles(LIMIT, async || subscription.stats().in_progress(), 0).await;
    assert_eq!((subscription.stats().processed, subscription.stats().dropped), (1, 1));
    let error = within(LIMIT, server.on_message(&subject, |_| async { Ok(()) }))
        .await
        .expect_err("drained");
    assert_eq!(error.kind(), ServeErrorKind::Connection);
}

#[tokio::test]
async fn what_cannot_be_subscribed_is_told() {
    let Peers { server, .. } = Peers::connect().await;
    let subscription = |subject: &str| server.on_message(subject, |_| async { Ok(()) });
    for subscription in [
        subscription("a..b"),
        subscription("a.>.b"),
        subscription("a").queue_group("a b"),
        subscription("a").max_concurrent(0),
    ] {
        let error = within(LIMIT, subscription).await.expect_err("wrong");
        assert_eq!(error.kind(), ServeErrorKind::InvalidConfig);
    }
}

#[tokio::test]
async fn listening_to_everything_silences_nobody() {
    let prefix = unique_subject("inbox");
    let config = ConnectConfig::new(shared_url()).inbox_prefix(&prefix);
    let pool = Pool::new(within(LIMIT, Connection::connect(config)).await.expect("connected"));
    let server = Server::builder(connection(shared_url()).await)
        .reply_prefix(format!("{prefix}."))
        .build();
    // Other tests publish too: what comes here is nobody's business. The caller's inbox matches as well.
    within(LIMIT, server.on_message(">", |_| async { Ok(()) }))
        .await
        .expect("subscribed");
    let subject = unique_subject("everything");
    let respond = |message: Message| async move { Ok(message.respond("here").await?) };
    within(LIMIT, server.on_message(&subject, respond))
        .await
        .expect("subscribed");
    let reply = within(LIMIT, pool.request(&subject, "")).await.expect("a reply");
    assert_eq!(reply.payload(), "here");
}
