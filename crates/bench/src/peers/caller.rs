//! The process that asks.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::Args;
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use serde_json::{Value, to_value};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::async_nats::{Naive, OneReply};
use super::natstream::Natstream;
use super::raw::Raw;
use super::{Caller, Items as _, Order, Peer};
use crate::role::{Done, serve};

/// A caller of one peer.
#[derive(Args, Debug)]
pub(crate) struct Options {
    url: String,
    peer: Peer,
    /// On which NATS carries it.
    subject: String,
    connections: usize,
    /// 0: that of the library.
    window: usize,
    /// Whether async-nats has its default capacity, with which it may lose items.
    #[arg(long)]
    default_capacity: bool,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Task {
    /// Calls at once, each read as fast as it comes. Answer: [`Done`].
    Streams { streams: usize, items: u64, size: usize },
    /// Calls one after the other in each of so many tasks, `calls` in all. Answer: [`Calls`].
    Calls {
        callers: usize,
        calls: u64,
        items: u64,
        size: usize,
    },
    /// Readers that pause beside such that do not. Answer: [`Beside`].
    Beside {
        fast: usize,
        fast_items: u64,
        slow: usize,
        slow_items: u64,
        size: usize,
    },
    /// Opens streams that stay idle after their first item, beside those that are open. Answer: how many are open.
    Open { streams: usize },
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Calls {
    pub(crate) done: Done,
    /// Nanoseconds until the first item, and how often.
    pub(crate) first: Vec<(u64, u64)>,
    /// Nanoseconds until the end, and how often.
    pub(crate) whole: Vec<(u64, u64)>,
}

/// Slow readers and fast ones.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Beside {
    pub(crate) fast: Done,
    pub(crate) slow: Done,
}

/// A slow reader sleeps so long after so many items: it takes 100,000 a second at most, and no processor.
const PAUSE: Duration = Duration::from_millis(1);
const PAUSE_AFTER: u64 = 100;

/// A slow reader that has had nothing for so long has lost the end of its stream.
const LOST: Duration = Duration::from_secs(5);

/// Does what its standard input says, one thing after the other.
pub(crate) async fn run(options: Options) -> Result<()> {
    let (url, subject) = (&options.url, &options.subject);
    match options.peer {
        Peer::Natstream => {
            let window = (options.window > 0).then_some(options.window);
            work(
                url,
                Natstream::connect(url, subject, options.connections, window).await?,
            )
            .await
        }
        Peer::AsyncNats => work(url, Naive::connect(url, subject, options.default_capacity).await?).await,
        Peer::Request => work(url, OneReply::connect(url, subject).await?).await,
        #[cfg(feature = "peers")]
        Peer::Tonic => work(url, super::tonic::Tonic::connect(url, false).await?).await,
        #[cfg(feature = "peers")]
        Peer::TonicChannel => work(url, super::tonic::Tonic::connect(url, true).await?).await,
        Peer::Raw => work(url, Raw::new(url, subject)?).await,
    }
}

async fn work<C: Caller>(url: &str, caller: C) -> Result<()> {
    let open: Arc<Mutex<Vec<C::Items>>> = Arc::default();
    serve(url, |task| {
        let (caller, open) = (caller.clone(), open.clone());
        async move {
            Ok(match task {
                Task::Streams { streams, items, size } => to_value(drain(caller, streams, order(items, size)).await?)?,
                Task::Calls {
                    callers,
                    calls,
                    items,
                    size,
                } => to_value(time(caller, callers, calls, order(items, size)).await?)?,
                Task::Beside {
                    fast,
                    fast_items,
                    slow,
                    slow_items,
                    size,
                } => beside(caller, (fast, order(fast_items, size)), (slow, order(slow_items, size))).await?,
                Task::Open { streams } => {
                    let mut opened = Vec::with_capacity(streams);
                    for _ in 0..streams {
                        opened.push(idle(&caller).await?);
                    }
                    let mut open = open.lock().unwrap_or_else(PoisonError::into_inner);
                    open.extend(opened);
                    to_value(open.len())?
                }
            })
        }
    })
    .await
}

fn order(items: u64, size: usize) -> Order {
    Order {
        items,
        size,
        stays: false,
    }
}

/// So many calls at once.
async fn drain<C: Caller>(caller: C, streams: usize, order: Order) -> Result<Done> {
    let began = Instant::now();
    let mut items = 0;
    if streams == 1 {
        items = caller.drain(order).await?;
    } else {
        let mut calls = JoinSet::new();
        for _ in 0..streams {
            let caller = caller.clone();
            calls.spawn(async move { caller.drain(order).await });
        }
        while let Some(received) = calls.join_next().await {
            items += received??;
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    let all = order.items * streams as u64;
    ensure!(items == all, "{items} of {all} items arrived");
    Ok(Done { items, seconds })
}

/// Three digits are more than anybody reads.
type Times = Histogram<u64>;

async fn time<C: Caller>(caller: C, callers: usize, calls: u64, order: Order) -> Result<Calls> {
    let each = calls.div_ceil(callers as u64);
    // One for all: a histogram is much larger than a stream, and the memory of streams is measured.
    let times = Arc::new(Mutex::new((Times::new(3)?, Times::new(3)?)));
    let began = Instant::now();
    let mut tasks = JoinSet::new();
    for _ in 0..callers {
        let (caller, times) = (caller.clone(), times.clone());
        tasks.spawn(async move {
            for _ in 0..each {
                let asked = Instant::now();
                let mut items = caller.call(order).await?;
                let (mut count, mut first) = (0, 0);
                while let Some(item) = items.next().await? {
                    ensure!(item.len() == order.size, "an item of {} bytes", item.len());
                    if count == 0 {
                        first = nanos(asked);
                    }
                    count += 1;
                }
                ensure!(count == order.items, "{count} of {} items arrived", order.items);
                let whole = nanos(asked);
                let mut times = times.lock().unwrap_or_else(PoisonError::into_inner);
                times.0.record(first)?;
                times.1.record(whole)?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    let seconds = began.elapsed().as_secs_f64();
    let times = times.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(Calls {
        done: Done {
            items: each * callers as u64,
            seconds,
        },
        first: recorded(&times.0),
        whole: recorded(&times.1),
    })
}

fn nanos(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

fn recorded(times: &Times) -> Vec<(u64, u64)> {
    let values = times.iter_recorded();
    values
        .map(|value| (value.value_iterated_to(), value.count_at_value()))
        .collect()
}

/// Fast readers, and slow ones at the same time.
async fn beside<C: Caller>(caller: C, fast: (usize, Order), slow: (usize, Order)) -> Result<Value> {
    let began = Instant::now();
    let mut tasks = JoinSet::new();
    for (readers, order, is_slow) in [(slow.0, slow.1, true), (fast.0, fast.1, false)] {
        for _ in 0..readers {
            let caller = caller.clone();
            tasks.spawn(async move {
                let (items, last) = read(&caller, order, is_slow).await?;
                anyhow::Ok((is_slow, items, last - began))
            });
        }
    }
    let mut sums: HashMap<bool, Done> = HashMap::new();
    while let Some(read) = tasks.join_next().await {
        let (is_slow, items, elapsed) = read??;
        let sum = sums.entry(is_slow).or_insert(Done { items: 0, seconds: 0.0 });
        sum.items += items;
        sum.seconds = sum.seconds.max(elapsed.as_secs_f64());
    }
    let none = Done { items: 0, seconds: 1.0 };
    Ok(to_value(Beside {
        fast: sums.get(&false).copied().unwrap_or(none),
        slow: sums.get(&true).copied().unwrap_or(none),
    })?)
}

/// All that comes, and when the last of it came. There may be fewer items than were sent.
async fn read<C: Caller>(caller: &C, order: Order, is_slow: bool) -> Result<(u64, Instant)> {
    let mut items = caller.call(order).await?;
    let (mut count, mut last) = (0, Instant::now());
    // A timer for each item would cost more than the item.
    let mut waiting = pin!(sleep(LOST));
    loop {
        let item = tokio::select! {
            biased;
            item = items.next() => item?,
            () = &mut waiting => return Ok((count, last)),
        };
        if item.is_none() {
            return Ok((count, Instant::now()));
        }
        count += 1;
        if count % PAUSE_AFTER == 0 {
            if is_slow {
                sleep(PAUSE).await;
            }
            last = Instant::now();
            waiting.as_mut().reset((last + LOST).into());
        }
    }
}

async fn idle<C: Caller>(caller: &C) -> Result<C::Items> {
    let order = Order {
        items: 1,
        size: 4,
        stays: true,
    };
    let mut items = caller.call(order).await?;
    ensure!(items.next().await?.is_some(), "an idle stream ended");
    Ok(items)
}
