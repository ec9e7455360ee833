//! What can be wrong with bytes from the other side.

use crate::varint::VarintError;

/// A message that does not follow the format: what, and at which byte of the payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed message at byte {offset}: {what}")]
#[non_exhaustive]
pub struct DecodeError {
    /// Byte of the payload.
    pub offset: usize,
    /// What is wrong there.
    pub what: Malformed,
}

/// What is wrong with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Malformed {
    /// The item is longer than both sides agreed on.
    #[error("an item is larger than was agreed")]
    ItemTooLarge,
    /// The stream ended inside an item.
    #[error("the stream ended inside an item")]
    ItemUnfinished,
    /// The first byte is not 0xFE.
    #[error("not a native message")]
    NotNative,
    /// A varint was not in its shortest form.
    #[error("a number is not in its shortest form")]
    NotMinimal,
    /// The message or details of a status exceed their limits.
    #[error("a status is longer than allowed")]
    StatusTooLong,
    /// The payload ends too early.
    #[error("cut short")]
    Truncated,
    /// A unit is longer than 64 KiB.
    #[error("a unit is longer than allowed")]
    UnitTooLarge,
    /// The number of items at the end differs from what was received.
    #[error("the number of items does not match")]
    WrongCount,
}

impl From<VarintError> for Malformed {
    fn from(error: VarintError) -> Self {
        match error {
            VarintError::NotMinimal => Self::NotMinimal,
            VarintError::Truncated => Self::Truncated,
        }
    }
}

/// What the peer did against the protocol. It ends the stream, nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProtocolError {
    /// A message did not decode (rule 17).
    #[error(transparent)]
    Malformed(#[from] DecodeError),
    /// A unit at or above the limit that was granted (rule 33).
    #[error("a unit at position {position} is beyond the granted limit {limit}")]
    CreditExceeded {
        /// The unit's position.
        position: u64,
        /// The highest limit granted.
        limit: u64,
    },
    /// The first message was not of the native dialect (rule 8).
    #[error("the answer is not of the native dialect")]
    ForeignAnswer,
    /// The `Natstream` header of the answer could not be read (rule 16).
    #[error("the answer's Natstream header is wrong")]
    Header,
}
