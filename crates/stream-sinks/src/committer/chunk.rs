//! Bytes for a file, with what they add to its totals.

use std::io;

use crate::{
    block::{Block, join},
    journal::Totals,
    planner::Target,
};

#[derive(Debug)]
pub(super) struct Chunk {
    pub(super) bytes: Vec<u8>,
    pub(super) target: Target,
    /// The number behind its last record's.
    pub(super) end: u64,
    /// Bytes of records and their checksum, where those are not the chunk's own.
    content: Option<(u64, u32)>,
    records: u64,
    pub(super) sequences: Option<(u64, u64)>,
}

impl Chunk {
    pub(super) fn plain(block: Block) -> Self {
        Self {
            bytes: block.data,
            target: block.target,
            end: block.end,
            content: None,
            records: block.records,
            sequences: block.sequences,
        }
    }

    /// One frame of all blocks, with a checksum in it.
    #[cfg(feature = "zstd")]
    pub(super) fn zstd(blocks: &[Block], level: i32) -> io::Result<Self> {
        use std::io::Write;

        let mut encoder = zstd::Encoder::new(Vec::new(), level)?;
        encoder.include_checksum(true)?;
        let (mut len, mut crc) = (0, 0);
        for block in blocks {
            encoder.write_all(&block.data)?;
            len += block.data.len() as u64;
            crc = crc32c::crc32c_append(crc, &block.data);
        }
        let bytes = encoder.finish()?;
        let (Some(first), Some(last)) = (blocks.first(), blocks.last()) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        Ok(Self {
            bytes,
            target: first.target,
            end: last.end,
            content: Some((len, crc)),
            records: blocks.iter().map(|block| block.records).sum(),
            sequences: blocks.iter().fold(None, |range, block| join(range, block.sequences)),
        })
    }

    /// The builder has no such setting without the feature.
    #[cfg(not(feature = "zstd"))]
    pub(super) fn zstd(_blocks: &[Block], _level: i32) -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// The totals of a file that has `before`, and this behind it.
    pub(super) fn add_to(&self, before: &Totals) -> Totals {
        let file_crc = crc32c::crc32c_append(before.file_crc, &self.bytes);
        let (len, crc) = match self.content {
            None => (self.bytes.len() as u64, file_crc),
            Some((len, crc)) => {
                let length = usize::try_from(len).unwrap_or(usize::MAX);
                (len, crc32c::crc32c_combine(before.crc, crc, length))
            }
        };
        Totals {
            file_len: before.file_len + self.bytes.len() as u64,
            file_crc,
            bytes: before.bytes + len,
            crc,
            records: before.records + self.records,
            sequences: join(before.sequences, self.sequences),
        }
    }
}
