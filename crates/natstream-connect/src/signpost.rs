//! The way to new servers for a connection that is down.
//!
//! While async-nats is reconnecting it takes no commands, and so no new servers: a connection whose servers have all gone
//! would ask for them for ever, though others stand in their place. What it does take meanwhile is what a server tells about
//! its cluster. The signpost is such a server, of our own, on a port of the loopback interface: it greets whoever connects
//! with the addresses on the list, and hangs up. [`Selector`] leads async-nats there when nothing else is left.
//!
//! It speaks no TLS, so a connection that requires TLS of every server cannot read it.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;
use std::time::Duration;
use std::{fmt, io};

use async_nats::ServerAddr;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener as Listener, TcpStream};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::selector::Selector;

/// How long somebody may take to read the greeting.
const PATIENCE: Duration = Duration::from_secs(1);

/// Listens until it is dropped.
pub(crate) struct Signpost {
    task: JoinHandle<()>,
}

impl Signpost {
    /// Sets up a signpost to what is on the selector's list, and tells the selector where it stands.
    pub(crate) fn set_up(runtime: &Handle, selector: &Arc<Selector>) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let address = format!("nats://{}", listener.local_addr()?);
        let address = address.parse().map_err(|_| io::ErrorKind::InvalidInput)?;
        let listener = {
            let _inside = runtime.enter();
            Listener::from_std(listener)?
        };
        let task = runtime.spawn(point(listener, selector.clone()));
        selector.set_signpost(address);
        Ok(Self { task })
    }
}

impl Drop for Signpost {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl fmt::Debug for Signpost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signpost").finish_non_exhaustive()
    }
}

async fn point(listener: Listener, selector: Arc<Selector>) {
    loop {
        match listener.accept().await {
            // One after another: who asks is one client, and a stranger on this machine is not waited for long.
            Ok((stream, _)) => {
                let _ = timeout(PATIENCE, greet(stream, &greeting(&selector.list()))).await;
            }
            // No descriptors are left, for a while.
            Err(_) => sleep(Duration::from_millis(100)).await,
        }
    }
}

async fn greet(mut stream: TcpStream, greeting: &str) -> io::Result<()> {
    stream.write_all(greeting.as_bytes()).await?;
    stream.shutdown().await
}

/// What a server of a cluster says first. Addresses are ASCII, whose escapes are the same in Rust and in JSON.
fn greeting(list: &[ServerAddr]) -> String {
    let urls: Vec<String> = list.iter().map(|addr| format!("{:?}", addr.as_url_str())).collect();
    format!(
        "INFO {{\"server_id\":\"signpost\",\"version\":\"0.0.0\",\"headers\":true,\"max_payload\":1048576,\"proto\":1,\
         \"connect_urls\":[{}]}}\r\n",
        urls.join(",")
    )
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    #[tokio::test]
    async fn it_names_the_servers_on_the_list_as_it_is() {
        let selector = Arc::new(Selector::new(&[], vec!["a".parse().unwrap()], true, false));
        let signpost = Signpost::set_up(&Handle::current(), &selector).unwrap();
        let (_, pool) = selector.wanted_pool(&[]).unwrap();
        let address = pool.last().unwrap().clone();
        selector.set_list(vec!["nats://b:1".parse().unwrap(), "tls://[::1]:2".parse().unwrap()]);
        let mut stream = TcpStream::connect((address.host(), address.port())).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        assert!(text.starts_with("INFO {") && text.ends_with("}\r\n"), "{text}");
        assert!(
            text.contains(r#""connect_urls":["nats://b:1","tls://[::1]:2"]"#),
            "{text}"
        );

        drop(signpost);
        while TcpStream::connect((address.host(), address.port())).await.is_ok() {
            tokio::task::yield_now().await;
        }
    }
}
