//! A client with a name, that says when it leaves (text dialect).

use std::sync::Arc;

use async_nats::message::OutboundMessage;
use bytes::Bytes;

use crate::host::Host;

/// Header of a request with the name of its client.
pub(crate) const CONNECT_ID: &str = "Connect-ID";

/// Where a client says that it leaves.
const SUBJECT: &str = "client.offline";

/// Longest name; responders keep it while a call runs.
const MAX_NAME: usize = 256;

/// The client that some running calls share.
#[derive(Debug)]
pub(crate) struct Client {
    name: Bytes,
}

/// Can a client be called so?
pub(crate) fn is_name(text: &str) -> bool {
    (1..=MAX_NAME).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

impl Client {
    pub(crate) fn new(name: &str) -> Self {
        Self {
            name: Bytes::copy_from_slice(name.as_bytes()),
        }
    }

    /// One of its calls was cancelled: when it was the last one that runs, responders are told that the client has left.
    pub(crate) fn leave(self: Arc<Self>, host: &Host) {
        // Nobody joins meanwhile, and of two that leave at once one is the last.
        let _clients = host.common.clients.lock();
        if Arc::strong_count(&self) > 1 {
            return drop(self);
        }
        let told = host.driver.try_send(OutboundMessage {
            subject: SUBJECT.into(),
            reply: None,
            payload: self.name.clone(),
            headers: None,
        });
        if let Err(error) = told {
            tracing::debug!(%error, "responders were not told that the client has left");
        }
    }
}
