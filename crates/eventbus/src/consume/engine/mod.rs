//! What one pull consumer is asked for, as a machine without I/O: time and answers are arguments.
//!
//! ```text
//!            ┌── refused, no responders ──▶ Paused ── pause over ──┐
//!            │                                                      ▼
//!  free ─▶ asked for ─── message ───▶ held ─── released ─────▶ free again
//!            └── over, connection or leader lost ──────────────────▲
//! ```
//!
//! `held + asked for ≤ slots` whenever a request is made, so nothing waits on this side for a free slot while nats-server
//! counts its ack wait. nats-server does not say which request a message answers, but statuses name theirs: their number is
//! the last part of the subject that they come to. So messages are counted in all, and a request that ends is settled by what
//! it did not deliver.
//!
//! After each call: take what [`Pulls::poll_request`] and [`Pulls::poll_event`] give; call [`Pulls::handle_timeout`] at
//! [`Pulls::poll_timeout`].

mod answers;
mod config;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use self::config::{GRACE, REMEMBERED, SHORTEST};

pub(crate) use self::config::{Plan, PullConfig};

/// The requests of one consumer that are under way, and what has come of them.
#[derive(Debug)]
pub(crate) struct Pulls {
    config: PullConfig,
    /// Those that nats-server may have, the oldest first. Some have all their messages: nobody says so.
    requests: VecDeque<Request>,
    /// Messages that are asked for and have not come.
    wanted: usize,
    /// Messages that have come and were not released.
    held: usize,
    /// Messages that a fetch has got.
    fetched: usize,
    /// Messages that may still be done; `usize::MAX`: any number.
    left: usize,
    next_number: u64,
    is_up: bool,
    /// When anything came last, or the connection, or the first request.
    heard_at: u64,
    /// No request before this.
    paused_until: Option<u64>,
    /// Requests that were refused in a row.
    refusals: u32,
    /// Nothing is asked for until somebody has looked whether the consumer is there.
    is_gone: bool,
    /// Nothing is asked for any more.
    is_stopped: bool,
    end: Option<End>,
    events: VecDeque<PullEvent>,
    random: u64,
    counts: PullCounts,
}

#[derive(Clone, Copy, Debug)]
struct Request {
    number: u64,
    count: usize,
    /// From here on nats-server does not have it.
    over_at: u64,
}

/// One request, to be handed to the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PullRequest {
    /// The last part of the subject that its statuses come to.
    pub(crate) number: u64,
    pub(crate) count: usize,
    /// Bytes of messages at most.
    pub(crate) bytes: Option<usize>,
    /// Nanoseconds that it waits; `None`: it is answered at once with what there is.
    pub(crate) expires: Option<u64>,
    /// Nanoseconds between heartbeats.
    pub(crate) heartbeat: Option<u64>,
}

/// What somebody should know, or do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PullEvent {
    /// The consumer was deleted: make it again, and say so by [`Pulls::handle_restored`].
    Gone,
    /// Nobody hears requests. Is the consumer there? Say so by [`Pulls::handle_restored`], or [`Pulls::handle_gone`].
    Look,
    /// Nothing was heard for two heartbeats: what was asked for is taken for lost.
    Silent,
    /// A request was refused; it is made again after a pause.
    Refused,
}

/// Why nothing will ever come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// nats-server cannot read requests.
    BadRequest,
    /// The fetch has what it asked for, or its time is over.
    Fetched,
    /// The consumer pushes.
    NotPull,
}

/// What has happened so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PullCounts {
    pub(crate) requests: u64,
    pub(crate) received: u64,
    /// Messages that came when all slots were taken: a request from before a reconnect was served all the same.
    pub(crate) surplus: u64,
    /// Two heartbeats were missed.
    pub(crate) silences: u64,
    pub(crate) refused: u64,
}

/// What becomes of a message that came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// It holds a slot until it is [released](Pulls::release).
    Held,
    /// There are twice as many as slots, or more than may still be done: it must be given back.
    Surplus,
}

impl Pulls {
    pub(crate) fn new(config: PullConfig, now: u64) -> Self {
        Self {
            requests: VecDeque::new(),
            wanted: 0,
            held: 0,
            fetched: 0,
            left: usize::MAX,
            next_number: 0,
            is_up: true,
            heard_at: now,
            paused_until: None,
            refusals: 0,
            is_gone: false,
            is_stopped: false,
            end: None,
            events: VecDeque::new(),
            random: config.seed,
            counts: PullCounts::default(),
            config,
        }
    }

