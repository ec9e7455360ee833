//! A native stream beside plain async-nats.

use anyhow::{Context as _, Result, bail};
use serde::Serialize;
use testkit::NatsServer;

use crate::process::{Role, cpu_seconds, peak_memory, resident_memory};
use crate::report::Spread;
use crate::task::{Latency, Streamed, Task, Variant};

/// What a run measures.
#[derive(Debug)]
pub(crate) struct Options {
    items: u64,
    size: usize,
    rounds: usize,
    calls: usize,
    idle: usize,
    json: bool,
}

impl Options {
    pub(crate) fn parse<'a>(mut words: impl Iterator<Item = &'a str>) -> Result<Self> {
        let mut options = Self {
            items: 4_000_000,
            size: 128,
            rounds: 7,
            calls: 5_000,
            idle: 10_000,
            json: false,
        };
        while let Some(word) = words.next() {
            if word == "--json" {
                options.json = true;
                continue;
            }
            let value = words.next().with_context(|| format!("{word} needs a value"))?;
            match word {
                "--items" => options.items = value.parse()?,
                "--size" => options.size = value.parse()?,
                "--rounds" => options.rounds = value.parse()?,
                "--calls" => options.calls = value.parse()?,
                "--idle" => options.idle = value.parse()?,
                other => bail!("unknown option `{other}`"),
            }
        }
        if options.rounds == 0 || options.items == 0 || options.size == 0 || options.calls == 0 || options.idle == 0 {
            bail!("every number is at least 1");
        }
        Ok(options)
    }
}

/// The rounds of one variant.
#[derive(Debug, Serialize)]
struct Figures {
    variant: Variant,
    items_per_second: Spread,
    /// Processor time an item, in nanoseconds: caller, responder, nats-server.
    cpu_ns: [Spread; 3],
    /// Allocations an item: caller, responder.
    allocations: [Spread; 2],
    first_item_p50_us: Spread,
    first_item_p99_us: Spread,
}

#[derive(Debug)]
struct Round {
    rate: f64,
    cpu_ns: [f64; 3],
    allocations: [f64; 2],
    latency: Latency,
}

#[derive(Debug, Serialize)]
struct Report {
    items: u64,
    size: usize,
    rounds: usize,
    calls: usize,
    nats_server: String,
    figures: Vec<Figures>,
    /// Native to plain, round by round.
    throughput_ratio: Spread,
    first_item_ratio: Spread,
    idle_streams: usize,
    /// Bytes an idle stream: caller, responder, nats-server.
    idle_bytes: [f64; 3],
    caller_peak_bytes: u64,
    responder_peak_bytes: u64,
}

/// The three processes of a run.
struct Run {
    nats: NatsServer,
    caller: Role,
    responder: Role,
}

pub(crate) async fn run(options: Options) -> Result<()> {
    let nats = NatsServer::start().await;
    let responder = Role::start("responder", &nats.url()).await?;
    let caller = Role::start("caller", &nats.url()).await?;
    let mut run = Run {
        nats,
        caller,
        responder,
    };

    let variants = [Variant::Native, Variant::Plain];
    let mut rounds: [Vec<Round>; 2] = [Vec::new(), Vec::new()];
    // The first round warms up and does not count.
    for round in 0..=options.rounds {
        for (variant, rounds) in variants.into_iter().zip(&mut rounds) {
            let measured = run.measure(variant, &options).await?;
            if round > 0 {
                rounds.push(measured);
            }
        }
    }
    let [caller, responder, _] = run.pids()?;
    let peaks = (peak_memory(caller)?, peak_memory(responder)?);
    let idle_bytes = run.idle(options.idle).await?;

    let ratio = |figure: fn(&Round) -> f64| {
        let pairs = rounds[0].iter().zip(&rounds[1]);
        Spread::of(pairs.map(|(native, plain)| figure(native) / figure(plain)))
    };
    let report = Report {
        items: options.items,
        size: options.size,
        rounds: options.rounds,
        calls: options.calls,
        nats_server: async_nats::connect(run.nats.url()).await?.server_info().version,
        throughput_ratio: ratio(|round| round.rate),
        first_item_ratio: ratio(|round| round.latency.p50_us),
        figures: variants
            .iter()
            .zip(&rounds)
            .map(|(variant, rounds)| figures(*variant, rounds))
            .collect(),
        idle_streams: options.idle,
        idle_bytes,
        caller_peak_bytes: peaks.0,
        responder_peak_bytes: peaks.1,
    };
    if options.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        print(&report);
    }
    Ok(())
}

impl Run {
    fn pids(&self) -> Result<[u32; 3]> {
        Ok([self.caller.pid()?, self.responder.pid()?, self.nats.pid()])
    }

