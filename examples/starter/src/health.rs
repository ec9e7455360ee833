//! Health for whoever runs the service, over HTTP: 200 while it serves, 503 otherwise.
//!
//! Over NATS it is asked with `$SRV.PING.orders`, which answers by itself; but who cannot reach NATS is told nothing there.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use natstream::Connection;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

/// Who asks and takes longer than this is left alone.
const PATIENCE: Duration = Duration::from_secs(5);

/// Answers until it is dropped.
pub(crate) struct Health {
    address: SocketAddr,
    is_stopping: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Health {
    pub(crate) async fn listen(address: SocketAddr, connection: Connection) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let (is_stopping, stopping) = watch::channel(false);
        Ok(Self {
            address: listener.local_addr()?,
            is_stopping,
            task: tokio::spawn(serve(listener, connection, stopping)),
        })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on it is not healthy, so that nobody is sent here.
    pub(crate) fn stopping(&self) {
        self.is_stopping.send_replace(true);
    }
}

impl Drop for Health {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(listener: TcpListener, connection: Connection, stopping: watch::Receiver<bool>) {
    let state = connection.state();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Out of files, most likely.
            sleep(Duration::from_millis(100)).await;
            continue;
        };
        let is_healthy = state.borrow().is_connected() && !*stopping.borrow();
        tokio::spawn(timeout(PATIENCE, answer(stream, is_healthy)));
    }
}

async fn answer(mut stream: TcpStream, is_healthy: bool) -> io::Result<()> {
    // Whatever is asked.
    let _ = stream.read(&mut [0; 1024]).await?;
    let status = match is_healthy {
        true => "200 OK",
        false => "503 Service Unavailable",
    };
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    stream.shutdown().await
}
