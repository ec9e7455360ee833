//! How cost grows.

use anyhow::Result;
use clap::{Args, ValueEnum};
use serde::Serialize;
use testkit::NatsServer;

use crate::machine::Origin;
use crate::options::positive;
use crate::pair::{Cost, Pair, Set};
use crate::peers::Peer;
use crate::report::{Cell, Plot, Report, Spread, Table};
use crate::rounds::rounds;

/// Cost against streams, connections, item size, members of a queue group, and windows; natstream alone.
#[derive(Args, Debug, Serialize)]
pub(crate) struct Options {
    /// What grows [default: everything].
    #[arg(long, value_delimiter = ',')]
    of: Vec<Axis>,
    /// Items of a round, those of all streams together; fewer where they are large.
    #[arg(long, default_value_t = 2_000_000, value_parser = positive::<u64>)]
    items: u64,
    /// MiB of a round at most.
    #[arg(long, default_value_t = 512, value_parser = positive::<u64>)]
    mib: u64,
    /// Rounds that count.
    #[arg(long, default_value_t = 3, value_parser = positive::<usize>)]
    rounds: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
enum Axis {
    Streams,
    Connections,
    Size,
    Members,
    Window,
}

/// Above what a row may cost, times the row before, it is flagged: rounds differ by a tenth.
const TOLERANCE: f64 = 1.25;

/// Items of 128 B, where their size does not grow.
const SIZE: usize = 128;

/// Streams, where there are several connections or members.
const STREAMS: usize = 64;

/// Calls of a round where the streams grow: as many as there are streams at most, so that each has as many items in every
/// row.
const CALLS: u64 = 10_000;

/// One row of a table.
#[derive(Clone, Copy, Debug)]
struct Point {
    /// What grows.
    at: usize,
    streams: usize,
    size: usize,
    set: Set,
}

impl Axis {
    fn name(self) -> &'static str {
        match self {
            Self::Streams => "streams at once, 10,000 calls in all",
            Self::Connections => "connections of the caller, 64 streams",
            Self::Size => "bytes of an item",
            Self::Members => "members of the queue group, 64 streams",
            Self::Window => "bytes of the window",
        }
    }

    fn steps(self) -> Vec<usize> {
        match self {
            Self::Streams => vec![1, 10, 100, 1000, 10_000],
            Self::Connections | Self::Members => vec![1, 2, 4, 8, 16, 32, 64],
            Self::Size => vec![0, 16, 128, 1 << 10, 8 << 10, 64 << 10, 512 << 10, 1 << 20, 8 << 20],
            Self::Window => vec![64 << 10, 256 << 10, 512 << 10, 1 << 20, 2 << 20, 4 << 20, 8 << 20],
        }
    }

    fn point(self, at: usize) -> Point {
        let mut point = Point {
            at,
            streams: 1,
            size: SIZE,
            set: Set::default(),
        };
        match self {
            Self::Streams => point.streams = at,
            Self::Connections => (point.streams, point.set.connections) = (STREAMS, at),
            Self::Size => point.size = at,
            Self::Members => (point.streams, point.set.members) = (STREAMS, at),
            Self::Window => point.set.window = Some(at),
        }
        point
    }

    /// What an item may cost, times the row before, and be no worse than linear: as many times as it is larger. More streams,
    /// connections or members carry the same items, which must not cost more for it. A window is a setting, not a load.
    fn allowed(self, before: usize, now: usize) -> Option<f64> {
        match self {
            Self::Size => Some(now as f64 / before.max(1) as f64),
            Self::Streams | Self::Connections | Self::Members => Some(1.0),
            Self::Window => None,
        }
    }
}

pub(crate) async fn run(options: &Options) -> Result<Report> {
    let nats = NatsServer::start().await;
    let about = "natstream alone: what an item costs when there is more of something, relative to the row before.";
    let mut report = Report::new("scale", about, options, Origin::now(Some(&nats.url())).await?);
    report.peers = Peer::settings(&[Peer::Natstream]);
    for axis in Axis::value_variants() {
        if options.of.is_empty() || options.of.contains(axis) {
            let points: Vec<Point> = axis.steps().into_iter().map(|at| axis.point(at)).collect();
            let measured = measure(&nats, options, *axis, &points).await?;
            let (table, plot) = grown(*axis, &points, &measured);
            report.tables.push(table);
            report.plots.push(plot);
        }
    }
    Ok(report)
}

