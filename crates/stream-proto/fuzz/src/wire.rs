//! Messages, written byte by byte from rules 10 to 15 of `docs/protocol.md` and from nothing of `stream-proto`.

/// The largest number that travels.
pub(crate) const MAX_NUMBER: u64 = (1 << 62) - 1;

pub(crate) const UNIT: u8 = 0x01;
pub(crate) const BEAT: u8 = 0x02;
pub(crate) const RESET: u8 = 0x03;
pub(crate) const STATE: u8 = 0x11;
pub(crate) const CLOSE: u8 = 0x12;

/// A message under construction.
#[derive(Clone, Debug)]
pub(crate) struct Writer {
    pub(crate) bytes: Vec<u8>,
}

/// The fields of a status block.
#[derive(Clone, Debug, Default)]
pub(crate) struct Block<'a> {
    pub(crate) code: u8,
    pub(crate) flags: u8,
    pub(crate) retry_after: u64,
    pub(crate) items: u64,
    pub(crate) message: &'a [u8],
    pub(crate) details: &'a [u8],
}

impl Writer {
    /// A message of this kind and stream.
    pub(crate) fn new(kind: u8, sid: u32) -> Self {
        Self {
            bytes: vec![0xfe, kind],
        }
        .raw(&sid.to_be_bytes())
    }

    pub(crate) fn byte(self, byte: u8) -> Self {
        self.raw(&[byte])
    }

    pub(crate) fn raw(mut self, bytes: &[u8]) -> Self {
        self.bytes.extend_from_slice(bytes);
        self
    }

    /// A number in its shortest form.
    pub(crate) fn number(self, value: u64) -> Self {
        let form = [6, 14, 30].iter().filter(|bits| value >> **bits != 0).count();
        self.number_in(value, form)
    }

    /// A number in 1, 2, 4 or 8 bytes for `form` 0 to 3; a form that is too short cuts it.
    pub(crate) fn number_in(self, value: u64, form: usize) -> Self {
        let size = 1 << form;
        let mut bytes = value.min(MAX_NUMBER).to_be_bytes();
        let first = 8 - size;
        bytes[first] = bytes[first] & 0x3f | (form as u8) << 6;
        self.raw(&bytes[first..])
    }

    /// A length and as many bytes: an item, or a field of a status.
    pub(crate) fn item(self, bytes: &[u8]) -> Self {
        self.number(bytes.len() as u64).raw(bytes)
    }

    /// A status block with its length before it.
    pub(crate) fn block(self, block: &Block<'_>) -> Self {
        let body = Self { bytes: Vec::new() }
            .byte(block.code)
            .byte(block.flags)
            .number(block.retry_after)
            .number(block.items)
            .item(block.message)
            .item(block.details);
        self.item(&body.bytes)
    }
}

/// Reads the number at the front, in whatever form: the number and its length.
pub(crate) fn read_number(bytes: &[u8]) -> Option<(u64, usize)> {
    let size = 1 << (bytes.first()? >> 6);
    let mut number = [0; 8];
    number[8 - size..].copy_from_slice(bytes.get(..size)?);
    number[8 - size] &= 0x3f;
    Some((u64::from_be_bytes(number), size))
}
