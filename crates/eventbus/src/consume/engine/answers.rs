//! What comes: messages, statuses, time, and the connection.

use super::config::{GRACE, SHORTEST};
use super::{Admission, End, Plan, PullEvent, Pulls};
use crate::consume::status::Status;
use crate::pause::pause;

impl Pulls {
    /// A message has come.
    pub(crate) fn handle_message(&mut self, now: u64) -> Admission {
        self.heard_at = now;
        self.refusals = 0;
        self.wanted = self.wanted.saturating_sub(1);
        if self.wanted == 0 {
            // All of them have what they asked for.
            self.requests.clear();
        }
        // Those of a request that was taken for lost come in surplus, at most once for each reconnect.
        if self.held >= self.config.slots.saturating_mul(2).min(self.left) {
            self.counts.surplus += 1;
            return Admission::Surplus;
        }
        self.counts.surplus += u64::from(self.held >= self.config.slots);
        self.counts.received += 1;
        self.held += 1;
        self.fetched += 1;
        if let Plan::Fetch { count, .. } = self.config.plan
            && self.fetched >= count
        {
            self.finish(End::Fetched);
        }
        Admission::Held
    }

    /// A status for request `number` has come.
    pub(crate) fn handle_status(&mut self, now: u64, number: u64, status: &Status) {
        self.heard_at = now;
        let place = self.requests.iter().position(|request| request.number == number);
        // What is not known any more was settled before: by a reconnect, a change of leaders, or time.
        let Some(place) = place else { return };
        match *status {
            Status::Heartbeat => self.refusals = 0,
            Status::Over { undelivered } => {
                self.refusals = 0;
                self.settle(place, undelivered);
                self.end_fetch(now);
            }
            Status::Refused => self.refuse(now, place, PullEvent::Refused),
            Status::BatchTooLarge { most } => {
                self.config.most = self.config.most.min(most.max(1));
                self.settle_refused(place);
                self.pause(now);
            }
            Status::ExpiryTooLong => {
                // The limit stands in Go's words; halves get there soon, and a second is what anybody allows.
                self.config.expires = (self.config.expires / 2).max(SHORTEST);
                self.config.heartbeat = self.config.heartbeat.min(self.config.expires / 3);
                self.settle_refused(place);
                self.pause(now);
            }
            Status::NoResponders => {
                let is_first = self.refusals == 0;
                self.refuse(now, place, PullEvent::Refused);
                // Once in a while is enough: an election takes seconds, and each look is a question to the API.
                if is_first || self.refusals.is_multiple_of(4) {
                    self.events.push_back(PullEvent::Look);
                }
            }
            Status::Moved => {
                // Those before it were with the same server. A later one may be with the new leader; if it is not, it gets
                // its own word.
                self.requests.drain(..=place);
                self.clamp();
                self.pause(now);
            }
            Status::Deleted => self.handle_gone(),
            Status::NotPull => self.finish(End::NotPull),
            Status::BadRequest => self.finish(End::BadRequest),
        }
    }

    /// The consumer is not there: nothing is asked for until it is.
    pub(crate) fn handle_gone(&mut self) {
        self.forget_all();
        if !std::mem::replace(&mut self.is_gone, true) {
            self.events.push_back(PullEvent::Gone);
        }
    }

    /// The consumer is there, or there again.
    pub(crate) fn handle_restored(&mut self, now: u64) {
        if std::mem::take(&mut self.is_gone) {
            self.heard_at = now;
            self.refusals = 0;
            self.paused_until = None;
        }
    }

    /// The connection is lost. nats-server drops requests whose reply subject nobody listens on; one that it still has after
    /// a reconnect may be served, and its messages are surplus.
    pub(crate) fn handle_disconnect(&mut self) {
        self.is_up = false;
        self.forget_all();
    }

    /// The connection is back: requests are made at once, without asking whether the consumer is there.
    pub(crate) fn handle_connect(&mut self, now: u64) {
        // A connection that was lost and found before anybody looked has lost its requests all the same.
        self.forget_all();
        self.is_up = true;
        self.heard_at = now;
        self.refusals = 0;
        self.paused_until = None;
    }

    /// When to call [`handle_timeout`](Self::handle_timeout).
    pub(crate) fn poll_timeout(&self) -> Option<u64> {
        if self.end.is_some() {
            return None;
        }
        let pause = self.paused_until;
        let oldest = self.requests.front().map(|request| request.over_at);
        let silence = self.is_listening().then(|| self.silent_at());
        let until = match self.config.plan {
            Plan::Fetch { until, .. } => Some(until),
            Plan::Continuous => None,
        };
        // A fetch that waits for the last word of its requests is not due again and again.
        let until = until.filter(|_| self.requests.is_empty());
        [pause, oldest, silence, until].into_iter().flatten().min()
    }

    /// Does what is due: pauses that are over, requests that have ended without a word, silence.
    pub(crate) fn handle_timeout(&mut self, now: u64) {
        if self.end.is_some() {
            return;
        }
        self.paused_until = self.paused_until.filter(|until| now < *until);
        while self.requests.front().is_some_and(|request| request.over_at <= now) {
            self.settle(0, None);
        }
        if self.is_listening() && now >= self.silent_at() {
            self.forget_all();
            self.counts.silences += 1;
            self.events.push_back(PullEvent::Silent);
        }
        self.end_fetch(now);
    }

    fn is_listening(&self) -> bool {
        self.is_up && self.wanted > 0
    }

    fn silent_at(&self) -> u64 {
        let two = self.config.heartbeat.saturating_mul(2);
        self.heard_at.saturating_add(two).saturating_add(GRACE)
    }

    /// A fetch is over when its time is and no request is under way.
    fn end_fetch(&mut self, now: u64) {
        if let Plan::Fetch { until, .. } = self.config.plan
            && now >= until
            && self.requests.is_empty()
        {
            self.finish(End::Fetched);
        }
    }

    /// Request number `place` of the list is over.
    fn settle(&mut self, place: usize, undelivered: Option<usize>) {
        let Some(request) = self.requests.remove(place) else {
            return;
        };
        self.wanted = self.wanted.saturating_sub(undelivered.unwrap_or(0).min(request.count));
        self.clamp();
    }

    /// Request number `place` was refused before anything was delivered.
    fn settle_refused(&mut self, place: usize) {
        let all = self.requests.get(place).map(|request| request.count);
        self.settle(place, all);
        self.counts.refused += 1;
    }

    /// No more can come than the requests that are left have asked for: that corrects whatever was lost.
    fn clamp(&mut self) {
        let most: usize = self.requests.iter().map(|request| request.count).sum();
        self.wanted = self.wanted.min(most);
        if self.wanted == 0 {
            self.requests.clear();
        }
    }

    fn forget_all(&mut self) {
        self.requests.clear();
        self.wanted = 0;
    }

    fn refuse(&mut self, now: u64, place: usize, event: PullEvent) {
        self.settle_refused(place);
        self.pause(now);
        if self.refusals == 1 {
            self.events.push_back(event);
        }
    }

    /// Between a half and the whole of a pause that doubles: clients that lost the same leader come back apart.
    fn pause(&mut self, now: u64) {
        let (first, longest) = (self.config.first_pause, self.config.longest_pause);
        let pause = pause(first, longest, self.refusals, &mut self.random);
        self.refusals = self.refusals.saturating_add(1);
        self.paused_until = Some(now.saturating_add(pause));
    }

    fn finish(&mut self, end: End) {
        self.end.get_or_insert(end);
        self.forget_all();
    }
}
