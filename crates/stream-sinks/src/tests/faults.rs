//! Storage that fails and works again: nothing is lost, nothing repeated, and it is said.

use std::{path::Path, time::Duration};

use super::world::{DIR, World, builder, names, time, visible};
use crate::{
    CrashImage, Fault, Format, ManualClock, Retention, RollingWriterBuilder, Rotation, SinkErrorKind, Storage, Sync,
    queue::Refusal,
};

const MODES: [Sync; 3] = [Sync::Commit, Sync::Interval(Duration::from_secs(1)), Sync::None];

fn world(image: &CrashImage, change: impl FnOnce(RollingWriterBuilder) -> RollingWriterBuilder) -> World {
    let clock = ManualClock::new(time("2026-11-20T04:10:00Z"));
    World::open(change(builder(image)), &clock).unwrap()
}

fn lines(range: std::ops::Range<u64>) -> Vec<u8> {
    range
        .flat_map(|number| format!("line {number}\n").into_bytes())
        .collect()
}

fn append(world: &mut World, range: std::ops::Range<u64>) {
    for number in range {
        world.append_waiting(&format!("line {number}")).unwrap();
    }
}

/// Appends, lets the fault happen, sees that it is told, clears it, and finds all that was accepted, once.
fn fails_and_recovers(sync: Sync, fault: impl FnOnce(&CrashImage), clear: impl FnOnce(&CrashImage), keeps_old: bool) {
    let image = CrashImage::new();
    let mut world = world(&image, |builder| builder.sync(sync));
    append(&mut world, 0..50);
    world.flush().unwrap();
    fault(&image);
    append(&mut world, 50..100);
    let error = world.flush().unwrap_err();
    assert_eq!(error.kind(), SinkErrorKind::Storage);
    assert!(error.io_kind().is_some() && error.path().is_some());
    // It accepts nothing, and tries again by itself, less and less often.
    for _ in 0..20 {
        let Err(Refusal::Error(error)) = world.append("refused") else {
            panic!("accepted while the storage fails");
        };
        assert_eq!(error.kind(), SinkErrorKind::Storage);
        world.pass(Duration::from_secs(1));
    }
    assert!((5..15).contains(&world.failures()), "{}", world.failures());
    clear(&image);
    world.pass(Duration::from_secs(5));
    append(&mut world, 100..150);
    let receipt = world.close().unwrap();
    assert_eq!(receipt.survive_kill, 150);
    if sync != Sync::None {
        assert_eq!(receipt.survive_power_loss, 150);
    }
    let found: Vec<u8> = visible(&image).into_values().flatten().collect();
    let expected = if keeps_old { lines(0..150) } else { lines(50..150) };
    assert_eq!(
        String::from_utf8(found).unwrap(),
        String::from_utf8(expected).unwrap(),
        "{sync:?}"
    );
    if sync != Sync::None {
        let after = image.power_loss(0);
        assert_eq!(visible(&after), visible(&image), "{sync:?}");
    }
}

#[test]
fn a_full_disk_that_is_freed() {
    for sync in MODES {
        for left in [0, 1, 30, 100, 200, 300] {
            let full = move |image: &CrashImage| image.set_fault(Some(Fault::Full(image.used() + left)));
            fails_and_recovers(sync, full, |image| image.set_fault(None), true);
        }
    }
}

#[test]
fn a_read_only_file_system() {
    for sync in MODES {
        fails_and_recovers(
            sync,
            |image| image.set_fault(Some(Fault::ReadOnly)),
            |image| image.set_fault(None),
            true,
        );
    }
}

#[test]
fn writes_that_fail_halfway() {
    for sync in MODES {
        fails_and_recovers(
            sync,
            |image| image.set_fault(Some(Fault::Write)),
            |image| image.set_fault(None),
            true,
        );
    }
}

