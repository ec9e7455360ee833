//! Who carries a stream, and what each makes of the same order.

pub(crate) mod async_nats;
pub(crate) mod caller;
pub(crate) mod natstream;
pub(crate) mod raw;
pub(crate) mod responder;
#[cfg(feature = "peers")]
pub(crate) mod tonic;

use std::fmt;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use clap::ValueEnum;
use serde::Serialize;

/// How a stream is carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Peer {
    /// Ours, the native dialect.
    Natstream,
    /// What a user of async-nats writes.
    AsyncNats,
    /// The same client with all items in one reply.
    Request,
    /// gRPC without a broker, the items always ready.
    #[cfg(feature = "peers")]
    Tonic,
    /// gRPC with a channel in front, as most users write it.
    #[cfg(feature = "peers")]
    TonicChannel,
    /// What nats-server and the kernel allow.
    Raw,
}

impl Peer {
    /// Those that stream items one by one to whoever reads them.
    pub(crate) const STREAMS: &[Self] = &[
        Self::Natstream,
        Self::AsyncNats,
        #[cfg(feature = "peers")]
        Self::Tonic,
    ];

    /// Those that answer calls.
    pub(crate) const CALLS: &[Self] = &[
        Self::Natstream,
        Self::AsyncNats,
        Self::Request,
        #[cfg(feature = "peers")]
        Self::Tonic,
    ];

    /// Those whose throughput is compared.
    pub(crate) const ALL: &[Self] = &[
        Self::Natstream,
        Self::AsyncNats,
        #[cfg(feature = "peers")]
        Self::Tonic,
        #[cfg(feature = "peers")]
        Self::TonicChannel,
        Self::Raw,
    ];

    /// How it is set: what is tuned for one must be tuned for all.
    pub(crate) fn setting(self) -> &'static str {
        match self {
            Self::Natstream => "natstream: defaults (frames of 8 KiB, windows up to 8 MiB); one connection each side",
            Self::AsyncNats => {
                "async-nats: one message an item, an empty one at the end, a subscription for each call; its capacity is \
                 16 Mi messages, because the default of 65,536 loses some; the rest as by default; one connection each side"
            }
            Self::Request => {
                "async-nats request(): all items of a call in one reply; defaults; one connection each side"
            }
            #[cfg(feature = "peers")]
            Self::Tonic => {
                "tonic: server streaming of a stream that is always ready; defaults; no broker, one connection; a codec of \
                 bytes, so nothing is spent on protobuf, and no router"
            }
            #[cfg(feature = "peers")]
            Self::TonicChannel => "tonic, channel: the same with a task that sends into an mpsc channel of 128 items",
            Self::Raw => {
                "raw TCP: threads that write PUB and read MSG with one buffer each, messages of 8 KiB prepared beforehand, \
                 8 MiB ahead of the reader, no client library; items are counted, not handed out"
            }
        }
    }

    /// All of them.
    pub(crate) fn settings(peers: &[Self]) -> Vec<String> {
        peers.iter().map(|peer| peer.setting().to_owned()).collect()
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Natstream => "natstream",
            Self::AsyncNats => "async-nats",
            Self::Request => "async-nats request()",
            #[cfg(feature = "peers")]
            Self::Tonic => "tonic",
            #[cfg(feature = "peers")]
            Self::TonicChannel => "tonic, channel",
            Self::Raw => "raw TCP, the limit",
        })
    }
}

/// What a call asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Order {
    pub(crate) items: u64,
    pub(crate) size: usize,
    /// Whether the stream stays open after its items, until the caller leaves.
    pub(crate) stays: bool,
}

impl Order {
    /// As a request of 128 B, or a little more.
    pub(crate) fn encode(self) -> Bytes {
        let Self { items, size, stays } = self;
        format!("{:128}", format!("{items} {size} {stays}")).into()
    }

    pub(crate) fn decode(payload: &[u8]) -> Result<Self> {
        let mut words = std::str::from_utf8(payload)?.split_whitespace();
        let mut word = || words.next().context("three words");
        Ok(Self {
            items: word()?.parse()?,
            size: word()?.parse()?,
            stays: word()?.parse()?,
        })
    }

    /// Each of its items.
    pub(crate) fn item(self) -> Bytes {
        vec![b'.'; self.size].into()
    }
}

/// The calling side of a peer.
pub(crate) trait Caller: Clone + Send + Sync + 'static {
    type Items: Items;

    fn call(&self, order: Order) -> impl Future<Output = Result<Self::Items>> + Send;

    /// Reads a call to its end, as fast as it comes; how many items there were.
    fn drain(&self, order: Order) -> impl Future<Output = Result<u64>> + Send {
        async move {
            let mut items = self.call(order).await?;
            let mut count = 0;
            while let Some(item) = items.next().await? {
                ensure!(item.len() == order.size, "an item of {} bytes", item.len());
                count += 1;
            }
            Ok(count)
        }
    }
}

/// The items of a call.
pub(crate) trait Items: Send + 'static {
    /// `None` at the end.
    fn next(&mut self) -> impl Future<Output = Result<Option<Bytes>>> + Send;
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use testkit::{NatsServer, unique_subject, within};

    use super::*;

    /// More than the limit sends ahead, and no whole number of its messages.
    const MANY: u64 = 200_001;

    async fn check<C: Caller>(caller: C, many: u64) {
        let order = |items, size| Order {
            items,
            size,
            stays: false,
        };
        assert_eq!(caller.drain(order(many, 128)).await.unwrap(), many);
        // The one before has left nothing behind.
        assert_eq!(caller.drain(order(7, 16)).await.unwrap(), 7);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn every_peer_brings_what_was_ordered() {
        let nats = NatsServer::start().await;
        let url = nats.url();
        within(Duration::from_secs(120), async {
            let subject = unique_subject("natstream");
            let servers = natstream::respond(&url, &subject, 2, None).await.unwrap();
            check(
                natstream::Natstream::connect(&url, &subject, 2, None).await.unwrap(),
                MANY,
            )
            .await;
            drop(servers);
            let subject = unique_subject("naive");
            async_nats::respond(&url, &subject, false).await.unwrap();
            check(async_nats::Naive::connect(&url, &subject, false).await.unwrap(), MANY).await;
            let subject = unique_subject("request");
            async_nats::respond(&url, &subject, true).await.unwrap();
            check(async_nats::OneReply::connect(&url, &subject).await.unwrap(), 1000).await;
            let subject = unique_subject("raw");
            raw::respond(&url, &subject).unwrap();
            check(raw::Raw::new(&url, &subject).unwrap(), MANY).await;
        })
        .await;
    }

    #[cfg(feature = "peers")]
    #[tokio::test(flavor = "multi_thread")]
    async fn tonic_brings_what_was_ordered() {
        let url = tonic::respond().await.unwrap();
        for has_channel in [false, true] {
            let caller = tonic::Tonic::connect(&url, has_channel).await.unwrap();
            within(Duration::from_secs(60), check(caller, MANY)).await;
        }
    }

    #[test]
    fn an_order_reads_back() {
        let order = Order {
            items: 3,
            size: 0,
            stays: true,
        };
        assert_eq!(order.encode().len(), 128);
        assert_eq!(Order::decode(&order.encode()).unwrap(), order);
    }
}
