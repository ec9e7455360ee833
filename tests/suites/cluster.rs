//! A cluster of three nats-servers whose nodes die, restart and leave, in the middle of streams.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use integration::LIMIT;
use natstream::{
    ConnectConfig, Connection, HandlerError, LostCause, NextRequest, Pool, Request, ResponseSender, Responses,
    RetryPolicy, Server,
};
use testkit::{Cluster, settles_where, unique_subject, within};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

/// A cluster needs some time to form on a busy machine.
const START: Duration = Duration::from_secs(90);

/// A client that begins at node `home`, and knows all.
async fn connect(cluster: &Cluster, home: usize) -> Connection {
    let mut urls = cluster.urls();
    urls.rotate_left(home);
    let config = ConnectConfig::new(urls).retain_servers_order();
    let connection = within(LIMIT, Connection::connect(config)).await.expect("connected");
    assert_eq!(node_of(&connection), format!("n{home}"));
    connection
}

/// The name of the node that a client is with.
fn node_of(connection: &Connection) -> String {
    connection.server_info().server_name
}

/// A caller and a responder at nodes of their own, and a stream between them that the test sets the pace of.
struct Call {
    pool: Pool,
    server: Server,
    /// One for each item that may be sent.
    pace: Arc<Semaphore>,
    responses: Responses,
    received: u64,
}

impl Call {
    async fn begin(cluster: &Cluster, caller: usize, responder: usize) -> Self {
        let server = Server::new(connect(cluster, responder).await);
        let pool = Pool::new(connect(cluster, caller).await);
        let subject = unique_subject("cluster");
        let pace = Arc::new(Semaphore::new(0));
        let handler = {
            let pace = pace.clone();
            move |_request, mut out: ResponseSender| {
                let pace = pace.clone();
                async move {
                    // It is closed to end the stream.
                    while let Ok(permit) = pace.acquire().await {
                        permit.forget();
                        out.send(out.sent().to_be_bytes()).await?;
                    }
                    Ok(())
                }
            }
        };
        within(LIMIT, server.on(&subject, handler)).await.expect("served");
        known(&pool, &server).await;
        let responses = within(LIMIT, pool.request_stream(&subject, "")).await.expect("sent");
        let mut call = Self {
            pool,
            server,
            pace,
            responses,
            received: 0,
        };
        call.goes_on().await;
        call
    }

    /// The handler may send 100 items more.
    fn more(&self) {
        self.pace.add_permits(100);
    }

    /// The next 100 items come.
    async fn come(&mut self) {
        for _ in 0..100 {
            let item = within(LIMIT, self.responses.try_next()).await;
            let item = item.expect("no loss").expect("no end");
            assert_eq!(item, self.received.to_be_bytes()[..]);
            self.received += 1;
        }
    }

    async fn goes_on(&mut self) {
        self.more();
        self.come().await;
    }

    async fn ends(mut self) {
        self.goes_on().await;
        self.pace.close();
        assert!(
            within(LIMIT, self.responses.try_next())
                .await
                .expect("complete")
                .is_none()
        );
        assert_eq!(self.responses.attempt(), 1);
    }
}

