//! Plain async-nats: a message for each item, or all items in one reply.

use anyhow::{Context as _, Result, bail};
use async_nats::{Client, ConnectOptions, Subscriber};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;

use super::{Caller, Items, Order};

const STREAM: &str = "bench.async-nats.stream";
const REQUEST: &str = "bench.async-nats.request";

/// A message for each item, and an empty one at the end.
#[derive(Clone)]
pub(crate) struct Naive(Client);

impl Naive {
    /// Most users have the default capacity of 65,536 messages, which loses some of a fast stream; the other one loses none.
    pub(crate) async fn connect(url: &str, has_default_capacity: bool) -> Result<Self> {
        let mut options = ConnectOptions::new();
        if !has_default_capacity {
            options = options.subscription_capacity(16 << 20);
        }
        Ok(Self(options.connect(url).await?))
    }
}

impl Caller for Naive {
    type Items = Messages;

    async fn call(&self, order: Order) -> Result<Messages> {
        let inbox = self.0.new_inbox();
        let messages = Messages(self.0.subscribe(inbox.clone()).await?);
        self.0.publish_with_reply(STREAM, inbox, order.encode()).await?;
        Ok(messages)
    }
}

pub(crate) struct Messages(Subscriber);

impl Items for Messages {
    async fn next(&mut self) -> Result<Option<Bytes>> {
        match self.0.next().await {
            Some(message) if message.payload.is_empty() => Ok(None),
            Some(message) => Ok(Some(message.payload)),
            None => bail!("the subscription ended"),
        }
    }
}

/// `request()`, whose reply has all items.
#[derive(Clone)]
pub(crate) struct OneReply(Client);

impl OneReply {
    pub(crate) async fn connect(url: &str) -> Result<Self> {
        Ok(Self(async_nats::connect(url).await?))
    }
}

impl Caller for OneReply {
    type Items = Parts;

    async fn call(&self, order: Order) -> Result<Parts> {
        let reply = self.0.request(REQUEST, order.encode()).await?;
        Ok(Parts {
            left: reply.payload,
            size: order.size,
        })
    }
}

/// A reply, cut into its items.
pub(crate) struct Parts {
    left: Bytes,
    size: usize,
}

impl Items for Parts {
    async fn next(&mut self) -> Result<Option<Bytes>> {
        if self.left.is_empty() {
            return Ok(None);
        }
        Ok(Some(self.left.split_to(self.size.min(self.left.len()))))
    }
}

/// Answers both kinds of calls, each in a task, until the client is gone.
pub(crate) async fn respond(url: &str) -> Result<()> {
    let client = async_nats::connect(url).await?;
    let mut streams = client.subscribe(STREAM).await?;
    let mut requests = client.subscribe(REQUEST).await?;
    client.flush().await?;
    let naive = client.clone();
    tokio::spawn(async move {
        while let Some(request) = streams.next().await {
            tokio::spawn(stream(naive.clone(), request));
        }
    });
    tokio::spawn(async move {
        while let Some(request) = requests.next().await {
            tokio::spawn(reply(client.clone(), request));
        }
    });
    Ok(())
}

async fn stream(client: Client, request: async_nats::Message) -> Result<()> {
    let order = Order::decode(&request.payload)?;
    let to = request.reply.context("a reply subject")?;
    let item = order.item();
    for _ in 0..order.items {
        client.publish(to.clone(), item.clone()).await?;
    }
    // Nothing tells this side that the caller has left, so nothing is kept for a stream that stays.
    if !order.stays {
        client.publish(to, Bytes::new()).await?;
    }
    Ok(())
}

async fn reply(client: Client, request: async_nats::Message) -> Result<()> {
    let order = Order::decode(&request.payload)?;
    let to = request.reply.context("a reply subject")?;
    let item = order.item();
    let mut items = BytesMut::with_capacity(item.len() * usize::try_from(order.items)?);
    for _ in 0..order.items {
        items.extend_from_slice(&item);
    }
    client.publish(to, items.freeze()).await?;
    Ok(())
}
