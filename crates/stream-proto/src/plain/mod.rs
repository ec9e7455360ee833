//! The dialects of programs that know nothing of this protocol (rules 64 and 65).
//!
//! They have no numbers and no control: what is lost on the way cannot be noticed. What can be noticed is not hidden: a
//! connection of either side that breaks, a reader that is too slow, silence.

mod inbound;
mod outbound;
#[cfg(test)]
mod tests;

pub use inbound::PlainInbound;
pub use outbound::PlainOutbound;

/// A dialect in which each item is a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PlainDialect {
    /// `__STREAM_END__` ends, `__STREAM_ERROR__:text` fails. An item may not be empty or begin with one of them.
    Text,
    /// An empty message ends (NATS ADR-47); a failure stands in the headers of [`ServiceError`](crate::ServiceError). An item
    /// may not be empty.
    Sentinel,
}

/// The end of an answer in the text dialect.
const END: &[u8] = b"__STREAM_END__";

/// A failure in the text dialect, with its text; some leave the colon out.
const ERROR: &[u8] = b"__STREAM_ERROR__";

/// What a waiting item or message costs beside its bytes.
const ITEM_COST: u64 = 256;

impl PlainDialect {
    /// Would a reader take `item` for an item?
    #[must_use]
    pub fn can_represent(self, item: &[u8]) -> bool {
        match self {
            Self::Text => !item.is_empty() && !item.starts_with(END) && !item.starts_with(ERROR),
            Self::Sentinel => !item.is_empty(),
        }
    }
}
