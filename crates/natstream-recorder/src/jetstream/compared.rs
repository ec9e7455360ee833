//! What a comparison of files with their stream has found.

use crate::manifests::WriterNotes;
use crate::runs::Runs;
use crate::source::StreamSource;
use crate::verify::Coverage;

/// Holes, and records that differ, that are told one by one of each recorder.
const MOST: usize = 100;

/// The files of one recorder, compared with the stream.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct StreamCompared {
    /// What was recorded.
    pub source: StreamSource,
    /// The messages that the stream has now: first and last sequence.
    pub stream: (u64, u64),
    /// Messages of the stream that were to be recorded, and are.
    pub matched: u64,
    /// Messages of the stream that were to be recorded, and are in no file.
    pub missing: u64,
    /// Where they are: first and last sequence. At most a hundred; of files whose format has no place for sequences not more is
    /// known than that they are between these.
    pub holes: Vec<(u64, u64)>,
    /// Messages behind the last one in a closed file: in progress, or not recorded yet.
    pub not_yet: u64,
    /// Sequences in files, or in files that retention has removed, that the stream has no more.
    pub gone: u64,
    /// Records that were compared byte by byte.
    pub payloads: u64,
    /// How many of those differ.
    pub differing: u64,
    /// The sequences of some of them.
    pub examples: Vec<u64>,
}

impl StreamCompared {
    /// Is nothing missing, and nothing different?
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.missing == 0 && self.differing == 0
    }

    fn hole(&mut self, first: u64, last: u64, missing: u64) {
        self.missing += missing;
        if self.holes.len() < MOST {
            self.holes.push((first, last));
        }
    }

    /// Compares the records of a file with the messages of the stream, by their hashes.
    pub(super) fn payloads_of(&mut self, file: &Coverage, records: &[(Option<u64>, u64)], messages: &[(u64, u64)]) {
        let format = file.entry.as_ref().map(|entry| entry.format.as_str());
        let in_range = |first: u64, last: u64| {
            let start = messages.partition_point(|(sequence, _)| *sequence < first);
            let end = messages.partition_point(|(sequence, _)| *sequence <= last);
            &messages[start..end]
        };
        let range = file.entry.as_ref().and_then(|entry| entry.first.zip(entry.last));
        match (format, range) {
            (Some("jsonl") | None, _) => {
                for (sequence, hash) in records {
                    let Some(sequence) = *sequence else { continue };
                    if let [(_, expected)] = in_range(sequence, sequence) {
                        self.payload(sequence, hash == expected);
                    }
                }
            }
            // Without sequences the same number of them tells which is which.
            (Some("length-prefixed"), Some((first, last))) => {
                let messages = in_range(first, last);
                if messages.len() == records.len() {
                    for ((sequence, expected), (_, hash)) in messages.iter().zip(records) {
                        self.payload(*sequence, hash == expected);
                    }
                }
            }
            _ => {}
        }
    }

    fn payload(&mut self, sequence: u64, is_same: bool) {
        self.payloads += 1;
        if !is_same {
            self.differing += 1;
            if self.examples.len() < MOST {
                self.examples.push(sequence);
            }
        }
    }
}

