//! Variable-length integers as in RFC 9000 §16, in their minimal form only.

use bytes::{Buf, BufMut};

/// The largest value: 2^62 − 1.
pub(crate) const MAX: u64 = (1 << 62) - 1;

/// Why a varint could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum VarintError {
    /// The bytes end inside it.
    Truncated,
    /// A shorter form of the same value exists.
    NotMinimal,
}

/// How many bytes `value` takes.
pub(crate) const fn len(value: u64) -> usize {
    match value {
        0..=0x3f => 1,
        0x40..=0x3fff => 2,
        0x4000..=0x3fff_ffff => 4,
        _ => 8,
    }
}

/// Appends `value`, or [`MAX`] when it is larger.
#[inline]
pub(crate) fn put(value: u64, out: &mut impl BufMut) {
    let value = value.min(MAX);
    match len(value) {
        1 => out.put_u8(value as u8),
        2 => out.put_u16(value as u16 | 0x4000),
        4 => out.put_u32(value as u32 | 0x8000_0000),
        _ => out.put_u64(value | 0xc000_0000_0000_0000),
    }
}

/// Reads one value from the front of `input`, without moving it: the value and its length.
#[inline]
pub(crate) fn peek(input: &[u8]) -> Result<(u64, usize), VarintError> {
    let first = *input.first().ok_or(VarintError::Truncated)?;
    if first <= 0x3f {
        // Most items are short.
        return Ok((u64::from(first), 1));
    }
    let size = 1usize << (first >> 6);
    if input.len() < size {
        return Err(VarintError::Truncated);
    }
    let mut bytes = &input[..size];
    let value = match size {
        2 => u64::from(bytes.get_u16() & 0x3fff),
        4 => u64::from(bytes.get_u32() & 0x3fff_ffff),
        _ => bytes.get_u64() & MAX,
    };
    if len(value) == size {
        Ok((value, size))
    } else {
        Err(VarintError::NotMinimal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    #[test]
    fn samples_of_rfc_9000_appendix_a1() {
        let samples: [(u64, &[u8]); 4] = [
            (
                151_288_809_941_952_652,
                &[0xc2, 0x19, 0x7c, 0x5e, 0xff, 0x14, 0xe8, 0x8c],
            ),
            (494_878_333, &[0x9d, 0x7f, 0x3e, 0x7d]),
            (15_293, &[0x7b, 0xbd]),
            (37, &[0x25]),
        ];
        for (value, bytes) in samples {
            let mut out = Vec::new();
            put(value, &mut out);
            assert_eq!(out, bytes);
            assert_eq!(peek(bytes), Ok((value, bytes.len())));
        }
    }

    #[test]
    fn longer_forms_are_refused() {
        assert_eq!(peek(&[0x40, 0x25]), Err(VarintError::NotMinimal));
        assert_eq!(peek(&[0x80, 0, 0, 1]), Err(VarintError::NotMinimal));
    }

    #[test]
    fn every_boundary_round_trips() {
        for value in [0, 63, 64, 16_383, 16_384, (1 << 30) - 1, 1 << 30, MAX] {
            let mut out = Vec::new();
            put(value, &mut out);
            assert_eq!(out.len(), len(value));
            assert_eq!(peek(&out), Ok((value, out.len())));
            for cut in 0..out.len() {
                assert_eq!(peek(&out[..cut]), Err(VarintError::Truncated));
            }
        }
    }
}
