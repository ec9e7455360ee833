//! A pull consumer of nats-server, as far as a client can tell.

use std::collections::VecDeque;

/// What it sends back: a message, or a status for the request of this number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Message,
    Status(u64, super::Status),
}

/// A request that waits.
#[derive(Debug)]
struct Waiting {
    number: u64,
    left: usize,
    expires_at: u64,
    beat: u64,
    beat_at: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mood {
    Well,
    /// No leader: 503.
    NoResponders,
    /// Requests are lost without a word: too many wait, and they have heartbeats.
    Deaf,
    /// Too many requests wait.
    Busy,
}

#[derive(Debug)]
pub(super) struct Consumer {
    pub(super) mood: Mood,
    pub(super) exists: bool,
    /// Messages to be delivered.
    pub(super) pending: usize,
    waiting: VecDeque<Waiting>,
}

impl Consumer {
    pub(super) fn new() -> Self {
        Self {
            mood: Mood::Well,
            exists: true,
            pending: 0,
            waiting: VecDeque::new(),
        }
    }

    /// How much may still be delivered.
    pub(super) fn open(&self) -> usize {
        self.waiting.iter().map(|waiting| waiting.left).sum()
    }

    pub(super) fn ask(&mut self, now: u64, request: &super::PullRequest) -> Vec<Answer> {
        let status = |status| vec![Answer::Status(request.number, status)];
        match self.mood {
            _ if !self.exists => return status(super::Status::NoResponders),
            Mood::NoResponders => return status(super::Status::NoResponders),
            Mood::Deaf => return Vec::new(),
            Mood::Busy => return status(super::Status::Refused),
            Mood::Well => {}
        }
        let beat = request.heartbeat.unwrap_or(u64::MAX);
        self.waiting.push_back(Waiting {
            number: request.number,
            left: request.count,
            expires_at: now + request.expires.unwrap_or(0),
            beat,
            beat_at: now.saturating_add(beat),
        });
        let mut answers = self.deliver();
        if request.expires.is_none() {
            answers.extend(self.expire(now));
        }
        answers
    }

    /// Gives messages to the requests in turn.
    pub(super) fn deliver(&mut self) -> Vec<Answer> {
        let mut answers = Vec::new();
        while self.pending > 0
            && let Some(mut first) = self.waiting.pop_front()
        {
            self.pending -= 1;
            first.left -= 1;
            answers.push(Answer::Message);
            if first.left > 0 {
                self.waiting.push_back(first);
            }
        }
        answers
    }

    /// When it says something of its own accord.
    pub(super) fn next(&self) -> Option<u64> {
        let all = self.waiting.iter();
        all.map(|waiting| waiting.expires_at.min(waiting.beat_at)).min()
    }

    pub(super) fn expire(&mut self, now: u64) -> Vec<Answer> {
        let mut answers = Vec::new();
        self.waiting.retain_mut(|waiting| {
            if waiting.expires_at <= now {
                let undelivered = Some(waiting.left);
                answers.push(Answer::Status(waiting.number, super::Status::Over { undelivered }));
                return false;
            }
            if waiting.beat_at <= now {
                waiting.beat_at = now.saturating_add(waiting.beat);
                answers.push(Answer::Status(waiting.number, super::Status::Heartbeat));
            }
            true
        });
        answers
    }

    /// Ends all requests with a word.
    pub(super) fn end(&mut self, status: &super::Status) -> Vec<Answer> {
        let all = self.waiting.drain(..);
        all.map(|waiting| Answer::Status(waiting.number, status.clone()))
            .collect()
    }

    /// Nobody listens to the answers any more.
    pub(super) fn drop_requests(&mut self) {
        self.waiting.clear();
    }
}
