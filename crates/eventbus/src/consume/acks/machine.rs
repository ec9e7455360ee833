//! Words that end messages, and what nats-server has confirmed of them, as a machine without I/O: time and answers are
//! arguments.
//!
//! ```text
//!  say ─▶ unsent ── poll_transmit ─▶ sent ── an answer to it or to one behind it ─▶ confirmed
//!            ▲                        │
//!            └── connection or leader lost, no answer in time
//! ```
//!
//! nats-server takes the words of one connection in turn. So one answer is good for all words before: only each so many asks
//! for one, and the last one after a pause. An answer counts only if everything it is good for was sent on the connection that
//! it came by.

use std::collections::VecDeque;

use bytes::Bytes;

/// Durations are in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct AckConfig {
    /// An answer is asked for with each so many words.
    pub(super) group: u64,
    /// Or so long after a word that asks for none.
    pub(super) linger: u64,
    /// How long an answer may take before all is said again.
    pub(super) timeout: u64,
    /// How long it is said at all: later the message is delivered again.
    pub(super) deadline: u64,
    /// Words that wait for an answer at most.
    pub(super) most: usize,
}

/// What was said and is not confirmed. `R` is where a word goes.
#[derive(Debug)]
pub(super) struct Acks<R> {
    config: AckConfig,
    /// The oldest first.
    said: VecDeque<Said<R>>,
    /// The number of the first of them.
    first: u64,
    /// The number of the next one to send.
    unsent: u64,
    /// Answers were asked for up to this number.
    asked: u64,
    asks: VecDeque<Ask>,
    next_token: u64,
    /// How often in a row no answer has come in time: a server that is slow is asked less and less often.
    unanswered: u32,
    /// When an answer is asked for what was sent and is not asked about.
    ask_at: Option<u64>,
    /// Nothing is sent before this.
    paused_until: Option<u64>,
    is_up: bool,
    /// The highest number that was given up, and 1.
    given_up: u64,
    unconfirmed: u64,
}

#[derive(Debug)]
struct Said<R> {
    reply: R,
    body: Bytes,
    at: u64,
    /// How often the connection had been made when it was sent.
    epoch: u64,
}

#[derive(Clone, Copy, Debug)]
struct Ask {
    /// Of this ask only: after words were said again, an answer to an older one says less than it seems.
    token: u64,
    /// It is about everything below this number.
    before: u64,
    epoch: u64,
    at: u64,
}

/// One word, to be handed to the connection.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Transmission<'a, R> {
    pub(super) reply: &'a R,
    pub(super) body: &'a Bytes,
    /// An answer is asked for, under this token.
    pub(super) ask: Option<u64>,
}

impl<R> Acks<R> {
    pub(super) fn new(config: AckConfig) -> Self {
        Self {
            config,
            said: VecDeque::new(),
            first: 0,
            unsent: 0,
            asked: 0,
            asks: VecDeque::new(),
            next_token: 0,
            unanswered: 0,
            ask_at: None,
            paused_until: None,
            is_up: true,
            given_up: 0,
            unconfirmed: 0,
        }
    }

    /// A word, and its number.
    pub(super) fn say(&mut self, now: u64, reply: R, body: Bytes) -> u64 {
        if self.said.len() >= self.config.most {
            self.give_up_first();
        }
        let number = self.next();
        self.said.push_back(Said {
            reply,
            body,
            at: now,
            epoch: 0,
        });
        number
    }

    /// The number of the next word.
    pub(super) fn next(&self) -> u64 {
        self.first + self.said.len() as u64
    }

    /// Everything below this number is confirmed or given up.
    pub(super) fn settled(&self) -> u64 {
        self.first
    }

    /// Was any word from this number on given up?
    pub(super) fn has_given_up(&self, from: u64) -> bool {
        self.given_up > from
    }

    /// Words that were given up since this was asked last.
    pub(super) fn take_unconfirmed(&mut self) -> u64 {
        std::mem::take(&mut self.unconfirmed)
    }

    /// Somebody waits for what was said so far: an answer is asked for at once.
    pub(super) fn ask(&mut self, now: u64) {
        self.ask_at = Some(now);
    }

