//! What deliveries mean to somebody who wants every message once and in order, as a machine without I/O.
//!
//! A *round* begins when the consumer is reset: what is not acked is delivered again, from the oldest on, and deliveries are
//! counted from 1. So a delivery that is missing shows as a hole in their numbers, and the next round brings what was in it.
//!
//! ```text
//!  delivered ─▶ queued ── given ──▶ unacked ── acked through ──▶ done
//!      │ behind a hole: not looked at, the next round brings it
//! ```

use std::collections::VecDeque;

/// Messages `T`, and what their acks go to, `R`.
///
/// Memory: a message for each that was not given yet, and `R` and two numbers for each that was not acked yet.
#[derive(Debug)]
pub(super) struct Order<T, R> {
    /// What the next delivery of this round must be numbered.
    next_delivery: u64,
    /// The highest sequence that this round has brought.
    brought: u64,
    /// The highest sequence that nats-server took for acked when this round began.
    settled: u64,
    /// The highest sequence that any round has brought: all up to it were queued.
    taken: u64,
    /// The highest sequence that was given.
    given: u64,
    /// The highest sequence that was acked by whoever got it.
    acked: u64,
    queue: VecDeque<(u64, T)>,
    /// Sequences that were given and are not acked.
    unacked: VecDeque<u64>,
    /// What acks of this round go to; nothing at or below `acked`.
    replies: VecDeque<(u64, R)>,
}

/// What becomes of a delivery.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Arrival<R> {
    /// It waits for its ack, which goes where this delivery says. It was queued, if no earlier round has brought it.
    Held,
    /// It was acked before, which has not been heard: it is to be acked again.
    Acked(R),
    /// This round has brought it before, and nobody has acked it yet.
    Repeated,
    /// A delivery is missing: nothing of this round can be taken any more.
    Hole,
}

impl<T, R> Order<T, R> {
    /// Whoever asks has everything up to `after`.
    pub(super) fn new(after: u64) -> Self {
        Self {
            next_delivery: 1,
            brought: 0,
            settled: 0,
            taken: after,
            given: after,
            acked: after,
            queue: VecDeque::new(),
            unacked: VecDeque::new(),
            replies: VecDeque::new(),
        }
    }

    /// The consumer was reset: all that is not acked comes again, from what is behind `settled` on.
    pub(super) fn begin_round(&mut self, settled: u64) {
        self.next_delivery = 1;
        self.brought = 0;
        self.settled = settled;
        self.replies.clear();
    }

    /// Delivery number `delivery` of the consumer brings the message numbered `sequence` in the stream.
    pub(super) fn arrive(&mut self, delivery: u64, sequence: u64, value: T, reply: R) -> Arrival<R> {
        if delivery != self.next_delivery {
            return Arrival::Hole;
        }
        self.next_delivery += 1;
        if sequence <= self.brought {
            return if sequence <= self.acked {
                Arrival::Acked(reply)
            } else {
                Arrival::Repeated
            };
        }
        self.brought = sequence;
        if sequence <= self.acked {
            return Arrival::Acked(reply);
        }
        self.replies.push_back((sequence, reply));
        if sequence > self.taken {
            self.taken = sequence;
            self.queue.push_back((sequence, value));
        }
        Arrival::Held
    }

    /// The next message.
    pub(super) fn give(&mut self) -> Option<T> {
        let (sequence, value) = self.queue.pop_front()?;
        self.given = sequence;
        self.unacked.push_back(sequence);
        Some(value)
    }

    /// All that were given up to this sequence are done: what their acks go to. Those of which this round has not brought a
    /// delivery yet are acked when it does.
    pub(super) fn ack_through(&mut self, sequence: u64) -> impl DoubleEndedIterator<Item = R> + ExactSizeIterator {
        let through = sequence.min(self.given);
        self.acked = self.acked.max(through);
        let done = self.unacked.partition_point(|unacked| *unacked <= through);
        self.unacked.drain(..done);
        let done = self.replies.partition_point(|(sequence, _)| *sequence <= through);
        self.replies.drain(..done).map(|(_, reply)| reply)
    }