    /// Takes no more messages than are still to be [done](Self::spend), of so many in all.
    pub(crate) fn limit(&mut self, messages: usize) {
        self.left = messages;
    }

    /// A message that was released will not come again: one less of the [limit](Self::limit).
    pub(crate) fn spend(&mut self) {
        if self.left != usize::MAX {
            self.left = self.left.saturating_sub(1);
        }
    }

    /// Is the [limit](Self::limit) reached?
    pub(crate) fn is_spent(&self) -> bool {
        self.left == 0
    }

    /// The next request to hand over.
    pub(crate) fn poll_request(&mut self, now: u64) -> Option<PullRequest> {
        let count = self.to_ask(now);
        if count == 0 {
            return None;
        }
        let wait = match self.config.plan {
            Plan::Continuous => self.config.expires,
            Plan::Fetch { until, .. } => self.config.expires.min(until.saturating_sub(now)),
        };
        let expires = (wait >= SHORTEST).then_some(wait);
        // nats-server wants more than two heartbeats in the time of a request.
        let heartbeat = expires
            .map(|expires| self.config.heartbeat.min(expires / 3))
            .filter(|beat| *beat >= SHORTEST);
        if self.wanted == 0 {
            self.heard_at = now;
        }
        let number = self.next_number;
        self.next_number += 1;
        self.wanted += count;
        self.counts.requests += 1;
        if self.requests.len() == REMEMBERED {
            self.requests.pop_front();
        }
        self.requests.push_back(Request {
            number,
            count,
            over_at: now.saturating_add(wait).saturating_add(GRACE),
        });
        Some(PullRequest {
            number,
            count,
            bytes: self.config.bytes,
            expires,
            heartbeat,
        })
    }

    /// How much to ask for now.
    fn to_ask(&self, now: u64) -> usize {
        let is_paused = self.paused_until.is_some_and(|until| now < until);
        if !self.is_up || self.is_gone || self.is_stopped || self.end.is_some() || is_paused {
            return 0;
        }
        let free = self.free();
        // Half of the slots at once: a request for each message that is done would cost more than the message. When nothing
        // is under way, whatever is free: the other slots may be taken for hours.
        let least = self.config.slots.min(self.left).div_ceil(2).min(self.config.most);
        let is_enough = match self.config.plan {
            Plan::Continuous => free >= least || self.wanted == 0,
            Plan::Fetch { .. } => true,
        };
        // So that no request is forgotten while nats-server has it.
        let memory = self
            .config
            .most
            .saturating_mul(REMEMBERED / 2)
            .saturating_sub(self.wanted);
        if is_enough {
            free.min(self.config.most).min(memory)
        } else {
            0
        }
    }

    /// What may be asked for besides what is under way.
    fn free(&self) -> usize {
        let slots = self.config.slots.min(self.left);
        let free = slots.saturating_sub(self.held + self.wanted);
        match self.config.plan {
            Plan::Continuous => free,
            Plan::Fetch { count, .. } => free.min(count.saturating_sub(self.fetched + self.wanted)),
        }
    }

    /// A message that held a slot is done: acked, given back, or dropped.
    pub(crate) fn release(&mut self) {
        debug_assert!(self.held > 0, "each message is released once");
        self.held = self.held.saturating_sub(1);
    }

    /// Asks for nothing any more. What is under way may still come.
    pub(crate) fn stop(&mut self) {
        self.is_stopped = true;
    }

    /// What somebody should know; each is said once.
    pub(crate) fn poll_event(&mut self) -> Option<PullEvent> {
        self.events.pop_front()
    }

    /// Why nothing will ever come, if that is so.
    pub(crate) fn end(&self) -> Option<End> {
        self.end
    }

    /// Messages that were asked for and have not come.
    pub(crate) fn wanted(&self) -> usize {
        self.wanted
    }

    /// Messages that have come and were not released.
    pub(crate) fn held(&self) -> usize {
        self.held
    }

    pub(crate) fn counts(&self) -> PullCounts {
        self.counts
    }
}
