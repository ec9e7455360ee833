//! Items that say where they belong.

use std::sync::LazyLock;

use super::rng::Rng;

/// Index, call, and sum of the body; an item that is shorter has the beginning of it.
const HEAD: usize = 16;

/// Bodies are pieces of this, each from another place: comparing them costs little, and writing them too.
static PATTERN: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut rng = Rng::new(0, 0);
    (0..(PLACES + LONGEST) / 8)
        .flat_map(|_| rng.number().to_le_bytes())
        .collect()
});

const PLACES: usize = 1 << 16;

/// The longest item.
pub(super) const LONGEST: usize = 200 << 10;

/// The bytes of item `index` of `call`, as they are on both sides.
#[derive(Debug, Default)]
pub(super) struct Item {
    bytes: Vec<u8>,
}

impl Item {
    /// Writes the item over the one before.
    pub(super) fn write(&mut self, call: u32, index: u32, len: usize) -> &[u8] {
        let body = body(call, index, len.saturating_sub(HEAD));
        self.bytes.clear();
        self.bytes.extend(index.to_le_bytes());
        self.bytes.extend(call.to_le_bytes());
        self.bytes.extend(sum(body).to_le_bytes());
        self.bytes.extend(body);
        self.bytes.truncate(len);
        &self.bytes
    }

    /// What is wrong with `received`, which should be that item.
    pub(super) fn check(&mut self, call: u32, index: u32, len: usize, received: &[u8]) -> Result<(), String> {
        if self.write(call, index, len) == received {
            return Ok(());
        }
        let what = describe(received);
        Err(format!("in place of item {index} of {len} bytes came {what}"))
    }
}

fn body(call: u32, index: u32, len: usize) -> &'static [u8] {
    let place = Rng::new(u64::from(call), u64::from(index)).below(PLACES);
    &PATTERN[place..place + len]
}

fn sum(body: &[u8]) -> u64 {
    body.chunks(8).fold(0, |sum: u64, chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        sum.rotate_left(5).wrapping_add(u64::from_le_bytes(word))
    })
}

/// Is it another item, or a damaged one?
fn describe(received: &[u8]) -> String {
    let len = received.len();
    let number = |at: usize| Some(u32::from_le_bytes(*received.get(at..)?.first_chunk()?));
    let (Some(index), Some(call)) = (number(0), number(4)) else {
        return format!("{len} bytes: {received:02x?}");
    };
    let is_whole = received
        .get(8..)
        .and_then(<[u8]>::first_chunk)
        .is_some_and(|said| u64::from_le_bytes(*said) == sum(&received[HEAD..]));
    let state = if is_whole { "whole" } else { "short or damaged" };
    format!("{len} bytes, {state}, that call themselves item {index} of call {call}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_is_told_from_its_neighbours_and_from_a_damaged_one() {
        let (mut item, mut other) = (Item::default(), Item::default());
        for len in [1, 15, 16, 17, 500, LONGEST] {
            let bytes = item.write(7, 3, len).to_vec();
            other.check(7, 3, len, &bytes).unwrap();
            other.check(7, 4, len, &bytes).unwrap_err();
            other.check(7, 3, len + 1, &bytes).unwrap_err();
            let mut damaged = bytes.clone();
            *damaged.last_mut().unwrap() ^= 1;
            other.check(7, 3, len, &damaged).unwrap_err();
        }
        assert!(item.write(7, 3, 0).is_empty());
        assert!(describe(item.write(7, 3, 100)).contains("whole, that call themselves item 3 of call 7"));
    }
}
