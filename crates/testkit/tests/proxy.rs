//! The faults of the proxy, before a peer that echoes.
#![expect(
    clippy::disallowed_methods,
    reason = "delays and limits are real time, and the peer behind the proxy is a task"
)]

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use testkit::{Flow, Proxy, alive_tasks, settles, within};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

/// For what must happen.
const LONG: Duration = Duration::from_secs(30);
/// For what must not: a wrong proxy is faster than this, a right one never is.
const SHORT: Duration = Duration::from_millis(100);

/// A listener behind a proxy.
struct Target {
    listener: TcpListener,
    proxy: Proxy,
}

impl Target {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Proxy::start(listener.local_addr().unwrap()).await;
        Self { listener, proxy }
    }

    /// A connection through the proxy: the client's end and the target's.
    async fn connect(&self) -> (TcpStream, TcpStream) {
        let client = self.dial().await;
        let (target, _) = within(LONG, self.listener.accept()).await.unwrap();
        (client, target)
    }

    async fn dial(&self) -> TcpStream {
        within(LONG, TcpStream::connect(self.proxy.address())).await.unwrap()
    }
}

async fn read(stream: &mut TcpStream, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    within(LONG, stream.read_exact(&mut bytes)).await.unwrap();
    bytes
}

/// That bytes pass in both directions.
async fn talk(client: &mut TcpStream, target: &mut TcpStream) {
    client.write_all(b"ping").await.unwrap();
    assert_eq!(read(target, 4).await, b"ping");
    target.write_all(b"pong").await.unwrap();
    assert_eq!(read(client, 4).await, b"pong");
}

async fn assert_silent(stream: &mut TcpStream) {
    let read = tokio::time::timeout(SHORT, stream.read_u8()).await;
    assert!(read.is_err(), "{read:?} instead of silence");
}

async fn assert_reset(stream: &mut TcpStream) {
    let error = within(LONG, stream.read_u8()).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}

async fn assert_end(stream: &mut TcpStream) {
    assert_eq!(within(LONG, stream.read(&mut [0])).await.unwrap(), 0);
}

/// Bytes of which each place is known.
fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i % 251) as u8).collect()
}

#[tokio::test]
async fn bytes_and_ends_pass() {
    let at = Target::start().await;
    let (mut client, mut target) = at.connect().await;
    talk(&mut client, &mut target).await;
    assert_eq!((at.proxy.accepted(), at.proxy.live()), (1, 1));

    // Half closed: the other direction still works.
    client.shutdown().await.unwrap();
    assert_end(&mut target).await;
    target.write_all(b"last").await.unwrap();
    drop(target);
    assert_eq!(read(&mut client, 4).await, b"last");
    assert_end(&mut client).await;
    within(LONG, at.proxy.idle()).await;
    let passed = [Flow::ToServer, Flow::ToClient, Flow::Both].map(|flow| at.proxy.passed(flow));
    assert_eq!(passed, [4, 8, 12]);
}

#[tokio::test]
async fn many_bytes_pass_at_once_in_both_directions() {
    let at = Target::start().await;
    let (client, target) = at.connect().await;
    let sent = Arc::new(pattern(20_000_000));
    let mut tasks = JoinSet::new();
    for stream in [client, target] {
        let (mut reader, mut writer) = stream.into_split();
        let sent = sent.clone();
        let len = sent.len();
        tasks.spawn(async move { writer.write_all(&sent).await.map(|()| Vec::new()) });
        tasks.spawn(async move {
            let mut received = vec![0; len];
            reader.read_exact(&mut received).await.map(|_| received)
        });
    }
    let results = within(LONG, tasks.join_all()).await;
    let received: Vec<_> = results
        .into_iter()
        .map(Result::unwrap)
        .filter(|bytes| !bytes.is_empty())
        .collect();
    assert!(received == [&*sent, &*sent].map(Vec::clone));
}

#[tokio::test]
async fn a_reset_passes() {
    let at = Target::start().await;
    let (client, mut target) = at.connect().await;
    client.set_zero_linger().unwrap();
    drop(client);
    assert_reset(&mut target).await;

    let (mut client, target) = at.connect().await;
    target.set_zero_linger().unwrap();
    drop(target);
    assert_reset(&mut client).await;
    within(LONG, at.proxy.idle()).await;
}

#[tokio::test]
async fn a_target_that_is_down_resets() {
    let at = Target::start().await;
    let Target { listener, proxy } = at;
    drop(listener);
    let mut client = TcpStream::connect(proxy.address()).await.unwrap();
    assert_reset(&mut client).await;
}

#[tokio::test]
async fn a_delay_is_one_way_and_keeps_the_order() {
    let delay = Duration::from_millis(50);
    let at = Target::start().await;
    let (mut client, mut target) = at.connect().await;

    at.proxy.delay(Flow::ToServer, delay);
    let start = Instant::now();
    for byte in 0..100 {
        client.write_u8(byte).await.unwrap();
    }
    assert_eq!(read(&mut target, 100).await, pattern(100));
    assert!(start.elapsed() >= delay);

    at.proxy.delay(Flow::Both, delay);
    let start = Instant::now();
    talk(&mut client, &mut target).await;
    assert!(start.elapsed() >= 2 * delay);
}

