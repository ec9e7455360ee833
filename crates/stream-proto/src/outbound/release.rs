//! An answer of one message, which its host keeps in place of the machine.

use super::Outbound;
use crate::message::Transmit;

impl Outbound {
    /// When the whole answer was one message, and that was handed out: forgets the stream, and gives the message again.
    ///
    /// It is for hosts of many short calls, which keep the message themselves in place of a machine with its timers and its
    /// control subject: for 2 s, in which the clock stands still while their own connection is down; when it is back, the
    /// message is sent again and the 2 s begin anew (rules 44 and 54). A 503 at the control subject that it was sent with
    /// makes them send it again after 250 ms, with that subject (rule 49). `None` where there is more to a stream, or a
    /// mapping to be ended.
    pub fn release(&mut self) -> Option<Transmit> {
        if self.forgotten || self.mapped || !self.control || !self.timers.is_single() || !self.is_end_sent() {
            return None;
        }
        let payload = self.units.last()?.payload.clone();
        let failure = self.end.as_ref().filter(|status| !status.is_ok()).cloned();
        self.forget();
        Some(Transmit {
            payload,
            header: true,
            metadata: true,
            control: false,
            failure,
        })
    }
}
