//! A bounds-checked cursor over received bytes.

use crate::error::{DecodeError, Malformed};
use crate::varint;

/// Reads fields in order and knows where it stands, for errors.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    input: &'a [u8],
    offset: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(input: &'a [u8]) -> Self {
        Self { input, offset: 0 }
    }

    pub(crate) fn offset(&self) -> usize {
        self.offset
    }

    pub(crate) fn error(&self, what: Malformed) -> DecodeError {
        DecodeError {
            offset: self.offset,
            what,
        }
    }

    pub(crate) fn u8(&mut self) -> Result<u8, DecodeError> {
        Ok(self.take(1)?[0])
    }

    pub(crate) fn u32(&mut self) -> Result<u32, DecodeError> {
        let bytes = self.take(4)?;
        Ok(u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    pub(crate) fn varint(&mut self) -> Result<u64, DecodeError> {
        let (value, len) = varint::peek(&self.input[self.offset..]).map_err(|error| self.error(error.into()))?;
        self.offset += len;
        Ok(value)
    }

    /// A length and that many bytes.
    pub(crate) fn block(&mut self) -> Result<&'a [u8], DecodeError> {
        let len = self.varint()?;
        let len = usize::try_from(len).map_err(|_| self.error(Malformed::Truncated))?;
        self.take(len)
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        let rest = &self.input[self.offset..];
        if rest.len() < len {
            return Err(self.error(Malformed::Truncated));
        }
        self.offset += len;
        Ok(&rest[..len])
    }
}
