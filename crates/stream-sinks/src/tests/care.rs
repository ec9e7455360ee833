//! What happens to closed files: hooks, journals, compression, retention, and what a process that died left to do.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;

use super::world::{World, builder, names, time, visible};
#[cfg(feature = "gzip")]
use crate::compress;
use crate::{CrashImage, Fault, Manifest, ManualClock, Record, Retention, RollingWriterBuilder, Storage, Sync};

fn clock() -> ManualClock {
    ManualClock::new(time("2026-11-20T04:10:00Z"))
}

/// The manifests that hooks were called with.
#[derive(Clone, Default)]
struct Hooks(Arc<Mutex<Vec<Manifest>>>);

impl Hooks {
    fn on(&self, builder: RollingWriterBuilder) -> RollingWriterBuilder {
        let calls = Arc::clone(&self.0);
        builder.on_close(move |manifest| calls.lock().push(manifest.clone()))
    }

    fn paths(&self) -> Vec<PathBuf> {
        let calls = self.0.lock();
        let paths = calls.iter().map(|manifest| manifest.path.strip_prefix("/d").unwrap());
        paths.map(Path::to_owned).collect()
    }
}

fn append_sequences(world: &mut World, sequences: std::ops::Range<u64>) {
    for sequence in sequences {
        let line = sequence.to_string();
        world.append_waiting(Record::from(&line).sequence(sequence)).unwrap();
    }
}

/// Names with sequences are the same for all files in progress of an hour, and so would be their journals.
#[test]
fn a_file_in_progress_has_its_own_journal_while_an_older_one_waits_for_its_hook() {
    let image = CrashImage::new();
    let builder = |image: &CrashImage| {
        let builder = builder(image).sync(Sync::Commit);
        builder.template("{date}{hour}-{first}-{last}.log")
    };
    let mut world = World::open(builder(&image), &clock()).unwrap();
    append_sequences(&mut world, 0..5);
    world.flush().unwrap();

    let image = image.killed();
    let hooks = Hooks::default();
    let mut world = World::open_lagging(hooks.on(builder(&image)), &clock()).unwrap();
    append_sequences(&mut world, 5..8);
    world.flush().unwrap();
    world.catch_up();
    append_sequences(&mut world, 8..10);
    world.flush().unwrap();
    assert_eq!(hooks.paths().len(), 1, "{:?}", hooks.paths());

    for image in [image.killed(), image.power_loss(0)] {
        let world = World::open(builder(&image), &clock()).unwrap();
        assert_eq!(world.recovery().last_sequence, Some(9));
        let all: Vec<u8> = visible(&image).into_values().flatten().collect();
        assert_eq!(String::from_utf8(all).unwrap(), "0\n1\n2\n3\n4\n5\n6\n7\n8\n9\n");
    }
}

/// The same, when the older file was taken away by its reader before its hook was called.
#[test]
fn a_name_that_is_free_again_does_not_take_a_journal_that_is_in_use() {
    let image = CrashImage::new();
    let mut world = World::open(builder(&image), &clock()).unwrap();
    world.append_waiting("one").unwrap();
    world.flush().unwrap();
    let image = image.killed();
    let hooks = Hooks::default();
    let mut world = World::open_lagging(hooks.on(builder(&image)), &clock()).unwrap();
    image.remove(Path::new("/d/20261120/x_2026112004.log")).unwrap();
    world.append_waiting("two").unwrap();
    world.flush().unwrap();
    world.catch_up();
    assert_eq!(hooks.paths().len(), 1);
    let journals = image
        .files()
        .into_keys()
        .filter(|path| path.display().to_string().ends_with(".journal"));
    assert_eq!(journals.count(), 1, "that of the file in progress");
}

#[test]
fn a_recovered_file_has_its_hook_called_once() {
    let image = CrashImage::new();
    let mut world = World::open(builder(&image), &clock()).unwrap();
    world.append_waiting("line").unwrap();
    world.flush().unwrap();
    let image = image.killed();
    let hooks = Hooks::default();
    let mut world = World::open(hooks.on(builder(&image)), &clock()).unwrap();
    world.close().unwrap();
    assert_eq!(hooks.paths(), [Path::new("20261120/x_2026112004.log")]);
    let manifest = hooks.0.lock()[0].clone();
    assert!(manifest.recovered);
    assert_eq!((manifest.records, manifest.bytes, manifest.file_bytes), (1, 5, 5));
    assert_eq!(manifest.crc32c, crc32c::crc32c(b"line\n"));
}

/// The process died between the rename and the call: the next one makes it, whatever became of the file's form.
#[cfg(feature = "gzip")]
#[test]
fn a_hook_that_was_not_called_is_called_at_the_next_start() {
    let image = CrashImage::new();
    let compressed = |image: &CrashImage| builder(image).compression(crate::Compression::Gzip(1));
    let mut world = World::open_lagging(compressed(&image), &clock()).unwrap();
    world.append_waiting(&"line".repeat(100)).unwrap();
    world.close().unwrap();
    let path = Path::new("/d/20261120/x_2026112004.log");
    // It was compressed, and the process died before the hook.
    let made = compress::compress(&image, path, &crate::Compression::Gzip(1)).unwrap();
    let image = image.killed();
    let hooks = Hooks::default();
    World::open(hooks.on(compressed(&image)), &clock()).unwrap();
    assert_eq!(hooks.paths(), [Path::new("20261120/x_2026112004.log.gz")]);
    let manifest = hooks.0.lock()[0].clone();
    assert_eq!(manifest.file_bytes, image.files()[&made].len() as u64);
    assert_eq!((manifest.records, manifest.bytes), (1, 401));
}

