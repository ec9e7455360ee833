//! Calls of every ending.

use std::time::Duration;

use async_nats::HeaderMap;
use futures_util::{FutureExt as _, StreamExt as _, stream};
use integration::{LIMIT, Peers, connection};
use natstream::{
    Clock, Code, Connection, Endpoint, NextRequest, Pool, RequestBuilder, RequestError, RequestErrorKind, Responses,
    RetryBudget, RetryPolicy, Server,
};
use testkit::{unique_subject, within};
use tokio::task::JoinSet;

use crate::responder::{answer_garbage, beside, serve};

/// How many calls run at a time.
const CONCURRENT: usize = 32;

/// A clock that runs out.
const SHORT: Duration = Duration::from_millis(40);

/// How a call ends.
#[derive(Clone, Copy, Debug)]
enum Ending {
    None,
    One,
    Many,
    Trailers,
    Fails,
    FailsLater,
    Panics,
    Moved,
    MovedAndDropped,
    MovedAndFails,
    DroppedAtOnce,
    DroppedLater,
    NeverPolled,
    NeverSent,
    Refused,
    QueueFull,
    LeavesTheQueue,
    Nobody,
    Deadline,
    FirstItem,
    Idle,
    TooLarge,
    Garbage,
    GarbageFirst,
    ForeignAnswer,
    Foreign,
    Stray,
    Vanishes,
    RetriesUsedUp,
    DroppedBetweenRetries,
    Resumed,
}

impl Ending {
    const ALL: [Self; 31] = [
        Self::None,
        Self::One,
        Self::Many,
        Self::Trailers,
        Self::Fails,
        Self::FailsLater,
        Self::Panics,
        Self::Moved,
        Self::MovedAndDropped,
        Self::MovedAndFails,
        Self::DroppedAtOnce,
        Self::DroppedLater,
        Self::NeverPolled,
        Self::NeverSent,
        Self::Refused,
        Self::QueueFull,
        Self::LeavesTheQueue,
        Self::Nobody,
        Self::Deadline,
        Self::FirstItem,
        Self::Idle,
        Self::TooLarge,
        Self::Garbage,
        Self::GarbageFirst,
        Self::ForeignAnswer,
        Self::Foreign,
        Self::Stray,
        Self::Vanishes,
        Self::RetriesUsedUp,
        Self::DroppedBetweenRetries,
        Self::Resumed,
    ];
}

/// A caller and a responder, each on one connection for all calls, and a stranger on a third.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) pool: Pool,
    pub(crate) server: Server,
    pub(crate) endpoints: Vec<Endpoint>,
    stranger: Connection,
    base: String,
    /// Calls that hold the places of the endpoints with limits.
    _held: Vec<Responses>,
    _raw: JoinSet<()>,
}

impl Stage {
    pub(crate) async fn set_up(url: &str) -> Self {
        let Peers { server, .. } = Peers::connect_to(url).await;
        let budget = RetryBudget::new(1000.0, 1_000_000);
        let pool = Pool::builder(connection(url).await).retry_budget(budget).build();
        let stranger = connection(url).await;
        let base = unique_subject("leak");
        let endpoints = serve(&server, &base).await;
        let requests = within(LIMIT, stranger.nats().subscribe(format!("{base}.garbage"))).await;
        let mut raw = JoinSet::new();
        raw.spawn(answer_garbage(stranger.clone(), requests.expect("subscribed")));
        within(LIMIT, stranger.fence(LIMIT)).await.expect("connected");

        let mut held = Vec::new();
        for name in ["full", "line", "queue", "line"] {
            let request = pool.request_stream(format!("{base}.{name}"), "item, silent");
            let mut responses = within(LIMIT, request).await.expect("sent");
            if held.len() < 3 {
                within(LIMIT, responses.try_next()).await.expect("an item");
            }
            held.push(responses);
        }
        Self {
            pool,
            server,
            endpoints,
            stranger,
            base,
            _held: held,
            _raw: raw,
        }
    }

