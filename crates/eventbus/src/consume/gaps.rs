//! Whether deliveries were lost on their way: then those behind them must not be handled before them.
//!
//! ```text
//!           ┌── connection, leader or consumer lost ──▶ Doubtful ──┬─ nothing was lost ──▶ Whole
//!  Whole ───┤                                          │ gap       │
//!    ▲      └── gap in the numbers of deliveries ──▶ Broken ───────┴─ its ack wait is over ──▶ Mending
//!    └──────────────────────── all that was lost has come again ────────────────────────────────┘
//!
//!  Doubtful, Broken ── some is missing ──▶ Probing: what was given back comes at once. Otherwise back to Broken.
//! ```
//!
//! nats-server numbers the deliveries of a consumer, and delivers what was lost again when its ack wait is over, before
//! anything new. So nothing new is asked for until then. What comes behind a gap waits here, and is handled with what was
//! lost in the order of the stream: nats-server does not deliver in that order what it has delivered more than once.

use std::collections::{BTreeMap, VecDeque};

/// How long nats-server may take for what is due again, in nanoseconds.
const PATIENCE: u64 = 2_000_000_000;

/// The deliveries of one consumer, as they come to one process. `T` is a message.
///
/// Memory: the messages that wait.
#[derive(Debug)]
pub(crate) struct Gaps<T> {
    /// In so many nanoseconds nats-server is ready to deliver again what was lost.
    wait: u64,
    state: State,
    /// The number that the next delivery has; `None` when it may have any.
    next: Option<u64>,
    /// A gap without a cause was taken for a loss. A second one means that somebody else consumes too.
    was_believed: bool,
    is_shared: bool,
    /// Since the last doubt it was tried whether what is missing was given back.
    was_probed: bool,
    /// What is behind a gap, by its place in the stream.
    behind: BTreeMap<u64, T>,
    /// What may be handled.
    ready: VecDeque<T>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing is missing.
    Whole,
    /// Something may have been lost. Deliveries that follow on each other are fine.
    Doubtful { until: u64 },
    /// Something was lost.
    Broken { until: u64 },
    /// So many messages are missing, and may have been given back: then they come at once. One is asked for at a time. At
    /// `until`, or when one comes that is new, they were not, and are due again at `due`.
    Probing { left: u64, until: u64, due: u64 },
    /// It is due again: so many messages. At `until` nobody waits for them any more.
    Mending { left: u64, until: u64 },
}

/// One delivery.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Delivered {
    /// Its number at the consumer.
    pub(crate) number: u64,
    /// The message's place in the stream.
    pub(crate) place: u64,
    /// The message was never delivered before.
    pub(crate) is_first: bool,
    /// Something has happened since the last delivery that can lose some.
    pub(crate) is_explained: bool,
}

/// What nats-server says of the consumer, when nothing has come since it was asked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Look {
    /// Messages that were delivered, not acked, and are not here.
    pub(crate) missing: u64,
    /// The number of the next delivery. A server that was killed may count from an earlier one than before.
    pub(crate) next: u64,
    /// How many messages there is room for.
    pub(crate) room: u64,
}

impl<T> Gaps<T> {
    /// In the beginning there is doubt: a process that died may have had deliveries.
    pub(crate) fn new(wait: u64, now: u64) -> Self {
        Self {
            wait,
            state: State::Doubtful {
                until: now.saturating_add(wait),
            },
            next: None,
            was_believed: false,
            is_shared: false,
            was_probed: false,
            behind: BTreeMap::new(),
            ready: VecDeque::new(),
        }
    }

    /// A delivery has come; without a message when that one is here already, or there is no room for it.
    pub(crate) fn handle_delivery(&mut self, now: u64, delivered: Delivered, message: Option<T>) {
        let Delivered { number, place, .. } = delivered;
        let follows = match self.next {
            Some(next) => next == number,
            None => self.state == State::Whole,
        };
        self.next = Some(number.saturating_add(1));
        if !follows && !self.is_by_somebody_else(delivered) {
            self.was_believed |= !delivered.is_explained;
            self.state = State::Broken {
                until: now.saturating_add(self.wait),
            };
        }
        let Some(message) = message else { return };
        match self.state {
            State::Whole | State::Doubtful { .. } => self.ready.push_back(message),
            State::Broken { .. } => drop(self.behind.insert(place, message)),
            State::Probing { due, .. } if delivered.is_first => {
                self.behind.insert(place, message);
                self.state = State::Broken { until: due };
            }
            State::Probing { left, due, .. } => {
                self.behind.insert(place, message);
                let (left, until) = (left.saturating_sub(1), now.saturating_add(self.patience()));
                self.state = State::Probing { left, until, due };
                if left == 0 {
                    self.mend();
                }
            }
            State::Mending { left, .. } => {
                self.behind.insert(place, message);
                let until = now.saturating_add(self.patience());
                let left = left.saturating_sub(1);
                self.state = State::Mending { left, until };
                // What is new comes only when nothing else is due.
                if left == 0 || delivered.is_first {
                    self.mend();
                }
            }
        }
    }

