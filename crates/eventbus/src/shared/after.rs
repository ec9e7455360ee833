//! What follows when the lock of a bus is released: those are told who wait, and what has become of events.

use std::task::Waker;

use natstream_connect::RouteGuard;

use super::{Machine, Shared, State};
use crate::watcher::{Settled, Tell};

/// What has to be done when the lock is released.
pub(super) struct After {
    pub(super) producer: Option<Waker>,
    /// Somebody is to be told something.
    pub(super) tells: bool,
    pub(super) route: Option<RouteGuard>,
}

/// Who has to be told when the lock is released.
pub(super) fn gather<M: Machine>(state: &mut State<M>) -> After {
    let State {
        machine,
        producers,
        flushes,
        wakes,
        ..
    } = state;
    After {
        producer: producers.wake(|size| machine.has_room(size) && (machine.is_roomy() || std::mem::take(wakes))),
        tells: machine.has_settled() || flushes.are_done(|| machine.oldest()),
        route: None,
    }
}

impl<M: Machine> Shared<M> {
    /// Without the lock: whoever is told may use the bus.
    pub(super) fn tell(&self, after: After) {
        if let Some(producer) = after.producer {
            producer.wake();
        }
        drop(after.route);
        if !after.tells {
            return;
        }
        let mut is_first = true;
        loop {
            let mut state = self.state.lock();
            if is_first && std::mem::replace(&mut state.is_telling, true) {
                // Whoever does so goes on with what has come.
                return;
            }
            is_first = false;
            let Some(settled) = state.machine.poll_settled() else {
                state.is_telling = false;
                let oldest = state.machine.oldest();
                let done = state.flushes.take_done(oldest);
                drop(state);
                for flush in done {
                    // Whoever waited may have gone.
                    let _ = flush.send(());
                }
                return;
            };
            drop(state);
            self.tell_one(settled);
        }
    }

    fn tell_one(&self, settled: Settled<M::Watcher>) {
        match (settled.watcher, settled.outcome) {
            (Some(watcher), outcome) => {
                if let Err(error) = &outcome {
                    self.reporter.report_too(error);
                }
                watcher.tell(outcome);
            }
            (None, Err(error)) => self.reporter.report(error, || self.now()),
            (None, Ok(_)) => {}
        }
    }
}
