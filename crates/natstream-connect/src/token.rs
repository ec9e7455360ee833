//! Names that nobody can guess.

use rand::Rng as _;

/// Characters of a token: 22 of 62 are 131 bits.
pub(crate) const TOKEN_LEN: usize = 22;

const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// A fresh token of 128 bits, as 22 letters and digits.
///
/// They come from a generator of the thread that nobody can guess (ChaCha, with seeds of the operating system): each stream
/// has one or two, and a call into the kernel costs more than the rest of a stream's beginning. NUIDs, which async-nats uses
/// for inboxes, do not qualify: two of them give away all that follow.
///
/// # Panics
/// When the operating system has no random bytes to give, which does not happen on a system that has booted.
#[must_use]
pub fn token() -> String {
    letters().map(char::from).into_iter().collect()
}

/// The letters of a fresh [`token`].
pub(crate) fn letters() -> [u8; TOKEN_LEN] {
    let mut letters = [0; TOKEN_LEN];
    let mut len = 0;
    let mut bytes = [0; TOKEN_LEN + 10];
    while len < TOKEN_LEN {
        rand::rng().fill_bytes(&mut bytes);
        // 248 = 4 × 62: what is above would make the first letters likelier.
        let random = bytes.iter().filter(|byte| **byte < 248);
        for (letter, byte) in letters[len..].iter_mut().zip(random) {
            *letter = ALPHABET[usize::from(byte % 62)];
            len += 1;
        }
    }
    letters
}

/// What the subject of a [`RouteGuard`](crate::RouteGuard) ends with: to know it again when its route is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteToken(pub(crate) [u8; TOKEN_LEN]);

impl RouteToken {
    /// Does `subject` end with it?
    #[inline]
    #[must_use]
    pub fn is_of(&self, subject: &str) -> bool {
        subject.as_bytes().ends_with(&self.0)
    }
}

/// 32 random bits, of the same generator.
///
/// # Panics
/// As [`token`].
#[must_use]
pub fn random_u32() -> u32 {
    rand::rng().next_u32()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn tokens_are_22_letters_and_differ() {
        let tokens: HashSet<_> = (0..1000).map(|_| token()).collect();
        assert_eq!(tokens.len(), 1000);
        assert!(tokens.iter().all(|token| token.len() == TOKEN_LEN));
        assert!(
            tokens
                .iter()
                .flat_map(|token| token.bytes())
                .all(|byte| byte.is_ascii_alphanumeric())
        );
    }
}