    /// The highest sequence that is acked.
    pub(super) fn acked(&self) -> u64 {
        self.acked
    }

    /// Was something acked whose delivery this round has not brought yet, so that its ack could not be sent?
    pub(super) fn owes(&self) -> bool {
        self.acked > self.brought.max(self.settled)
    }

    /// Messages that were given and are not acked.
    pub(super) fn unacked(&self) -> usize {
        self.unacked.len()
    }

    /// Messages that were not given yet.
    pub(super) fn queued(&self) -> usize {
        self.queue.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Numbers = Order<u64, u64>;

    fn arrive(order: &mut Numbers, delivery: u64, sequence: u64) -> Arrival<u64> {
        order.arrive(delivery, sequence, sequence, delivery)
    }

    #[test]
    fn messages_are_given_once_and_acked_in_order() {
        let mut order = Numbers::new(0);
        for (delivery, sequence) in [(1, 3), (2, 4), (3, 9)] {
            assert_eq!(arrive(&mut order, delivery, sequence), Arrival::Held);
        }
        assert_eq!((order.give(), order.give()), (Some(3), Some(4)));
        assert_eq!((order.unacked(), order.queued()), (2, 1));
        assert_eq!(
            order.ack_through(u64::MAX).collect::<Vec<_>>(),
            [1, 2],
            "what was not given is not acked"
        );
        assert_eq!((order.acked(), order.unacked()), (4, 0));
    }

    #[test]
    fn a_hole_ends_a_round_and_the_next_one_brings_what_was_in_it() {
        let mut order = Numbers::new(0);
        arrive(&mut order, 1, 1);
        assert_eq!(arrive(&mut order, 3, 3), Arrival::Hole);
        assert_eq!(order.give(), Some(1));
        order.begin_round(0);
        assert_eq!(order.ack_through(1).len(), 0, "its delivery is not known any more");
        assert_eq!(arrive(&mut order, 1, 1), Arrival::Acked(1));
        assert_eq!(arrive(&mut order, 2, 2), Arrival::Held);
        assert_eq!(arrive(&mut order, 3, 3), Arrival::Held);
        assert_eq!((order.give(), order.give(), order.give()), (Some(2), Some(3), None));
    }

    #[test]
    fn what_comes_again_is_not_given_again() {
        let mut order = Numbers::new(0);
        arrive(&mut order, 1, 5);
        assert_eq!(arrive(&mut order, 2, 5), Arrival::Repeated);
        order.give();
        assert_eq!(order.ack_through(5).collect::<Vec<_>>(), [1]);
        assert_eq!(arrive(&mut order, 3, 5), Arrival::Acked(3));
        assert_eq!(order.give(), None);
    }

    #[test]
    fn acks_of_what_has_not_come_again_are_owed() {
        let mut order = Numbers::new(0);
        for number in 1..=3 {
            arrive(&mut order, number, number);
            order.give();
        }
        order.begin_round(1);
        assert_eq!(order.ack_through(1).len(), 0);
        assert!(!order.owes(), "nats-server has it");
        assert_eq!(order.ack_through(2).len(), 0);
        assert!(order.owes());
        assert_eq!(arrive(&mut order, 1, 2), Arrival::Acked(1));
        assert!(!order.owes());
    }

    #[test]
    fn what_somebody_has_already_is_acked_in_silence() {
        let mut order = Numbers::new(7);
        assert_eq!(arrive(&mut order, 1, 7), Arrival::Acked(1));
        assert_eq!(arrive(&mut order, 2, 8), Arrival::Held);
        assert_eq!(order.give(), Some(8));
    }

    /// A consumer, as far as it matters: it delivers what is not acked, from the oldest on, and some of it twice.
    #[derive(Debug)]
    struct Model {
        stream: Vec<u64>,
        acked: Vec<u64>,
        /// What was delivered in this round.
        delivered: usize,
        pending: Vec<u64>,
        deliveries: u64,
    }

    impl Model {
        fn reset(&mut self) {
            let floor = self.stream.iter().take_while(|sequence| self.acked.contains(sequence));
            self.delivered = floor.count();
            self.pending.clear();
            self.deliveries = 0;
        }

        fn deliver(&mut self, again: bool) -> Option<(u64, u64)> {
            let sequence = if again {
                *self.pending.first()?
            } else {
                let sequence = *self.stream.get(self.delivered)?;
                self.delivered += 1;
                self.pending.push(sequence);
                sequence
            };
            self.deliveries += 1;
            Some((self.deliveries, sequence))
        }

        fn ack(&mut self, sequence: u64) {
            self.pending.retain(|pending| *pending != sequence);
            self.acked.push(sequence);
        }
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Deliver { lost: bool, again: bool },
        Give,
        Ack { back: u64, lost: bool },
        Reset,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => (prop::bool::weighted(0.05), prop::bool::weighted(0.2)).prop_map(|(lost, again)| Step::Deliver { lost, again }),
            6 => Just(Step::Give),
            2 => (0..4_u64, any::<bool>()).prop_map(|(back, lost)| Step::Ack { back, lost }),
            1 => Just(Step::Reset),
        ]
    }

