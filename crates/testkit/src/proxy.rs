//! A TCP proxy that disturbs what passes through it.

use std::{
    fmt,
    net::{Ipv4Addr, SocketAddr},
    num::NonZeroU64,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{net::TcpListener, sync::watch, task::JoinSet, time::Instant};

use crate::free_port::free_port;

mod accept;
mod bucket;
mod connection;
mod pump;
mod settings;

pub use self::settings::Flow;
use self::{
    accept::{Listening, accept},
    bucket::Bucket,
    settings::{Faults, Settings, Side},
};

/// How often another port is tried when somebody else was faster.
const ATTEMPTS: usize = 10;

/// A TCP proxy on a port of 127.0.0.1 in front of a server, to take its network away.
///
/// Its port stays the same for its life. Each fault is set through `&self` at any time, and
/// counts at once: for live connections and for new ones. Without faults bytes pass as they come,
/// and so does the end of a connection, orderly or reset. When the target cannot be reached, the
/// connection is reset.
///
/// Dropping the proxy ends its tasks, closes its connections and its port. It has one task, and
/// one for each live connection. A connection keeps up to 192 KiB in each direction, and under a
/// delay what is on the way besides: at most 64 MiB.
///
/// # Discovered servers
///
/// The servers of a cluster tell clients of each other (`connect_urls`), and a client that lost
/// its proxy then goes around it. Tests through a proxy turn that off: in the client by
/// `ignore_discovered_servers`, or in the servers by
/// [`ClusterBuilder::advertise`](crate::ClusterBuilder::advertise), which is `no_advertise: true` in
/// the block `cluster` of a configuration. A server without a cluster tells nothing.
///
/// # Examples
///
/// ```no_run
/// use std::time::Duration;
///
/// use testkit::{Flow, NatsServer, Proxy};
///
/// # async fn doc() {
/// let server = NatsServer::start().await;
/// let proxy = Proxy::start(server.url()).await;
/// // … a client connects to `proxy.url()` …
/// proxy.connected(1).await;
/// proxy.delay(Flow::Both, Duration::from_millis(20)); // A round trip of 40 ms and more.
/// proxy.cut(); // The client notices, and comes back.
/// proxy.connected(2).await;
/// # }
/// ```
pub struct Proxy {
    address: SocketAddr,
    link: Arc<Link>,
    /// Ended by its drop, and with it the tasks of all connections.
    _tasks: JoinSet<()>,
}

/// What the guard shares with the tasks.
struct Link {
    /// `host:port`
    target: String,
    settings: watch::Sender<Settings>,
    listening: watch::Sender<Listening>,
    accepted: watch::Sender<u64>,
    live: watch::Sender<usize>,
    passed: [AtomicU64; 2],
    buckets: [Mutex<Bucket>; 2],
}

impl Proxy {
    /// Starts a proxy in front of `target`: `127.0.0.1:4222`, a URL with that behind its `://`,
    /// or a `SocketAddr`. The target is dialled for each connection, and may be down meanwhile.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime with I/O and time, and when no port is free.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves nothing behind.
    pub async fn start(target: impl ToString) -> Self {
        let target = target.to_string();
        let target = target.split_once("://").map_or(&*target, |(_, rest)| rest);
        let (listener, address) = bind().await;
        let link = Arc::new(Link {
            target: target.trim_end_matches('/').to_owned(),
            settings: watch::Sender::new(Settings::new()),
            listening: watch::Sender::new(Listening::Yes),
            accepted: watch::Sender::new(0),
            live: watch::Sender::new(0),
            passed: Default::default(),
            buckets: [(); 2].map(|()| Mutex::new(Bucket::new(Instant::now()))),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, address, link.clone()));
        Self {
            address,
            link,
            _tasks: tasks,
        }
    }

    /// The URL for clients, `nats://127.0.0.1:PORT`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("nats://{}", self.address)
    }

    /// Where the proxy listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Every byte arrives `one_way` later than without the proxy. Zero ends it.
    ///
    /// Bytes keep their order, and their number per second: at most 64 MiB of a connection are on
    /// the way in one direction. What is on the way already is hurried or slowed too.
    pub fn delay(&self, flow: Flow, one_way: Duration) {
        self.fault(flow, |faults| faults.delay = one_way);
    }

    /// No more than this many bytes pass in a second, of all connections together, and in each
    /// direction of `flow`. `None` ends it.
    ///
    /// Nothing is lost: senders are held up. After an idle time, the bytes of 20 ms pass at once.
    ///
    /// # Panics
    ///
    /// When the limit is zero; that is a [`blackhole`](Self::blackhole).
    pub fn bandwidth(&self, flow: Flow, bytes_per_second: impl Into<Option<u64>>) {
        let limit = bytes_per_second
            .into()
            .map(|limit| NonZeroU64::new(limit).expect("a limit of 0 bytes per second is a blackhole"));
        self.fault(flow, |faults| faults.bytes_per_second = limit);
    }

    /// Resets all connections that were accepted so far, at both ends (TCP RST). New ones are welcome.
    ///
    /// A client may be connected before it is accepted here: wait for [`connected`](Self::connected)
    /// first.
    pub fn cut(&self) {
        self.link.settings.send_modify(|settings| settings.cuts += 1);
    }

    /// Turned on, it [cuts](Self::cut) live connections, and resets new ones at once.
    pub fn refuse(&self, on: bool) {
        self.link.settings.send_modify(|settings| {
            settings.refuse = on;
            settings.cuts += u64::from(on);
        });
    }

    /// Whether the port is listened on; turned off, the system refuses connections. Live ones stay.
    ///
    /// Returns when it is so. To the outside, a server that is down: `listen(false)` and [`cut`](Self::cut).
    ///
    /// # Panics
    ///
    /// When another process has taken the port meanwhile.
    ///
    /// # Cancel safety
    ///
    /// Takes effect at the first poll. Dropping the future later only stops waiting.
    pub async fn listen(&self, on: bool) {
        let wanted = if on { Listening::Yes } else { Listening::No };
        let mut listening = self.link.listening.subscribe();
        self.link.settings.send_modify(|settings| settings.listen = on);
        let state = listening
            .wait_for(|state| *state == wanted || matches!(state, Listening::Failed(_)))
            .await
            .expect("the sender lives in `self`");
        if let Listening::Failed(error) = &*state {
            panic!("cannot listen on {} again: {error}", self.address);
        }
    }

    /// While on, the bytes of `flow` wait, and so does the end of a connection. They arrive, in
    /// order, when it ends.
    ///
    /// Nothing more is read meanwhile, so that a sender is held up by its own buffers, as on a network that
    /// went silent. New connections are accepted, and the target is not dialled until both
    /// directions are open.
    pub fn blackhole(&self, flow: Flow, on: bool) {
        self.fault(flow, |faults| faults.hold = on);
    }

    /// While on, connections become half-open: the bytes of `flow` are read and lost, and neither
    /// an end nor a reset gets through.
    ///
    /// To the receiver, the other side is alive by all that TCP shows, and silent. Since bytes
    /// are lost, this is for the life of a connection, also when it is turned off again; new
    /// connections work then.
    pub fn half_open(&self, flow: Flow, on: bool) {
        self.fault(flow, |faults| faults.silence(on));
    }

    /// How many connections were accepted so far. Those that were [refused](Self::refuse) count.
    #[must_use]
    pub fn accepted(&self) -> u64 {
        *self.link.accepted.borrow()
    }

    /// How many connections were accepted and have not ended.
    #[must_use]
    pub fn live(&self) -> usize {
        *self.link.live.borrow()
    }

    /// How many bytes were handed to the receivers of `flow` so far, of all connections. Lost
    /// ones do not count.
    #[must_use]
    pub fn passed(&self, flow: Flow) -> u64 {
        let passed = |side: &Side| self.link.passed[side.index()].load(Ordering::Relaxed);
        flow.sides().iter().map(passed).sum()
    }

    /// Waits until at least `n` connections were [accepted](Self::accepted) since the start.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future only stops waiting.
    pub async fn connected(&self, n: u64) {
        let mut accepted = self.link.accepted.subscribe();
        let reached = accepted.wait_for(|accepted| *accepted >= n).await;
        reached.expect("the sender lives in `self`");
    }

    /// Waits until no connection is [live](Self::live).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future only stops waiting.
    pub async fn idle(&self) {
        let mut live = self.link.live.subscribe();
        let reached = live.wait_for(|live| *live == 0).await;
        reached.expect("the sender lives in `self`");
    }

    fn fault(&self, flow: Flow, change: impl Fn(&mut Faults)) {
        self.link.settings.send_modify(|settings| {
            for side in flow.sides() {
                change(&mut settings.faults[side.index()]);
            }
        });
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy")
            .field("address", &self.address)
            .field("target", &self.link.target)
            .field("settings", &*self.link.settings.borrow())
            .field("accepted", &self.accepted())
            .field("live", &self.live())
            .finish_non_exhaustive()
    }
}

impl Link {
    fn bucket(&self, side: Side) -> MutexGuard<'_, Bucket> {
        // A bucket is valid at every moment.
        self.buckets[side.index()]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

async fn bind() -> (TcpListener, SocketAddr) {
    let mut last = None;
    for _ in 0..ATTEMPTS {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        match TcpListener::bind(address).await {
            Ok(listener) => return (listener, address),
            Err(error) => last = Some(error),
        }
    }
    panic!("cannot listen on any of {ATTEMPTS} ports: {last:?}");
}
