//! The connection and the consumer: whether they are there, and making the consumer again.

use std::time::Duration;

use natstream_connect::{Operation, ServerErrorEvent};
use tokio::sync::broadcast;

use super::Session;
use crate::consume::error::{ConsumeError, ConsumeErrorKind};
use crate::consume::restore::{Restored, restore};
use crate::topology::{TopologyError, TopologyErrorKind};

/// The pause before a consumer that cannot be made is tried again.
const REPAIR_PAUSE: Duration = Duration::from_secs(1);

impl Session {
    pub(super) fn look_at_connection(&mut self) {
        let now = self.now();
        let state = *self.state.borrow_and_update();
        if state.is_connected() {
            if !self.seen.is_connected() || state.epoch != self.seen.epoch {
                self.pulls.handle_connect(now);
                self.begin_doubt(now);
            }
        } else {
            self.pulls.handle_disconnect();
        }
        self.seen = state;
    }

    pub(super) fn heed(
        &self,
        event: Result<ServerErrorEvent, broadcast::error::RecvError>,
    ) -> Result<(), ConsumeError> {
        match event {
            Ok(ServerErrorEvent::PermissionViolation {
                operation: Operation::Publish,
                subject,
                ..
            }) if subject == self.link.next() => Err(ConsumeError::new(ConsumeErrorKind::NotPermitted)),
            _ => Ok(()),
        }
    }

    /// Looks whether the consumer is there, and makes it if it is to be.
    pub(super) fn begin_repair(&mut self, pause: Duration) {
        if self.repair.is_some() {
            return;
        }
        let (inner, done) = (self.inner.clone(), self.done.get());
        self.repair = Some(Box::pin(async move {
            tokio::time::sleep(pause).await;
            restore(&inner, done).await
        }));
    }

    pub(super) fn repaired(&mut self, repaired: Result<Restored, TopologyError>) -> Result<(), ConsumeError> {
        self.repair = None;
        match repaired {
            Ok(restored) => {
                self.handle_restored(restored);
                self.pulls.handle_restored(self.now());
            }
            Err(error) if error.kind() == TopologyErrorKind::NotFound && !self.inner.settings.creates => {
                return Err(error.into());
            }
            Err(error) => {
                tracing::debug!(%error, "a consumer is looked for");
                if error.kind() == TopologyErrorKind::NotFound {
                    // The stream is not there.
                    self.pulls.handle_gone();
                }
                self.begin_repair(REPAIR_PAUSE);
            }
        }
        Ok(())
    }
}