/// The system forgets what it could not write; a second sync succeeds without having written anything.
#[test]
fn a_failed_sync_is_not_believed_the_second_time() {
    let image = CrashImage::new();
    let mut world = world(&image, |builder| builder.sync(Sync::Commit));
    append(&mut world, 0..50);
    image.set_fault(Some(Fault::Sync));
    world.flush().unwrap_err();
    assert_eq!(world.receipt().survive_power_loss, 0);
    image.set_fault(None);
    world.pass(Duration::from_secs(1));
    assert_eq!(world.receipt().survive_power_loss, 50);
    let after = image.power_loss(0);
    assert_eq!(visible(&after).into_values().next(), Some(lines(0..50)));
}

#[test]
fn a_failed_sync_of_the_interval_blocks_too() {
    let image = CrashImage::new();
    let mut world = world(&image, |builder| builder);
    append(&mut world, 0..50);
    world.flush().unwrap();
    image.set_fault(Some(Fault::Sync));
    world.pass(Duration::from_secs(2));
    assert!(matches!(world.append("x"), Err(Refusal::Error(_))));
    // What survived a kill before still does.
    assert_eq!(visible(&image.killed()).into_values().next(), Some(lines(0..50)));
    image.set_fault(None);
    world.pass(Duration::from_secs(6));
    append(&mut world, 50..60);
    world.close().unwrap();
    assert_eq!(visible(&image.power_loss(0)).into_values().next(), Some(lines(0..60)));
}

/// What was in the file is gone with it; what comes then has another file, and the directory again.
#[test]
fn a_directory_that_is_removed() {
    for sync in MODES {
        let image = CrashImage::new();
        let mut world = world(&image, |builder| builder.sync(sync));
        append(&mut world, 0..50);
        world.flush().unwrap();
        image.remove_dir_all(Path::new(DIR));
        append(&mut world, 50..60);
        world.flush().unwrap_err();
        world.pass(Duration::from_secs(1));
        append(&mut world, 60..70);
        world.close().unwrap();
        assert_eq!(names(&image), ["20261120/x_2026112004.log"]);
        let found = visible(&image).into_values().next().unwrap();
        // In the interval mode those that were not synced yet are still in memory.
        assert!(found.ends_with(&lines(50..70)), "{sync:?}");
    }
}

#[test]
fn memory_is_bounded_while_nothing_is_synced() {
    let image = CrashImage::new();
    let mut world = world(&image, |builder| builder);
    for number in 0..20_000_u64 {
        world.append_waiting(&format!("line {number}")).unwrap();
        assert!(world.buffered() <= 64 << 10);
    }
    world.close().unwrap();
    assert_eq!(visible(&image).into_values().next(), Some(lines(0..20_000)));
}

#[test]
fn a_record_as_large_as_the_buffer_fits_and_a_larger_one_is_refused() {
    let image = CrashImage::new();
    let mut world = world(&image, |builder| builder);
    append(&mut world, 0..10);
    let largest = vec![b'x'; (64 << 10) - 1];
    world.append_waiting(&largest).unwrap();
    let error = world.append_waiting(&vec![b'x'; 64 << 10]).unwrap_err();
    assert_eq!(error.kind(), SinkErrorKind::TooLarge);
    append(&mut world, 10..20);
    world.close().unwrap();
    let expected = [lines(0..10), largest, b"\n".to_vec(), lines(10..20)].concat();
    assert_eq!(visible(&image).into_values().next(), Some(expected));
}

#[test]
fn closing_gives_up_in_time_and_says_what_is_lost() {
    let image = CrashImage::new();
    let mut world = world(&image, |builder| builder.close_timeout(Duration::from_secs(10)));
    append(&mut world, 0..3);
    world.flush().unwrap();
    image.set_fault(Some(Fault::ReadOnly));
    append(&mut world, 3..10);
    let error = world.close().unwrap_err();
    assert_eq!((error.kind(), error.unwritten()), (SinkErrorKind::Storage, 7));
    assert!(matches!(world.append("x"), Err(Refusal::Error(error)) if error.kind() == SinkErrorKind::Closed));
}