    /// There was no room for a message: it comes again, and must not be overtaken.
    pub(crate) fn handle_surplus(&mut self, now: u64, delivered: Delivered) {
        self.handle_delivery(now, delivered, None);
        self.state = State::Broken {
            until: now.saturating_add(self.wait),
        };
    }

    /// Something has happened that can lose deliveries.
    pub(crate) fn handle_doubt(&mut self, now: u64) {
        let until = now.saturating_add(self.wait);
        self.was_probed = false;
        self.state = if self.behind.is_empty() {
            State::Doubtful { until }
        } else {
            State::Broken { until }
        };
    }

    /// nats-server was asked.
    pub(crate) fn handle_look(&mut self, now: u64, look: Look) {
        let (State::Doubtful { until } | State::Broken { until }) = self.state else {
            return;
        };
        if look.missing > 0 && now < until {
            // What comes may take a place that something missing needs later.
            if look.missing < look.room && !std::mem::replace(&mut self.was_probed, true) {
                self.next = Some(look.next);
                self.state = State::Probing {
                    left: look.missing,
                    until: now.saturating_add(self.patience()),
                    due: until,
                };
            }
            return;
        }
        self.next = Some(look.next);
        if look.missing == 0 || look.missing > look.room {
            // What there is no room for all at once comes as nats-server sees fit.
            self.mend();
        } else {
            self.state = State::Mending {
                left: look.missing,
                until: now.saturating_add(self.patience()),
            };
        }
    }

    /// The consumer is not there: nothing that it has delivered comes again.
    pub(crate) fn handle_gone(&mut self) {
        self.next = None;
        self.mend();
    }

    /// Ends waits that are over.
    pub(crate) fn handle_timeout(&mut self, now: u64) {
        if self.poll_timeout().is_none_or(|until| now < until) {
            return;
        }
        match self.state {
            State::Probing { due, .. } => self.state = State::Broken { until: due },
            State::Whole | State::Mending { .. } => self.mend(),
            State::Doubtful { .. } | State::Broken { .. } => {
                self.next = None;
                self.mend();
            }
        }
    }

    /// When to call [`handle_timeout`](Self::handle_timeout).
    pub(crate) fn poll_timeout(&self) -> Option<u64> {
        match self.state {
            State::Whole => None,
            // Nobody answers.
            State::Doubtful { until } | State::Broken { until } => Some(until.saturating_add(self.wait)),
            State::Probing { until, .. } | State::Mending { until, .. } => Some(until),
        }
    }

    /// How many messages may be asked for, those included that are under way.
    pub(crate) fn most_wanted(&self) -> usize {
        match self.state {
            State::Whole | State::Mending { .. } => usize::MAX,
            State::Probing { .. } => 1,
            State::Doubtful { .. } | State::Broken { .. } => 0,
        }
    }

    /// Should nats-server be asked?
    pub(crate) fn is_doubtful(&self) -> bool {
        matches!(self.state, State::Doubtful { .. } | State::Broken { .. })
    }

    /// A message that may be handled.
    pub(crate) fn poll_message(&mut self) -> Option<T> {
        self.ready.pop_front()
    }

    /// All that wait, in the order of the stream.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = T> {
        let ready = std::mem::take(&mut self.ready);
        ready.into_iter().chain(std::mem::take(&mut self.behind).into_values())
    }

    /// Does somebody else consume too? Then order does not hold. It is said once.
    pub(crate) fn poll_shared(&mut self) -> bool {
        std::mem::take(&mut self.is_shared)
    }

    /// Deliveries are missing, and nothing has happened that can lose any: the first time that may have been missed.
    fn is_by_somebody_else(&mut self, delivered: Delivered) -> bool {
        let is_theirs = !self.is_doubtful() && self.was_believed && !delivered.is_explained;
        self.is_shared |= is_theirs;
        is_theirs
    }

    fn patience(&self) -> u64 {
        self.wait.min(PATIENCE)
    }

    fn mend(&mut self) {
        self.state = State::Whole;
        self.was_probed = false;
        self.ready.extend(std::mem::take(&mut self.behind).into_values());
    }
}

#[cfg(test)]
mod tests;
