//! What nats-server has refused, for the routes that it concerns.

use std::collections::HashSet;
use std::time::Duration;

use tokio::sync::broadcast::{self, error::TryRecvError};

use crate::server_error::{Operation, ServerErrorEvent};

/// nats-server complains about each message; its complaints are looked at so often at most, all at once.
pub(crate) const INTERVAL: Duration = Duration::from_millis(20);

/// What a user may not do, as nats-server has just said; for a [`Route`](crate::Route) to see whether it is concerned.
#[derive(Debug, Default)]
pub struct Denials {
    publish: HashSet<String>,
    /// The router's own subscription.
    inbox: bool,
}

impl Denials {
    /// What the routes of a router hear whose subscription was refused.
    pub(crate) fn inbox_only() -> Self {
        Self {
            inbox: true,
            ..Self::default()
        }
    }

    /// How long to wait before the next ones are [gathered](Self::gathered).
    pub const PAUSE: Duration = INTERVAL;

    /// What `event` says, and those that wait in `more`: for whoever publishes without a route.
    #[must_use]
    pub fn gathered(event: ServerErrorEvent, more: &mut broadcast::Receiver<ServerErrorEvent>) -> Self {
        let mut denials = Self::default();
        denials.gather(event, more, "");
        denials
    }

    /// Was a message to `subject` refused?
    #[must_use]
    pub fn publish(&self, subject: &str) -> bool {
        self.publish.contains(subject)
    }

    /// Was the subscription of the router refused? Nothing will ever arrive.
    #[must_use]
    pub fn inbox(&self) -> bool {
        self.inbox
    }

    /// The subscription is made anew on each connection.
    pub(crate) fn forget_inbox(&mut self) {
        self.inbox = false;
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.publish.is_empty() && !self.inbox
    }

    /// Notes `event`, and those that wait; `wildcard` is the subject of the router's subscription.
    pub(crate) fn gather(
        &mut self,
        event: ServerErrorEvent,
        more: &mut broadcast::Receiver<ServerErrorEvent>,
        wildcard: &str,
    ) {
        self.note(event, wildcard);
        loop {
            match more.try_recv() {
                Ok(event) => self.note(event, wildcard),
                Err(TryRecvError::Lagged(_)) => {}
                Err(_) => return,
            }
        }
    }

    fn note(&mut self, event: ServerErrorEvent, wildcard: &str) {
        match event {
            ServerErrorEvent::PermissionViolation {
                operation: Operation::Publish,
                subject,
                ..
            } => {
                self.publish.insert(subject);
            }
            ServerErrorEvent::PermissionViolation {
                operation: Operation::Subscribe,
                subject,
                ..
            } => self.inbox |= subject == wildcard,
            _ => {}
        }
    }
}