#[test]
fn a_second_writer_is_told_unless_it_has_an_id() {
    let image = CrashImage::new();
    let first = world(&image, |builder| builder);
    let clock = first.clock.clone();
    let error = World::open(builder(&image), &clock).map(drop).unwrap_err();
    assert_eq!(error.kind(), SinkErrorKind::InUse);
    let mut second = World::open(builder(&image).writer_id("2"), &clock).unwrap();
    append(&mut second, 0..1);
    second.close().unwrap();
    assert_eq!(names(&image), ["20261120/x-2_2026112004.log"]);
    drop(first);
    World::open(builder(&image), &clock).unwrap();
}

/// Two writers whose templates are the same although their names differ.
#[test]
fn a_file_in_progress_of_another_writer_is_left_alone() {
    let image = CrashImage::new();
    let mut first = world(&image, |builder| builder.template("{hour}.log"));
    append(&mut first, 0..5);
    first.flush().unwrap();
    let mut second = World::open(builder(&image).writer_id("2").template("{hour}.log"), &first.clock).unwrap();
    assert!(second.recovery().files.is_empty());
    append(&mut second, 5..9);
    second.close().unwrap();
    append(&mut first, 9..12);
    first.close().unwrap();
    let files = visible(&image);
    assert_eq!(files[Path::new("04.log")], [lines(0..5), lines(9..12)].concat());
    assert_eq!(files[Path::new("04.1.log")], lines(5..9));
}

#[test]
fn retention_and_the_link_follow() {
    let image = CrashImage::new();
    let mut world = world(&image, |builder| {
        builder
            .retention(Retention::unlimited().max_files(2))
            .current_link("current")
    });
    for number in 0..5 {
        append(&mut world, number..number + 1);
        world.pass(Duration::from_secs(3600));
    }
    assert_eq!(
        names(&image),
        ["20261120/x_2026112007.log", "20261120/x_2026112008.log"]
    );
    world.pass(Duration::from_secs(86_400));
    append(&mut world, 9..10);
    world.roll().unwrap();
    append(&mut world, 10..11);
    world.close().unwrap();
    // The directory of the day before went with its last file.
    assert_eq!(
        names(&image),
        ["20261121/x_2026112109.1.log", "20261121/x_2026112109.log"]
    );
}

#[test]
fn a_name_without_time_still_replaces_nothing() {
    let image = CrashImage::new();
    let mut world = world(&image, |builder| builder.template("{name}"));
    for number in 0..3 {
        append(&mut world, number..number + 1);
        world.pass(Duration::from_secs(3600));
    }
    world.close().unwrap();
    let clock = world.clock.clone();
    drop(world);
    let mut world = World::open(builder(&image).template("{name}").rotation(Rotation::size(1)), &clock).unwrap();
    append(&mut world, 3..5);
    world.close().unwrap();
    assert_eq!(names(&image), ["x", "x.1", "x.2", "x.3", "x.4"]);
    let all: Vec<u8> = visible(&image).into_values().flatten().collect();
    assert_eq!(all, lines(0..5));
}

#[test]
fn settings_without_an_end_are_taken_at_their_word() {
    let image = CrashImage::new();
    let forever = Duration::MAX;
    let mut world = world(&image, |builder| {
        let builder = builder.flush_interval(forever).close_timeout(forever);
        builder
            .sync(Sync::Interval(forever))
            .backoff(forever, forever)
            .late_records(forever)
    });
    append(&mut world, 0..10);
    world.pass(Duration::from_secs(3600 * 24));
    world.flush().unwrap();
    image.set_fault(Some(Fault::Write));
    append(&mut world, 10..20);
    world.flush().unwrap_err();
    image.set_fault(None);
    world.close().unwrap();
    assert_eq!(
        visible(&image).into_values().flatten().collect::<Vec<_>>(),
        lines(0..20)
    );
}

