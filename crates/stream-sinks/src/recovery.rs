//! What a process that died left behind: found, cut to the last whole record, and closed under its final name.

use std::{
    collections::HashSet,
    io,
    path::{Path, PathBuf},
    time::SystemTime,
};

use jiff::Timestamp;

use crate::{
    Boundary, Manifest, StorageEntry,
    committer::{Closed, Place, journal_path, publish, totals_to_manifest},
    journal::{Journal, Totals},
    storage::{dir_of, read_all, write_all},
    template::{PART, Pattern},
};

mod scan;

/// What was found when a writer opened.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Recovery {
    /// Files that were left in progress, and are closed now.
    pub files: Vec<RecoveredFile>,
    /// Files that could not be read or closed: where they are now, and why. They are out of the way.
    pub set_aside: Vec<(PathBuf, String)>,
    /// The highest sequence in files that were recovered, or that were closed and not told of to the
    /// [close hook](crate::RollingWriterBuilder::on_close) yet; under a template with `{last}`, in any file.
    pub last_sequence: Option<u64>,
    /// The beginning of the last period of those files, where there are several: records that are older go where a writer that
    /// had not died would have put them. Not of those that only their names tell of.
    pub last_period: Option<SystemTime>,
}

/// A file that a process that died left in progress.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RecoveredFile {
    /// As it is closed now; `None` when nothing whole was in it.
    pub manifest: Option<Manifest>,
    /// Bytes at its end that were no whole record, or not as they had been written.
    pub cut: u64,
    /// Where those bytes are, if they are more than a torn record: what was committed and has changed since, or whole
    /// records behind damage.
    pub damaged: Option<PathBuf>,
}

/// Finds and mends. What fails is set aside or left for the next time, and never an error. `unsynced` is how many bytes at
/// the end of a file may not have been synced.
pub(crate) fn recover(place: &Place, boundary: Boundary, unsynced: u64, now: Timestamp) -> (Recovery, Vec<Closed>) {
    let mut recovery = Recovery::default();
    let mut closed = Vec::new();
    let entries = walk(place, &place.dir, place.depth());
    for entry in entries.iter().filter(|entry| entry.is_file) {
        let Some(path) = place.relative(&entry.path) else {
            continue;
        };
        if place.parse_part(path).is_some() {
            match mend(place, &entry.path, boundary, unsynced, now) {
                Ok(Some((file, done))) => {
                    recovery.reaches(file.manifest.as_ref());
                    report(&file);
                    recovery.files.push(file);
                    closed.extend(done);
                }
                Ok(None) => {}
                Err(error) => recovery.set_aside.push(set_aside(place, &entry.path, &error)),
            }
        } else if let Some(parsed) = place.template.parse_path(path).filter(|_| place.template.has_last()) {
            recovery.last_sequence = recovery.last_sequence.max(Some(parsed.last));
        }
    }
    for entry in entries.iter().filter(|entry| entry.is_file) {
        if !closed.iter().any(|mended: &Closed| mended.journal == entry.path) {
            let finished = finish_journal(place, &entry.path, now);
            recovery.reaches(finished.as_ref().map(|closed| &closed.manifest));
            closed.extend(finished);
        }
    }
    (recovery, closed)
}

impl Recovery {
    fn reaches(&mut self, manifest: Option<&Manifest>) {
        let last = manifest.and_then(|manifest| manifest.sequences).map(|(_, last)| last);
        self.last_sequence = self.last_sequence.max(last);
        self.last_period = self.last_period.max(manifest.and_then(|manifest| manifest.since));
    }
}

fn report(file: &RecoveredFile) {
    let path = file
        .manifest
        .as_ref()
        .map(|manifest| manifest.path.display().to_string());
    let records = file.manifest.as_ref().map_or(0, |manifest| manifest.records);
    match &file.damaged {
        Some(damaged) => {
            tracing::error!(path, records, cut = file.cut, damaged = %damaged.display(), "a damaged file was recovered");
        }
        None => tracing::warn!(
            path,
            records,
            cut = file.cut,
            "a file that was left in progress was recovered"
        ),
    }
}

