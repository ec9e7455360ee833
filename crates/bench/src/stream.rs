//! A native stream beside plain async-nats.

use anyhow::{Context as _, Result, bail};
use serde::Serialize;
use testkit::NatsServer;

use crate::load::{Outcome, Task, Variant};
use crate::process::{Role, cpu_seconds, peak_memory};
use crate::report::Spread;

/// What a run measures.
#[derive(Debug)]
pub(crate) struct Options {
    items: u64,
    size: usize,
    rounds: usize,
    json: bool,
}

impl Options {
    pub(crate) fn parse<'a>(mut words: impl Iterator<Item = &'a str>) -> Result<Self> {
        let mut options = Self {
            items: 4_000_000,
            size: 128,
            rounds: 7,
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
                other => bail!("unknown option `{other}`"),
            }
        }
        if options.rounds == 0 || options.items == 0 || options.size == 0 {
            bail!("--items, --size and --rounds are at least 1");
        }
        Ok(options)
    }
}

/// The rounds of one variant.
#[derive(Debug, Serialize)]
struct Figures {
    variant: Variant,
    items_per_second: Spread,
    /// Processor time an item, in nanoseconds.
    caller_ns: Spread,
    responder_ns: Spread,
    server_ns: Spread,
}

#[derive(Debug)]
struct Round {
    rate: f64,
    /// Caller, responder, nats-server.
    ns: [f64; 3],
}

#[derive(Debug, Serialize)]
struct Report {
    items: u64,
    size: usize,
    rounds: usize,
    nats_server: String,
    figures: Vec<Figures>,
    /// Native to plain, round by round.
    ratio: Spread,
    caller_peak_bytes: u64,
    responder_peak_bytes: u64,
}

pub(crate) async fn run(options: Options) -> Result<()> {
    let nats = NatsServer::start().await;
    let responder = Role::start("responder", &nats.url()).await?;
    let mut caller = Role::start("caller", &nats.url()).await?;
    let pids = [caller.pid()?, responder.pid()?, nats.pid()];

    let variants = [Variant::Native, Variant::Plain];
    let mut rounds: [Vec<Round>; 2] = [Vec::new(), Vec::new()];
    // The first round warms up and does not count.
    for round in 0..=options.rounds {
        for (variant, rounds) in variants.into_iter().zip(&mut rounds) {
            let measured = measure(&mut caller, pids, variant, &options).await?;
            if round > 0 {
                rounds.push(measured);
            }
        }
    }

    let pairs = rounds[0].iter().zip(&rounds[1]);
    let report = Report {
        items: options.items,
        size: options.size,
        rounds: options.rounds,
        nats_server: async_nats::connect(nats.url()).await?.server_info().version,
        ratio: Spread::of(pairs.map(|(native, plain)| native.rate / plain.rate)),
        figures: variants
            .iter()
            .zip(&rounds)
            .map(|(variant, rounds)| figures(*variant, rounds))
            .collect(),
        caller_peak_bytes: peak_memory(pids[0])?,
        responder_peak_bytes: peak_memory(pids[1])?,
    };
    if options.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        print(&report);
    }
    Ok(())
}

async fn measure(caller: &mut Role, pids: [u32; 3], variant: Variant, options: &Options) -> Result<Round> {
    let task = Task {
        variant,
        items: options.items,
        size: options.size,
    };
    let mut before = [0.0; 3];
    for (seconds, pid) in before.iter_mut().zip(pids) {
        *seconds = cpu_seconds(pid)?;
    }
    let outcome: Outcome = serde_json::from_str(&caller.ask(&serde_json::to_string(&task)?).await?)?;
    let items = outcome.items as f64;
    let mut ns = [0.0; 3];
    for ((ns, before), pid) in ns.iter_mut().zip(before).zip(pids) {
        *ns = (cpu_seconds(pid)? - before) * 1e9 / items;
    }
    Ok(Round {
        rate: items / outcome.seconds,
        ns,
    })
}

fn figures(variant: Variant, rounds: &[Round]) -> Figures {
    let ns = |process: usize| Spread::of(rounds.iter().map(|round| round.ns[process]));
    Figures {
        variant,
        items_per_second: Spread::of(rounds.iter().map(|round| round.rate)),
        caller_ns: ns(0),
        responder_ns: ns(1),
        server_ns: ns(2),
    }
}

fn print(report: &Report) {
    println!(
        "{} items of {} B, {} rounds after a warm-up, nats-server {}, median (min–max)\n",
        report.items, report.size, report.rounds, report.nats_server
    );
    println!("| variant | M items/s | caller CPU ns/item | responder CPU ns/item | nats-server CPU ns/item |");
    println!("|---|---|---|---|---|");
    for figures in &report.figures {
        let name = match figures.variant {
            Variant::Native => "natstream, native",
            Variant::Plain => "async-nats, one message an item",
        };
        let rate = figures.items_per_second;
        let rate = format!("{:.2} ({:.2}–{:.2})", rate.median / 1e6, rate.min / 1e6, rate.max / 1e6);
        let ns = |spread: Spread| format!("{:.0} ({:.0}–{:.0})", spread.median, spread.min, spread.max);
        let [caller, responder, server] = [figures.caller_ns, figures.responder_ns, figures.server_ns].map(ns);
        println!("| {name} | {rate} | {caller} | {responder} | {server} |");
    }
    let ratio = report.ratio;
    println!(
        "\nnative to plain: {:.1}× ({:.1}–{:.1})",
        ratio.median, ratio.min, ratio.max
    );
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    println!(
        "peak memory, both variants together: caller {:.0} MiB, responder {:.0} MiB",
        mib(report.caller_peak_bytes),
        mib(report.responder_peak_bytes)
    );
}
