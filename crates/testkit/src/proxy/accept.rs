//! Accepts the connections of a proxy.

use std::{io, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::sleep,
};

use super::{
    Link,
    connection::{Live, reset, serve},
};
use crate::select::{first, maybe};

/// Whether the port is listened on, as told by the task that does it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Listening {
    Yes,
    No,
    /// Somebody else took the port meanwhile.
    Failed(String),
}

/// Accepts until it is dropped, and all connections with it.
pub(super) async fn accept(listener: TcpListener, address: SocketAddr, link: Arc<Link>) {
    let mut settings = link.settings.subscribe();
    let mut listener = Some(listener);
    let mut connections = JoinSet::new();
    loop {
        let listen = settings.borrow_and_update().listen;
        if listen != listener.is_some() {
            listener = None;
            if listen {
                listener = link.open(TcpListener::bind(address).await);
            } else {
                link.listening.send_replace(Listening::No);
            }
        }

        let mut accepted = None;
        {
            let changed = pin!(async {
                settings.changed().await.expect("the sender lives in `link`");
            });
            let accepting = pin!(async {
                accepted = Some(maybe(listener.as_ref().map(TcpListener::accept)).await);
            });
            // An end is taken note of; a panic of a connection is printed by its task.
            let ended = pin!(async {
                let running = !connections.is_empty();
                let _ = maybe(running.then(|| connections.join_next())).await;
            });
            first([changed, ended, accepting]).await;
        }
        match accepted {
            None => {}
            Some(Ok((client, _))) => welcome(client, &link, &mut connections),
            // No descriptors are left, for a while.
            Some(Err(_)) => sleep(Duration::from_millis(10)).await,
        }
    }
}

fn welcome(client: TcpStream, link: &Arc<Link>, connections: &mut JoinSet<()>) {
    let (refuse, birth) = {
        let settings = link.settings.borrow();
        (settings.refuse, settings.birth())
    };
    if refuse {
        reset(client);
    } else {
        let live = Live::new(link);
        connections.spawn(serve(client, link.clone(), birth, live));
    }
    link.accepted.send_modify(|accepted| *accepted += 1);
}

impl Link {
    fn open(&self, bound: io::Result<TcpListener>) -> Option<TcpListener> {
        let (listening, listener) = match bound {
            Ok(listener) => (Listening::Yes, Some(listener)),
            Err(error) => (Listening::Failed(error.to_string()), None),
        };
        self.listening.send_replace(listening);
        listener
    }
}
