//! Files that a writer has closed.

use std::{
    io::{self, Read},
    path::PathBuf,
    sync::Arc,
};

use crate::{
    RollingWriterBuilder, SinkError, Storage, committer::Place, reader::decompressed, recovery::walk, storage::Source,
};

/// A file that has its final name: it is complete, and never changes but by compression.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ClosedFile {
    /// Where it is.
    pub path: PathBuf,
    /// The first and last [sequence](crate::Record::sequence), where the template has `{first}` and `{last}`.
    pub sequences: Option<(u64, u64)>,
    /// Bytes of the file, compressed or not.
    pub file_bytes: u64,
    storage: Arc<dyn Storage>,
}

impl RollingWriterBuilder {
    /// The closed files of a writer with these settings, the oldest by name first. It takes no lock, and touches nothing.
    ///
    /// # Errors
    /// [`InvalidConfig`](crate::SinkErrorKind::InvalidConfig); [`Storage`](crate::SinkErrorKind::Storage) when there is no
    /// such directory, or it cannot be read.
    pub fn closed_files(&self) -> Result<Vec<ClosedFile>, SinkError> {
        let place = self.place()?;
        // Below it, what cannot be read is left out.
        let listed = place.storage.list(&place.dir);
        listed.map_err(|error| SinkError::storage("cannot list the directory", &place.dir, error))?;
        Ok(closed_files(&place))
    }
}

fn closed_files(place: &Place) -> Vec<ClosedFile> {
    let entries = walk(place, &place.dir, place.template.depth()).into_iter();
    let mut files: Vec<_> = entries
        .filter(|entry| entry.is_file)
        .filter_map(|entry| Some((place.template.parse_path(place.relative(&entry.path)?)?, entry)))
        .collect();
    files.sort_by(|(a, x), (b, y)| (a, &x.path).cmp(&(b, &y.path)));
    let has_sequences = place.template.has_both_sequences();
    files
        .into_iter()
        .map(|(parsed, entry)| ClosedFile {
            path: entry.path,
            sequences: has_sequences.then_some((parsed.first, parsed.last)),
            file_bytes: entry.size,
            storage: Arc::clone(&place.storage),
        })
        .collect()
}

impl ClosedFile {
    /// Its content, decompressed. For [`RecordReader`](crate::RecordReader), or anything else.
    ///
    /// # Errors
    /// Those of the system; `Unsupported` when it is compressed in a way whose feature is not enabled.
    pub fn open(&self) -> io::Result<Box<dyn Read + Send>> {
        let source = Source::open(&*self.storage, &self.path)?;
        let ending = self.path.extension().and_then(|ending| ending.to_str());
        decompressed(source, ending)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CrashImage, Format, ReadFormat, Record, RecordReader, RollingWriter, Rotation};

    #[test]
    fn what_was_appended_is_read_back_in_order() {
        let forms: [fn(RollingWriterBuilder) -> RollingWriterBuilder; _] = [
            |builder| builder,
            #[cfg(feature = "gzip")]
            |builder| builder.compression(crate::Compression::Gzip(1)),
            #[cfg(feature = "zstd")]
            |builder| builder.compression(crate::Compression::Zstd(1)),
            #[cfg(feature = "zstd")]
            |builder| builder.zstd(1),
        ];
        for (frames, form) in forms.iter().flat_map(|form| [(false, form), (true, form)]) {
            let image: Arc<dyn Storage> = Arc::new(CrashImage::new());
            let builder = || {
                let format = if frames {
                    Format::length_prefixed()
                } else {
                    Format::lines()
                };
                let builder = RollingWriter::builder("/d", "x")
                    .storage(Arc::clone(&image))
                    .format(format);
                form(
                    builder
                        .template("{name}-{first}-{last}.log")
                        .rotation(Rotation::size(1000)),
                )
            };
            let writer = builder().open().unwrap();
            for number in 0..300_u64 {
                let record = number.to_string();
                writer.append_blocking(Record::from(&record).sequence(number)).unwrap();
            }
            writer.close_blocking().unwrap();
            let files = builder().closed_files().unwrap();
            assert!(files.len() > 1);
            let mut next = 0;
            for file in files {
                assert_eq!(file.sequences.unwrap().0, next);
                let format = if frames {
                    ReadFormat::LengthPrefixed
                } else {
                    ReadFormat::Lines
                };
                for record in RecordReader::new(file.open().unwrap(), format) {
                    assert_eq!(record.unwrap().payload, next.to_string().as_bytes());
                    next += 1;
                }
                assert_eq!(file.sequences.unwrap().1, next - 1);
            }
            assert_eq!(next, 300);
        }
    }

    #[test]
    fn a_directory_that_is_missing_is_told() {
        let builder = RollingWriter::builder("/d", "x").storage(Arc::new(CrashImage::new()));
        assert_eq!(
            builder.closed_files().unwrap_err().io_kind(),
            Some(io::ErrorKind::NotFound)
        );
    }
}
