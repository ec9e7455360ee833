//! Up to where a consumer's messages are done, as far as this process can know: there a consumer that was deleted begins when
//! it is made again.

use super::floor::Floor;

/// Messages above the floor that are remembered: one that is tried for ever holds the floor up.
const REMEMBERED: usize = 100_000;

/// What is done, by the account of this process and by that of nats-server.
///
/// This process knows what became of the messages that it got. Where the numbers of deliveries have a gap, others were lost or
/// went to somebody else: then its own account ends before the gap, until nats-server has acks of all that it had delivered.
///
/// Memory: an entry for each message that is here, was given back, or is done above one of these; at most 100,000.
#[derive(Debug)]
pub(crate) struct Done {
    floor: Floor,
    /// nats-server has acks up to here.
    acked: u64,
    /// The number that the next delivery has.
    next: u64,
    gap: Option<Gap>,
    /// How often one was found.
    gaps: u64,
}

#[derive(Clone, Copy, Debug)]
struct Gap {
    /// What was done before it.
    floor: u64,
    /// Once nats-server has acks up to here, it is closed; `None` until it was asked what it has delivered.
    closed_by: Option<u64>,
}

/// What nats-server says of a consumer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Position {
    /// Up to this message all are acked.
    pub(crate) acked: u64,
    /// The last message that was delivered.
    pub(crate) delivered: u64,
    /// The number of the last delivery.
    pub(crate) deliveries: u64,
}

impl Done {
    /// A consumer as it is before anything is asked for.
    pub(crate) fn new(position: Position) -> Self {
        let gap = Gap {
            floor: position.acked,
            closed_by: Some(position.delivered),
        };
        Self {
            floor: Floor::default(),
            acked: position.acked,
            next: position.deliveries.saturating_add(1),
            // Others may have deliveries, and may not have acked them.
            gap: (position.acked < position.delivered).then_some(gap),
            gaps: 0,
        }
    }

    /// The consumer has delivered the message `message` as its number `number`.
    pub(crate) fn begin(&mut self, number: u64, message: u64) {
        if number != self.next {
            let floor = self.get();
            self.open_gap(floor);
        }
        self.next = number.saturating_add(1);
        self.floor.begin(message);
        if self.floor.len() > REMEMBERED {
            let floor = self.get();
            self.floor = Floor::default();
            self.open_gap(floor);
        }
    }

    /// The message is done.
    pub(crate) fn finish(&mut self, message: u64) {
        self.floor.finish(message);
    }

    /// How many gaps were found so far: to be noted when nats-server is asked.
    pub(crate) fn gaps(&self) -> u64 {
        self.gaps
    }

    /// nats-server was asked when so many gaps had been found.
    pub(crate) fn handle_position(&mut self, position: Position, gaps: u64) {
        self.acked = self.acked.max(position.acked);
        self.floor.raise(self.acked);
        // Of a gap that was found later, the answer may not know what was lost.
        if let Some(gap) = self.gap.as_mut().filter(|_| gaps == self.gaps) {
            match gap.closed_by {
                Some(closed_by) if self.acked >= closed_by => self.gap = None,
                Some(_) => {}
                None => gap.closed_by = Some(position.delivered),
            }
        }
    }

    /// The consumer was made again: it counts from 1.
    pub(crate) fn handle_restored(&mut self) {
        self.next = 1;
    }

    /// Does it help to ask nats-server?
    pub(crate) fn is_doubtful(&self) -> bool {
        self.gap.is_some()
    }

    /// Up to here everything is done.
    pub(crate) fn get(&self) -> u64 {
        let own = self.floor.get();
        let own = self.gap.map_or(own, |gap| own.min(gap.floor));
        own.max(self.acked)
    }

    fn open_gap(&mut self, floor: u64) {
        let floor = self.gap.map_or(floor, |gap| gap.floor.min(floor));
        self.gap = Some(Gap { floor, closed_by: None });
        self.gaps += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn position(acked: u64, delivered: u64, deliveries: u64) -> Position {
        Position {
            acked,
            delivered,
            deliveries,
        }
    }

    #[test]
    fn the_own_account_counts_while_nothing_is_missing() {
        let mut done = Done::new(position(10, 10, 4));
        assert_eq!(done.get(), 10);
        for (number, message) in [(5, 11), (6, 12), (7, 15)] {
            done.begin(number, message);
        }
        done.finish(15);
        assert_eq!(done.get(), 10);
        done.finish(11);
        done.finish(12);
        assert_eq!((done.get(), done.is_doubtful()), (15, false));
    }

    #[test]
    fn what_others_have_is_not_done() {
        let mut done = Done::new(position(10, 12, 2));
        done.begin(3, 13);
        done.finish(13);
        assert_eq!((done.get(), done.is_doubtful()), (10, true));
        done.handle_position(position(11, 13, 3), 0);
        assert_eq!(done.get(), 11);
        done.handle_position(position(12, 13, 3), 0);
        assert_eq!((done.get(), done.is_doubtful()), (13, false));
    }

    #[test]
    fn what_was_lost_is_not_done_until_it_is_acked() {
        let mut done = Done::new(position(0, 0, 0));
        done.begin(1, 1);
        done.finish(1);
        done.begin(4, 4);
        done.finish(4);
        assert_eq!(done.get(), 1, "2 and 3 were lost");
        done.handle_position(position(1, 1, 1), 0);
        assert_eq!(done.get(), 1, "that was asked before");
        done.handle_position(position(1, 4, 4), done.gaps());
        assert_eq!(done.get(), 1);
        done.begin(5, 2);
        done.begin(6, 3);
        done.finish(2);
        done.finish(3);
        assert_eq!(done.get(), 1, "nats-server may have delivered more that was lost");
        done.handle_position(position(4, 4, 6), done.gaps());
        assert_eq!((done.get(), done.is_doubtful()), (4, false));
    }

    #[test]
    fn a_message_that_somebody_else_has_done_holds_nothing_up() {
        let mut done = Done::new(position(0, 0, 0));
        done.begin(1, 1);
        done.begin(2, 2);
        done.finish(2);
        assert_eq!(done.get(), 0);
        done.handle_position(position(2, 2, 3), 0);
        assert_eq!(done.get(), 2);
    }

    #[test]
    fn memory_is_bounded_though_one_message_is_tried_for_ever() {
        let mut done = Done::new(position(0, 0, 0));
        for message in 1..=3 * REMEMBERED as u64 {
            done.begin(message, message);
            if message > 1 {
                done.finish(message);
            }
        }
        assert!(done.floor.len() <= REMEMBERED);
        assert_eq!(done.get(), 0);
    }

    #[test]
    fn a_consumer_that_was_made_again_counts_from_the_beginning() {
        let mut done = Done::new(position(0, 0, 0));
        done.begin(1, 1);
        done.finish(1);
        done.handle_restored();
        done.begin(1, 2);
        done.finish(2);
        assert_eq!((done.get(), done.is_doubtful()), (2, false));
    }
}