    async fn measure(&mut self, variant: Variant, options: &Options) -> Result<Round> {
        let before = (self.cpu()?, self.allocations().await?);
        let task = Task::Stream {
            variant,
            items: options.items,
            size: options.size,
        };
        let done: Streamed = self.caller.ask(&task).await?;
        let after = (self.cpu()?, self.allocations().await?);
        let calls = options.calls;
        let latency = self.caller.ask(&Task::Latency { variant, calls }).await?;
        let items = done.items as f64;
        Ok(Round {
            rate: items / done.seconds,
            cpu_ns: std::array::from_fn(|process| (after.0[process] - before.0[process]) * 1e9 / items),
            allocations: std::array::from_fn(|process| (after.1[process] - before.1[process]) as f64 / items),
            latency,
        })
    }

    fn cpu(&self) -> Result<[f64; 3]> {
        let [caller, responder, nats] = self.pids()?;
        Ok([cpu_seconds(caller)?, cpu_seconds(responder)?, cpu_seconds(nats)?])
    }

    async fn allocations(&mut self) -> Result<[u64; 2]> {
        Ok([
            self.caller.ask(&Task::Allocations).await?,
            self.responder.ask(&Task::Allocations).await?,
        ])
    }

    /// Bytes of an idle stream in each process. As many streams again are opened before, so that what is allocated once
    /// does not count.
    async fn idle(&mut self, streams: usize) -> Result<[f64; 3]> {
        let opened: usize = self.caller.ask(&Task::Open { streams }).await?;
        let before = self.pids()?.map(resident_memory);
        let all: usize = self.caller.ask(&Task::Open { streams }).await?;
        let after = self.pids()?.map(resident_memory);
        let _: usize = self.caller.ask(&Task::Close).await?;
        let mut bytes = [0.0; 3];
        for ((bytes, before), after) in bytes.iter_mut().zip(before).zip(after) {
            *bytes = (after? as f64 - before? as f64) / (all - opened) as f64;
        }
        Ok(bytes)
    }
}

fn figures(variant: Variant, rounds: &[Round]) -> Figures {
    let spread = |figure: &dyn Fn(&Round) -> f64| Spread::of(rounds.iter().map(figure));
    Figures {
        variant,
        items_per_second: spread(&|round| round.rate),
        cpu_ns: std::array::from_fn(|process| spread(&|round| round.cpu_ns[process])),
        allocations: std::array::from_fn(|process| spread(&|round| round.allocations[process])),
        first_item_p50_us: spread(&|round| round.latency.p50_us),
        first_item_p99_us: spread(&|round| round.latency.p99_us),
    }
}

fn print(report: &Report) {
    let Report {
        items,
        size,
        rounds,
        calls,
        nats_server,
        ..
    } = report;
    println!(
        "{items} items of {size} B; {calls} calls of one item; {rounds} rounds after a warm-up; nats-server {nats_server}; \
         median (min–max)\n"
    );
    println!("| | natstream, native | async-nats | native to async-nats |");
    println!("|---|---|---|---|");
    let [native, plain] = &report.figures[..] else {
        return;
    };
    let row = |name: &str, figure: &dyn Fn(&Figures) -> String, ratio: String| {
        println!("| {name} | {} | {} | {ratio} |", figure(native), figure(plain));
    };
    let times = |ratio: Spread| format!("{:.2}× ({:.2}–{:.2})", ratio.median, ratio.min, ratio.max);
    let of_medians = |figure: &dyn Fn(&Figures) -> f64| format!("{:.2}×", figure(native) / figure(plain));
    row(
        "M items/s",
        &|figures| figures.items_per_second.scaled(1e-6, 2),
        times(report.throughput_ratio),
    );
    for (process, name) in ["caller", "responder", "nats-server"].into_iter().enumerate() {
        let name = format!("{name} CPU ns/item");
        row(
            &name,
            &|figures| figures.cpu_ns[process].scaled(1.0, 0),
            of_medians(&|figures| figures.cpu_ns[process].median),
        );
    }
    row(
        "CPU ns/item, all three",
        &|figures| format!("{:.0}", figures.cpu_ns.iter().map(|spread| spread.median).sum::<f64>()),
        of_medians(&|figures| figures.cpu_ns.iter().map(|spread| spread.median).sum()),
    );
    for (process, name) in ["caller", "responder"].into_iter().enumerate() {
        let name = format!("{name} allocations/item");
        row(
            &name,
            &|figures| figures.allocations[process].scaled(1.0, 3),
            String::new(),
        );
    }
    let ratio = times(report.first_item_ratio);
    row(
        "first item p50 µs (async-nats: `request()`)",
        &|figures| figures.first_item_p50_us.scaled(1.0, 0),
        ratio,
    );
    row(
        "first item p99 µs",
        &|figures| figures.first_item_p99_us.scaled(1.0, 0),
        String::new(),
    );
    let [caller, responder, server] = report.idle_bytes;
    println!(
        "\nidle stream ({} of them): caller {caller:.0} B, responder {responder:.0} B with its handler's task, \
         nats-server {server:.0} B",
        report.idle_streams
    );
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    println!(
        "peak memory of the throughput rounds, both variants together: caller {:.0} MiB, responder {:.0} MiB",
        mib(report.caller_peak_bytes),
        mib(report.responder_peak_bytes)
    );
}
