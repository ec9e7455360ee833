//! One place of the window.

use crate::engine::lists::NONE;
use crate::event::Event;
use crate::reply::Refusal;

/// What a place of the window knows of its event.
#[derive(Debug)]
pub(super) struct Slot<W> {
    /// `None`: the slot is free.
    pub(super) event: Option<Event>,
    pub(super) watcher: Option<W>,
    /// Counts attempts of all events that were ever here: an answer to a former one is known as such.
    pub(super) generation: u64,
    /// The generation before this event's first attempt.
    pub(super) generation_before: u64,
    /// The event's number: 0 for the first that the engine accepted.
    pub(super) number: u64,
    pub(super) size: usize,
    pub(super) deadline: u64,
    pub(super) state: State,
    pub(super) attempts: u32,
    /// Refusals since it was last certain that the stream is there.
    pub(super) refusals: u32,
    /// Attempts in whose time no answer came.
    pub(super) unanswered: u32,
    /// An attempt was not answered: the stream may have the event.
    pub(super) in_doubt: bool,
    pub(super) refusal: Option<Box<Refusal>>,
    /// What orders it behind others, if anything does.
    pub(super) lane: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Behind an older event of its subject.
    Behind,
    /// Handed to the connection that was the `epoch`th.
    InFlight { epoch: u64 },
    /// To be handed to the connection.
    Ready,
    /// Refused; to be tried again later.
    Waiting,
}

impl<W> Slot<W> {
    pub(super) fn free() -> Self {
        Self {
            event: None,
            watcher: None,
            generation: 0,
            generation_before: 0,
            number: 0,
            size: 0,
            deadline: 0,
            state: State::Ready,
            attempts: 0,
            refusals: 0,
            unanswered: 0,
            in_doubt: false,
            refusal: None,
            lane: None,
        }
    }
}

/// Slots are numbered in this many bits of a token; the rest is the generation.
const SLOT_BITS: u32 = 20;

/// The largest window.
pub(super) const MAX_WINDOW: usize = (1 << SLOT_BITS) - 1;

/// Which attempt an answer belongs to: the last part of the subject that it is sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Token(u64);

impl Token {
    pub(super) fn new(slot: u32, generation: u64) -> Self {
        debug_assert!(
            slot != NONE && slot as usize <= MAX_WINDOW,
            "checked by the configuration"
        );
        Self(generation << SLOT_BITS | u64::from(slot))
    }

    pub(super) fn slot(self) -> usize {
        (self.0 & MAX_WINDOW as u64) as usize
    }

    pub(super) fn generation(self) -> u64 {
        self.0 >> SLOT_BITS
    }

    /// Writes the token in hexadecimal digits.
    pub(crate) fn write(self, to: &mut impl Extend<u8>) {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let digits = (64 - self.0.leading_zeros()).div_ceil(4).max(1);
        let at = |digit: u32| DIGITS[(self.0 >> (digit * 4)) as usize & 0xf];
        to.extend((0..digits).rev().map(at));
    }

    /// Reads what [`write`](Self::write) has written; `None` for anything else.
    pub(crate) fn read(text: &str) -> Option<Self> {
        let is_digits = text.bytes().all(|byte| byte.is_ascii_hexdigit());
        u64::from_str_radix(text, 16).ok().filter(|_| is_digits).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_as_it_was_written() {
        for (slot, generation) in [(0, 0), (0, 1), (999, 7), (MAX_WINDOW as u32, (1 << 44) - 1)] {
            let token = Token::new(slot, generation);
            let mut text = Vec::new();
            token.write(&mut text);
            let text = String::from_utf8(text).expect("digits");
            let read = Token::read(&text).expect("a token");
            assert_eq!((read.slot(), read.generation()), (slot as usize, generation), "{text}");
        }
        for text in ["", "+1", "x", "11111111111111111", "1.1"] {
            assert_eq!(Token::read(text), None, "{text}");
        }
    }
}
