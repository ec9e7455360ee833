//! Clients that say that they leave, in the text dialect: a message on `client.offline` with the name that they gave in the
//! header `Connect-ID` of their requests.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use futures_util::StreamExt as _;
use parking_lot::Mutex;
use tokio::sync::OnceCell;
use tokio::task::AbortHandle;

use crate::server::Inner;
use crate::stream::StreamShared;

/// Header of a request with the name of its client.
pub(crate) const CONNECT_ID: &str = "Connect-ID";

/// Where clients say that they leave.
const SUBJECT: &str = "client.offline";

/// Longest name of a client that is kept.
const MAX_NAME: usize = 256;

/// The running calls of clients with names.
#[derive(Debug, Default)]
pub(crate) struct Callers {
    streams: Mutex<HashMap<Box<str>, Vec<Weak<StreamShared>>>>,
    listener: OnceCell<Listener>,
}

/// The task that listens; it ends with the server.
#[derive(Debug)]
struct Listener(AbortHandle);

impl Drop for Listener {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A name that can be kept.
pub(crate) fn name(text: &str) -> Option<Box<str>> {
    (!text.is_empty() && text.len() <= MAX_NAME).then(|| text.into())
}

impl Callers {
    pub(crate) fn came(&self, stream: &Arc<StreamShared>) {
        if let Some(name) = stream.client() {
            let mut streams = self.streams.lock();
            streams.entry(name.into()).or_default().push(Arc::downgrade(stream));
        }
    }

    pub(crate) fn left(&self, stream: &StreamShared) {
        let Some(name) = stream.client() else { return };
        let mut streams = self.streams.lock();
        if let Some(of_client) = streams.get_mut(name) {
            of_client.retain(|other| !std::ptr::eq(other.as_ptr(), stream));
            if of_client.is_empty() {
                streams.remove(name);
            }
        }
    }

    /// The client of this name has left.
    fn is_offline(&self, name: &[u8]) {
        let Ok(name) = std::str::from_utf8(name) else { return };
        let streams = self.streams.lock().get(name.trim()).cloned();
        for stream in streams.into_iter().flatten().filter_map(|stream| stream.upgrade()) {
            stream.client_left();
        }
    }
}

impl Inner {
    /// Subscribes to what clients say that leave, once. A server that may not goes on without.
    pub(crate) async fn listen_for_offline(self: &Arc<Self>) {
        let listen = async || {
            let mut subscriber = self.connection.nats().subscribe(SUBJECT).await?;
            let server = Arc::downgrade(self);
            #[expect(clippy::disallowed_methods, reason = "one task for each server")]
            let task = tokio::spawn(async move {
                while let Some(message) = subscriber.next().await {
                    let Some(server) = server.upgrade() else { return };
                    server.callers.is_offline(&message.payload);
                }
            });
            Ok::<_, async_nats::SubscribeError>(Listener(task.abort_handle()))
        };
        if let Err(error) = self.callers.listener.get_or_try_init(listen).await {
            tracing::warn!(%error, "`{SUBJECT}` is not listened to");
        }
    }
}
