//! What a server says about itself to those who ask `$SRV` (ADR-32).

mod answers;
mod identity;
mod task;

use std::sync::Arc;
use std::time::Duration;

use async_nats::{SubscribeError, Subscriber};

use crate::server::Inner;
use answers::Verb;

pub(crate) use identity::{EndpointIdentity, Identity, default_endpoint_name};

/// The beginning of all subjects of ADR-32.
const PREFIX: &str = "$SRV.";

/// How long to wait for nats-server's word; where subscriptions are limited, it may never come.
const FENCE_TIMEOUT: Duration = Duration::from_secs(1);

impl Inner {
    /// Answers questions from now on; with the first endpoint. The server serves also when it cannot.
    ///
    /// # Cancel safety
    /// When the future is dropped, the next endpoint tries again.
    pub(crate) async fn announce(self: &Arc<Self>) {
        let announce = async || {
            let complaints = self.connection.server_errors();
            match self.subscribe().await {
                Ok(subscribers) => {
                    task::spawn(self, subscribers, complaints);
                    // `subscribe` returns before nats-server has heard of it.
                    if let Err(error) = self.connection.fence(FENCE_TIMEOUT).await {
                        tracing::debug!(%error, "service discovery may not find this server yet");
                    }
                }
                Err(error) => tracing::warn!(%error, "service discovery will not find this server"),
            }
        };
        self.announced.get_or_init(announce).await;
    }

    /// Every question to all services, to those of this name, and to this one. Plain subscriptions, without a group:
    /// everybody answers.
    async fn subscribe(&self) -> Result<Vec<(Verb, Subscriber)>, SubscribeError> {
        let mut subscribers = Vec::new();
        for verb in Verb::ALL {
            let all = format!("{PREFIX}{verb}");
            let named = format!("{all}.{}", self.identity.name);
            let own = format!("{named}.{}", self.identity.id);
            for subject in [all, named, own] {
                subscribers.push((verb, self.connection.nats().subscribe(subject).await?));
            }
        }
        Ok(subscribers)
    }
}
