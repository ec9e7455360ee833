//! What the suites of this crate share.
#![allow(dead_code, reason = "each suite uses its part")]

use std::error::Error;
use std::fmt::Write;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use natstream_connect::{ConnectConfig, ConnectError, Connection, ConnectionState};
use parking_lot::Mutex;
use testkit::{NatsServer, within};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tracing_subscriber::util::SubscriberInitExt;

/// The limit of every await: far above what anything here takes.
pub(crate) const LIMIT: Duration = Duration::from_secs(15);

/// The longest time a test gives a server to answer.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(5);

/// Stands for every secret: no text may hold it.
pub(crate) const SECRET: &str = "s3cr3t";

pub(crate) async fn server(config: &str) -> NatsServer {
    within(LIMIT, NatsServer::builder().config(config).start()).await
}

#[track_caller]
pub(crate) fn connected(config: ConnectConfig) -> impl Future<Output = Connection> {
    let connect = within(LIMIT, Connection::connect(config));
    async { connect.await.expect("the connection is established") }
}

#[track_caller]
pub(crate) fn refused(config: ConnectConfig) -> impl Future<Output = ConnectError> {
    let connect = within(LIMIT, Connection::connect(config));
    async {
        let error = connect.await.expect_err("the connection is not established");
        assert!(!everything(&error).contains(SECRET), "{}", everything(&error));
        error
    }
}

#[track_caller]
pub(crate) fn state_where(
    connection: &Connection,
    condition: impl FnMut(&ConnectionState) -> bool,
) -> impl Future<Output = ConnectionState> {
    let mut state = connection.state();
    within(LIMIT, async move {
        *state.wait_for(condition).await.expect("the connection has a state")
    })
}

/// All that a log could show of an error.
pub(crate) fn everything(error: &dyn Error) -> String {
    let mut text = format!("{error:?} {error}");
    let mut source = error.source();
    while let Some(error) = source {
        write!(text, ": {error}").unwrap();
        source = error.source();
    }
    text
}

/// An address that nobody listens at.
pub(crate) async fn deserted() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    format!("nats://{}", listener.local_addr().unwrap())
}

/// A server that says `greeting` to everybody and then nothing.
#[expect(clippy::disallowed_methods, reason = "tests may spawn")]
pub(crate) async fn fake(greeting: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("nats://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let mut open = Vec::new();
        while let Ok((mut socket, _)) = listener.accept().await {
            socket.write_all(greeting.as_bytes()).await.unwrap();
            open.push(socket);
        }
    });
    url
}

/// What this thread logs, as text.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock()).into_owned()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Keeps what this thread logs until the guard is dropped: everything in a test with one thread.
pub(crate) fn log() -> (Log, impl Sized) {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    (log, subscriber.set_default())
}
