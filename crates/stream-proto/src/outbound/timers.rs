//! The responder's clocks.

use core::time::Duration;

use super::config::OutboundConfig;
use super::event::CloseReason;
use crate::header::Open;
use crate::liveness::{Judgement, Liveness};
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
/// A caller that says this long after the end that it still expects it has missed it: far longer than a round trip.
const MISSED_END: Duration = Duration::from_secs(2);
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
    /// Longest silence of this side.
    keep_alive_interval: Duration,
    stall_limit: Duration,
    /// Was unit 0 handed out?
    started: bool,
    /// Nothing has to be announced, or there is nothing to announce.
    is_confirmed: bool,
    keeps_alive: bool,
    first: Option<Instant>,
    unconfirmed: Option<Doubling>,
    blocked: Option<Doubling>,
    stalled: Option<Instant>,
    keep_alive: Option<Instant>,
    liveness: Liveness,
    /// The end was handed out; as the whole answer in one message?
    end: Option<End>,
    repeat_end: Option<Instant>,
    forget: Option<Instant>,
    deadline: Option<Instant>,
}

/// The end of a stream that waits for its confirmation.
#[derive(Clone, Copy, Debug)]
struct End {
    is_single: bool,
    sent: Instant,
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
    pub(super) probe: bool,
    pub(super) closed: Option<CloseReason>,
    pub(super) forget: bool,
}

impl Timers {
    pub(super) fn new(now: Instant, heartbeat: Duration, config: &OutboundConfig, open: &Open) -> Self {
        let mut liveness = Liveness::new(heartbeat, config.outage_limit);
        if open.control {
            liveness.watch(heartbeat, now);
        }
        Self {
            liveness,
            end: None,
            keep_alive_interval: if config.mapped {
                heartbeat.min(MAPPED)
            } else {
                heartbeat
            },
            stall_limit: config.stall_limit,
            started: false,
            is_confirmed: !open.control,
            keeps_alive: open.control,
            first: Some(now + FIRST),
            unconfirmed: None,
            blocked: None,
            stalled: None,
            keep_alive: None,
            repeat_end: None,
            forget: None,
            deadline: open.deadline.map(|deadline| now + deadline),
        }
    }

    pub(super) fn heard(&mut self, now: Instant) {
        self.liveness.heard(now);
    }

    /// A 503 from the reply subject.
    ///
    /// True when it begins a suspicion.
    pub(super) fn no_responders(&mut self, now: Instant) -> bool {
        self.liveness.no_responders(now)
    }

    /// Was the end sent, in the first message?
    pub(super) fn is_single(&self) -> bool {
        self.end.as_ref().is_some_and(|end| end.is_single)
    }

    pub(super) fn disconnected(&mut self, now: Instant) {
        self.liveness.disconnected(now);
        self.unconfirmed = None;
        self.repeat_end = None;
        self.forget = None;
    }

    /// The connection is back: the clocks begin anew.
    pub(super) fn reconnected(&mut self, now: Instant) {
        self.liveness.reconnected(now);
        self.restart_own(now);
    }

    /// Was the end sent so long ago that a caller who says nothing of it may have missed it?
    pub(super) fn may_have_missed_end(&self, now: Instant) -> bool {
        self.end.is_some_and(|end| now.saturating_since(end.sent) >= MISSED_END)
    }

    /// This side stood still: what it did not hear meanwhile says nothing (rule 45).
    pub(super) fn restart_if_late(&mut self, now: Instant) {
        if self
            .next()
            .is_some_and(|due| now.saturating_since(due) > self.liveness.heartbeat() / 2)
        {
            self.liveness.restart(now);
            if self.liveness.is_up() {
                self.restart_own(now);
            }
        }
    }

    fn restart_own(&mut self, now: Instant) {
        match self.end {
            Some(end) => self.linger(now, end.is_single),
            None if self.started && !self.is_confirmed => {
                self.unconfirmed = Some(Doubling::start(now, UNCONFIRMED));
            }
            None => {}
        }
    }

    /// The end is kept for a while, and repeated unless it was the whole answer (rule 54).
    fn linger(&mut self, now: Instant, is_single: bool) {
        self.forget = Some(
            now + if is_single {
                SINGLE
            } else {
                self.liveness.heartbeat() * 3
            },
        );
        self.repeat_end = (!is_single).then(|| now + REPEAT);
    }

    /// The caller is on its way to an end that was sent: it is kept for as long again (rule 54).
    pub(super) fn is_on_its_way(&mut self, now: Instant) {
        if self.end.is_some_and(|end| !end.is_single) && self.forget.is_some() {
            self.forget = Some(now + self.liveness.heartbeat() * 3);
        }
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
            self.keep_alive = self.keeps_alive.then(|| now + self.keep_alive_interval);
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
        if let Some(end) = &mut self.end {
            end.sent = now;
            return;
        }
        self.end = Some(End { is_single, sent: now });
        self.unblocked();
        self.unconfirmed = None;
        self.keep_alive = None;
        self.liveness.unwatch();
        self.deadline = None;
        self.linger(now, is_single);
    }

    pub(super) fn next(&self) -> Option<Instant> {
        [
            self.first,
            self.unconfirmed.as_ref().map(|timer| timer.at),
            self.blocked.as_ref().map(|timer| timer.at),
            self.stalled,
            self.keep_alive,
            self.liveness.next(),
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
        let max = self.liveness.heartbeat();
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
        match self.liveness.judge(now) {
            Judgement::Fine => {}
            Judgement::Probe => due.probe = true,
            Judgement::Gone | Judgement::Silent => due.closed = Some(CloseReason::Gone),
            Judgement::Outage | Judgement::Ended => due.closed = Some(CloseReason::Disconnected),
        }
        due.forget = passed(self.forget);
        due
    }
}
