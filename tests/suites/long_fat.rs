//! Streams over a long way: a window follows the round trip, and what the responder keeps follows the window.
//!
//! How fast that is, `bench far` measures; here it is seen on the wire what both sides do.

use std::time::Duration;

use async_nats::Message;
use futures_util::StreamExt as _;
use integration::{LIMIT, connection};
use natstream::proto::{Frame, MAX_UNIT, NEAR_WINDOW};
use natstream::{Pool, Request, ResponseSender, Responses, Server};
use testkit::{Flow, NatsServer, Proxy, unique_subject, within};
use tokio::sync::watch;

/// One way of a long round trip: long enough that a busy machine gets through 2 MiB in much less.
const FAR: Duration = Duration::from_millis(150);

/// Items within which a window grows: 400 MB.
const ENOUGH: u64 = 100_000;

/// Of an item; its number stands in front.
const SIZE: usize = 4000;

/// What was seen on the wire of one stream.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    /// Of the last STATE.
    next: u64,
    /// The largest limit above what had arrived: the window.
    widest: u64,
    /// The most that was on its way, as far as the caller had told.
    ahead: u64,
}

impl Seen {
    fn note(&mut self, message: &Message) {
        match Frame::decode(&message.payload) {
            Ok(Frame::State { next, limit, .. }) => {
                self.next = self.next.max(next);
                self.widest = self.widest.max(limit.saturating_sub(next));
            }
            Ok(Frame::Unit(unit)) => self.ahead = self.ahead.max(unit.position.saturating_sub(self.next)),
            _ => {}
        }
    }

    /// Is more on its way than a stream may always have?
    fn is_far(&self) -> bool {
        self.widest > NEAR_WINDOW && self.ahead > NEAR_WINDOW + MAX_UNIT as u64
    }
}

/// A nats-server with a caller, a responder, a proxy before one of them, and somebody who sees everything.
struct Way {
    pool: Pool,
    proxy: Proxy,
    seen: watch::Receiver<Seen>,
    subject: String,
    _server: Server,
    _nats: NatsServer,
}

impl Way {
    /// The proxy stands before the caller, or before the responder.
    async fn new(before_the_caller: bool) -> Self {
        let nats = NatsServer::start().await;
        let proxy = Proxy::start(nats.url()).await;
        let (near, far) = (nats.url(), proxy.url());
        let (caller, responder) = if before_the_caller { (far, near) } else { (near, far) };
        let pool = Pool::new(connection(&caller).await);
        let server = Server::new(connection(&responder).await);
        let subject = unique_subject("far");
        let handler = |request: Request, mut out: ResponseSender| async move {
            let count = u64::from_be_bytes(request.payload()[..].try_into().expect("eight bytes"));
            let mut item = vec![7; SIZE];
            for number in 0..count {
                item[..8].copy_from_slice(&number.to_be_bytes());
                out.send(&item).await?;
            }
            Ok(())
        };
        within(LIMIT, server.on(&subject, handler)).await.expect("served");
        let seen = observe(&nats).await;
        Self {
            pool,
            proxy,
            seen,
            subject,
            _server: server,
            _nats: nats,
        }
    }

    async fn ask(&self, count: u64) -> Responses {
        let request = self.pool.request_stream(&self.subject, count.to_be_bytes().to_vec());
        within(LIMIT, request).await.expect("sent")
    }
}

/// Looks at all messages of the server.
async fn observe(nats: &NatsServer) -> watch::Receiver<Seen> {
    let client = async_nats::connect(nats.url()).await.expect("connected");
    let mut all = client.subscribe(">").await.expect("subscribed");
    client.flush().await.expect("the server has it");
    let (seen, watch) = watch::channel(Seen::default());
    tokio::spawn(async move {
        while let Some(message) = all.next().await {
            seen.send_modify(|seen| seen.note(&message));
        }
        drop(client);
    });
    watch
}

/// The next item, which has this number.
async fn item(responses: &mut Responses, number: u64) {
    let item = within(LIMIT, responses.try_next()).await;
    let item = item.expect("no error").expect("no end");
    assert_eq!(item[..8], number.to_be_bytes());
}

/// Reads until more is on its way than a stream may have that is not far. Returns how many items that took.
async fn grow(responses: &mut Responses, seen: &watch::Receiver<Seen>) -> u64 {
    let mut read = 0;
    while !seen.borrow().is_far() {
        assert!(read < ENOUGH, "{:?}", *seen.borrow());
        item(responses, read).await;
        read += 1;
    }
    read
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_is_on_its_way_where_the_round_trip_asks_for_it() {
    for before_the_caller in [true, false] {
        let way = Way::new(before_the_caller).await;
        way.proxy.delay(Flow::Both, FAR);
        let mut responses = way.ask(u64::MAX).await;
        grow(&mut responses, &way.seen).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_on_its_way_over_a_long_way_is_sent_again() {
    for before_the_caller in [true, false] {
        let way = Way::new(before_the_caller).await;
        way.proxy.delay(Flow::Both, FAR);
        let mut responses = way.ask(u64::MAX).await;
        let read = grow(&mut responses, &way.seen).await;
        // What is lost is more than the next items.
        way.proxy.cut();
        for number in read..read + 4 * NEAR_WINDOW / SIZE as u64 {
            item(&mut responses, number).await;
        }
        assert!(way.proxy.accepted() > 1);
    }
}
