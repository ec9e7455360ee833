//! Compression of closed files.

use std::{
    io,
    path::{Path, PathBuf},
};

use crate::{
    Storage,
    storage::{Source, dir_of, write_all},
};

/// How closed files are compressed, in the background. The default is not at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Compression {
    /// gzip at a level from 0 to 9.
    #[cfg(feature = "gzip")]
    Gzip(u32),
    /// zstd at a level from 1 to 22.
    #[cfg(feature = "zstd")]
    Zstd(i32),
}

impl Compression {
    fn ending(self) -> &'static str {
        match self {
            #[cfg(feature = "gzip")]
            Self::Gzip(_) => ".gz",
            #[cfg(feature = "zstd")]
            Self::Zstd(_) => ".zst",
        }
    }
}

pub(crate) fn is_compressed(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending == "gz" || ending == "zst")
}

/// The closed file that a temporary one was made for.
pub(crate) fn temporary_of(path: &Path) -> Option<PathBuf> {
    let name = path.file_name()?.to_str()?;
    let own = name.strip_prefix('.')?.strip_suffix(".tmp")?;
    Some(path.with_file_name(own))
}

fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(ending);
    path.into()
}

/// Makes a compressed file beside it, and removes the original when that is complete. A compressed file that is there
/// already is kept if it holds the same.
///
/// It syncs whatever the writer's mode is: the original may have been on the disk for long, and must not be put at risk.
pub(crate) fn compress(storage: &dyn Storage, path: &Path, compression: &Compression) -> io::Result<PathBuf> {
    let target = with_ending(path, compression.ending());
    let dir = dir_of(path);
    if storage.read(&target).is_err() {
        let name = target.file_name().unwrap_or_default().to_string_lossy();
        let temporary = path.with_file_name(format!(".{name}.tmp"));
        remove_temporary(storage, &temporary)?;
        let made = write(storage, path, &temporary, *compression).and_then(|file| {
            // Its lock is held until it has its name.
            storage.rename(&temporary, &target)?;
            drop(file);
            Ok(())
        });
        if let Err(error) = made {
            // Nothing is left half done where space may be what is missing.
            let _ = remove_temporary(storage, &temporary);
            return Err(error);
        }
        storage.sync_dir(dir)?;
    } else if is_missing(storage, path) {
        // Compressed meanwhile, from the list of those that were left over.
        return Ok(target);
    } else if !same(storage, path, &target, *compression)? {
        return Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "a compressed file of that name holds something else",
        ));
    }
    storage.remove(path)?;
    storage.sync_dir(dir)?;
    Ok(target)
}

fn is_missing(storage: &dyn Storage, path: &Path) -> bool {
    storage
        .read(path)
        .is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

/// Removes what is left of an attempt, unless another process is at it: then `WouldBlock`.
pub(crate) fn remove_temporary(storage: &dyn Storage, temporary: &Path) -> io::Result<()> {
    match storage.open(temporary) {
        Ok(_locked) => storage.remove(temporary),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// Gives the synced file, which is locked as long as it is open.
fn write(
    storage: &dyn Storage,
    from: &Path,
    to: &Path,
    compression: Compression,
) -> io::Result<Box<dyn crate::StorageFile>> {
    let modified = from
        .parent()
        .and_then(|dir| storage.list(dir).ok())
        .and_then(|entries| {
            let entry = entries.into_iter().find(|entry| entry.path == from)?;
            Some(entry.modified)
        });
    let mut source = Source::open(storage, from)?;
    let mut file = storage.create(to)?;
    let output = Output {
        file: &mut *file,
        offset: 0,
    };
    encode(&mut source, output, compression)?;
    if let Some(modified) = modified {
        // Age counts from when the records were written.
        file.set_modified(modified)?;
    }
    file.sync()?;
    Ok(file)
}

#[cfg(any(feature = "gzip", feature = "zstd"))]
fn encode(source: &mut Source, output: Output<'_>, compression: Compression) -> io::Result<()> {
    match compression {
        #[cfg(feature = "gzip")]
        Compression::Gzip(level) => {
            let mut encoder = flate2::write::GzEncoder::new(output, flate2::Compression::new(level.min(9)));
            io::copy(source, &mut encoder)?;
            encoder.finish()?;
            Ok(())
        }
        #[cfg(feature = "zstd")]
        Compression::Zstd(level) => {
            let mut encoder = zstd::Encoder::new(output, level)?;
            encoder.include_checksum(true)?;
            io::copy(source, &mut encoder)?;
            encoder.finish()?;
            Ok(())
        }
    }
}

/// There is no compression to be asked for.
#[cfg(not(any(feature = "gzip", feature = "zstd")))]
fn encode(_: &mut Source, _: Output<'_>, compression: Compression) -> io::Result<()> {
    match compression {}
}

#[cfg(not(any(feature = "gzip", feature = "zstd")))]
fn same(_: &dyn Storage, _: &Path, _: &Path, compression: Compression) -> io::Result<bool> {
    match compression {}
}

#[cfg(any(feature = "gzip", feature = "zstd"))]
fn same(storage: &dyn Storage, plain: &Path, compressed: &Path, compression: Compression) -> io::Result<bool> {
    let mut expected = Sum::default();
    io::copy(&mut Source::open(storage, plain)?, &mut expected)?;
    let source = Source::open(storage, compressed)?;
    let mut found = Sum::default();
    let read = match compression {
        #[cfg(feature = "gzip")]
        Compression::Gzip(_) => io::copy(&mut flate2::read::MultiGzDecoder::new(source), &mut found),
        #[cfg(feature = "zstd")]
        Compression::Zstd(_) => zstd::Decoder::new(source).and_then(|mut decoder| io::copy(&mut decoder, &mut found)),
    };
    let read: io::Result<u64> = read;
    Ok(read.is_ok() && found == expected)
}

struct Output<'a> {
    file: &'a mut dyn crate::StorageFile,
    offset: u64,
}

impl io::Write for Output<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        write_all(self.file, bytes, self.offset)?;
        self.offset += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(any(feature = "gzip", feature = "zstd"))]
#[derive(Default, PartialEq, Eq)]
struct Sum {
    len: u64,
    crc: u32,
}

#[cfg(any(feature = "gzip", feature = "zstd"))]
impl io::Write for Sum {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.len += bytes.len() as u64;
        self.crc = crc32c::crc32c_append(self.crc, bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