    /// The next word to hand over. `epoch` says how often the connection has been made, as was seen before this is called.
    pub(super) fn poll_transmit(&mut self, now: u64, epoch: u64) -> Option<Transmission<'_, R>> {
        if !self.is_up || self.paused_until.is_some_and(|until| now < until) {
            return None;
        }
        let number = if self.unsent < self.next() {
            self.unsent += 1;
            self.unsent - 1
        } else if self.asked < self.unsent && self.ask_at.is_some_and(|at| at <= now) {
            // The last one once more: to a word that it has taken already nats-server answers too.
            self.unsent - 1
        } else {
            return None;
        };
        let is_last = self.unsent == self.next();
        let is_due = is_last && self.ask_at.is_some_and(|at| at <= now);
        let asks = is_due || number + 1 - self.asked >= self.config.group;
        let token = asks.then_some(self.next_token);
        if let Some(token) = token {
            self.next_token += 1;
            self.asked = number + 1;
            // Whoever waits waits for the last one.
            self.ask_at = self.ask_at.filter(|at| *at <= now && !is_last);
            self.asks.push_back(Ask {
                token,
                before: self.asked,
                epoch,
                at: now,
            });
        } else {
            let at = now.saturating_add(self.config.linger);
            self.ask_at = self.ask_at.or(Some(at));
        }
        let place = usize::try_from(number - self.first).unwrap_or(usize::MAX);
        let said = self.said.get_mut(place)?;
        said.epoch = epoch;
        Some(Transmission {
            reply: &said.reply,
            body: &said.body,
            ask: token,
        })
    }

    /// nats-server has answered; `epoch` says how often the connection has been made by now.
    pub(super) fn handle_answer(&mut self, token: u64, epoch: u64) {
        let Some(place) = self.asks.iter().position(|ask| ask.token == token) else {
            return;
        };
        let Ask {
            before, epoch: asked, ..
        } = self.asks[place];
        if asked != epoch {
            // What it is good for may have been lost with an older connection: all is said again.
            return;
        }
        let count = usize::try_from(before.saturating_sub(self.first)).unwrap_or(usize::MAX);
        let count = count.min(self.said.len());
        if self.said.iter().take(count).any(|said| said.epoch != epoch) {
            return;
        }
        self.unanswered = 0;
        self.asks.drain(..=place);
        self.said.drain(..count);
        self.first += count as u64;
    }

    /// Nobody has heard a word: the consumer is not there, or has no leader.
    pub(super) fn handle_refusal(&mut self, now: u64) {
        self.say_again();
        self.paused_until = Some(now.saturating_add(self.config.timeout / 4));
    }

    /// The connection is lost.
    pub(super) fn handle_disconnect(&mut self) {
        self.is_up = false;
        self.say_again();
    }

    /// The connection is there.
    pub(super) fn handle_connect(&mut self) {
        self.is_up = true;
        self.paused_until = None;
        self.say_again();
    }

    /// All that is not confirmed is said again: another server leads the consumer, and may not know of it.
    pub(super) fn say_again(&mut self) {
        self.unsent = self.first;
        self.asked = self.first;
        self.asks.clear();
    }

    /// Whatever `is_refused` is never taken: it is given up.
    pub(super) fn handle_denied(&mut self, is_refused: impl Fn(&R) -> bool) {
        if self.said.front().is_some_and(|said| is_refused(&said.reply)) {
            self.give_up_all();
        }
    }

    /// Gives up everything.
    pub(super) fn give_up_all(&mut self) {
        while !self.said.is_empty() {
            self.give_up_first();
        }
    }

    /// When to call [`handle_timeout`](Self::handle_timeout), which may be early.
    pub(super) fn poll_timeout(&self) -> Option<u64> {
        let first = self.said.front()?;
        let answer = self.asks.front().map(|ask| ask.at.saturating_add(self.patience()));
        let ask = self.ask_at.filter(|_| self.is_up);
        let over = first.at.saturating_add(self.config.deadline);
        [ask, answer, self.paused_until, Some(over)].into_iter().flatten().min()
    }

    /// Does what is due.
    pub(super) fn handle_timeout(&mut self, now: u64) {
        self.paused_until = self.paused_until.filter(|until| now < *until);
        let is_over = |said: &Said<R>| said.at.saturating_add(self.config.deadline) <= now;
        let over = self.said.iter().take_while(|said| is_over(said)).count();
        (0..over).for_each(|_| self.give_up_first());
        let patience = self.patience();
        if self
            .asks
            .front()
            .is_some_and(|ask| ask.at.saturating_add(patience) <= now)
        {
            self.unanswered += 1;
            self.say_again();
        }
        if self.said.is_empty() {
            self.ask_at = None;
        }
    }

    fn patience(&self) -> u64 {
        self.config.timeout.saturating_mul(1 << self.unanswered.min(4))
    }

    fn give_up_first(&mut self) {
        if self.said.pop_front().is_some() {
            self.first += 1;
            self.given_up = self.first;
            self.unconfirmed += 1;
            self.unsent = self.unsent.max(self.first);
            self.asked = self.asked.max(self.first);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CONFIG: AckConfig = AckConfig {
        group: 4,
        linger: 10,
        timeout: 100,
        deadline: 1000,
        most: 1000,
    };

    fn say(acks: &mut Acks<u64>, now: u64, word: u64) {
        acks.say(now, word, Bytes::new());
    }

    /// Where the words go that are handed over now, and which of them ask for an answer.
    fn sent(acks: &mut Acks<u64>, now: u64, epoch: u64) -> Vec<(u64, Option<u64>)> {
        let mut sent = Vec::new();
        while let Some(word) = acks.poll_transmit(now, epoch) {
            sent.push((*word.reply, word.ask));
        }
        sent
    }

    #[test]
    fn one_answer_is_good_for_a_group() {
        let mut acks = Acks::new(CONFIG);
        (0..5).for_each(|word| say(&mut acks, 0, word));
        assert_eq!(
            sent(&mut acks, 0, 1),
            [(0, None), (1, None), (2, None), (3, Some(0)), (4, None)]
        );
        acks.handle_answer(0, 1);
        assert_eq!((acks.settled(), acks.poll_timeout()), (4, Some(10)));
        assert_eq!(sent(&mut acks, 9, 1), []);
        acks.handle_timeout(10);
        assert_eq!(
            sent(&mut acks, 10, 1),
            [(4, Some(1))],
            "the last one asks after a pause"
        );
        acks.handle_answer(1, 1);
        assert_eq!((acks.settled(), acks.poll_timeout()), (5, None));
    }

    #[test]
    fn whoever_waits_asks_at_once() {
        let mut acks = Acks::new(CONFIG);
        say(&mut acks, 0, 7);
        acks.ask(0);
        assert_eq!(sent(&mut acks, 0, 1), [(7, Some(0))]);
        assert_eq!(sent(&mut acks, 0, 1), []);
    }

    #[test]
    fn what_was_lost_with_a_connection_is_said_again() {
        let mut acks = Acks::new(CONFIG);
        (0..4).for_each(|word| say(&mut acks, 0, word));
        sent(&mut acks, 0, 1);
        // The connection was lost and found, and the word that asks has gone by the new one.
        acks.handle_answer(0, 2);
        assert_eq!(acks.settled(), 0, "the others may be lost");
        acks.handle_connect();
        assert_eq!(sent(&mut acks, 1, 2).len(), 4);
        acks.handle_answer(0, 2);
        assert_eq!(acks.settled(), 0, "an answer to the word before");
        acks.handle_answer(1, 2);
        assert_eq!(acks.settled(), 4);
    }

    #[test]
    fn without_an_answer_all_is_said_again_and_given_up_in_the_end() {
        let mut acks = Acks::new(CONFIG);
        (0..4).for_each(|word| say(&mut acks, 0, word));
        sent(&mut acks, 0, 1);
        acks.handle_timeout(100);
        assert_eq!(sent(&mut acks, 100, 1).len(), 4);
        acks.handle_refusal(150);
        assert_eq!((sent(&mut acks, 151, 1), acks.poll_timeout()), (vec![], Some(175)));
        acks.handle_timeout(1000);
        assert_eq!(
            (acks.settled(), acks.take_unconfirmed(), acks.take_unconfirmed()),
            (4, 4, 0)
        );
        assert!(acks.has_given_up(3) && !acks.has_given_up(4));
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Say,
        Transmit,
        /// The server takes so many of what is on its way, and answers.
        Serve(usize),
        /// An answer arrives.
        Answer,
        /// The connection is lost with what is on its way, and found; who says so later.
        Lose,
        Notice,
        Wait(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => Just(Step::Say),
            3 => Just(Step::Transmit),
            3 => (0..8_usize).prop_map(Step::Serve),
            3 => Just(Step::Answer),
            1 => Just(Step::Lose),
            1 => Just(Step::Notice),
            1 => (0..150_u64).prop_map(Step::Wait),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]
        /// Nothing is taken for confirmed that the server does not have, whatever is lost and whenever that is noticed; and
        /// everything is confirmed in the end.
        #[test]
        fn what_is_confirmed_was_taken(steps in prop::collection::vec(step(), 1..200)) {
            let config = AckConfig { deadline: u64::MAX, ..CONFIG };
            let mut acks = Acks::new(config);
            let (mut now, mut epoch, mut count) = (0, 1_u64, 0_u64);
            let mut on_the_way: VecDeque<(u64, Option<u64>)> = VecDeque::new();
            let mut answers: VecDeque<u64> = VecDeque::new();
            let (mut taken, mut checked) = (std::collections::HashSet::new(), 0);
            // In the end all is noticed, and nothing is lost.
            let rest = [Step::Transmit, Step::Serve(1000), Step::Answer, Step::Answer, Step::Wait(20)];
            let end = rest.into_iter().cycle().take(1000);
            for step in steps.into_iter().chain([Step::Notice]).chain(end) {
                match step {
                    Step::Say => {
                        say(&mut acks, now, count);
                        count += 1;
                    }
                    Step::Transmit => on_the_way.extend(sent(&mut acks, now, epoch)),
                    Step::Serve(words) => {
                        for (word, ask) in on_the_way.drain(..words.min(on_the_way.len())) {
                            taken.insert(word);
                            answers.extend(ask);
                        }
                    }
                    Step::Answer => {
                        if let Some(answer) = answers.pop_front() {
                            acks.handle_answer(answer, epoch);
                        }
                    }
                    Step::Lose => {
                        on_the_way.clear();
                        answers.clear();
                        epoch += 1;
                    }
                    Step::Notice => acks.handle_connect(),
                    Step::Wait(time) => {
                        now += time;
                        acks.handle_timeout(now);
                    }
                }
                prop_assert!((checked..acks.settled()).all(|word| taken.contains(&word)), "{:?}", acks);
                checked = acks.settled();
            }
            prop_assert_eq!(acks.settled(), count);
        }
    }
}
