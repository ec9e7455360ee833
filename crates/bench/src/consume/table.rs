//! The report for people.

use super::consumer::{Ours, Way};
use super::{Figures, Report, Storage};

pub(super) fn print(report: &Report) {
    let Report {
        messages,
        size,
        rounds,
        concurrency,
        nats_server,
        ..
    } = report;
    println!(
        "{messages} messages of {size} B, {concurrency} handlers or confirmed acks at a time; {rounds} rounds after a warm-up; \
         nats-server {nats_server}; median (min–max)"
    );
    for storage in [Storage::Memory, Storage::File] {
        compare(report, storage);
    }
    let mib = report.consumer_peak_bytes as f64 / f64::from(1 << 20);
    println!("\npeak memory of the consuming process: {mib:.0} MiB");
}

fn compare(report: &Report, storage: Storage) {
    let mut figures = report
        .figures
        .iter()
        .filter(|figures| figures.case.storage == storage)
        .peekable();
    if figures.peek().is_none() {
        return;
    }
    println!("\n{storage:?}\n");
    println!("| batch | | k messages/s | times its peer | client CPU ns | server CPU ns | allocations |");
    println!("|---|---|---|---|---|---|---|");
    for figures in figures {
        let Figures {
            case,
            messages_per_second,
            consumer_cpu_ns,
            server_cpu_ns,
            allocations,
        } = figures;
        // What is compared: ours, confirmed, with theirs, unconfirmed; the confirmed one stands beside it.
        let peer = match case.way {
            Way::Natstream(Ours::ForEach) | Way::MessagesConfirmed | Way::Messages => Way::Messages,
            Way::Natstream(Ours::Fetch) | Way::FetchConfirmed | Way::Fetch => Way::Fetch,
        };
        let peer = report
            .figures
            .iter()
            .find(|other| (other.case.storage, other.case.batch, other.case.way) == (case.storage, case.batch, peer));
        let times = peer.map_or(0.0, |peer| messages_per_second.median / peer.messages_per_second.median);
        println!(
            "| {} | {} | {} | {times:.2}× | {} | {} | {:.2} |",
            case.batch,
            name(case.way),
            messages_per_second.scaled(1e-3, 0),
            consumer_cpu_ns.scaled(1.0, 0),
            server_cpu_ns.scaled(1.0, 0),
            allocations.median,
        );
    }
}

fn name(way: Way) -> &'static str {
    match way {
        Way::Natstream(Ours::ForEach) => "for_each, confirmed",
        Way::Natstream(Ours::Fetch) => "fetch, confirmed",
        Way::Messages => "async-nats messages, ack",
        Way::MessagesConfirmed => "async-nats messages, double_ack",
        Way::Fetch => "async-nats fetch, ack",
        Way::FetchConfirmed => "async-nats fetch, double_ack",
    }
}
