//! Plain async-nats: a message for each item, or all items in one reply.

use anyhow::{Context as _, Result, bail};
use async_nats::{Client, ConnectOptions, Subject, Subscriber};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;

use super::{Caller, Items, Order};

/// A message for each item, and an empty one at the end.
#[derive(Clone)]
pub(crate) struct Naive {
    client: Client,
    subject: Subject,
}

impl Naive {
    /// Most users have the default capacity of 65,536 messages, which loses some of a fast stream; the other one loses none.
    pub(crate) async fn connect(url: &str, subject: &str, has_default_capacity: bool) -> Result<Self> {
        let mut options = ConnectOptions::new();
        if !has_default_capacity {
            options = options.subscription_capacity(16 << 20);
        }
        Ok(Self {
            client: options.connect(url).await?,
            subject: subject.into(),
        })
    }
}

impl Caller for Naive {
    type Items = Messages;

    async fn call(&self, order: Order) -> Result<Messages> {
        let inbox = self.client.new_inbox();
        let messages = Messages(self.client.subscribe(inbox.clone()).await?);
        let subject = self.subject.clone();
        self.client.publish_with_reply(subject, inbox, order.encode()).await?;
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
pub(crate) struct OneReply {
    client: Client,
    subject: Subject,
}

impl OneReply {
    pub(crate) async fn connect(url: &str, subject: &str) -> Result<Self> {
        Ok(Self {
            client: async_nats::connect(url).await?,
            subject: subject.into(),
        })
    }
}

impl Caller for OneReply {
    type Items = Parts;

    async fn call(&self, order: Order) -> Result<Parts> {
        let reply = self.client.request(self.subject.clone(), order.encode()).await?;
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

/// Answers calls, each in a task, until the program ends: with a message for each item, or with one reply.
pub(crate) async fn respond(url: &str, subject: &str, has_one_reply: bool) -> Result<()> {
    let client = async_nats::connect(url).await?;
    let mut requests = client.subscribe(subject.to_owned()).await?;
    client.flush().await?;
    tokio::spawn(async move {
        while let Some(request) = requests.next().await {
            match has_one_reply {
                true => tokio::spawn(reply(client.clone(), request)),
                false => tokio::spawn(stream(client.clone(), request)),
            };
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
