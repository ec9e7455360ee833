//! Values and objects beside those of async-nats: both on the same nats-server, in turns, each on a connection of its own.

use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use async_nats::jetstream;
use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use natstream::eventbus::kv::KvSpec;
use natstream::eventbus::object::ObjectSpec;
use natstream::{ConnectConfig, Connection, Kv, Objects};
use testkit::NatsServer;
use tokio::io::AsyncReadExt as _;

use crate::report::Spread;

/// Values that are put or read at once, where that is measured.
const AT_ONCE: usize = 64;

#[derive(Debug)]
pub(crate) struct Options {
    values: u64,
    size: usize,
    mebibytes: usize,
    rounds: usize,
    json: bool,
}

impl Options {
    pub(crate) fn parse<'a>(mut words: impl Iterator<Item = &'a str>) -> Result<Self> {
        let mut options = Self {
            values: 20_000,
            size: 128,
            mebibytes: 256,
            rounds: 5,
            json: false,
        };
        while let Some(word) = words.next() {
            let mut number = || {
                words
                    .next()
                    .context("a number is missing")?
                    .parse()
                    .context("no number")
            };
            match word {
                "--values" => options.values = number()?,
                "--size" => options.size = usize::try_from(number()?)?,
                "--mib" => options.mebibytes = usize::try_from(number()?)?,
                "--rounds" => options.rounds = usize::try_from(number()?)?,
                "--json" => options.json = true,
                other => bail!("unknown option `{other}`"),
            }
        }
        ensure!(options.values > 0 && options.rounds > 0, "nothing to measure");
        Ok(options)
    }
}

/// One measurement: its name, what its figures count, and those of each round, ours and theirs.
struct Row {
    name: &'static str,
    ours: Vec<f64>,
    theirs: Vec<f64>,
}

pub(crate) async fn kv(options: Options) -> Result<()> {
    let (_nats, connection, context) = start().await?;
    let ours = Kv::create(connection, &KvSpec::new("ours")).await?;
    let config = jetstream::kv::Config {
        bucket: "theirs".to_owned(),
        ..Default::default()
    };
    let theirs = context.create_key_value(config).await?;
    let value = Bytes::from(vec![b'x'; options.size]);
    let keys = || stream::iter((0..options.values).map(|n| format!("k.{}", n % 1000)));
    let mut rows = rows([
        "put, one by one",
        "put, 64 at once",
        "get, one by one",
        "get, 64 at once",
        "put without ids",
    ]);
    // async-nats has no ids at all.
    let without_ids = ours.clone().without_ids().await?;
    for round in 0..options.rounds {
        for (row, at_once) in [(0, 1), (1, AT_ONCE), (2, 1), (3, AT_ONCE), (4, AT_ONCE)] {
            let is_put = row != 2 && row != 3;
            let ours = if row == 4 { &without_ids } else { &ours };
            // One by one takes long.
            let values = if at_once == 1 {
                options.values.div_ceil(10)
            } else {
                options.values
            };
            let (key_count, value) = (usize::try_from(values)?, &value);
            // Whoever comes second finds everything warm: in turns.
            for is_ours in [round % 2 == 0, round % 2 != 0] {
                let began = Instant::now();
                let keys = keys().take(key_count);
                if is_ours {
                    let work = keys.map(|key| async move {
                        match is_put {
                            true => ours.put(&key, value).await.map(drop),
                            false => ours.get(&key).await.map(drop),
                        }
                    });
                    work.buffer_unordered(at_once).try_collect::<()>().await?;
                } else {
                    let theirs = &theirs;
                    let work = keys.map(|key| async move {
                        match is_put {
                            true => theirs
                                .put(key, value.clone())
                                .await
                                .map(drop)
                                .map_err(anyhow::Error::from),
                            false => theirs.get(key).await.map(drop).map_err(anyhow::Error::from),
                        }
                    });
                    work.buffer_unordered(at_once).try_collect::<()>().await?;
                }
                let rate = values as f64 / began.elapsed().as_secs_f64();
                let row = &mut rows[row];
                match is_ours {
                    true => row.ours.push(rate),
                    false => row.theirs.push(rate),
                }
            }
        }
    }
    print("values a second", &rows, options.json);
    Ok(())
}

pub(crate) async fn object(options: Options) -> Result<()> {
    let (_nats, connection, context) = start().await?;
    let ours = Objects::create(connection, &ObjectSpec::new("ours")).await?;
    let config = jetstream::object_store::Config {
        bucket: "theirs".to_owned(),
        ..Default::default()
    };
    let theirs = context.create_object_store(config).await?;
    let content = Bytes::from(vec![b'x'; options.mebibytes << 20]);
    let mut rows = rows(["put", "get"]);
    let mut buffer = vec![0; 256 << 10];
    let rate = |began: Instant| options.mebibytes as f64 / began.elapsed().as_secs_f64();
    for _ in 0..options.rounds {
        let began = Instant::now();
        ours.put("a").read(&content[..]).await?;
        rows[0].ours.push(rate(began));
        let began = Instant::now();
        theirs.put("a", &mut &content[..]).await?;
        rows[0].theirs.push(rate(began));
        let began = Instant::now();
        let mut reader = ours.get("a").await?;
        while reader.read(&mut buffer).await? > 0 {}
        rows[1].ours.push(rate(began));
        let began = Instant::now();
        let mut reader = theirs.get("a").await?;
        while reader.read(&mut buffer).await? > 0 {}
        rows[1].theirs.push(rate(began));
    }
    print("MiB a second", &rows, options.json);
    Ok(())
}

async fn start() -> Result<(NatsServer, Connection, jetstream::Context)> {
    let nats = NatsServer::builder().jetstream(true).start().await;
    let connection = Connection::connect(ConnectConfig::new(nats.url())).await?;
    let client = async_nats::connect(nats.url()).await?;
    Ok((nats, connection, jetstream::new(client)))
}

fn rows<const N: usize>(names: [&'static str; N]) -> [Row; N] {
    names.map(|name| Row {
        name,
        ours: Vec::new(),
        theirs: Vec::new(),
    })
}

fn print(what: &str, rows: &[Row], is_json: bool) {
    if !is_json {
        println!("{what:18}  {:>24}  {:>24}", "natstream", "async-nats");
    }
    for row in rows {
        let spread = |figures: &[f64]| Spread::of(figures.iter().copied());
        let (ours, theirs) = (spread(&row.ours), spread(&row.theirs));
        if is_json {
            let row = serde_json::json!({
                "what": row.name, "unit": what,
                "ours": { "median": ours.median, "min": ours.min, "max": ours.max },
                "theirs": { "median": theirs.median, "min": theirs.min, "max": theirs.max },
            });
            println!("{row}");
        } else {
            println!(
                "{:18}  {:>24}  {:>24}",
                row.name,
                ours.scaled(1.0, 0),
                theirs.scaled(1.0, 0)
            );
        }
    }
}