    /// Makes this many calls, of all endings in turn.
    pub(crate) async fn play(&self, calls: usize) {
        let turns = Ending::ALL.into_iter().cycle().take(calls);
        stream::iter(turns)
            .for_each_concurrent(CONCURRENT, |ending| within(LIMIT, self.end(ending)))
            .await;
    }

    fn request(&self, name: &str, payload: &'static str) -> RequestBuilder {
        let subject = format!("{}.{name}", self.base);
        // Who is not told that a call is over finds out within three heartbeats.
        self.pool
            .request_stream(subject, payload)
            .heartbeat(Duration::from_secs(1))
    }

    async fn send(&self, payload: &'static str) -> Responses {
        self.request("do", payload).await.expect("sent")
    }

    /// All items of a call, and how it ended.
    async fn outcome(&self, request: RequestBuilder) -> (u64, Option<RequestError>) {
        let mut responses = request.await.expect("sent");
        loop {
            match responses.try_next().await {
                Ok(Some(_)) => {}
                Ok(None) => return (responses.received(), None),
                Err(error) => return (responses.received(), Some(error)),
            }
        }
    }

    async fn completes(&self, payload: &'static str, items: u64) {
        let (received, error) = self.outcome(self.request("do", payload)).await;
        assert!(received == items && error.is_none(), "{payload}: {received}, {error:?}");
    }

    async fn fails(&self, payload: &'static str, code: Code) {
        let (_, error) = self.outcome(self.request("do", payload)).await;
        assert_eq!(
            error.as_ref().and_then(|e| e.status()).map(|s| s.code),
            Some(code),
            "{payload}: {error:?}"
        );
    }

    async fn ends(&self, request: RequestBuilder, kind: RequestErrorKind) -> RequestError {
        let (_, error) = self.outcome(request).await;
        assert_eq!(error.as_ref().map(RequestError::kind), Some(kind), "{error:?}");
        error.expect("an error")
    }

    async fn times_out(&self, request: RequestBuilder, clock: Clock) {
        let error = self.ends(request, RequestErrorKind::Timeout).await;
        assert_eq!(error.clock(), Some(clock));
    }