/// All files in directories as deep as the template's. Directories that cannot be read are left out.
pub(crate) fn walk(place: &Place, dir: &Path, depth: usize) -> Vec<StorageEntry> {
    let mut found = Vec::new();
    let Ok(mut entries) = place.storage.list(dir) else {
        return found;
    };
    entries.sort_by(|a, b| a.path.cmp(&b.path));
    for entry in entries {
        if entry.is_dir && depth > 0 && !entry.name().starts_with('.') {
            found.extend(walk(place, &entry.path, depth - 1));
        }
        found.push(entry);
    }
    found
}

/// Files that have their final names, or are about to get them, and whose hooks are still to be called.
pub(crate) fn journaled(place: &Place) -> HashSet<PathBuf> {
    let mut files = HashSet::new();
    for entry in walk(place, &place.dir, place.template.depth()) {
        if !entry.name().starts_with('.') || !entry.name().ends_with(".journal") {
            continue;
        }
        let journal = place.storage.read(&entry.path).and_then(|file| read_all(&*file));
        if let Some(path) = journal.ok().and_then(|bytes| Journal::decode(&bytes).sealed) {
            files.extend(["", ".gz", ".zst"].map(|ending| place.dir.join(format!("{path}{ending}"))));
        }
    }
    files
}

type Mended = (RecoveredFile, Option<Closed>);

/// `Ok(None)`: it is somebody else's.
fn mend(place: &Place, part: &Path, boundary: Boundary, unsynced: u64, now: Timestamp) -> io::Result<Option<Mended>> {
    let storage = &*place.storage;
    let mut file = match storage.open(part) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
        opened => opened?,
    };
    let journal_at = journal_path(part);
    let mut journal_file = match storage.open(&journal_at) {
        Ok(journal) => Some(journal),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
        Err(_) => None,
    };
    let journal_bytes = journal_file.as_ref().and_then(|journal| read_all(&**journal).ok());
    let journal = Journal::decode(&journal_bytes.unwrap_or_default());
    let (suffix, zstd) = match part.to_string_lossy().ends_with(&format!(".zst{PART}")) {
        true => (".zst", true),
        false => ("", false),
    };
    // What the file was written with counts, not what this writer is set to.
    let boundary = journal.header.as_ref().map_or(boundary, |header| header.boundary);
    let scanned = scan::scan(&*file, &journal, boundary, zstd)?;
    let size = file.size()?;
    let mut recovered = RecoveredFile {
        manifest: None,
        cut: size - scanned.totals.file_len,
        damaged: None,
    };
    if scanned.damaged {
        recovered.damaged = Some(keep_damaged(place, part, &*file, scanned.totals.file_len)?);
    }
    if scanned.totals.file_len == 0 {
        storage.remove(part)?;
        let _ = storage.remove(&journal_at);
        return Ok(Some((recovered, None)));
    }
    if recovered.cut > 0 {
        file.truncate(scanned.totals.file_len)?;
    }
    write_again(&mut *file, scanned.totals.file_len.saturating_sub(unsynced))?;
    file.sync()?;
    let pattern = journal.header.as_ref().map(|header| header.pattern.clone());
    let pattern = pattern.unwrap_or_else(|| pattern_of(place, part, suffix));
    let index = place.relative(part).and_then(|path| place.parse_part(path));
    let index = index.map_or(0, |parsed| parsed.index);
    let totals = scanned.totals;
    let path = publish(place, part, &pattern, index, totals.sequences, suffix, |path| {
        if let Some(journal) = &mut journal_file
            && let Err(error) = note_name(&mut **journal, path)
        {
            // The disk may be full. What is lost is a hook's call, if this process dies before it.
            tracing::warn!(%error, path, "the name of a recovered file could not be noted");
        }
        Ok(())
    })?;
    storage.sync_dir(dir_of(&path))?;
    let manifest = totals_to_manifest(path, &totals, journal.header.as_ref(), now, true);
    recovered.manifest = Some(manifest.clone());
    let closed = Closed {
        manifest,
        journal: journal_at,
    };
    Ok(Some((recovered, Some(closed))))
}

/// The process that died may have had a sync that failed: then what was read is in memory only, but marked as written, and
/// the next sync would succeed without doing anything.
fn write_again(file: &mut dyn crate::StorageFile, from: u64) -> io::Result<()> {
    let mut buffer = vec![0; scan::BUFFER];
    let mut at = from;
    loop {
        let count = crate::storage::read_full(file, &mut buffer, at)?;
        if count == 0 {
            return Ok(());
        }
        write_all(file, &buffer[..count], at)?;
        at += count as u64;
    }
}

