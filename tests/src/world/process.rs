//! Programs: each has a runtime of its own, so that it can be killed without a word.

use std::time::Duration;

use natstream::{ConnectConfig, Connection, Endpoint, Pool, Server};
use testkit::{Flow, Proxy, alive_tasks, settles, settles_where, within};
use tokio::runtime::{Builder, Handle, Runtime};

use super::DETECTION;
use crate::LIMIT;
use crate::load::{Caller, Ledger, Progress, serve};

/// So many looks at the tasks in a row, 5 ms apart, see the same number.
const STEADY: u32 = 20;

/// A runtime that can be ended from within another one.
#[derive(Debug)]
struct Process(Option<Runtime>);

impl Process {
    fn start() -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build();
        Self(Some(runtime.expect("a runtime")))
    }

    fn handle(&self) -> &Handle {
        self.0.as_ref().expect("it runs").handle()
    }

    /// Runs `future` inside.
    async fn run<T: Send + 'static>(&self, future: impl Future<Output = T> + Send + 'static) -> T {
        within(LIMIT, self.handle().spawn(future)).await.expect("no panic")
    }

    fn tasks(&self) -> usize {
        self.0.as_ref().map_or(0, |runtime| {
            let _inside = runtime.enter();
            alive_tasks()
        })
    }

    /// Alive tasks when those that began it have ended: the same for a while.
    async fn idle_tasks(&self) -> usize {
        let (mut tasks, mut looks) = (self.tasks(), 0);
        let steady = |now: &usize| {
            looks = if *now == tasks { looks + 1 } else { 0 };
            tasks = *now;
            looks == STEADY
        };
        settles_where(LIMIT, async || self.tasks(), steady).await
    }

    fn kill(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// What nats-server has for a confirmation.
const CLOSE: Duration = Duration::from_secs(10);

async fn connect(url: String) -> Connection {
    let config = ConnectConfig::new(url)
        .ping_interval(Duration::from_secs(1))
        .connect_timeout(Duration::from_secs(2));
    loop {
        // nats-server may be down just now.
        if let Ok(connection) = Connection::connect(config.clone()).await {
            return connection;
        }
    }
}

/// Waits until no stream has a timer or waits to send.
async fn streams_are_forgotten(connection: &Connection) {
    settles(DETECTION, async || connection.driver().load(), (0, 0)).await;
}

/// A program that calls.
#[derive(Debug)]
pub struct Asker {
    process: Process,
    pub(super) proxy: Proxy,
    pool: Pool,
    /// Tasks when it does nothing.
    idle: usize,
}

impl Asker {
    pub(super) async fn start(url: &str, subject: &str) -> Self {
        let process = Process::start();
        let proxy = Proxy::start(url).await;
        let url = proxy.url();
        let subject = subject.to_owned();
        let pool = process
            .run(async move {
                let pool = Pool::new(connect(url).await);
                // The first call subscribes. What comes of it is of no interest.
                loop {
                    if let Ok(mut responses) = pool.request_stream(&subject, "").await {
                        responses.try_next().await.expect_err("an empty request is refused");
                        return pool;
                    }
                }
            })
            .await;
        streams_are_forgotten(pool.connection().expect("one connection")).await;
        Self {
            idle: process.idle_tasks().await,
            process,
            proxy,
            pool,
        }
    }

    /// What makes its calls.
    #[must_use]
    pub fn caller(&self, subject: &str, progress: &Progress) -> Caller {
        Caller {
            pool: self.pool.clone(),
            subject: subject.to_owned(),
            progress: progress.clone(),
        }
    }

    /// Its runtime.
    #[must_use]
    pub fn handle(&self) -> &Handle {
        self.process.handle()
    }

    /// Its alive tasks.
    #[must_use]
    pub fn tasks(&self) -> usize {
        self.process.tasks()
    }

    pub(super) async fn settled(&self) {
        streams_are_forgotten(self.pool.connection().expect("one connection")).await;
        settles(DETECTION, async || self.tasks(), self.idle).await;
        // Nothing but its text tells how many routes a pool has.
        let pool = format!("{:?}", self.pool);
        assert!(pool.contains("routes: 0"), "{pool}");
    }

    /// Drains and closes, in a world where nothing fails; nothing is left then.
    pub(super) async fn end(self) {
        assert!(self.leave().await, "nats-server did not confirm the end");
    }

    /// Drains and closes, whatever fails meanwhile; nothing is left then. False if nats-server did not confirm it.
    pub async fn leave(self) -> bool {
        let Self { process, pool, .. } = self;
        let (cancelled, is_confirmed) = process
            .run(async move {
                let cancelled = pool.drain(CLOSE).await;
                (
                    cancelled,
                    pool.connection().expect("one connection").close(CLOSE).await.is_ok(),
                )
            })
            .await;
        assert_eq!(cancelled, 0, "calls were left");
        settles(DETECTION, async || process.tasks(), 0).await;
        is_confirmed
    }
}

/// Where programs that call come from.
#[derive(Clone, Debug)]
pub struct Visitors {
    pub(super) url: String,
    pub(super) subject: String,
}

impl Visitors {
    /// Another one.
    pub async fn come(&self) -> Asker {
        Asker::start(&self.url, &self.subject).await
    }

    /// What they ask.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.subject
    }
}