/// Waits until the caller's node knows what the responder serves: interest takes a moment to cross a cluster.
async fn known(pool: &Pool, server: &Server) {
    let probe = unique_subject("probe");
    let endpoint = within(LIMIT, server.on_items(&probe, |_| async { Ok(["here"]) }))
        .await
        .expect("served");
    settles_where(
        LIMIT,
        || async {
            let responses = pool.request_stream(&probe, "").await.expect("sent");
            responses.collect_all(1024).await.is_ok()
        },
        |is_known| *is_known,
    )
    .await;
    within(LIMIT, endpoint.unsubscribe()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_crosses_nodes() {
    let cluster = within(START, Cluster::start(3)).await;
    let mut call = Call::begin(&cluster, 0, 1).await;
    call.goes_on().await;
    assert_eq!(call.responses.reconnects(), 0);
    call.ends().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_survives_the_death_of_its_callers_node() {
    let mut cluster = within(START, Cluster::start(3)).await;
    let mut call = Call::begin(&cluster, 0, 1).await;
    cluster.node_mut(0).kill();
    call.goes_on().await;
    assert_ne!(node_of(call.pool.connection().expect("one connection")), "n0");
    assert_eq!(call.responses.reconnects(), 1);
    call.ends().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_survives_the_death_of_its_responders_node() {
    let mut cluster = within(START, Cluster::start(3)).await;
    let mut call = Call::begin(&cluster, 0, 1).await;
    cluster.node_mut(1).kill();
    call.goes_on().await;
    assert_ne!(node_of(call.server.connection()), "n1");
    assert_eq!(call.responses.reconnects(), 0, "the caller stayed where it was");
    call.ends().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_does_not_notice_the_death_of_a_third_node() {
    let mut cluster = within(START, Cluster::start(3)).await;
    let mut call = Call::begin(&cluster, 0, 1).await;
    cluster.node_mut(2).kill();
    call.goes_on().await;
    assert_eq!(call.responses.reconnects(), 0);
    assert_eq!(call.responses.retransmitted(), 0);
    assert_eq!(call.server.connection().state().borrow().epoch, 1);
    call.ends().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_survives_the_death_of_the_node_that_both_are_at() {
    let mut cluster = within(START, Cluster::start(3)).await;
    let mut call = Call::begin(&cluster, 2, 2).await;
    cluster.node_mut(2).kill();
    call.goes_on().await;
    assert_eq!(call.responses.reconnects(), 1);
    call.ends().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_under_way_when_a_node_died_comes_once() {
    let mut cluster = within(START, Cluster::start(3)).await;
    let mut call = Call::begin(&cluster, 0, 1).await;
    for dying in [1, 0] {
        call.more();
        // Nothing of it was read: some are here, some on their way, some are sent during the outage.
        cluster.node_mut(dying).kill();
        call.more();
        call.come().await;
        call.come().await;
        within(START, cluster.node_mut(dying).restart()).await;
        within(START, cluster.formed()).await;
    }
    call.ends().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_survives_the_death_of_one_node_after_the_other() {
    let mut cluster = within(START, Cluster::start(3)).await;
    let mut call = Call::begin(&cluster, 0, 1).await;
    for node in 0..3 {
        cluster.node_mut(node).kill();
        call.goes_on().await;
        within(START, cluster.node_mut(node).restart()).await;
        within(START, cluster.formed()).await;
        call.goes_on().await;
    }
    call.ends().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_waits_for_a_cluster_that_is_gone() {
    let mut cluster = within(START, Cluster::start(3)).await;
    let mut call = Call::begin(&cluster, 0, 1).await;
    for node in 0..3 {
        cluster.node_mut(node).kill();
    }
    call.more();
    for node in 0..3 {
        within(START, cluster.node_mut(node).restart()).await;
    }
    within(START, cluster.formed()).await;
    call.come().await;
    call.ends().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_calls_with_a_retry_policy_survive_the_death_of_a_node() {
    let mut cluster = within(START, Cluster::start(3)).await;
    let server = Server::new(connect(&cluster, 1).await);
    let subject = unique_subject("cluster");
    within(LIMIT, server.on_items(&subject, |_| async { Ok(["1", "2"]) }))
        .await
        .expect("served");
    let pool = Pool::new(connect(&cluster, 0).await);
    known(&pool, &server).await;
    for dying in [0, 1] {
        cluster.node_mut(dying).kill();
        let request = pool
            .request_stream(&subject, "")
            .retry(RetryPolicy::fixed(100, Duration::from_millis(50)));
        let responses = within(LIMIT, request).await.expect("sent");
        let items = within(LIMIT, responses.collect_all(1024)).await.expect("complete");
        assert_eq!(items, ["1", "2"]);
        within(START, cluster.node_mut(dying).restart()).await;
        within(START, cluster.formed()).await;
    }
}

/// A client that stays at node `home`, and is gone with it.
async fn stay(cluster: &Cluster, home: usize) -> Connection {
    let config = ConnectConfig::new(cluster.url(home)).ignore_discovered_servers();
    within(LIMIT, Connection::connect(config)).await.expect("connected")
}

/// Serves `subject` with the numbers from that in the request up to `to`. Then the stream ends, or stays open.
async fn serve_numbers(server: &Server, subject: &str, to: u64, ends: bool) {
    let handler = move |request: Request, mut out: ResponseSender| async move {
        let from = u64::from_be_bytes(request.payload()[..].try_into().expect("eight bytes"));
        for number in from..to {
            out.send(number.to_be_bytes()).await?;
        }
        if !ends {
            out.closed().await;
        }
        Ok(())
    };
    within(LIMIT, server.on(subject, handler)).await.expect("served");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_resumes_at_another_node_when_its_responder_is_gone_with_its_own() {
    let mut cluster = within(START, Cluster::start(3)).await;
    let first = Server::new(stay(&cluster, 1).await);
    let second = Server::new(connect(&cluster, 2).await);
    let pool = Pool::new(connect(&cluster, 0).await);
    let (subject, other) = (unique_subject("resume"), unique_subject("resume"));
    serve_numbers(&first, &subject, 50, false).await;
    serve_numbers(&second, &other, 100, true).await;
    known(&pool, &first).await;
    known(&pool, &second).await;
    let request = pool
        .request_stream(&subject, vec![0; 8])
        .heartbeat(Duration::from_secs(1))
        .resume(move |last| {
            let last = u64::from_be_bytes(last[..].try_into().expect("eight bytes"));
            NextRequest::new((last + 1).to_be_bytes().to_vec()).subject(&other)
        });
    let mut responses = within(LIMIT, request).await.expect("sent");
    for expected in 0..100u64 {
        if expected == 50 {
            cluster.node_mut(1).kill();
        }
        let item = within(LIMIT, responses.try_next()).await;
        assert_eq!(item.expect("no error").expect("no end"), expected.to_be_bytes()[..]);
    }
    assert!(within(LIMIT, responses.try_next()).await.expect("complete").is_none());
    assert_eq!((responses.attempt(), responses.reconnects()), (2, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_of_a_node_that_hangs_is_lost_after_three_heartbeats() {
    let mut cluster = within(START, Cluster::start(3)).await;
    let server = Server::new(connect(&cluster, 1).await);
    let pool = Pool::new(connect(&cluster, 0).await);
    let subject = unique_subject("hangs");
    serve_numbers(&server, &subject, 1, false).await;
    known(&pool, &server).await;
    let request = pool
        .request_stream(&subject, vec![0; 8])
        .heartbeat(Duration::from_secs(1));
    let mut responses = within(LIMIT, request).await.expect("sent");
    within(LIMIT, responses.try_next()).await.expect("an item");
    cluster.node_mut(1).pause();
    let error = within(LIMIT, responses.try_next()).await.expect_err("nobody speaks");
    assert_eq!(error.lost_cause(), Some(LostCause::Silent));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_survives_a_node_that_hangs_for_a_moment() {
    let mut cluster = within(START, Cluster::start(3)).await;
    let mut call = Call::begin(&cluster, 0, 1).await;
    for node in [1, 0] {
        cluster.node_mut(node).pause();
        call.more();
        cluster.node_mut(node).resume();
        call.come().await;
    }
    assert_eq!(call.responses.reconnects(), 0);
    call.ends().await;
}

/// Sends a number every few milliseconds until it is told to end; the last item is how many there were before it.
async fn tick(mut end: watch::Receiver<bool>, mut out: ResponseSender) -> Result<(), HandlerError> {
    let mut pace = tokio::time::interval(Duration::from_millis(5));
    while !*end.borrow_and_update() {
        out.send(out.sent().to_be_bytes()).await?;
        pace.tick().await;
    }
    let sent = out.sent();
    out.send(sent.to_be_bytes()).await?;
    out.finish_with(sent.to_be_bytes().to_vec());
    Ok(())
}

/// Reads to the end; returns how many came.
async fn read(mut responses: Responses, received: Arc<AtomicU64>) -> u64 {
    let mut expected = 0u64;
    loop {
        let item = within(LIMIT, responses.try_next()).await;
        let Some(item) = item.unwrap_or_else(|error| panic!("after {expected} items: {error}")) else {
            break;
        };
        assert_eq!(item, expected.to_be_bytes()[..]);
        expected += 1;
        received.fetch_add(1, Ordering::Relaxed);
    }
    assert_eq!(responses.trailers().expect("an end")[..], (expected - 1).to_be_bytes());
    expected
}

/// Waits until each has received something more.
async fn all_go_on(progress: &[Arc<AtomicU64>]) {
    for received in progress {
        let before = received.load(Ordering::Relaxed);
        settles_where(
            LIMIT,
            || async { received.load(Ordering::Relaxed) },
            |now| *now > before,
        )
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_survive_a_rolling_restart_of_all_nodes() {
    const CALLS: usize = 21;
    let mut cluster = within(START, Cluster::start(3)).await;
    let (end, ended) = watch::channel(false);
    let mut servers = Vec::new();
    let mut pools = Vec::new();
    let mut calls = JoinSet::new();
    let mut progress = Vec::new();
    for node in 0..3 {
        let subject = unique_subject("rolling");
        let server = Server::new(connect(&cluster, node).await);
        let ended = ended.clone();
        let handler = move |_request: Request, out: ResponseSender| tick(ended.clone(), out);
        within(LIMIT, server.on(&subject, handler)).await.expect("served");
        let pool = Pool::new(connect(&cluster, (node + 1) % 3).await);
        known(&pool, &server).await;
        for _ in 0..CALLS / 3 {
            let responses = within(LIMIT, pool.request_stream(&subject, "")).await.expect("sent");
            let received = Arc::new(AtomicU64::new(0));
            progress.push(received.clone());
            calls.spawn(read(responses, received));
        }
        servers.push(server);
        pools.push(pool);
    }
    // A request that is on its way when a connection dies would end as unanswered.
    all_go_on(&progress).await;
    for node in 0..3 {
        within(START, cluster.node_mut(node).restart()).await;
        within(START, cluster.formed()).await;
        // Before the next node is taken down.
        all_go_on(&progress).await;
    }
    end.send_replace(true);
    while let Some(call) = within(LIMIT, calls.join_next()).await {
        assert!(call.expect("no panic") > 1);
    }
    let reconnects = |connection: &Connection| connection.state().borrow().epoch - 1;
    let moved: u64 = pools
        .iter()
        .map(|pool| reconnects(pool.connection().expect("one connection")))
        .sum();
    assert!(moved >= 3, "the restarts were not felt");
    drop(servers);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_survive_nodes_in_lame_duck_mode() {
    let builder = Cluster::builder(3).config("lame_duck_grace_period: \"100ms\"");
    let mut cluster = within(START, builder.start()).await;
    let mut call = Call::begin(&cluster, 0, 1).await;
    for node in [0, 1] {
        cluster.node_mut(node).lame_duck();
        call.more();
        within(LIMIT, cluster.node_mut(node).ended(LIMIT)).await;
        call.come().await;
        call.goes_on().await;
        within(START, cluster.node_mut(node).restart()).await;
        within(START, cluster.formed()).await;
    }
    assert_ne!(node_of(call.pool.connection().expect("one connection")), "n0");
    call.ends().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_knows_that_its_node_is_a_lame_duck() {
    let builder = Cluster::builder(3).config("lame_duck_grace_period: \"2s\"");
    let mut cluster = within(START, builder.start()).await;
    let mut call = Call::begin(&cluster, 0, 1).await;
    let mut state = call.pool.connection().expect("one connection").state();
    cluster.node_mut(0).lame_duck();
    within(LIMIT, state.wait_for(|state| state.lame_duck))
        .await
        .expect("it is told");
    // The stream goes on meanwhile, and after the move.
    call.goes_on().await;
    within(LIMIT, state.wait_for(|state| state.epoch == 2 && state.is_connected()))
        .await
        .expect("it moves");
    assert!(!state.borrow().lame_duck, "it is over with the move");
    call.ends().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_call_with_a_retry_policy_fails_in_a_rolling_restart_under_load() {
    const CALLERS: usize = 20;
    let mut cluster = within(START, Cluster::start(3)).await;
    let subject = unique_subject("rolling");
    let end = Arc::new(AtomicBool::new(false));
    let mut callers = JoinSet::new();
    let mut progress = Vec::new();
    // A request that is on its way when a connection dies is not answered; that need not take 5 s to notice.
    let policy = RetryPolicy::fixed(100, Duration::from_millis(50))
        .restart()
        .attempt_deadline(Duration::from_secs(1));
    // A responder at one node only: calls from the others cross the cluster.
    let server = Server::new(connect(&cluster, 0).await);
    within(LIMIT, server.on_items(&subject, |_| async { Ok(["1", "2", "3"]) }))
        .await
        .expect("served");
    let mut pools = Vec::new();
    for node in 0..3 {
        let pool = Pool::new(connect(&cluster, node).await);
        known(&pool, &server).await;
        pools.push(pool);
    }
    for pool in pools.iter().cycle().take(CALLERS) {
        let pool = pool.clone();
        let (subject, policy, end) = (subject.clone(), policy.clone(), end.clone());
        let made = Arc::new(AtomicU64::new(0));
        progress.push(made.clone());
        callers.spawn(async move {
            while !end.load(Ordering::Relaxed) {
                let request = pool.request_stream(&subject, "").retry(policy.clone());
                let responses = within(LIMIT, request).await.expect("sent");
                let items = within(LIMIT, responses.collect_all(1024)).await;
                assert_eq!(items.expect("complete"), ["1", "2", "3"]);
                made.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    all_go_on(&progress).await;
    for node in 0..3 {
        within(START, cluster.node_mut(node).restart()).await;
        within(START, cluster.formed()).await;
        all_go_on(&progress).await;
    }
    end.store(true, Ordering::Relaxed);
    while let Some(caller) = within(LIMIT, callers.join_next()).await {
        caller.expect("no panic");
    }
}