#[tokio::test]
async fn a_delay_changes_for_what_is_on_the_way() {
    let at = Target::start().await;
    let (mut client, mut target) = at.connect().await;
    at.proxy.delay(Flow::ToServer, Duration::from_secs(3600));
    client.write_all(b"ping").await.unwrap();
    client.shutdown().await.unwrap();
    assert_silent(&mut target).await;
    at.proxy.delay(Flow::ToServer, Duration::ZERO);
    assert_eq!(read(&mut target, 4).await, b"ping");
    assert_end(&mut target).await;
}

#[tokio::test]
async fn a_delay_limits_no_bandwidth() {
    let at = Target::start().await;
    let (mut client, mut target) = at.connect().await;
    // All of it is on the way at the same time: with less room, it never got through.
    at.proxy.delay(Flow::ToServer, Duration::from_secs(3600));
    let sent = pattern(50_000_000);
    within(LONG, client.write_all(&sent)).await.unwrap();
    assert_eq!(at.proxy.passed(Flow::ToServer), 0);
    // What the proxy has not read yet is in the buffers of the client.
    at.proxy.delay(Flow::ToServer, Duration::ZERO);
    assert!(read(&mut target, sent.len()).await == sent);
}

#[tokio::test]
async fn a_bandwidth_limit_takes_time_and_loses_nothing() {
    let rate = 1_000_000;
    let sent = pattern(500_000);
    let at = Target::start().await;
    let (mut client, mut target) = at.connect().await;
    at.proxy.bandwidth(Flow::ToServer, rate);
    let start = Instant::now();
    let (written, received) = tokio::join!(client.write_all(&sent), read(&mut target, sent.len()));
    written.unwrap();
    assert!(received == sent);
    // Half a second, without the burst of 20 ms.
    assert!(start.elapsed() >= Duration::from_millis(480), "{:?}", start.elapsed());

    // The other direction has no limit, and this one not any more.
    at.proxy.bandwidth(Flow::ToClient, 1);
    at.proxy.bandwidth(Flow::Both, None);
    let (written, received) = tokio::join!(target.write_all(&sent), read(&mut client, sent.len()));
    written.unwrap();
    assert!(received == sent);
}