    async fn end(&self, ending: Ending) {
        match ending {
            Ending::None => self.completes("none", 0).await,
            Ending::One => self.completes("one", 1).await,
            Ending::Many => self.completes("many", 100).await,
            Ending::Trailers => self.completes("trailers", 1).await,
            Ending::Fails => self.fails("fails", Code::InvalidArgument).await,
            Ending::FailsLater => self.fails("fails later", Code::NotFound).await,
            Ending::Panics => self.fails("panics", Code::Internal).await,
            Ending::Moved => self.completes("moved", 3).await,
            Ending::MovedAndDropped => {
                // Whether the handler returns before its task drops the sender is the scheduler's to say.
                let (_, error) = self.outcome(self.request("do", "moved, dropped")).await;
                let code = error
                    .as_ref()
                    .and_then(|error| error.status())
                    .map(|status| status.code);
                assert!(error.is_none() || code == Some(Code::Aborted), "{error:?}");
            }
            Ending::MovedAndFails => self.fails("moved, fails", Code::Unavailable).await,
            Ending::DroppedAtOnce => drop(self.send("endless").await),
            Ending::DroppedLater => {
                let mut responses = self.send("endless").await;
                for _ in 0..20 {
                    responses.try_next().await.expect("an item");
                }
            }
            Ending::NeverPolled => {
                let unread = self.send("many").await;
                // What arrives after it: a part of the first answer is here.
                self.completes("none", 0).await;
                drop(unread);
            }
            // At its first poll it waits for the connection, or it is sent.
            Ending::NeverSent => drop(self.request("do", "silent").into_future().now_or_never()),
            Ending::Refused => drop(self.ends(self.request("full", "one"), RequestErrorKind::Refused).await),
            Ending::QueueFull => drop(self.ends(self.request("line", "one"), RequestErrorKind::Refused).await),
            Ending::LeavesTheQueue => {
                let request = self.request("queue", "one").first_item_timeout(SHORT);
                self.times_out(request, Clock::FirstItem).await;
            }
            Ending::Nobody => {
                self.ends(self.request("nobody", ""), RequestErrorKind::NoResponders)
                    .await;
            }
            Ending::Deadline => {
                self.times_out(self.request("do", "silent").deadline(SHORT), Clock::Deadline)
                    .await
            }
            Ending::FirstItem => {
                let request = self.request("do", "silent").first_item_timeout(SHORT);
                self.times_out(request, Clock::FirstItem).await;
            }
            Ending::Idle => {
                let request = self.request("do", "item, silent").idle_timeout(SHORT);
                self.times_out(request, Clock::Idle).await;
            }
            Ending::TooLarge => {
                let request = self.request("do", "too large").max_item(1000);
                self.ends(request, RequestErrorKind::Failed).await;
            }
            Ending::Garbage => {
                self.ends(self.request("garbage", ""), RequestErrorKind::Protocol).await;
            }
            Ending::GarbageFirst => {
                let request = self.request("garbage", "malformed").deadline(SHORT);
                self.times_out(request, Clock::Deadline).await;
            }
            Ending::ForeignAnswer => {
                self.ends(self.request("garbage", "foreign"), RequestErrorKind::Protocol)
                    .await;
            }
            Ending::Foreign => self.ask_without_a_header().await,
            Ending::Stray => self.say_what_nobody_waits_for().await,
            Ending::Vanishes => drop(self.ask_by_hand().await),
            Ending::RetriesUsedUp => {
                let request = self.request("nobody", "");
                let request = request.retry(RetryPolicy::fixed(2, Duration::from_millis(1)));
                self.ends(request, RequestErrorKind::NoResponders).await;
            }
            Ending::DroppedBetweenRetries => {
                let request = self.request("nobody", "");
                let mut responses = request.retry(RetryPolicy::fixed(5, LIMIT)).await.expect("sent");
                let next = tokio::time::timeout(SHORT, responses.next()).await;
                assert!(next.is_err(), "it was not asked again: {next:?}");
            }
            Ending::Resumed => {
                let request = self.request("do", "retryable").resume(|_| NextRequest::new("one"));
                let request = request.retry(RetryPolicy::fixed(1, Duration::from_millis(1)));
                let (received, error) = self.outcome(request).await;
                assert!(received == 2 && error.is_none(), "{received}, {error:?}");
            }
        }
    }

    async fn ask_without_a_header(&self) {
        let subject = format!("{}.do", self.base);
        let nats = self.stranger.nats();
        let inbox = nats.new_inbox();
        let mut answers = nats.subscribe(inbox.clone()).await.expect("subscribed");
        nats.publish_with_reply(subject.clone(), inbox, "one".into())
            .await
            .expect("sent");
        while let Some(message) = answers.next().await {
            if message.payload == "__STREAM_END__" {
                break;
            }
        }
        // Nobody to be answered.
        nats.publish(subject, "one".into()).await.expect("sent");
    }

    /// Asks without the library; the first message of the answer. The reply subject is left at once.
    async fn ask_by_hand(&self) -> async_nats::Message {
        let nats = self.stranger.nats();
        let inbox = nats.new_inbox();
        let mut answers = nats.subscribe(inbox.clone()).await.expect("subscribed");
        let mut headers = HeaderMap::new();
        headers.insert("Natstream", "1;w=65536;m=65536;h=1000");
        let subject = format!("{}.do", self.base);
        nats.publish_with_reply_and_headers(subject, inbox, headers, "item, silent".into())
            .await
            .expect("sent");
        answers.next().await.expect("a first message")
    }

    /// Sends the responder what belongs to no stream.
    async fn say_what_nobody_waits_for(&self) {
        let message = self.ask_by_hand().await;
        let control = beside(&message);
        let nats = self.stranger.nats();
        let state = [&[0xfe, 0x11, 0, 0, 0, 7, 0, 0][..], &[0x40, 100]].concat();
        for payload in [state, b"no meaning".to_vec(), vec![0xfe]] {
            let sent = nats.publish_with_reply(control.clone(), nats.new_inbox(), payload.into());
            sent.await.expect("sent");
        }
    }
}
