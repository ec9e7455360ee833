//! Speed and memory of natstream beside its peers: `cargo run --release -p bench --features peers -- --help`.
//!
//! Variants take turns, each round in the same processes and on the same connections, and another one begins in each round.
//! The tables show the median, the smallest and the largest round, and the processor time of each process.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program that prints tables, and how far it is"
)]

mod all;
mod allocator;
mod buckets;
mod bus;
mod consume;
mod far;
mod hot;
mod html;
mod idle;
mod latency;
mod machine;
mod options;
mod pair;
mod peers;
mod plot;
mod process;
mod report;
mod role;
mod rounds;
mod scale;
mod sink;
mod slow;
mod stream;
mod streams;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Measure natstream beside its peers. Everything runs on 127.0.0.1, with nats-server processes of its own.
#[derive(Debug, Parser)]
#[command(name = "bench", disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Print the report as one line of JSON.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    All(all::Options),
    Stream(stream::Options),
    Latency(latency::Options),
    Streams(streams::Options),
    Slow(slow::Options),
    Idle(idle::Options),
    Scale(scale::Options),
    Far(far::Options),
    Bus(bus::Options),
    Consume(consume::Options),
    Kv(buckets::KvOptions),
    Object(buckets::ObjectOptions),
    Sink(sink::Options),
    // For `cargo xtask bench --check`.
    #[command(hide = true)]
    Hot(hot::Options),
    // The other processes of a run.
    #[command(hide = true)]
    Caller(peers::caller::Options),
    #[command(hide = true)]
    Responder(peers::responder::Options),
    #[command(hide = true)]
    Publisher {
        url: String,
    },
    #[command(hide = true)]
    Consumer {
        url: String,
    },
}

fn main() -> Result<()> {
    let cli = Cli::parse();
    if let Command::Hot(options) = cli.command {
        // Without a runtime, whose threads would be counted too.
        return hot::run(options);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(run(cli));
    // A role that fails has standard input open still, whose reader would be waited for.
    runtime.shutdown_background();
    result
}

async fn run(cli: Cli) -> Result<()> {
    let report = match cli.command {
        Command::All(options) => return all::run(&options, cli.json).await,
        Command::Stream(options) => stream::run(&options).await?,
        Command::Latency(options) => latency::run(&options).await?,
        Command::Streams(options) => streams::run(&options).await?,
        Command::Slow(options) => slow::run(&options).await?,
        Command::Idle(options) => idle::run(&options).await?,
        Command::Scale(options) => scale::run(&options).await?,
        Command::Far(options) => far::run(&options).await?,
        Command::Bus(options) => bus::run(&options).await?,
        Command::Consume(options) => consume::run(&options).await?,
        Command::Kv(options) => buckets::kv(&options).await?,
        Command::Object(options) => buckets::object(&options).await?,
        Command::Sink(options) => sink::run(&options).await?,
        Command::Hot(options) => return hot::run(options),
        Command::Caller(options) => return peers::caller::run(options).await,
        Command::Responder(options) => return peers::responder::run(options).await,
        Command::Publisher { url } => return bus::publisher::run(&url).await,
        Command::Consumer { url } => return consume::consumer::run(&url).await,
    };
    if cli.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        println!("{}", report.text());
    }
    Ok(())
}
