//! Many records with a deadline, and a report for each: `cargo run -p examples --example bulk_import`.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::time::Duration;

use natstream::eventbus::topology::Storage;
use natstream::{Bus, ConnectConfig, Connection, Event, StreamSpec, Topology};

struct Record {
    id: u64,
}

/// All records through the window, within the time: which ones failed, and why, is in the report.
async fn import_data(bus: &Bus, records: &[Record]) -> anyhow::Result<()> {
    let events = records.iter().map(|record| {
        // The id of a record is the id of its event: importing twice stores it once.
        Event::json("examples.import", &record.id)
            .message_id(format!("record-{}", record.id))
            .deadline(Duration::from_secs(30))
    });
    let report = bus.publish_batch(events).await;
    for (place, error) in report.failed() {
        println!("record {place}: {error}");
    }
    println!(
        "imported {} records, {} were there already",
        report.acked(),
        report.duplicates()
    );
    Ok(())
}

/// The same without a report: a flush says whether all went well.
async fn sync_batch(bus: &Bus, records: &[Record]) -> anyhow::Result<()> {
    for record in records {
        bus.enqueue(Event::json("examples.import", &record.id)).await?;
    }
    bus.flush(Duration::from_secs(60)).await?;
    println!("synchronised {} records", records.len());
    Ok(())
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let url = std::env::var("NATS_URL").unwrap_or_else(|_| "nats://127.0.0.1:4222".to_owned());
    let connection = Connection::connect(ConnectConfig::new(url)).await?;
    let topology = Topology::new(connection.clone());
    let stream = StreamSpec::new("EXAMPLE_IMPORT", ["examples.import"]).storage(Storage::Memory);
    topology.ensure(&stream).await?;
    let bus = Bus::builder(connection).window(256).open().await?;
    let records: Vec<Record> = (0..10_000).map(|id| Record { id }).collect();
    import_data(&bus, &records).await?;
    import_data(&bus, &records[..100]).await?;
    sync_batch(&bus, &records).await?;
    topology.delete("EXAMPLE_IMPORT").await?;
    Ok(())
}
