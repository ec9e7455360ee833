//! Pauses between attempts.

/// The pause after so many failures before this one, in nanoseconds: it doubles, and half of it is random, so that many who were
/// refused together come back apart.
pub(crate) fn pause(first: u64, longest: u64, failures: u32, seed: &mut u64) -> u64 {
    let factor = 1_u64.checked_shl(failures).unwrap_or(u64::MAX);
    let whole = first.saturating_mul(factor).min(longest);
    whole / 2 + random(seed) % (whole / 2 + 1)
}

/// The next number of splitmix64: enough for jitter, and the same for the same seed.
pub(crate) fn random(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *seed;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let mut seed = 7;
        for (failures, whole) in [
            (0, 1000),
            (1, 2000),
            (4, 16_000),
            (5, 30_000),
            (64, 30_000),
            (u32::MAX, 30_000),
        ] {
            for _ in 0..50 {
                let pause = pause(1000, 30_000, failures, &mut seed);
                assert!((whole / 2..=whole).contains(&pause), "{pause} after {failures}");
            }
        }
    }
}