async fn measure(nats: &NatsServer, options: &Options, axis: Axis, points: &[Point]) -> Result<Vec<Vec<Cost>>> {
    let mut pairs = Vec::with_capacity(points.len());
    for point in points {
        pairs.push(Pair::start(nats, Peer::Natstream, point.set).await?);
    }
    rounds(options.rounds, points.len(), async |index| {
        let Point { streams, size, .. } = points[index];
        if axis == Axis::Streams {
            let items = options.items.div_ceil(CALLS);
            return pairs[index].calls(streams, CALLS, items, size).await;
        }
        let most = (options.mib << 20) / size.max(1) as u64;
        let items = options.items.min(most).div_ceil(streams as u64);
        pairs[index].streams(streams, items, size).await
    })
    .await
}

fn grown(axis: Axis, points: &[Point], measured: &[Vec<Cost>]) -> (Table, Plot) {
    let mut table = Table::new(
        format!("Against {}", axis.name()),
        [
            (axis.name(), 0),
            ("k items/s", 1),
            ("MB/s", 0),
            ("ns/item", 0),
            ("times the row before", 2),
            ("CPU ns/item, all", 0),
            ("times the row before", 2),
            ("caller peak MiB", 1),
            ("responder peak MiB", 1),
            ("growth", 0),
        ],
    )
    .note(
        "CPU is that of caller, responder and nats-server, read in steps of 10 ms. Worse than linear: time or CPU an item is \
         more than 1.25 times that of the row before, or for larger items more than 1.25 times as many times as they are larger.",
    );
    let (x, y) = (axis.name(), if axis == Axis::Size { "MB/s" } else { "M items/s" });
    let mut plot = Plot::new(format!("Throughput against {}", axis.name()), x, y);
    let mut line = Vec::new();
    let mut before: Option<(usize, f64, f64)> = None;
    for (point, rounds) in points.iter().zip(measured) {
        let time = Spread::by(rounds, 1.0, |cost| 1e9 / cost.rate);
        let cpu = Spread::by(rounds, 1.0, Cost::cpu_of_all);
        let rate = Spread::by(rounds, 1e-3, |cost| cost.rate);
        let bytes = rate.median * 1e3 * point.size as f64 / 1e6;
        let times = before.map(|(_, time_before, cpu_before)| (time.median / time_before, cpu.median / cpu_before));
        let growth = before.zip(times).and_then(|((at, ..), (time, cpu))| {
            let allowed = axis.allowed(at, point.at)? * TOLERANCE;
            // Where the row before took less than a step of the clock, there is nothing to compare with.
            let is_worse = time > allowed || (cpu.is_finite() && cpu > allowed);
            Some(if is_worse {
                "worse than linear"
            } else {
                "linear or better"
            })
        });
        let mib = 1.0 / f64::from(1 << 20);
        table.row([
            Cell::from(point.at),
            rate.into(),
            bytes.into(),
            time.into(),
            times.map(|(time, _)| time).into(),
            cpu.into(),
            times.map(|(_, cpu)| cpu).into(),
            Spread::by(rounds, mib, |cost| cost.peak[0]).into(),
            Spread::by(rounds, mib, |cost| cost.peak[1]).into(),
            growth.into(),
        ]);
        if point.at > 0 {
            line.push((
                point.at as f64,
                if axis == Axis::Size { bytes } else { rate.median / 1e3 },
            ));
        }
        before = Some((point.at, time.median, cpu.median));
    }
    plot.line(Peer::Natstream.to_string(), line);
    (table, plot)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cost(rate: f64) -> Vec<Cost> {
        vec![Cost {
            rate,
            cpu_ns: [1e9 / rate, 0.0, 0.0],
            allocations: [0.0; 2],
            peak: [0.0; 3],
            grown: [0.0; 3],
        }]
    }

    #[test]
    fn only_what_grows_faster_than_its_axis_is_flagged() {
        let flags = |axis: Axis, rows: [(usize, f64); 3]| {
            let points = rows.map(|(at, _)| axis.point(at));
            let (table, _) = grown(axis, &points, &rows.map(|(_, rate)| cost(rate)));
            table.rows.iter().map(|row| row[9].clone()).collect::<Vec<_>>()
        };
        let (fine, worse) = (Cell::from("linear or better"), Cell::from("worse than linear"));
        let none = Cell::None(());
        assert_eq!(
            flags(Axis::Streams, [(1, 100.0), (10, 95.0), (100, 50.0)]),
            [none.clone(), fine.clone(), worse.clone()]
        );
        assert_eq!(
            flags(Axis::Size, [(0, 100.0), (16, 90.0), (32, 40.0)]),
            [none.clone(), fine.clone(), fine.clone()]
        );
        assert_eq!(
            flags(Axis::Size, [(16, 90.0), (32, 20.0), (64, 20.0)]),
            [none, worse, fine]
        );
    }
}
