//! The clocks of the user's wait (rule 57): until the first item, and between two.

use core::time::Duration;

use crate::inbound::InboundConfig;
use crate::termination::Clock;
use crate::time::Instant;

/// Longest wait for an item in the dialects of rule 65 when nothing else is said.
const PLAIN: Duration = Duration::from_secs(30);

/// Longest wait for the first item in such a dialect.
pub(super) fn first_wait(first_item: Option<Duration>, idle: Option<Duration>) -> Duration {
    first_item.or(idle).unwrap_or(PLAIN)
}

/// They run while the user waits with nothing buffered, and stand still while it does something else.
#[derive(Debug)]
pub(crate) struct Patience {
    first_item: Option<Duration>,
    idle: Option<Duration>,
    waits_since: Option<Instant>,
    /// What is left of the clock of this wait.
    left: Option<(Clock, Duration)>,
}

impl Patience {
    /// `None` when no clock was set, as for most calls.
    pub(super) fn new(config: &InboundConfig) -> Option<Self> {
        let (first_item, idle) = (config.first_item_timeout, config.idle_timeout);
        (first_item.is_some() || idle.is_some()).then_some(Self {
            first_item,
            idle,
            waits_since: None,
            left: None,
        })
    }

    /// For the dialects of rule 65, in which nothing but a clock notices silence.
    pub(crate) fn plain(first_item: Option<Duration>, idle: Option<Duration>) -> Self {
        Self {
            first_item: Some(first_wait(first_item, idle)),
            idle: Some(idle.unwrap_or(PLAIN)),
            waits_since: None,
            left: None,
        }
    }

    /// Longest wait for the first item.
    pub(crate) fn first_wait(&self) -> Option<Duration> {
        self.first_item
    }

    /// What the user has set.
    pub(super) fn limits(&self) -> (Option<Duration>, Option<Duration>) {
        (self.first_item, self.idle)
    }

    /// The user waits: its clock runs, or runs on.
    pub(crate) fn start(&mut self, now: Instant, first: bool) {
        if self.waits_since.is_some() {
            return;
        }
        self.waits_since = Some(now);
        if self.left.is_none() {
            self.left = if first {
                self.first_item.map(|limit| (Clock::FirstItem, limit))
            } else {
                self.idle.map(|limit| (Clock::Idle, limit))
            };
        }
    }

    /// The user does something else.
    pub(crate) fn pause(&mut self, now: Instant) {
        if let (Some(since), Some((_, left))) = (self.waits_since.take(), &mut self.left) {
            *left = left.saturating_sub(now.saturating_since(since));
        }
    }

    /// An item came.
    pub(crate) fn stop(&mut self) {
        self.waits_since = None;
        self.left = None;
    }

    /// Which clock runs out, and when, if the user waits.
    pub(crate) fn ends(&self) -> Option<(Clock, Instant)> {
        let (since, (clock, left)) = self.waits_since.zip(self.left)?;
        Some((clock, since + left))
    }
}
