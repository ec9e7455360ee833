//! Speed and memory of natstream beside its peers, in one run: `cargo run --release -p bench -- stream`, or `-- far`, `-- bus`, `-- consume`, or with
//! peers that are not always built `cargo run --release -p bench --features peers -- sink`.
//!
//! Variants take turns (A B A B …), each round in the same processes and on the same connections; the tables show the
//! median, the smallest and the largest round, and the processor time of each process.
#![expect(clippy::print_stdout, reason = "a program that prints tables")]

mod allocator;
mod buckets;
mod bus;
mod caller;
mod consume;
mod far;
mod process;
mod report;
mod responder;
mod sink;
mod stream;
mod task;

use anyhow::{Context as _, Result, bail};

const HELP: &str = "\
usage: bench stream [--items N] [--size BYTES] [--rounds N] [--calls N] [--idle N] [--json]
       bench far [--round-trips MS,MS,..] [--mbytes-per-second N] [--mbytes N] [--size BYTES] [--rounds N] [--json]
       bench bus [--events N] [--size BYTES] [--rounds N] [--windows N,N,..] [--one-by-one N] [--storage memory|file]
                 [--quick] [--json]
       bench consume [--messages N] [--size BYTES] [--rounds N] [--batches N,N,..] [--concurrency N]
                 [--storage memory|file] [--json]
       bench kv [--values N] [--size BYTES] [--rounds N] [--json]
       bench object [--mib N] [--rounds N] [--json]
       bench sink [--lines N] [--commit-lines N] [--size BYTES] [--producers N] [--rounds N] [--dir DIR] [--json]

  stream   a native stream beside plain async-nats: throughput (one message an item), allocations,
           first item of a call beside request(), memory of idle streams
  far      a native stream over a link with a rate, for each round trip
  bus      publishing to JetStream beside async-nats: with and without ids, in memory and on file, pipelined
           and one by one; windows up to 1,000,000 against an acknowledger in the same process
  consume  consuming from JetStream beside async-nats: for_each beside messages(), fetch beside fetch(), with the same
           batches; ours confirms acks, so theirs stands there with ack() and with double_ack()
  kv       values put and read beside async-nats's buckets, one by one and 64 at once
  object   objects put and read beside async-nats's buckets
  sink     lines to hourly files beside plain writes and, with the feature `peers`, tracing-appender;
           a round writes --lines (8,000,000) lines of --size (128) bytes below --dir, with commits
           --commit-lines (12,000,000), and removes them";

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let mut words = args.iter().map(String::as_str);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    match words.next() {
        Some("stream") => runtime.block_on(stream::run(stream::Options::parse(words)?)),
        Some("far") => runtime.block_on(far::run(far::Options::parse(words)?)),
        Some("sink") => sink::run(&sink::Options::parse(words)?),
        Some("kv") => runtime.block_on(buckets::kv(buckets::Options::parse(words)?)),
        Some("object") => runtime.block_on(buckets::object(buckets::Options::parse(words)?)),
        Some("bus") => runtime.block_on(bus::run(bus::Options::parse(words)?)),
        Some("consume") => runtime.block_on(consume::run(consume::Options::parse(words)?)),
        Some("--help" | "-h") => {
            println!("{HELP}");
            Ok(())
        }
        // The other processes of a run.
        Some("responder") => runtime.block_on(responder::run(words.next().context("a URL")?)),
        Some("publisher") => runtime.block_on(bus::publisher::run(words.next().context("a URL")?)),
        Some("consumer") => runtime.block_on(consume::consumer::run(words.next().context("a URL")?)),
        Some("caller") => runtime.block_on(caller::run(words.next().context("a URL")?)),
        Some(other) => bail!("unknown command `{other}`\n{HELP}"),
        None => bail!("{HELP}"),
    }
}
