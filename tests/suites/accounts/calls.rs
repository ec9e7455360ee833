//! Calls of every ending.

use std::time::Duration;

use futures_util::{FutureExt as _, StreamExt as _, stream};
use integration::LIMIT;
use integration::numbers::{count, item};
use natstream::{
    Clock, Dialect, ForeignDialect, HandlerError, NextRequest, Pool, Request, RequestBuilder, RequestError,
    RequestErrorKind, ResponseSender, RetryPolicy, Server,
};
use testkit::{Cluster, settles, settles_where, within};

use crate::{Accounts, HEARTBEAT, IMPORT, STREAM, accounts, connect, mappings, pool};

/// A cluster needs some time to form on a busy machine.
const START: Duration = Duration::from_secs(90);

/// How many calls run at a time.
const CONCURRENT: usize = 32;

/// How a call ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Ending {
    Short,
    None,
    Long,
    Fails,
    FailsLater,
    Refused,
    Nobody,
    Deadline,
    CancelledInTheMiddle,
    DroppedAtOnce,
    DroppedWhileQueued,
    Retried,
    Resumed,
    Uncontrolled,
    UncontrolledDropped,
    Probe,
    Text,
    TextShort,
    TextFails,
    TextRefused,
    TextDropped,
    TextDroppedAtOnce,
    Sentinel,
    SentinelFails,
    SentinelDropped,
    AutoText,
    AutoSentinel,
}

impl Ending {
    pub(crate) const ALL: [Self; 27] = [
        Self::Short,
        Self::None,
        Self::Long,
        Self::Fails,
        Self::FailsLater,
        Self::Refused,
        Self::Nobody,
        Self::Deadline,
        Self::CancelledInTheMiddle,
        Self::DroppedAtOnce,
        Self::DroppedWhileQueued,
        Self::Retried,
        Self::Resumed,
        Self::Uncontrolled,
        Self::UncontrolledDropped,
        Self::Probe,
        Self::Text,
        Self::TextShort,
        Self::TextFails,
        Self::TextRefused,
        Self::TextDropped,
        Self::TextDroppedAtOnce,
        Self::Sentinel,
        Self::SentinelFails,
        Self::SentinelDropped,
        Self::AutoText,
        Self::AutoSentinel,
    ];
}

/// Serves what the calls ask.
pub(crate) async fn serve(server: &Server) {
    for (name, foreign) in [("do", ForeignDialect::Text), ("sentinel", ForeignDialect::Sentinel)] {
        let endpoint = server.on(format!("svc.{name}"), answer).allow_uncontrolled(true);
        within(LIMIT, endpoint.foreign_dialect(foreign)).await.expect("served");
    }
    within(LIMIT, server.on("svc.full", answer).max_concurrent(0))
        .await
        .expect("served");
}

/// Ends as the request says.
async fn answer(request: Request, mut out: ResponseSender) -> Result<(), HandlerError> {
    match &**request.payload() {
        b"fails" => return Err(HandlerError::not_found("gone")),
        b"fails later" => {
            out.send("item").await?;
            out.flush().await;
            return Err(HandlerError::not_found("gone"));
        }
        b"retryable" => {
            out.send("item").await?;
            return Err(HandlerError::unavailable("later"));
        }
        b"endless" => loop {
            out.send(item(0)).await?;
        },
        b"silent" => {
            out.send("item").await?;
            out.closed().await;
        }
        _ => return count(request, out).await,
    }
    Ok(())
}

fn request(pool: &Pool, name: &str, payload: &'static str) -> RequestBuilder {
    pool.request_stream(format!("svc.{name}"), payload)
}

/// All items of a call, and how it ended.
async fn outcome(request: RequestBuilder) -> (u64, Option<RequestError>) {
    let mut responses = request.await.expect("sent");
    loop {
        match responses.try_next().await {
            Ok(Some(_)) => {}
            Ok(None) => return (responses.received(), None),
            Err(error) => return (responses.received(), Some(error)),
        }
    }
}

async fn completes(request: RequestBuilder, items: u64) {
    let (received, error) = outcome(request).await;
    assert!(received == items && error.is_none(), "{received} of {items}, {error:?}");
}

async fn ends(request: RequestBuilder, kind: RequestErrorKind) -> RequestError {
    let (_, error) = outcome(request).await;
    assert_eq!(error.as_ref().map(RequestError::kind), Some(kind), "{error:?}");
    error.expect("an error")
}

async fn dropped_later(request: RequestBuilder) {
    let mut responses = request.await.expect("sent");
    for _ in 0..20 {
        responses.try_next().await.expect("an item");
    }
}

