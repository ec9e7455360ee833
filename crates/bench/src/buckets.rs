//! Values and objects beside those of async-nats: both on the same nats-server, in turns, each on a connection of its own.

use std::time::Instant;

use anyhow::Result;
use async_nats::jetstream;
use async_nats::jetstream::kv::Store;
use bytes::Bytes;
use clap::Args;
use futures_util::stream::{self, Stream, StreamExt as _, TryStreamExt as _};
use natstream::eventbus::kv::KvSpec;
use natstream::eventbus::object::ObjectSpec;
use natstream::{ConnectConfig, Connection, Kv, Objects};
use serde::Serialize;
use testkit::NatsServer;
use tokio::io::AsyncReadExt as _;

use crate::machine::Origin;
use crate::options::positive;
use crate::report::{Cell, Report, Spread, Table};
use crate::rounds::rounds;

/// Values that are put or read at once, where that is measured.
const AT_ONCE: usize = 64;

/// Values put and read beside async-nats's buckets, one by one and 64 at once.
#[derive(Args, Debug, Serialize)]
pub(crate) struct KvOptions {
    /// Values of a round; one by one a tenth of them.
    #[arg(long, default_value_t = 20_000, value_parser = positive::<u64>)]
    values: u64,
    /// Bytes of a value.
    #[arg(long, default_value_t = 128)]
    size: usize,
    /// Rounds that count.
    #[arg(long, default_value_t = 5, value_parser = positive::<usize>)]
    rounds: usize,
}

/// Objects put and read beside async-nats's buckets.
#[derive(Args, Debug, Serialize)]
pub(crate) struct ObjectOptions {
    /// MiB of an object.
    #[arg(long, default_value_t = 256, value_parser = positive::<usize>)]
    mib: usize,
    /// Rounds that count.
    #[arg(long, default_value_t = 5, value_parser = positive::<usize>)]
    rounds: usize,
}

const KV: [(&str, bool, usize); 5] = [
    ("put, one by one", true, 1),
    ("put, 64 at once", true, AT_ONCE),
    ("get, one by one", false, 1),
    ("get, 64 at once", false, AT_ONCE),
    ("put without ids", true, AT_ONCE),
];

pub(crate) async fn kv(options: &KvOptions) -> Result<Report> {
    let (nats, connection, context) = start().await?;
    let about = "Values of a bucket of one revision beside async-nats's, which has no ids at all.";
    let mut report = Report::new("kv", about, options, Origin::now(Some(&nats.url())).await?);
    let ours = Kv::create(connection, &KvSpec::new("ours")).await?;
    let config = jetstream::kv::Config {
        bucket: "theirs".to_owned(),
        ..Default::default()
    };
    let theirs = context.create_key_value(config).await?;
    let without_ids = ours.clone().without_ids().await?;
    let value = Bytes::from(vec![b'x'; options.size]);
    // Ours and theirs of one row stand side by side.
    let measured = rounds(options.rounds, 2 * KV.len(), async |case| {
        let (name, is_put, at_once) = KV[case / 2];
        // One by one takes long.
        let values = if at_once == 1 {
            options.values.div_ceil(10)
        } else {
            options.values
        };
        let ours = if name == "put without ids" { &without_ids } else { &ours };
        match case % 2 {
            0 => tokio::spawn(us(ours.clone(), value.clone(), is_put, values, at_once)).await?,
            _ => tokio::spawn(them(theirs.clone(), value.clone(), is_put, values, at_once)).await?,
        }
    })
    .await?;
    report.tables = vec![table("values/s", KV.map(|(name, ..)| name), &measured)];
    Ok(report)
}

/// Values a second. In a task, as in a service: the main thread is not one of the runtime's workers.
async fn us(bucket: Kv<Bytes>, value: Bytes, is_put: bool, values: u64, at_once: usize) -> Result<f64> {
    let began = Instant::now();
    let work = keys(values).map(|key| {
        let (bucket, value) = (&bucket, &value);
        async move {
            match is_put {
                true => bucket.put(&key, value).await.map(drop),
                false => bucket.get(&key).await.map(drop),
            }
        }
    });
    work.buffer_unordered(at_once).try_collect::<()>().await?;
    Ok(values as f64 / began.elapsed().as_secs_f64())
}

/// The same of async-nats.
async fn them(bucket: Store, value: Bytes, is_put: bool, values: u64, at_once: usize) -> Result<f64> {
    let began = Instant::now();
    let work = keys(values).map(|key| {
        let (bucket, value) = (&bucket, value.clone());
        async move {
            match is_put {
                true => bucket.put(key, value).await.map(drop).map_err(anyhow::Error::from),
                false => bucket.get(key).await.map(drop).map_err(anyhow::Error::from),
            }
        }
    });
    work.buffer_unordered(at_once).try_collect::<()>().await?;
    Ok(values as f64 / began.elapsed().as_secs_f64())
}

fn keys(values: u64) -> impl Stream<Item = String> {
    stream::iter((0..values).map(|n| format!("k.{}", n % 1000)))
}

pub(crate) async fn object(options: &ObjectOptions) -> Result<Report> {
    let (nats, connection, context) = start().await?;
    let about = "One object, put and read again, beside async-nats's.";
    let mut report = Report::new("object", about, options, Origin::now(Some(&nats.url())).await?);
    let ours = Objects::create(connection, &ObjectSpec::new("ours")).await?;
    let config = jetstream::object_store::Config {
        bucket: "theirs".to_owned(),
        ..Default::default()
    };
    let theirs = context.create_object_store(config).await?;
    let content = Bytes::from(vec![b'x'; options.mib << 20]);
    // There is something to read before the first turn of a get.
    ours.put("a").read(&content[..]).await?;
    theirs.put("a", &mut &content[..]).await?;
    let mut buffer = vec![0; 256 << 10];
    let measured = rounds(options.rounds, 4, async |case| {
        let began = Instant::now();
        match case {
            0 => drop(ours.put("a").read(&content[..]).await?),
            1 => drop(theirs.put("a", &mut &content[..]).await?),
            2 => {
                let mut reader = ours.get("a").await?;
                while reader.read(&mut buffer).await? > 0 {}
            }
            _ => {
                let mut reader = theirs.get("a").await?;
                while reader.read(&mut buffer).await? > 0 {}
            }
        }
        Ok(options.mib as f64 / began.elapsed().as_secs_f64())
    })
    .await?;
    report.tables = vec![table("MiB/s", ["put", "get"], &measured)];
    Ok(report)
}

async fn start() -> Result<(NatsServer, Connection, jetstream::Context)> {
    let nats = NatsServer::builder().jetstream(true).start().await;
    let connection = Connection::connect(ConnectConfig::new(nats.url())).await?;
    let client = async_nats::connect(nats.url()).await?;
    Ok((nats, connection, jetstream::new(client)))
}

/// Ours and theirs of each name follow each other.
fn table<const N: usize>(unit: &str, names: [&str; N], measured: &[Vec<f64>]) -> Table {
    let (ours, theirs) = (format!("natstream {unit}"), format!("async-nats {unit}"));
    let mut table = Table::new(
        "Buckets",
        [("", 0), (ours.as_str(), 0), (theirs.as_str(), 0), ("ratio", 2)],
    );
    for (name, pair) in names.into_iter().zip(measured.chunks_exact(2)) {
        let [ours, theirs] = [&pair[0], &pair[1]].map(|rounds| Spread::of(rounds.iter().copied()));
        let ratio = Spread::ratio(&pair[0], &pair[1], |rate| *rate);
        table.row([Cell::from(name), ours.into(), theirs.into(), ratio.into()]);
    }
    table
}