/// Behind all that could be read, so that it is read too.
fn note_name(journal: &mut dyn crate::StorageFile, path: &str) -> io::Result<()> {
    let at = scan::readable_len(journal)?;
    write_all(journal, &crate::journal::encode_sealed(path), at)?;
    journal.sync()
}

/// Without a journal, the name that the file has is its pattern.
fn pattern_of(place: &Place, part: &Path, suffix: &str) -> Pattern {
    let path = place.relative(part).unwrap_or_default();
    let path = path.strip_suffix(PART).unwrap_or(path);
    let path = path.strip_suffix(suffix).unwrap_or(path);
    place.template.pattern_of_path(path)
}

/// Copies what is cut off, before it is.
fn keep_damaged(place: &Place, part: &Path, file: &dyn crate::StorageFile, from: u64) -> io::Result<PathBuf> {
    let (path, mut copy) = new_damaged(place, part)?;
    let mut buffer = vec![0; scan::BUFFER];
    let mut at = from;
    loop {
        let count = crate::storage::read_full(file, &mut buffer, at)?;
        if count == 0 {
            break;
        }
        write_all(&mut *copy, &buffer[..count], at - from)?;
        at += count as u64;
    }
    copy.sync()?;
    // The original is cut next.
    place.storage.sync_dir(dir_of(&path))?;
    Ok(path)
}

fn new_damaged(place: &Place, part: &Path) -> io::Result<(PathBuf, Box<dyn crate::StorageFile>)> {
    for path in damaged_names(part) {
        match place.storage.create(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            created => return Ok((path, created?)),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

/// Names that are never taken for one of a closed file or a file in progress.
fn damaged_names(part: &Path) -> impl Iterator<Item = PathBuf> {
    let name = part.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let name = name.strip_suffix(PART).unwrap_or(&name).to_owned();
    let part = part.to_owned();
    (0..1000).map(move |count| match count {
        0 => part.with_file_name(format!("{name}.damaged")),
        count => part.with_file_name(format!("{name}.damaged.{count}")),
    })
}

/// A file that cannot be read or closed gets out of the way, if even that is possible.
fn set_aside(place: &Place, part: &Path, error: &io::Error) -> (PathBuf, String) {
    tracing::error!(path = %part.display(), %error, "a file that was left in progress could not be recovered; it is set aside");
    for path in damaged_names(part) {
        match place.storage.rename(part, &path) {
            Ok(()) => return (path, error.to_string()),
            Err(again) if again.kind() == io::ErrorKind::AlreadyExists => {}
            Err(_) => break,
        }
    }
    (part.to_owned(), error.to_string())
}

/// A journal whose file has its final name already: its hook may not have been called.
fn finish_journal(place: &Place, path: &Path, now: Timestamp) -> Option<Closed> {
    let name = path.file_name()?.to_str()?;
    let own = name.strip_prefix('.')?.strip_suffix(".journal")?;
    let part = path.with_file_name(format!("{own}{PART}"));
    place.parse_part(place.relative(&part)?)?;
    if place.storage.read(&part).is_ok() {
        return None;
    }
    let file = place.storage.open(path).ok()?;
    let journal = Journal::decode(&read_all(&*file).ok()?);
    let sealed = journal.sealed.and_then(|path| {
        let names = ["", ".gz", ".zst"].map(|ending| place.dir.join(format!("{path}{ending}")));
        names.into_iter().find_map(|path| {
            let file_bytes = place.storage.read(&path).ok()?.size().ok()?;
            Some((path, file_bytes))
        })
    });
    let Some((path_of_file, file_bytes)) = sealed else {
        // Its file is gone.
        let _ = place.storage.remove(path);
        return None;
    };
    let totals: Totals = journal
        .commits
        .iter()
        .max_by_key(|it| it.file_len)
        .copied()
        .unwrap_or_default();
    let mut manifest = totals_to_manifest(path_of_file, &totals, journal.header.as_ref(), now, true);
    // It may have been compressed.
    manifest.file_bytes = file_bytes;
    Some(Closed {
        manifest,
        journal: path.to_owned(),
    })
}