impl Ending {
    pub(crate) async fn play(self, pool: &Pool) {
        let make = |payload| request(pool, "do", payload);
        let plain = |payload| make(payload).dialect(Dialect::Text);
        let sentinel = |payload| request(pool, "sentinel", payload).dialect(Dialect::Sentinel);
        match self {
            Self::Short => completes(make("1"), 1).await,
            Self::None => completes(make("0"), 0).await,
            Self::Long => completes(make("2000"), 2000).await,
            Self::Fails => drop(ends(make("fails"), RequestErrorKind::Failed).await),
            Self::FailsLater => drop(ends(make("fails later"), RequestErrorKind::Failed).await),
            Self::Refused => drop(ends(request(pool, "full", "1"), RequestErrorKind::Refused).await),
            Self::Nobody => drop(ends(request(pool, "nobody", "1"), RequestErrorKind::NoResponders).await),
            Self::Deadline => {
                let error = ends(make("silent").deadline(HEARTBEAT / 10), RequestErrorKind::Timeout).await;
                assert_eq!(error.clock(), Some(Clock::Deadline));
            }
            Self::CancelledInTheMiddle => dropped_later(make("endless")).await,
            Self::DroppedAtOnce => drop(make("endless").await.expect("sent")),
            Self::DroppedWhileQueued => drop(make("2000").into_future().now_or_never()),
            Self::Retried => {
                let request = request(pool, "full", "1").retry(RetryPolicy::fixed(1, HEARTBEAT / 100));
                ends(request, RequestErrorKind::Refused).await;
            }
            Self::Resumed => {
                let request = make("retryable").resume(|_| NextRequest::new("1"));
                completes(request.retry(RetryPolicy::fixed(1, HEARTBEAT / 100)), 2).await;
            }
            Self::Uncontrolled => completes(make("2000").without_control().deadline(LIMIT), 2000).await,
            Self::UncontrolledDropped => {
                dropped_later(make("2000").without_control().deadline(LIMIT)).await;
            }
            Self::Probe => completes(make("endless").probe(), 3).await,
            Self::Text => completes(plain("200"), 200).await,
            Self::TextShort => completes(plain("1"), 1).await,
            Self::TextFails => drop(ends(plain("fails later"), RequestErrorKind::Failed).await),
            Self::TextRefused => {
                let refused = request(pool, "full", "1").dialect(Dialect::Text);
                ends(refused, RequestErrorKind::Failed).await;
            }
            Self::TextDropped => dropped_later(plain("2000")).await,
            Self::TextDroppedAtOnce => drop(plain("2000").await.expect("sent")),
            Self::Sentinel => completes(sentinel("200"), 200).await,
            Self::SentinelFails => drop(ends(sentinel("fails later"), RequestErrorKind::Failed).await),
            Self::SentinelDropped => dropped_later(sentinel("2000")).await,
            Self::AutoText => completes(make("2000").dialect(Dialect::AutoText), 2000).await,
            Self::AutoSentinel => completes(make("2000").dialect(Dialect::AutoSentinel), 2000).await,
        }
    }
}

/// Makes this many calls, of all endings in turn.
pub(crate) async fn play(pool: &Pool, endings: &[Ending], calls: usize) {
    stream::iter(endings.iter().cycle().take(calls))
        .for_each_concurrent(CONCURRENT, |ending| within(LIMIT, ending.play(pool)))
        .await;
}

/// How many calls the test makes; one that looks for rare leaks makes more.
fn calls(default: usize) -> usize {
    integration::variable("NATSTREAM_CALLS").map_or(default, |calls| calls as usize)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_of_every_ending_leave_no_mapping() {
    // With the threshold of nats-server, 2 minutes: no clock of its own ends a mapping within this test.
    let stage = Accounts::start(STREAM).await;
    serve(&stage.server).await;
    play(&stage.pool, &Ending::ALL, calls(10_000)).await;
    stage.settled().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_calls_that_are_dropped_at_once_leave_no_mapping() {
    let stage = Accounts::start(STREAM).await;
    serve(&stage.server).await;
    // Far more than the hundred in a second that are told so where they are not mapped.
    // On a busy machine some are dropped before they are sent, or answered before they are dropped.
    for _ in 0..20 {
        for _ in 0..1000 {
            let request = stage.pool.request_stream("svc.do", "silent");
            drop(within(LIMIT, request).await.expect("sent"));
        }
        stage.settled().await;
        if stage.pool.stats().strays > 100 {
            break;
        }
    }
    assert!(stage.pool.stats().strays > 100);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_of_every_ending_leave_no_mapping_in_a_cluster() {
    let config = accounts(STREAM, IMPORT);
    let cluster = within(START, Cluster::builder(3).config(config).start()).await;
    let server = Server::new(connect(cluster.url(1), "svc").await);
    let pool = pool(connect(cluster.url(0), "app").await);
    serve(&server).await;
    known(&pool).await;
    play(&pool, &Ending::ALL, calls(2000)).await;
    let everywhere = async || {
        let mut left = Vec::new();
        for node in 0..cluster.size() {
            left.push(mappings(cluster.node(node)).await);
        }
        left
    };
    settles(LIMIT, everywhere, vec![[0, 0]; 3]).await;
}

/// Waits until the caller's node knows what is served: interest takes a moment to cross a cluster.
async fn known(pool: &Pool) {
    for name in ["do", "sentinel", "full"] {
        let ask = || async { outcome(request(pool, name, "1")).await.1.map(|error| error.kind()) };
        settles_where(LIMIT, ask, |end| *end != Some(RequestErrorKind::NoResponders)).await;
    }
}
