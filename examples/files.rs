//! The seeds' `HourlyFileWriter`: lines with time and subject in files that roll by the hour.
//!
//! `cargo run -p examples --example files -- [DIR]`; without a directory, one that goes with the program.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::fs;

use natstream::sinks::{Format, Record, Retention};
use natstream::{RecordSink as _, RollingWriter};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let temporary = std::env::temp_dir().join(format!("natstream-files-{}", std::process::id()));
    let given = std::env::args().nth(1);
    let dir = given.clone().map_or_else(|| temporary.clone(), Into::into);

    let mut writer = RollingWriter::builder(&dir, "stream_data")
        .format(Format::timestamped())
        .retention(Retention::unlimited().max_files(24 * 7))
        .on_close(|file| {
            println!(
                "{}: {} records, crc32c {:08x}",
                file.path.display(),
                file.records,
                file.crc32c
            )
        })
        .open()?;
    for file in &writer.recovery().files {
        println!("recovered: {file:?}");
    }

    // A handle for each producer; they share one buffer and one thread.
    let producer = writer.clone();
    let other = std::thread::spawn(move || producer.append_blocking(Record::new(b"21.5 C").subject("sensors.hall")));
    let number = writer.append(Record::new(b"42 C").subject("sensors.boiler")).await?;
    let receipt = writer.flush().await?;
    println!("number {number} survives a kill: {}", receipt.survive_kill > number);
    other.join().expect("the producer does not panic")?;

    // Gives the file its final name, and calls the hook.
    let receipt = writer.close().await?;
    println!("{} records survive a power loss", receipt.survive_power_loss);
    if given.is_none() {
        fs::remove_dir_all(temporary)?;
    }
    Ok(())
}