/// A pause of nothing would make the thread spin while the disk is full.
#[test]
fn attempts_have_pauses_whatever_is_set() {
    let image = CrashImage::new();
    let mut world = world(&image, |builder| builder.backoff(Duration::ZERO, Duration::ZERO));
    append(&mut world, 0..10);
    image.set_fault(Some(Fault::Write));
    world.flush().unwrap_err();
    world.pass(Duration::from_micros(10));
    assert!(world.failures() < 5, "{}", world.failures());
}

/// Its last attempt is when its time is over, not when the back-off would be.
#[test]
fn closing_does_not_outlast_its_time_for_a_pause() {
    let image = CrashImage::new();
    let mut world = world(&image, |builder| {
        builder
            .close_timeout(Duration::from_secs(2))
            .backoff(Duration::from_secs(100), Duration::from_secs(100))
    });
    append(&mut world, 0..10);
    image.set_fault(Some(Fault::Write));
    let begin = crate::Clock::elapsed(&world.clock);
    world.close().unwrap_err();
    assert!(crate::Clock::elapsed(&world.clock) - begin <= Duration::from_secs(3));
}

/// Something else than a torn end: what is cut off is kept for people, also when no journal tells what it was.
#[test]
fn whole_records_that_are_cut_off_are_kept_aside() {
    for (format, damage) in [(Format::lines(), 512..1024), (Format::length_prefixed(), 700..701)] {
        let image = CrashImage::new();
        let mut world = world(&image, |builder| builder.format(format.clone()));
        append(&mut world, 0..200);
        world.flush().unwrap();
        let image = image.killed();
        let part = Path::new("/d/20261120/x_2026112004.log.part");
        image
            .remove(Path::new("/d/20261120/.x_2026112004.log.journal"))
            .unwrap();
        let before = image.files()[part].clone();
        // A sector that reads as zeros; a byte that has changed.
        let zeros = vec![0; damage.len()];
        image.open(part).unwrap().write_at(&zeros, damage.start as u64).unwrap();
        let world = World::open(builder(&image).format(format), &world.clock).unwrap();
        let file = &world.recovery().files[0];
        let kept = &image.files()[file.damaged.as_ref().expect("kept")];
        assert_eq!(kept.len() as u64, file.cut);
        let whole = file.manifest.as_ref().unwrap().bytes as usize;
        assert!(whole > 400 && whole <= damage.start, "{whole}");
        assert_eq!(kept[damage.end - whole..], before[damage.end..]);
    }
}

/// Records that were whole stay, also when the last commit is not.
#[test]
fn a_file_that_was_cut_within_a_commit_keeps_its_whole_records() {
    for format in [Format::lines(), Format::length_prefixed()] {
        let image = CrashImage::new();
        let mut world = world(&image, |builder| builder.format(format.clone()));
        append(&mut world, 0..10);
        world.flush().unwrap();
        append(&mut world, 10..20);
        world.flush().unwrap();
        let image = image.killed();
        let part = Path::new("/d/20261120/x_2026112004.log.part");
        let size = image.files()[part].len() as u64;
        image.open(part).unwrap().truncate(size - 1).unwrap();
        let world = World::open(builder(&image).format(format), &world.clock).unwrap();
        let file = &world.recovery().files[0];
        assert_eq!(file.manifest.as_ref().unwrap().records, 19);
        assert!(file.damaged.is_none());
    }
}

/// A restart with another rotation, after a crash.
#[test]
fn a_file_in_progress_of_another_rotation_is_recovered() {
    let rotations = [Rotation::NEVER, Rotation::MINUTELY, Rotation::HOURLY, Rotation::DAILY];
    for before in rotations {
        for after in rotations {
            let image = CrashImage::new();
            let mut world = world(&image, |builder| builder.rotation(before));
            append(&mut world, 0..10);
            world.flush().unwrap();
            let name = names(&image)[0].strip_suffix(".part").unwrap().to_owned();
            let image = image.killed();
            let world = World::open(builder(&image).rotation(after), &world.clock).unwrap();
            assert_eq!(world.recovery().files.len(), 1, "{before:?} {after:?}");
            assert_eq!(names(&image), [name]);
        }
    }
}