    proptest! {
        /// Whatever is lost, repeated or reset, all messages are given once, in order, and only those are acked that were.
        #[test]
        fn all_are_given_once_and_in_order(
            steps in prop::collection::vec(step(), 1..300),
            gaps in prop::collection::vec(1..4_u64, 1..40),
            after in 0..3_usize,
        ) {
            let stream: Vec<u64> = gaps.iter().scan(0, |at, gap| { *at += gap; Some(*at) }).collect();
            let after = if after == 0 { 0 } else { stream[(after - 1).min(stream.len() - 1)] };
            let expected: Vec<u64> = stream.iter().copied().filter(|sequence| *sequence > after).collect();
            let mut model = Model { stream, acked: Vec::new(), delivered: 0, pending: Vec::new(), deliveries: 0 };
            let mut order: Order<u64, u64> = Order::new(after);
            let mut given = Vec::new();
            let mut in_round = true;
            let enough = (0..400).flat_map(|_| [Step::Deliver { lost: false, again: false }, Step::Give]);
            for step in steps.into_iter().chain([Step::Reset]).chain(enough) {
                match step {
                    Step::Deliver { lost, again } => {
                        let Some((delivery, sequence)) = model.deliver(again) else { continue };
                        if lost || !in_round {
                            continue;
                        }
                        match order.arrive(delivery, sequence, sequence, sequence) {
                            Arrival::Acked(reply) => {
                                prop_assert!(reply <= order.acked());
                                model.ack(reply);
                            }
                            Arrival::Hole => in_round = false,
                            Arrival::Held | Arrival::Repeated => {}
                        }
                    }
                    Step::Give => given.extend(order.give()),
                    Step::Ack { back, lost } => {
                        let Some(last) = given.last() else { continue };
                        let replies: Vec<u64> = order.ack_through(last.saturating_sub(back)).collect();
                        prop_assert!(replies.is_sorted());
                        for reply in replies {
                            prop_assert!(given.contains(&reply));
                            if !lost {
                                model.ack(reply);
                            }
                        }
                    }
                    Step::Reset => {
                        model.reset();
                        order.begin_round(0);
                        in_round = true;
                    }
                }
                prop_assert!(given.is_sorted() && given.len() <= expected.len());
                prop_assert_eq!(&given[..], &expected[..given.len()]);
            }
            prop_assert_eq!(given, expected);
        }
    }
}
