//! The caller's clocks.

use alloc::boxed::Box;
use core::time::Duration;

use crate::inbound::InboundConfig;
use crate::inbound::patience::{Patience, first_wait};
use crate::liveness::{Judgement, Liveness};
use crate::termination::{Clock, LostCause};
use crate::time::{Instant, Millis, earliest};

/// No message of the stream for this long after the Open: nobody took the call (rule 27).
const UNANSWERED: Duration = Duration::from_secs(5);
/// Longest wait before a STATE that confirms or answers (rules 24 and 47).
const SOON: Duration = Duration::from_millis(25);
/// First wait before asking again for what is missing; it doubles (rule 39).
const REWIND: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Timers {
    deadline: Option<Instant>,
    /// Runs until the stream is locked, while the connection is up.
    unanswered: Option<Instant>,
    unanswered_limit: Millis,
    is_locked: bool,
    liveness: Liveness,
    keep_alive: Option<Instant>,
    state_soon: Option<Instant>,
    state_due: bool,
    /// Boxed, like the next: few streams have one.
    rewind: Option<Box<Rewind>>,
    patience: Option<Box<Patience>>,
}

/// Something is missing: when to ask for it again, and how long to wait after that.
#[derive(Debug)]
struct Rewind {
    due: bool,
    at: Instant,
    wait: Duration,
}

/// What is due and ends the stream.
#[derive(Debug, Default)]
pub(super) struct Due {
    pub(super) unanswered: bool,
    pub(super) lost: Option<LostCause>,
    pub(super) clock: Option<Clock>,
}

impl Timers {
    pub(super) fn new(now: Instant, heartbeat: Duration, config: &InboundConfig) -> Self {
        let unanswered = match config.plain {
            Some(_) => first_wait(config.first_item_timeout, config.idle_timeout),
            None => UNANSWERED,
        };
        Self {
            deadline: config.deadline.map(|deadline| now + deadline),
            unanswered: Some(now + unanswered),
            unanswered_limit: unanswered.into(),
            is_locked: false,
            liveness: Liveness::new(heartbeat, config.outage_limit),
            keep_alive: None,
            state_soon: None,
            state_due: false,
            rewind: None,
            patience: Patience::new(config).map(Box::new),
        }
    }

    /// The heartbeat interval: what is asked for, then what the responder said.
    pub(super) fn heartbeat(&self) -> Duration {
        self.liveness.heartbeat()
    }

    pub(super) fn locked(&mut self, now: Instant, heartbeat: Duration, control: bool) {
        self.unanswered = None;
        self.is_locked = true;
        if !control {
            // Nothing is sent to the responder, and it sends no signs of life.
            return;
        }
        self.liveness.watch(heartbeat, now);
        self.keep_alive = Some(now + heartbeat);
        self.state_soon(now);
    }

    pub(super) fn heard(&mut self, now: Instant) {
        self.liveness.heard(now);
    }

    /// A 503 from the control subject.
    ///
    /// True when it begins a suspicion.
    pub(super) fn no_responders(&mut self, now: Instant) -> bool {
        self.liveness.no_responders(now)
    }

    /// A bare empty message: what is missing is asked for; across accounts, silence is a verdict sooner. A stream that is
    /// not mapped has no mapping that could have ended.
    pub(super) fn farewell(&mut self, now: Instant, is_mapped: bool) {
        if is_mapped {
            self.liveness.farewell(now);
        }
        self.gap(now);
    }

    pub(super) fn disconnected(&mut self, now: Instant) {
        self.liveness.disconnected(now);
        self.unanswered = None;
    }

    /// The connection is back: the clocks begin anew, and what may be missing is asked for (rule 43).
    pub(super) fn reconnected(&mut self, now: Instant) {
        self.liveness.reconnected(now);
        if self.is_locked {
            self.rewind = None;
            self.gap(now);
        } else {
            self.unanswered = Some(now + self.unanswered_limit.into());
        }
    }