#[tokio::test]
async fn connections_share_the_bandwidth() {
    let rate = 1_000_000;
    let sent = pattern(100_000);
    let at = Target::start().await;
    let mut pairs = Vec::new();
    for _ in 0..4 {
        pairs.push(at.connect().await);
    }
    at.proxy.bandwidth(Flow::ToServer, rate);
    let start = Instant::now();
    let mut tasks = JoinSet::new();
    for (mut client, mut target) in pairs {
        let sent = sent.clone();
        tasks.spawn(async move {
            let (written, received) = tokio::join!(client.write_all(&sent), read(&mut target, sent.len()));
            written.unwrap();
            assert!(received == sent);
        });
    }
    within(LONG, tasks.join_all()).await;
    assert!(start.elapsed() >= Duration::from_millis(380), "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_cut_resets_both_ends_and_new_connections_work() {
    let at = Target::start().await;
    let mut pairs = [at.connect().await, at.connect().await];
    at.proxy.cut();
    for (client, target) in &mut pairs {
        assert_reset(client).await;
        assert_reset(target).await;
    }
    within(LONG, at.proxy.idle()).await;

    let (mut client, mut target) = at.connect().await;
    talk(&mut client, &mut target).await;
    assert_eq!(at.proxy.accepted(), 3);
}

#[tokio::test]
async fn refused_connections_are_reset_and_counted() {
    let at = Target::start().await;
    let (mut client, mut target) = at.connect().await;
    at.proxy.refuse(true);
    assert_reset(&mut client).await;
    assert_reset(&mut target).await;
    assert_reset(&mut at.dial().await).await;
    within(LONG, at.proxy.connected(2)).await;

    at.proxy.refuse(false);
    let (mut client, mut target) = at.connect().await;
    talk(&mut client, &mut target).await;
    assert_eq!(at.proxy.accepted(), 3);
}

#[tokio::test]
async fn a_closed_port_refuses_and_opens_again() {
    let at = Target::start().await;
    let (mut client, mut target) = at.connect().await;
    within(LONG, at.proxy.listen(false)).await;
    let error = TcpStream::connect(at.proxy.address()).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    talk(&mut client, &mut target).await;

    within(LONG, at.proxy.listen(true)).await;
    let (mut client, mut target) = at.connect().await;
    talk(&mut client, &mut target).await;
}

#[tokio::test]
async fn a_blackhole_holds_one_direction() {
    let at = Target::start().await;
    let (mut client, mut target) = at.connect().await;
    at.proxy.blackhole(Flow::ToClient, true);
    client.write_all(b"ping").await.unwrap();
    assert_eq!(read(&mut target, 4).await, b"ping");
    target.write_all(b"pong").await.unwrap();
    assert_silent(&mut client).await;
    at.proxy.blackhole(Flow::ToClient, false);
    assert_eq!(read(&mut client, 4).await, b"pong");
}

#[tokio::test]
async fn all_bytes_come_out_of_a_blackhole_in_order() {
    let at = Target::start().await;
    let (mut client, mut target) = at.connect().await;
    at.proxy.blackhole(Flow::Both, true);

    // More than buffers hold: the sender is stuck in the middle.
    let sent = pattern(30_000_000);
    let sender = async {
        client.write_all(&sent).await.unwrap();
        client.shutdown().await.unwrap();
    };
    let receiver = async {
        assert_silent(&mut target).await;
        assert_eq!(at.proxy.passed(Flow::Both), 0);
        at.proxy.blackhole(Flow::Both, false);
        assert!(read(&mut target, sent.len()).await == sent);
        assert_end(&mut target).await;
    };
    within(LONG, async { tokio::join!(sender, receiver) }).await;
}

#[tokio::test]
async fn new_connections_hang_in_a_blackhole() {
    let at = Target::start().await;
    at.proxy.blackhole(Flow::ToClient, true);
    let mut client = at.dial().await;
    within(LONG, at.proxy.connected(1)).await;
    tokio::time::timeout(SHORT, at.listener.accept()).await.unwrap_err();
    at.proxy.blackhole(Flow::ToClient, false);
    let (mut target, _) = within(LONG, at.listener.accept()).await.unwrap();
    talk(&mut client, &mut target).await;
}

#[tokio::test]
async fn a_blackhole_can_be_cut() {
    let at = Target::start().await;
    let (mut client, mut target) = at.connect().await;
    at.proxy.blackhole(Flow::Both, true);
    let mut waiting = at.dial().await;
    within(LONG, at.proxy.connected(2)).await;
    at.proxy.cut();
    for stream in [&mut client, &mut target, &mut waiting] {
        assert_reset(stream).await;
    }
}

#[tokio::test]
async fn a_half_open_target_is_alive_and_silent() {
    let at = Target::start().await;
    let (mut client, mut target) = at.connect().await;
    at.proxy.half_open(Flow::ToClient, true);
    // It is never held up: its bytes are read.
    within(LONG, target.write_all(&pattern(30_000_000))).await.unwrap();
    client.write_all(b"ping").await.unwrap();
    assert_eq!(read(&mut target, 4).await, b"ping");
    drop(target);
    client.write_all(b"anybody?").await.unwrap();
    assert_silent(&mut client).await;

    // Lost bytes never come back, and this connection does not either. New ones do.
    at.proxy.half_open(Flow::ToClient, false);
    client.write_all(b"anybody?").await.unwrap();
    assert_silent(&mut client).await;
    assert_eq!(at.proxy.passed(Flow::ToClient), 0);
    let (mut new, mut target) = at.connect().await;
    talk(&mut new, &mut target).await;
    drop((client, new, target));
    within(LONG, at.proxy.idle()).await;
}

#[tokio::test]
async fn a_half_open_client_is_alive_and_silent() {
    for reset in [false, true] {
        let at = Target::start().await;
        let (client, mut target) = at.connect().await;
        // For a moment is for ever.
        at.proxy.half_open(Flow::ToServer, true);
        at.proxy.half_open(Flow::ToServer, false);
        if reset {
            client.set_zero_linger().unwrap();
        }
        drop(client);
        // The second would fail after a reset that got through.
        for _ in 0..2 {
            target.write_all(b"anybody?").await.unwrap();
            assert_silent(&mut target).await;
        }
        at.proxy.cut();
        assert_reset(&mut target).await;
    }
}

#[tokio::test]
async fn the_end_of_the_proxy_ends_everything() {
    let before = alive_tasks();
    let at = Target::start().await;
    let (client, target) = at.connect().await;
    at.proxy.blackhole(Flow::Both, true);
    let waiting = at.dial().await;
    within(LONG, at.proxy.connected(2)).await;
    assert_eq!(alive_tasks(), before + 3);
    let address = at.proxy.address();
    drop(at.proxy);
    settles(LONG, || async { alive_tasks() }, before).await;
    for mut stream in [client, target, waiting] {
        // Orderly or reset, as the system likes.
        let ended = within(LONG, stream.read(&mut [0])).await;
        assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
    }
    TcpStream::connect(address).await.unwrap_err();
}

#[tokio::test]
async fn the_target_may_be_a_url() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let proxy = Proxy::start(format!("nats://{address}")).await;
    assert_eq!(proxy.url(), format!("nats://{}", proxy.address()));
    let _client = TcpStream::connect(proxy.address()).await.unwrap();
    within(LONG, listener.accept()).await.unwrap();
}
