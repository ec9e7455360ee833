//! The bytes of a fuzzer, read as values.

use std::time::Duration;

/// Numbers near which mistakes live: lengths of varints, sizes of units and windows, the end of the number line.
const EDGES: [u64; 20] = [
    0,
    1,
    63,
    64,
    255,
    256,
    257,
    4096,
    8 * 1024,
    16_383,
    16_384,
    64 * 1024 - 1,
    64 * 1024,
    64 * 1024 + 256,
    1 << 20,
    (1 << 30) - 1,
    1 << 30,
    (1 << 62) - 1,
    1 << 62,
    u64::MAX,
];

/// Reads values one after the other. What is missing reads as zeros, so every input means something.
#[derive(Debug)]
pub(crate) struct Input<'a> {
    rest: &'a [u8],
}

impl<'a> Input<'a> {
    pub(crate) fn new(data: &'a [u8]) -> Self {
        Self { rest: data }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.rest.split_first() else {
            return 0;
        };
        self.rest = rest;
        *first
    }

    pub(crate) fn flag(&mut self) -> bool {
        self.byte() & 1 != 0
    }

    /// True once in `n` values of a byte.
    pub(crate) fn one_in(&mut self, n: u8) -> bool {
        self.byte() % n == n - 1
    }

    pub(crate) fn short(&mut self) -> u16 {
        u16::from_le_bytes([self.byte(), self.byte()])
    }

    /// Any number: small ones, edges and their neighbours more often.
    pub(crate) fn number(&mut self) -> u64 {
        let kind = self.byte();
        match kind % 8 {
            0..=2 => u64::from(self.byte()),
            3 => u64::from(self.short()),
            4 => u64::from(self.short()) << 8 | u64::from(self.byte()),
            5 => u64::from_le_bytes(std::array::from_fn(|_| self.byte())),
            _ => {
                let edge = EDGES[usize::from(kind / 8) % EDGES.len()];
                // From two below to one above.
                edge.saturating_add(u64::from(self.byte() % 4)).saturating_sub(2)
            }
        }
    }

    pub(crate) fn bytes(&mut self, max: usize) -> &'a [u8] {
        let len = usize::from(self.short()) % (max + 1);
        let (bytes, rest) = self.rest.split_at(len.min(self.rest.len()));
        self.rest = rest;
        bytes
    }

    /// Text of at most `max` bytes, some of it of several bytes a character.
    pub(crate) fn text(&mut self, max: usize) -> String {
        let mut text = String::from_utf8_lossy(self.bytes(max)).into_owned();
        while text.len() > max {
            text.pop();
        }
        text
    }

    /// How long a virtual clock runs: at most a minute or so, in steps that matter here.
    pub(crate) fn pause(&mut self) -> Duration {
        match self.byte() % 4 {
            0 => Duration::from_millis(u64::from(self.byte())),
            1 => Duration::from_millis(u64::from(self.byte()) * 25),
            2 => Duration::from_millis(u64::from(self.short())),
            _ => Duration::from_nanos(u64::from(self.byte())),
        }
    }

    /// Any setting of a clock.
    pub(crate) fn duration(&mut self) -> Duration {
        match self.byte() % 4 {
            0 => Duration::from_millis(self.number()),
            1 => Duration::from_nanos(self.number()),
            2 => Duration::from_secs(u64::from(self.byte())),
            _ => Duration::MAX,
        }
    }

    /// A clock that is often not set.
    pub(crate) fn timeout(&mut self) -> Option<Duration> {
        self.one_in(4).then(|| self.duration())
    }
}