/// What a program answers.
#[derive(Clone, Debug)]
pub(super) struct Duty {
    pub(super) seed: u64,
    pub(super) responder: usize,
    pub(super) subject: String,
    pub(super) ledger: Ledger,
}

impl Duty {
    async fn begin(&self, process: &Process, proxy: &Proxy) -> (Server, Endpoint) {
        let (url, duty) = (proxy.url(), self.clone());
        process
            .run(async move {
                let server = Server::new(connect(url).await);
                let served = serve(&server, &duty.subject, duty.seed, duty.responder, duty.ledger).await;
                (server, served.expect("served"))
            })
            .await
    }
}

/// A program that answers.
#[derive(Debug)]
pub(super) struct Responder {
    process: Process,
    pub(super) proxy: Proxy,
    duty: Duty,
    served: (Server, Endpoint),
    idle: usize,
}

impl Responder {
    pub(super) async fn start(url: &str, duty: Duty) -> Self {
        let proxy = Proxy::start(url).await;
        let process = Process::start();
        let served = duty.begin(&process, &proxy).await;
        Self {
            idle: process.idle_tasks().await,
            process,
            proxy,
            duty,
            served,
        }
    }

    /// Ends it as kill -9 would: the system closes its connection.
    pub(super) fn kill(&mut self) {
        self.process.kill();
    }

    /// Ends it as a power cut would: nobody closes its connection. Returns its network.
    pub(super) async fn power_off(&mut self, url: &str) -> Proxy {
        self.proxy.blackhole(Flow::Both, true);
        self.process.kill();
        std::mem::replace(&mut self.proxy, Proxy::start(url).await)
    }

    /// Starts it again, after its end.
    pub(super) async fn start_again(&mut self) {
        self.process = Process::start();
        self.served = self.duty.begin(&self.process, &self.proxy).await;
    }

    /// Ends it in order, with little time for its calls.
    pub(super) async fn drain(&mut self, limit: Duration) {
        let server = self.served.0.clone();
        self.process.run(drained(server, limit)).await;
        self.process.kill();
    }

    pub(super) fn tasks(&self) -> usize {
        self.process.tasks()
    }

    pub(super) async fn settled(&self) {
        let (server, endpoint) = &self.served;
        streams_are_forgotten(server.connection()).await;
        assert_eq!(endpoint.stats().active, 0, "{endpoint:?}");
        settles(DETECTION, async || self.tasks(), self.idle).await;
    }

    pub(super) async fn end(self) {
        let Self { process, served, .. } = self;
        let aborted = process.run(drained(served.0, CLOSE)).await;
        assert_eq!(aborted, 0, "handlers were left");
        drop(served.1);
        settles(DETECTION, async || process.tasks(), 0).await;
    }
}

/// Drains a server and closes its connection. Returns how many calls were ended by it.
async fn drained(server: Server, limit: Duration) -> usize {
    let drained = server.drain(limit).await;
    // It fails when the network does just now; the connection is closed all the same.
    let _ = server.connection().close(CLOSE).await;
    drained.aborted
}