/// Somebody who comes later finds it compressed already.
#[cfg(feature = "gzip")]
#[test]
fn a_file_that_was_compressed_meanwhile_is_no_failure() {
    let image = CrashImage::new();
    let mut world = World::open(builder(&image), &clock()).unwrap();
    world.append_waiting("line").unwrap();
    world.close().unwrap();
    let path = Path::new("/d/20261120/x_2026112004.log");
    let gzip = crate::Compression::Gzip(1);
    let first = compress::compress(&image, path, &gzip).unwrap();
    assert_eq!(compress::compress(&image, path, &gzip).unwrap(), first);
    image.remove(&first).unwrap();
    compress::compress(&image, path, &gzip).unwrap_err();
}

/// Two processes whose templates are the same see the same closed files.
#[cfg(feature = "gzip")]
#[test]
fn a_file_that_another_process_compresses_is_left_to_it() {
    let image = CrashImage::new();
    let mut world = World::open(builder(&image), &clock()).unwrap();
    world.append_waiting("line").unwrap();
    world.close().unwrap();
    drop(world);
    let path = Path::new("/d/20261120/x_2026112004.log");
    let half = image.create(Path::new("/d/20261120/.x_2026112004.log.gz.tmp")).unwrap();
    let gzip = crate::Compression::Gzip(1);
    compress::compress(&image, path, &gzip).unwrap_err();
    World::open(builder(&image).compression(gzip), &clock()).unwrap();
    assert_eq!(names(&image), ["20261120/x_2026112004.log"]);
    drop(half);
    World::open(builder(&image).compression(gzip), &clock()).unwrap();
    assert_eq!(names(&image), ["20261120/x_2026112004.log.gz"]);
}

/// The original goes only when the compressed file survives a power loss, also when nothing else is synced: it may have been
/// on the disk for long.
#[cfg(feature = "gzip")]
#[test]
fn compression_never_puts_a_file_at_risk() {
    for call in 1..40 {
        let image = CrashImage::new();
        let mut world = World::open_lagging(builder(&image).sync(Sync::None), &clock()).unwrap();
        world.append_waiting("line").unwrap();
        world.close().unwrap();
        // The system has written it by now.
        let image = image.power_loss(1);
        let path = Path::new("/d/20261120/x_2026112004.log");
        assert_eq!(image.files()[path], b"line\n");
        image.power_off_at(call);
        let compressed = compress::compress(&image, path, &crate::Compression::Gzip(1));
        for seed in 0..32 {
            let files = image.power_loss(seed).files();
            let plain = files.get(path).is_some_and(|bytes| bytes == b"line\n");
            let gzip = files.get(Path::new("/d/20261120/x_2026112004.log.gz"));
            let whole = gzip.is_some_and(|bytes| {
                let mut text = String::new();
                let read = std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(&bytes[..]), &mut text);
                read.is_ok() && text == "line\n"
            });
            assert!(plain || whole, "call {call}, seed {seed}, {compressed:?}");
        }
    }
}

#[test]
fn retention_waits_for_the_hook() {
    let image = CrashImage::new();
    let found = Arc::new(Mutex::new(Vec::new()));
    let (calls, storage) = (Arc::clone(&found), image.clone());
    let builder = builder(&image)
        .retention(Retention::unlimited().max_files(1))
        .on_close(move |manifest| calls.lock().push(storage.read(&manifest.path).is_ok()));
    let mut world = World::open_lagging(builder, &clock()).unwrap();
    for hour in 0..4 {
        world.append_waiting(&format!("hour {hour}")).unwrap();
        world.pass(Duration::from_secs(3600));
    }
    world.close().unwrap();
    world.catch_up();
    assert_eq!(*found.lock(), [true; 4]);
    assert_eq!(names(&image), ["20261120/x_2026112007.log"]);
}

/// A note in the journal needs a byte of space, and the file's records do not depend on it.
#[test]
fn a_full_disk_does_not_hinder_recovery() {
    let image = CrashImage::new();
    let mut world = World::open(builder(&image), &clock()).unwrap();
    world.append_waiting("line").unwrap();
    world.flush().unwrap();
    let image = image.killed();
    image.set_fault(Some(Fault::Full(image.used())));
    let hooks = Hooks::default();
    let world = World::open(hooks.on(builder(&image)), &clock()).unwrap();
    assert!(world.recovery().set_aside.is_empty(), "{:?}", world.recovery());
    assert_eq!(names(&image), ["20261120/x_2026112004.log"]);
    assert_eq!(hooks.paths().len(), 1);
}

/// A name with the first sequence only does not tell where to go on.
#[test]
fn the_last_sequence_is_not_guessed() {
    let image = CrashImage::new();
    let builder = |image: &CrashImage| builder(image).template("{name}-{first}.log");
    let mut world = World::open(builder(&image), &clock()).unwrap();
    append_sequences(&mut world, 5..9);
    world.close().unwrap();
    drop(world);
    let world = World::open(builder(&image), &clock()).unwrap();
    assert_eq!(world.recovery().last_sequence, None);
}
