//! Paths that are hot, alone, to count their instructions: `cargo xtask bench --check`.

use anyhow::{Context as _, Result, bail, ensure};
use clap::{Args, ValueEnum};
use natstream::proto::{
    Frame, Inbound, InboundConfig, Instant, Message, Offer, Open, Outbound, OutboundConfig, PushError,
};
use natstream::sinks::{RollingWriter, Sync};

use crate::bus::publisher;

/// Run one hot path so many times.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Options {
    path: Path,
    times: u64,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Path {
    /// A unit of 62 items of 128 B as a message.
    Encode,
    /// The same, from a message.
    Decode,
    /// An item of 128 B through both machines of a stream, grants and confirmations included.
    Step,
    /// An event of 128 B through the window of a bus, async-nats and what acks it included.
    Publish,
    /// A line of 128 B into a rolling file, the writer's thread included.
    Append,
}

const ITEM: [u8; 128] = [b'.'; 128];

pub(crate) fn run(options: Options) -> Result<()> {
    let Options { path, times } = options;
    match path {
        Path::Encode => {
            let frame = Frame::decode(&unit()?)?;
            let bytes: usize = (0..times).map(|_| std::hint::black_box(&frame).encode().len()).sum();
            ensure!(bytes as u64 >= times, "{bytes}");
        }
        Path::Decode => {
            let unit = unit()?;
            for _ in 0..times {
                std::hint::black_box(Frame::decode(std::hint::black_box(&unit))?);
            }
        }
        Path::Step => step(times)?,
        Path::Publish => publisher::alone(times, ITEM.len())?,
        Path::Append => append(times)?,
    }
    Ok(())
}

/// The two machines of a stream.
fn machines(now: Instant) -> Result<(Inbound, Outbound)> {
    let inbound = Inbound::new(InboundConfig::default(), now);
    let Ok(Offer::Supported(open)) = Open::parse(&inbound.open().encode()) else {
        bail!("our own version");
    };
    let outbound = Outbound::new(7, &open, &OutboundConfig::default(), now);
    Ok((inbound, outbound))
}

fn unit() -> Result<bytes::Bytes> {
    let now = Instant::ORIGIN;
    let (_, mut outbound) = machines(now)?;
    for _ in 0..62 {
        outbound.push(&ITEM)?;
    }
    outbound.flush();
    let unit = outbound.poll_transmit(now).context("a unit")?;
    Ok(unit.payload)
}

/// So many items from one machine to the other, without a link between them.
fn step(times: u64) -> Result<()> {
    let mut now = Instant::ORIGIN;
    let (mut inbound, mut outbound) = machines(now)?;
    let answer = outbound.answer().encode();
    let (mut pushed, mut read) = (0, 0);
    while read < times {
        now = now + std::time::Duration::from_micros(10);
        while pushed < times {
            match outbound.push(&ITEM) {
                Ok(()) => pushed += 1,
                Err(PushError::Blocked) => {
                    outbound.wait_for_credit(now);
                    break;
                }
                Err(error) => return Err(error.into()),
            }
        }
        outbound.flush();
        let before = read;
        while let Some(transmit) = outbound.poll_transmit(now) {
            let message = Message {
                header: transmit.header.then_some(answer.as_str()),
                has_headers: transmit.header,
                has_control: transmit.control,
                payload: transmit.payload,
                ..Message::default()
            };
            inbound.handle(now, &message);
        }
        while let Some(items) = inbound.poll_items(now) {
            read += items.count() as u64;
        }
        while let Some(transmit) = inbound.poll_transmit(now) {
            let message = Message {
                has_control: transmit.control,
                payload: transmit.payload,
                ..Message::default()
            };
            outbound.handle(now, &message)?;
        }
        while outbound.poll_event().is_some() || inbound.poll_event().is_some() {}
        ensure!(read > before, "it stands still at {read}");
    }
    Ok(())
}

fn append(times: u64) -> Result<()> {
    let dir = std::env::temp_dir().join(format!("natstream-hot-{}", std::process::id()));
    let writer = RollingWriter::builder(&dir, "hot").sync(Sync::None).open()?;
    let written = (0..times).try_for_each(|_| writer.append_blocking(&ITEM[1..]).map(drop));
    let closed = writer.close_blocking();
    std::fs::remove_dir_all(&dir)?;
    written?;
    closed?;
    Ok(())
}
