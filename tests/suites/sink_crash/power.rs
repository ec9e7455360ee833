//! Power is lost in each call of the storage, under a writer with its thread.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use natstream::sinks::{CrashImage, Receipt, RollingWriter, RollingWriterBuilder, Rotation, SinkError, Sync};

const LINES: u64 = 60;

fn builder(image: &CrashImage, sync: Sync) -> RollingWriterBuilder {
    RollingWriter::builder("/d", "x")
        .storage(Arc::new(image.clone()))
        .close_timeout(Duration::ZERO)
        .rotation(Rotation::size(200))
        .sync(sync)
}

/// Several files, with a flush after each few lines: gives the last receipt before the power failed.
fn run(image: &CrashImage, sync: Sync) -> Receipt {
    let mut receipt = Receipt::default();
    let mut write = || -> Result<(), SinkError> {
        let writer = builder(image, sync).open()?;
        for number in 0..LINES {
            writer.append_blocking(&format!("line {number}"))?;
            if number % 4 == 3 {
                let flushed = writer.flush_blocking();
                receipt = writer.receipt();
                flushed?;
            }
        }
        receipt = writer.close_blocking()?;
        Ok(())
    };
    // The power may fail.
    let _ = write();
    receipt
}

fn check(image: &CrashImage, sync: Sync, promised: u64, what: &str) {
    let writer = builder(image, sync)
        .open()
        .unwrap_or_else(|error| panic!("{what}: {error}"));
    assert!(
        writer.recovery().set_aside.is_empty(),
        "{what}: {:?}",
        writer.recovery()
    );
    writer.close_blocking().unwrap();
    let files: BTreeMap<u64, (PathBuf, Vec<u8>)> = image
        .files()
        .into_iter()
        .filter_map(|(path, bytes)| {
            let index = path.to_str()?.strip_prefix("/d/x")?.strip_suffix("log")?;
            Some((index.trim_matches('.').parse().unwrap_or(0), (path, bytes)))
        })
        .collect();
    let all: Vec<u8> = files.into_values().flat_map(|(_, bytes)| bytes).collect();
    let text = String::from_utf8(all).unwrap();
    let expected: Vec<String> = (0..LINES).map(|number| format!("line {number}")).collect();
    let found: Vec<&str> = text.lines().collect();
    assert_eq!(found[..], expected[..found.len()], "{what}: lost, repeated or torn");
    assert!(found.len() as u64 >= promised, "{what}: {} of {promised}", found.len());
}

#[test]
fn what_was_promised_survives_in_every_call() {
    for sync in [Sync::Commit, Sync::Interval(Duration::from_millis(1)), Sync::None] {
        let whole = CrashImage::new();
        assert_eq!(run(&whole, sync).survive_kill, LINES);
        // The thread's own timing makes some more or less.
        for call in 1..whole.calls() + 5 {
            let image = CrashImage::new();
            image.power_off_at(call);
            let receipt = run(&image, sync);
            check(
                &image.killed(),
                sync,
                receipt.survive_kill,
                &format!("{sync:?}, killed in call {call}"),
            );
            for seed in 0..6 {
                if sync != Sync::None {
                    let what = format!("{sync:?}, power lost in call {call}, seed {seed}");
                    check(&image.power_loss(seed), sync, receipt.survive_power_loss, &what);
                }
            }
        }
    }
}
