//! Logs and metrics: many events that nobody waits for, failures that are heard of all the same, and a shutdown that leaves
//! nothing behind. `cargo run -p examples --example log_collector`.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use natstream::eventbus::Dedup;
use natstream::eventbus::topology::Storage;
use natstream::{Bus, ConnectConfig, Connection, Event, StreamSpec, Topology};

struct LogCollector {
    bus: Bus,
}

impl LogCollector {
    async fn collect_log(&self, line: String) -> anyhow::Result<()> {
        // Returns as soon as there is room in the window.
        Ok(self.bus.enqueue(Event::new("examples.logs.lines", line)).await?)
    }

    /// A metric that is lost does no harm: better than waiting.
    fn report_metrics(&self, load: f64) {
        let _ = self.bus.try_enqueue(Event::json("examples.logs.metrics", &load));
    }

    async fn flush(&self) -> anyhow::Result<()> {
        Ok(self.bus.flush(Duration::from_secs(10)).await?)
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let url = std::env::var("NATS_URL").unwrap_or_else(|_| "nats://127.0.0.1:4222".to_owned());
    let connection = Connection::connect(ConnectConfig::new(url)).await?;
    let topology = Topology::new(connection.clone());
    let stream = StreamSpec::new("EXAMPLE_LOGS", ["examples.logs.>"]).storage(Storage::Memory);
    topology.ensure(&stream).await?;

    let lost = Arc::new(AtomicU64::new(0));
    let bus = Bus::builder(connection)
        // No header on an event: faster, and one whose answer is lost is handed back.
        .dedup(Dedup::Off)
        .deadline(Duration::from_secs(5))
        .on_failure({
            let lost = lost.clone();
            move |error| {
                lost.fetch_add(1, Ordering::Relaxed);
                println!("not delivered: {}", error.event().subject());
            }
        })
        .open()
        .await?;
    let collector = LogCollector { bus: bus.clone() };
    collector.report_metrics(0.5);
    for line in 0..5000 {
        collector.collect_log(format!("line {line}")).await?;
    }
    collector.flush().await?;

    // The shutdown: the bus delivers what is left, and the connection goes last.
    bus.close(Duration::from_secs(30)).await?;
    let stats = bus.stats();
    println!(
        "{} accepted, {} acked, {} lost",
        stats.accepted,
        stats.acked,
        lost.load(Ordering::Relaxed)
    );
    topology.delete("EXAMPLE_LOGS").await?;
    bus.connection().close(Duration::from_secs(5)).await?;
    Ok(())
}
