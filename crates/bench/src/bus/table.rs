//! The report for people.

use super::publisher::Publisher;
use super::{Figures, Report, Storage};

pub(super) fn print(report: &Report) {
    let Report {
        events,
        size,
        rounds,
        one_by_one,
        nats_server,
        ..
    } = report;
    println!(
        "{events} events of {size} B, {one_by_one} one by one; {rounds} rounds after a warm-up; nats-server {nats_server}; \
         median (min–max)"
    );
    for storage in [Storage::Memory, Storage::File] {
        for ids in [false, true] {
            compare(report, storage, ids);
        }
    }
    if !report.seed.is_empty() {
        println!("\n| events | one by one, ms | pipelined, ms | times |");
        println!("|---|---|---|---|");
        for (events, one_by_one, pipelined) in &report.seed {
            let times = one_by_one / pipelined;
            println!("| {events} | {one_by_one:.0} | {pipelined:.1} | {times:.1}× |");
        }
    }
    if !report.in_process.is_empty() {
        println!("\n| window, acked in the process | k events/s | MiB grown |");
        println!("|---|---|---|");
        for (window, rate, grown) in &report.in_process {
            let mib = *grown as f64 / f64::from(1 << 20);
            println!("| {window} | {:.0} | {mib:.1} |", rate / 1e3);
        }
    }
    let mib = report.publisher_peak_bytes as f64 / f64::from(1 << 20);
    println!("\npeak memory of the publishing process: {mib:.0} MiB");
}

/// Batches beside the best window of async-nats.
fn batches<'a, F: Iterator<Item = &'a Figures>>(of: &impl Fn(Publisher) -> F) {
    let theirs = of(Publisher::AsyncNats).filter(|figures| figures.way.window.is_some());
    let best = theirs.max_by(|a, b| a.events_per_second.median.total_cmp(&b.events_per_second.median));
    let Some(best) = best else {
        return;
    };
    println!(
        "\n| batches | k/s | ratio to async-nats's best window | client CPU ns | ratio | server CPU ns | allocations |"
    );
    println!("|---|---|---|---|---|---|---|");
    for figures in of(Publisher::Fast).chain(of(Publisher::Atomic)) {
        let window = figures.way.window.unwrap_or(0);
        let name = match figures.way.publisher {
            Publisher::Fast => format!("fast ingest, window {window}"),
            _ => format!("atomic, {window} events"),
        };
        println!(
            "| {name} | {} | {:.2}× | {} | {:.2}× | {:.0} | {:.2} |",
            figures.events_per_second.scaled(1e-3, 0),
            figures.events_per_second.median / best.events_per_second.median,
            figures.publisher_cpu_ns.scaled(1.0, 0),
            figures.publisher_cpu_ns.median / best.publisher_cpu_ns.median,
            figures.server_cpu_ns.median,
            figures.allocations.median,
        );
    }
}

/// The rows of one storage, with ids or without.
fn compare(report: &Report, storage: Storage, ids: bool) {
    let of = |publisher| {
        let figures = report.figures.iter();
        figures.filter(move |figures| {
            let way = figures.way;
            way.storage == storage && way.ids == ids && way.publisher == publisher
        })
    };
    if of(Publisher::Natstream).next().is_none() {
        return;
    }
    let with = if ids { "with ids" } else { "without ids" };
    println!("\n{storage:?}, {with}\n");
    println!(
        "| window | natstream k/s | async-nats k/s | ratio | client CPU ns | async-nats CPU ns | ratio | server CPU ns | allocations | async-nats |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    for (ours, theirs) in of(Publisher::Natstream).zip(of(Publisher::AsyncNats)) {
        let name = ours.way.window.map_or_else(
            || {
                let p50 = |figures: &Figures| figures.latency_p50_us.map_or(0.0, |spread| spread.median);
                format!("one by one (p50 {:.0} and {:.0} µs)", p50(ours), p50(theirs))
            },
            |window| window.to_string(),
        );
        println!(
            "| {name} | {} | {} | {:.2}× | {} | {} | {:.2}× | {:.0}, {:.0} | {:.2} | {:.2} |",
            ours.events_per_second.scaled(1e-3, 0),
            theirs.events_per_second.scaled(1e-3, 0),
            ours.events_per_second.median / theirs.events_per_second.median,
            ours.publisher_cpu_ns.scaled(1.0, 0),
            theirs.publisher_cpu_ns.scaled(1.0, 0),
            ours.publisher_cpu_ns.median / theirs.publisher_cpu_ns.median,
            ours.server_cpu_ns.median,
            theirs.server_cpu_ns.median,
            ours.allocations.median,
            theirs.allocations.median,
        );
    }
    batches(&of);
    let best = |publisher| {
        let pipelined = of(publisher).filter(|figures| figures.way.window.is_some());
        pipelined
            .map(|figures| figures.events_per_second.median)
            .fold(0.0, f64::max)
    };
    let (ours, theirs) = (best(Publisher::Natstream), best(Publisher::AsyncNats));
    println!(
        "\nbest window: {:.0} k/s and {:.0} k/s, {:.2}×",
        ours / 1e3,
        theirs / 1e3,
        ours / theirs
    );
}