/// Compares with the messages that the stream has.
pub(super) fn compare(
    source: &StreamSource,
    notes: &WriterNotes,
    files: &[&Coverage],
    stream: &Runs,
) -> StreamCompared {
    let mut compared = StreamCompared {
        source: source.clone(),
        stream: (0, 0),
        matched: 0,
        missing: 0,
        holes: Vec::new(),
        not_yet: 0,
        gone: 0,
        payloads: 0,
        differing: 0,
        examples: Vec::new(),
    };
    let removed = Runs::of(notes.removed.clone());
    let mut covered: Vec<(u64, u64)> = removed.iter().collect();
    let mut recorded = 0;
    for file in files {
        let noted = file.entry.as_ref().and_then(|entry| entry.first.zip(entry.last));
        if let (true, Some((first, last)), Some(entry)) = (file.sequences.is_empty(), noted, &file.entry) {
            covered.push((first, last));
            recorded += entry.records;
            let has = stream.len_within(first, last);
            if has > entry.records {
                compared.hole(first, last, has - entry.records);
            }
        } else {
            covered.extend(file.sequences.iter());
            recorded += file.sequences.len();
        }
    }
    let covered = Runs::of(covered);
    let last = covered.iter().last().map_or(source.after, |(_, last)| last);
    let mut expected = Runs::default();
    for (first, end) in stream.iter() {
        let first = first.max(source.after + 1);
        if first <= last && first <= end {
            expected.push_run(first, end.min(last));
        }
    }
    for (first, last) in expected.without(&covered).iter() {
        compared.hole(first, last, last - first + 1);
    }
    compared.holes.sort_unstable();
    compared.not_yet = stream.len() - expected.len();
    compared.matched = expected.len().saturating_sub(compared.missing);
    let in_removed: u64 = removed.iter().map(|(first, last)| stream.len_within(first, last)).sum();
    compared.gone = recorded.saturating_sub(compared.matched - in_removed.min(compared.matched));
    compared
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::ManifestEntry;

    fn source(after: u64) -> StreamSource {
        StreamSource {
            stream: "S".to_owned(),
            created: String::new(),
            consumer: "c".to_owned(),
            filters: Vec::new(),
            after,
        }
    }

    fn file(format: &str, sequences: &[u64], noted: (u64, u64), records: u64) -> Coverage {
        let mut runs = Runs::default();
        sequences.iter().for_each(|sequence| runs.push(*sequence));
        let entry = serde_json::json!({
            "file": "f", "format": format, "records": records, "bytes": 0, "crc32c": 0, "first": noted.0, "last": noted.1,
        });
        let entry: ManifestEntry = serde_json::from_value(entry).unwrap();
        Coverage {
            file: "f".into(),
            writer: "w".to_owned(),
            sequences: runs,
            entry: Some(entry),
        }
    }

    fn stream(runs: &[(u64, u64)]) -> Runs {
        Runs::of(runs.to_vec())
    }

    #[test]
    fn holes_are_found_where_records_have_sequences() {
        // 1 to 3 were acked before; 4 and 8 are deleted in the stream, 7 is in no file, 11 is to come.
        let files = [
            file("jsonl", &[4, 5, 6], (4, 6), 3),
            file("jsonl", &[8, 9, 10], (8, 10), 3),
        ];
        let files: Vec<&Coverage> = files.iter().collect();
        let compared = compare(
            &source(3),
            &WriterNotes::default(),
            &files,
            &stream(&[(1, 3), (5, 7), (9, 11)]),
        );
        assert_eq!(compared.holes, [(7, 7)]);
        assert_eq!((compared.matched, compared.missing), (4, 1));
        assert_eq!(compared.gone, 2);
        assert!(!compared.is_whole());
    }

    #[test]
    fn numbers_of_records_tell_of_holes_where_they_have_none() {
        let files = [file("line", &[], (1, 5), 4), file("line", &[], (6, 9), 4)];
        let files: Vec<&Coverage> = files.iter().collect();
        let compared = compare(&source(0), &WriterNotes::default(), &files, &stream(&[(1, 9)]));
        assert_eq!(
            (compared.holes.as_slice(), compared.missing, compared.matched),
            (&[(1, 5)][..], 1, 8)
        );
        // One of the first file was deleted in the stream since.
        let compared = compare(&source(0), &WriterNotes::default(), &files, &stream(&[(1, 2), (4, 9)]));
        assert!(compared.is_whole());
    }

    #[test]
    fn what_retention_has_removed_is_no_hole() {
        let notes = WriterNotes {
            removed: vec![(1, 4)],
            ..WriterNotes::default()
        };
        let files = [file("jsonl", &[5, 6], (5, 6), 2)];
        let compared = compare(&source(0), &notes, &[&files[0]], &stream(&[(3, 8)]));
        assert!(compared.is_whole(), "{compared:?}");
        assert_eq!((compared.matched, compared.not_yet, compared.gone), (4, 2, 0));
    }

    #[test]
    fn payloads_are_matched_by_number_where_there_are_no_sequences() {
        let messages = [(2, 20), (3, 30), (5, 50)];
        let mut compared = compare(&source(0), &WriterNotes::default(), &[], &Runs::default());
        let frames = file("length-prefixed", &[], (2, 5), 3);
        compared.payloads_of(&frames, &[(None, 20), (None, 31), (None, 50)], &messages);
        assert_eq!((compared.payloads, compared.examples.as_slice()), (3, &[3][..]));
        compared.payloads_of(&frames, &[(None, 1)], &messages);
        assert_eq!(compared.payloads, 3, "nobody knows which they are");
    }
}
