//! An engine, a connection and a consumer in virtual time. What must hold is looked at after each step.

use std::collections::VecDeque;

use super::consumer::{Answer, Consumer, Mood};
use super::*;

/// What a plan does next. Time passes only in `Wait`.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// So many messages come into the stream.
    Publish(usize),
    /// So many handlers are done.
    Release(usize),
    Wait {
        millis: u64,
    },
    Mood(Mood),
    /// The connection is lost. The consumer may keep its requests until after the reconnect.
    Cut {
        keeps_requests: bool,
    },
    Reconnect,
    /// Another server leads.
    Move,
    Delete,
    /// Answers take so long from now on.
    Delay {
        millis: u64,
    },
}

#[derive(Debug)]
pub(super) struct World {
    pulls: Pulls,
    config: PullConfig,
    now: u64,
    is_up: bool,
    delay: u64,
    consumer: Consumer,
    /// On the way to the client; all come in order.
    answers: VecDeque<(u64, Answer)>,
    published: usize,
    done: usize,
    /// A request may have been taken for lost that was not: then there may be surplus.
    may_have_surplus: bool,
}

impl World {
    pub(super) fn new(config: PullConfig) -> Self {
        Self {
            pulls: Pulls::new(config.clone(), 0),
            config,
            now: 0,
            is_up: true,
            delay: MILLI,
            consumer: Consumer::new(),
            answers: VecDeque::new(),
            published: 0,
            done: 0,
            may_have_surplus: false,
        }
    }

    pub(super) fn run(&mut self, step: &Step) {
        match *step {
            Step::Publish(count) => {
                self.published += count;
                self.consumer.pending += count;
                self.deliver();
            }
            Step::Release(count) => self.release(count),
            Step::Wait { millis } => self.wait(millis * MILLI),
            Step::Mood(mood) => {
                if mood == Mood::NoResponders {
                    self.consumer.drop_requests();
                }
                self.consumer.mood = mood;
            }
            Step::Cut { keeps_requests } => self.cut(keeps_requests),
            Step::Reconnect => self.reconnect(),
            Step::Move => {
                let answers = self.consumer.end(&Status::Moved);
                self.send(answers);
            }
            Step::Delete => {
                self.consumer.exists = false;
                let answers = self.consumer.end(&Status::Deleted);
                self.send(answers);
            }
            Step::Delay { millis } => self.delay = millis * MILLI,
        }
        self.settle();
    }

    /// All is well again: everything must be handled, and nothing stay behind.
    pub(super) fn finish(mut self) {
        self.consumer.mood = Mood::Well;
        self.delay = MILLI;
        self.reconnect();
        // With one slot a message takes a turn, and there may be thousands.
        for _ in 0..20_000 {
            self.wait(20 * MILLI);
            self.release(usize::MAX);
            self.settle();
            if self.done == self.published {
                break;
            }
        }
        assert_eq!(
            self.done, self.published,
            "all is delivered in the end: {:?}",
            self.pulls
        );
        assert_eq!(self.pulls.held(), 0);
    }

    fn release(&mut self, count: usize) {
        for _ in 0..count.min(self.pulls.held()) {
            self.pulls.release();
            self.done += 1;
        }
    }

    fn wait(&mut self, nanos: u64) {
        let end = self.now + nanos;
        loop {
            let arrival = self.answers.front().map(|(at, _)| *at);
            let own = self.consumer.next();
            let next = [arrival, own, self.pulls.poll_timeout()].into_iter().flatten().min();
            let Some(next) = next.filter(|next| *next <= end) else {
                break;
            };
            self.now = self.now.max(next);
            let answers = self.consumer.expire(self.now);
            self.send(answers);
            self.arrive();
            self.pulls.handle_timeout(self.now);
            self.settle();
        }
        self.now = end;
    }

    fn deliver(&mut self) {
        let answers = self.consumer.deliver();
        self.send(answers);
    }

    fn send(&mut self, answers: Vec<Answer>) {
        for answer in answers {
            if self.is_up {
                self.answers.push_back((self.now + self.delay, answer));
            } else if answer == Answer::Message {
                // Lost on the way: it is delivered again.
                self.consumer.pending += 1;
            }
        }
    }

    fn arrive(&mut self) {
        while self.answers.front().is_some_and(|(at, _)| *at <= self.now) {
            let Some((_, answer)) = self.answers.pop_front() else {
                return;
            };
            match answer {
                Answer::Message => {
                    if self.pulls.handle_message(self.now) == Admission::Surplus {
                        assert!(self.may_have_surplus, "more came than was asked for");
                        self.consumer.pending += 1;
                    }
                }
                Answer::Status(number, status) => self.pulls.handle_status(self.now, number, &status),
            }
            self.settle();
        }
    }

    fn cut(&mut self, keeps_requests: bool) {
        if !self.is_up {
            return;
        }
        self.is_up = false;
        let lost = self.answers.drain(..).filter(|(_, answer)| *answer == Answer::Message);
        self.consumer.pending += lost.count();
        if keeps_requests {
            self.may_have_surplus = true;
        } else {
            self.consumer.drop_requests();
        }
        self.pulls.handle_disconnect();
    }

    fn reconnect(&mut self) {
        if !self.is_up {
            self.is_up = true;
            self.pulls.handle_connect(self.now);
        }
    }

    /// Makes requests, does what events ask for, and looks at what must hold.
    fn settle(&mut self) {
        while let Some(event) = self.pulls.poll_event() {
            match event {
                PullEvent::Gone => {
                    self.consumer.exists = true;
                    self.pulls.handle_restored(self.now);
                }
                PullEvent::Look if !self.consumer.exists => {
                    // What it had delivered may still be on its way.
                    self.may_have_surplus = true;
                    self.pulls.handle_gone();
                }
                // Requests that were slow may be there all the same.
                PullEvent::Silent => self.may_have_surplus = true,
                PullEvent::Look | PullEvent::Refused => {}
            }
        }
        while let Some(request) = self.pulls.poll_request(self.now) {
            assert!(self.is_up && request.count > 0 && request.count <= self.config.slots);
            let answers = self.consumer.ask(self.now, &request);
            self.send(answers);
        }
        self.deliver();
        if !self.may_have_surplus {
            let on_the_way = self.answers.iter().filter(|(_, answer)| *answer == Answer::Message);
            let all = self.consumer.open() + on_the_way.count() + self.pulls.held();
            assert!(all <= self.config.slots, "{all} may come or are here");
        }
        assert!(self.pulls.held() <= 2 * self.config.slots);
    }
}
