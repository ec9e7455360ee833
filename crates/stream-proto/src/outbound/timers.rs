//! The responder's clocks.

use core::time::Duration;

use super::config::OutboundConfig;
use crate::time::{Instant, earliest};

/// The first message leaves at most this long after the Open arrived (rule 21).
const FIRST: Duration = Duration::from_millis(200);
/// First wait for a confirmation before a beat repeats the announcement; it doubles (rule 23).
const UNCONFIRMED: Duration = Duration::from_millis(500);
/// First wait of a blocked sender before a beat says so; it doubles (rule 46c).
const BLOCKED: Duration = Duration::from_millis(500);
/// Longest silence towards a mapped reply subject (rule 46b).
const MAPPED: Duration = Duration::from_secs(1);
/// First repetition of the last unit (rule 54).
const REPEAT: Duration = Duration::from_secs(1);
/// How long an answer of one message is kept (rule 54).
const SINGLE: Duration = Duration::from_secs(2);

/// A repeated wait that doubles up to a limit.
#[derive(Debug)]
struct Doubling {
    at: Instant,
    wait: Duration,
}

impl Doubling {
    fn start(now: Instant, wait: Duration) -> Self {
        Self { at: now + wait, wait }
    }

    /// True once when it is time; the next wait is twice as long, at most `max`.
    fn fire(&mut self, now: Instant, max: Duration) -> bool {
        if now < self.at {
            return false;
        }
        self.wait = (self.wait * 2).min(max);
        self.at = now + self.wait;
        true
    }
}

#[derive(Debug)]
pub(super) struct Timers {
    heartbeat: Duration,
    /// Longest silence of this side.
    keep_alive_interval: Duration,
    stall_limit: Duration,
    /// Was unit 0 handed out?
    started: bool,
    is_confirmed: bool,
    first: Option<Instant>,
    unconfirmed: Option<Doubling>,
    blocked: Option<Doubling>,
    stalled: Option<Instant>,
    keep_alive: Option<Instant>,
    silent: Option<Instant>,
    repeat_end: Option<Instant>,
    forget: Option<Instant>,
    deadline: Option<Instant>,
}

/// What is due.
#[derive(Debug, Default)]
pub(super) struct Due {
    pub(super) first: bool,
    pub(super) beat: bool,
    pub(super) announce: bool,
    pub(super) repeat_end: bool,
    pub(super) deadline: bool,
    pub(super) stalled: bool,
    pub(super) silent: bool,
    pub(super) forget: bool,
}

impl Timers {
    pub(super) fn new(now: Instant, heartbeat: Duration, config: &OutboundConfig, deadline: Option<Duration>) -> Self {
        Self {
            heartbeat,
            keep_alive_interval: if config.mapped {
                heartbeat.min(MAPPED)
            } else {
                heartbeat
            },
            stall_limit: config.stall_limit,
            started: false,
            is_confirmed: false,
            first: Some(now + FIRST),
            unconfirmed: None,
            blocked: None,
            stalled: None,
            keep_alive: None,
            silent: Some(now + heartbeat * 3),
            repeat_end: None,
            forget: None,
            deadline: deadline.map(|deadline| now + deadline),
        }
    }

    pub(super) fn heard(&mut self, now: Instant) {
        self.silent = self.silent.map(|_| now + self.heartbeat * 3);
    }

    pub(super) fn confirmed(&mut self) {
        self.is_confirmed = true;
        self.unconfirmed = None;
    }

    /// The sender is blocked by credit, since `now` if it was not before.
    pub(super) fn blocked(&mut self, now: Instant) {
        if self.blocked.is_none() {
            self.blocked = Some(Doubling::start(now, BLOCKED));
            self.stalled = Some(now + self.stall_limit);
        }
    }

    pub(super) fn unblocked(&mut self) {
        self.blocked = None;
        self.stalled = None;
    }

    /// A unit was handed out; `refreshes` when it does what a beat is for.
    pub(super) fn sent_unit(&mut self, now: Instant, fin: bool, refreshes: bool) {
        let is_first = !self.started;
        self.started = true;
        self.first = None;
        if fin {
            self.sent_end(now, is_first);
        } else if is_first {
            self.unconfirmed = (!self.is_confirmed).then(|| Doubling::start(now, UNCONFIRMED));
            self.keep_alive = Some(now + self.keep_alive_interval);
        } else if refreshes {
            self.sent_beat(now);
        }
    }

    /// Every beat does what a beat is for: unmapped it carries the control subject, mapped it is traffic.
    pub(super) fn sent_beat(&mut self, now: Instant) {
        self.keep_alive = self.keep_alive.map(|_| now + self.keep_alive_interval);
    }

    /// The last unit was handed out: nothing else is waited for than that it is confirmed.
    fn sent_end(&mut self, now: Instant, is_single: bool) {
        if self.forget.is_some() {
            return;
        }
        self.unblocked();
        self.unconfirmed = None;
        self.keep_alive = None;
        self.silent = None;
        self.deadline = None;
        if is_single {
            // Kept in case it was published too early; it is not repeated by itself (rule 54).
            self.forget = Some(now + SINGLE);
        } else {
            self.forget = Some(now + self.heartbeat * 3);
            self.repeat_end = Some(now + REPEAT);
        }
    }

    pub(super) fn next(&self) -> Option<Instant> {
        [
            self.first,
            self.unconfirmed.as_ref().map(|timer| timer.at),
            self.blocked.as_ref().map(|timer| timer.at),
            self.stalled,
            self.keep_alive,
            self.silent,
            self.repeat_end,
            self.forget,
            self.deadline,
        ]
        .into_iter()
        .fold(None, earliest)
    }

    pub(super) fn take_due(&mut self, now: Instant) -> Due {
        let passed = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        let mut due = Due::default();
        if passed(self.first) {
            self.first = None;
            due.first = true;
        }
        let max = self.heartbeat;
        if self.unconfirmed.as_mut().is_some_and(|timer| timer.fire(now, max)) {
            due.announce = true;
        }
        if self.blocked.as_mut().is_some_and(|timer| timer.fire(now, max)) {
            due.beat = true;
        }
        if passed(self.keep_alive) {
            self.keep_alive = Some(now + self.keep_alive_interval);
            due.beat = true;
        }
        if passed(self.repeat_end) {
            self.repeat_end = Some(now + max);
            due.repeat_end = true;
        }
        due.deadline = passed(self.deadline);
        if due.deadline {
            self.deadline = None;
        }
        due.stalled = passed(self.stalled);
        if due.stalled {
            self.unblocked();
        }
        due.silent = passed(self.silent);
        due.forget = passed(self.forget);
        due
    }
}