    /// This side stood still: what it did not hear meanwhile says nothing (rule 45).
    pub(super) fn restart_if_late(&mut self, now: Instant) {
        if self
            .next()
            .is_some_and(|due| now.saturating_since(due) > self.heartbeat() / 2)
        {
            self.liveness.restart(now);
            let unanswered = now + self.unanswered_limit.into();
            self.unanswered = self.unanswered.map(|_| unanswered);
            if let Some(rewind) = &mut self.rewind {
                rewind.at = now + rewind.wait;
            }
        }
    }

    /// What goes on when the call turns out to be of another dialect: the deadline, and the clocks of the user's wait.
    pub(super) fn into_plain(self) -> (Option<Instant>, Patience) {
        let (first_item, idle) = self
            .patience
            .as_ref()
            .map_or((None, None), |patience| patience.limits());
        (self.deadline, Patience::plain(first_item, idle))
    }

    /// A STATE is wanted within [`SOON`].
    pub(super) fn state_soon(&mut self, now: Instant) {
        if self.state_soon.is_none() && !self.state_due {
            self.state_soon = Some(now + SOON);
        }
    }

    /// Is a STATE due, for whatever reason?
    pub(super) fn is_state_due(&self) -> bool {
        self.state_due || self.rewind.as_ref().is_some_and(|rewind| rewind.due)
    }

    pub(super) fn sent_state(&mut self, now: Instant) {
        self.state_soon = None;
        self.state_due = false;
        self.keep_alive = Some(now + self.heartbeat());
    }

    pub(super) fn gap(&mut self, now: Instant) {
        if self.rewind.is_none() {
            self.rewind = Some(Box::new(Rewind {
                due: true,
                at: now + REWIND,
                wait: REWIND,
            }));
        }
    }

    /// What was expected has come.
    pub(super) fn progressed(&mut self) {
        self.rewind = None;
    }

    pub(super) fn is_past_deadline(&self, now: Instant) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= now)
    }

    pub(super) fn take_rewind(&mut self) -> bool {
        self.rewind
            .as_mut()
            .is_some_and(|rewind| core::mem::take(&mut rewind.due))
    }

    /// The user waits and nothing is buffered.
    pub(super) fn start_waiting(&mut self, now: Instant, first: bool) {
        if let Some(patience) = &mut self.patience {
            patience.start(now, first);
        }
    }

    /// The user does something else.
    pub(super) fn pause_waiting(&mut self, now: Instant) {
        if let Some(patience) = &mut self.patience {
            patience.pause(now);
        }
    }

    /// An item came.
    pub(super) fn stop_waiting(&mut self) {
        if let Some(patience) = &mut self.patience {
            patience.stop();
        }
    }

    pub(super) fn next(&self) -> Option<Instant> {
        [
            self.deadline,
            self.unanswered,
            self.liveness.next(),
            self.keep_alive,
            self.state_soon,
            self.rewind.as_ref().map(|rewind| rewind.at),
            self.patience
                .as_ref()
                .and_then(|patience| patience.ends())
                .map(|(_, at)| at),
        ]
        .into_iter()
        .fold(None, earliest)
    }

    pub(super) fn take_due(&mut self, now: Instant) -> Due {
        let passed = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if passed(self.state_soon) || passed(self.keep_alive) {
            self.state_soon = None;
            self.keep_alive = Some(now + self.heartbeat());
            self.state_due = true;
        }
        let heartbeat = self.heartbeat();
        if let Some(rewind) = self.rewind.as_mut().filter(|rewind| rewind.at <= now) {
            rewind.due = true;
            rewind.wait = (rewind.wait * 2).min(heartbeat);
            rewind.at = now + rewind.wait;
        }
        let clock = if passed(self.deadline) {
            Some(Clock::Deadline)
        } else {
            let ends = self.patience.as_ref().and_then(|patience| patience.ends());
            ends.filter(|(_, at)| *at <= now).map(|(clock, _)| clock)
        };
        let lost = match self.liveness.judge(now) {
            Judgement::Fine => None,
            Judgement::Probe => {
                self.state_due = true;
                None
            }
            Judgement::Gone => Some(LostCause::Gone),
            Judgement::Outage => Some(LostCause::Disconnected),
            Judgement::Ended => Some(LostCause::MappingEnded),
            Judgement::Silent => Some(LostCause::Silent),
        };
        Due {
            unanswered: passed(self.unanswered),
            lost,
            clock,
        }
    }
}
