//! The confirmation that what was published has arrived at nats-server.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use natstream_connect::{FenceError, FenceErrorKind};
use parking_lot::Mutex;

use crate::host::Host;

/// What was published on one connection since the last confirmation.
#[derive(Debug, Default)]
pub(crate) struct Unconfirmed {
    state: Mutex<State>,
}

#[derive(Clone, Copy, Debug, Default)]
struct State {
    /// The connection's epoch when the first of these messages was published; `None` when there are none.
    since: Option<u64>,
    /// All messages so far.
    count: u64,
}

impl Unconfirmed {
    /// A message is published in this epoch.
    pub(crate) fn published(&self, epoch: u64) {
        let mut state = self.state.lock();
        state.since.get_or_insert(epoch);
        state.count += 1;
    }

    pub(crate) fn since(&self) -> Option<u64> {
        self.state.lock().since
    }

    /// What was published before `then` has been told of. For messages that came meanwhile the epoch stays the same, or is
    /// `lost`: those of the ones before are told of as lost just now.
    fn told(&self, then: State, lost: Option<u64>) {
        let mut state = self.state.lock();
        if state.count == then.count {
            state.since = None;
        } else if lost.is_some() {
            state.since = lost;
        }
    }
}

impl Host {
    /// Waits until nats-server has what was published here, as far as that can be known.
    pub(crate) async fn flush(self: Arc<Self>, limit: Duration) -> Result<(), FenceError> {
        let then = *self.unconfirmed.state.lock();
        let fenced = match then.since {
            Some(epoch) => self.connection.fence_since(epoch, limit).await,
            // One that has ended since has nothing more to confirm.
            None if self.is_closed() => Ok(Duration::ZERO),
            None => self.connection.fence(limit).await,
        };
        match &fenced {
            Ok(_) => self.unconfirmed.told(then, None),
            // Another attempt may succeed.
            Err(error) if error.kind() == FenceErrorKind::Timeout => {}
            Err(_) => self.unconfirmed.told(then, Some(self.epoch())),
        }
        fenced.map(drop)
    }
}

/// Flushes all of them at once; the first error counts.
pub(crate) async fn flush_all(hosts: Vec<Arc<Host>>, limit: Duration) -> Result<(), FenceError> {
    let flushed = join_all(hosts.into_iter().map(|host| host.flush(limit))).await;
    flushed.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_message_says_since_when() {
        let unconfirmed = Unconfirmed::default();
        assert_eq!(unconfirmed.since(), None);
        unconfirmed.published(1);
        unconfirmed.published(2);
        assert_eq!(unconfirmed.since(), Some(1));
        let then = *unconfirmed.state.lock();
        unconfirmed.told(then, None);
        assert_eq!(unconfirmed.since(), None, "nothing came meanwhile");
    }

    #[test]
    fn what_comes_during_a_flush_is_left_for_the_next_one() {
        let unconfirmed = Unconfirmed::default();
        unconfirmed.published(1);
        let then = *unconfirmed.state.lock();
        unconfirmed.published(1);
        unconfirmed.told(then, None);
        assert_eq!(unconfirmed.since(), Some(1));
        let then = *unconfirmed.state.lock();
        unconfirmed.published(3);
        unconfirmed.told(then, Some(3));
        assert_eq!(unconfirmed.since(), Some(3), "what was before is told of as lost");
    }
}
