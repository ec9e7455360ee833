//! What a handler has opened is closed, however its call ends: a guard does it, and state that all calls share knows.
//! `cargo xtask nats up`, then `NATS_URL=… cargo run -p examples --example cleanup`.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use natstream::{ConnectConfig, Connection, HandlerError, Pool, Request, ResponseSender, Server};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::sync::watch;

/// What all calls share: the seeds' pool of database connections.
struct Store {
    dir: PathBuf,
    opened: AtomicU64,
    /// How many are open now.
    open: watch::Sender<usize>,
}

/// One call's part of it: a copy of the data in a file of its own. Dropping it gives everything back.
struct Session {
    store: Arc<Store>,
    path: PathBuf,
}

impl Session {
    fn open(store: &Arc<Store>) -> io::Result<Self> {
        let number = store.opened.fetch_add(1, Ordering::Relaxed);
        let path = store.dir.join(format!("session-{number}"));
        let mut file = File::create_new(&path)?;
        store.open.send_modify(|open| *open += 1);
        // From here on nothing has to think of it: not an early return, not a panic.
        let session = Self {
            store: store.clone(),
            path,
        };
        (0..100).try_for_each(|line| writeln!(file, "line {line}"))?;
        Ok(session)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
        self.store.open.send_modify(|open| *open -= 1);
    }
}

async fn read(store: Arc<Store>, request: Request, mut out: ResponseSender) -> Result<(), HandlerError> {
    let session = Session::open(&store).map_err(HandlerError::internal)?;
    let file = tokio::fs::File::open(&session.path)
        .await
        .map_err(HandlerError::internal)?;
    let mut lines = BufReader::new(file).lines();
    while let Some(line) = lines.next_line().await.map_err(HandlerError::internal)? {
        // The `?` is all that a caller who leaves needs: sending fails then.
        out.send(line).await?;
    }
    match &**request.payload() {
        b"fail" => Err(HandlerError::unavailable("somebody has pulled the plug")),
        b"panic" => panic!("on purpose: the example shows that this is cleaned up, too"),
        b"wait" => {
            // Who waits for something else waits for this beside it.
            out.closed().await;
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Calls, leaves after the last line if that is wanted, and waits until nothing is open any more.
async fn call(pool: &Pool, store: &Store, how: &'static str) -> anyhow::Result<()> {
    let mut lines = pool.request_stream("examples.cleanup", how).await?;
    let end = loop {
        match lines.try_next().await {
            Ok(Some(_line)) if how == "wait" && lines.received() == 100 => break "left".to_owned(),
            Ok(Some(_line)) => {}
            Ok(None) => break "complete".to_owned(),
            Err(error) => break format!("{:?}", error.status().map(|status| status.code)),
        }
    };
    let received = lines.received();
    drop(lines);
    store.open.subscribe().wait_for(|open| *open == 0).await?;
    println!(
        "{how}: {received} lines, {end}, {} files left",
        fs::read_dir(&store.dir)?.count()
    );
    Ok(())
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let url = std::env::var("NATS_URL").unwrap_or_else(|_| "nats://127.0.0.1:4222".to_owned());
    let connection = Connection::connect(ConnectConfig::new(url)).await?;
    let dir = std::env::temp_dir().join(format!("natstream-cleanup-{}", std::process::id()));
    fs::create_dir(&dir)?;
    let store = Arc::new(Store {
        dir: dir.clone(),
        opened: AtomicU64::new(0),
        open: watch::Sender::new(0),
    });
    let server = Server::new(connection.clone());
    let shared = store.clone();
    server
        .on("examples.cleanup", move |request, out| {
            read(shared.clone(), request, out)
        })
        .await?;

    let pool = Pool::new(connection);
    for how in ["read", "wait", "fail", "panic"] {
        call(&pool, &store, how).await?;
    }
    server.drain(Duration::from_secs(5)).await;
    // Only an empty one can be removed.
    fs::remove_dir(dir)?;
    Ok(())
}
