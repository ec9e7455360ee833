//! Deadlines.

use super::Engine;
use crate::error::PublishErrorKind;

impl Engine {
    /// Does what is due: deadlines, answers that did not come, a batch that is idle, pauses that are over.
    pub(crate) fn handle_timeout(&mut self, now: u64) {
        self.expire(now);
        self.batch_timeout(now);
        if self.rests_until.is_some_and(|until| until <= now) {
            self.rests_until = None;
        }
    }

    fn expire(&mut self, now: u64) {
        let mut is_expired = false;
        while let Some((deadline, number)) = self.own_deadlines.first().copied()
            && deadline <= now
        {
            // It leaves with its event; this is for one that has none, which there is not.
            self.own_deadlines.pop_first();
            if let Ok(index) = self.queue.binary_search_by_key(&number, |entry| entry.number) {
                self.miss_deadline(index);
                if index >= self.sent {
                    self.queue.remove(index);
                }
                is_expired = true;
            }
        }
        // Deadlines that are not an event's own come in the order of the queue.
        for index in 0..self.queue.len() {
            let Some(entry) = self.queue.get(index) else {
                break;
            };
            let Some(event) = &entry.event else {
                continue;
            };
            if event.own_deadline().is_some() {
                continue;
            }
            if entry.deadline > now {
                break;
            }
            self.miss_deadline(index);
            is_expired = true;
        }
        if is_expired {
            self.drop_dead_batch();
            self.check_question(now);
        }
    }

    fn miss_deadline(&mut self, index: usize) {
        let is_sent = index < self.sent;
        let Some(entry) = self.queue.get(index) else {
            return;
        };
        let nobody = entry.refusal.as_ref().is_some_and(|refusal| refusal.is_no_responders());
        let is_refused = is_sent && self.is_hole(index);
        let may_repeat = entry.event.as_ref().is_none_or(|event| self.may_repeat(event));
        let kind = match nobody {
            _ if is_sent && !is_refused && !may_repeat => PublishErrorKind::Unknown,
            true => PublishErrorKind::NoResponders,
            false => PublishErrorKind::Timeout,
        };
        self.fail(index, kind, is_sent && !is_refused);
    }

    /// Has the stream refused what is at this place of the queue?
    fn is_hole(&self, index: usize) -> bool {
        let sequence = self.first_sequence() + index as u64;
        let batch = self.batch.as_ref();
        batch.is_some_and(|batch| batch.holes.contains_key(&sequence))
    }
}
