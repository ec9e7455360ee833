//! Messages without streams: publishing, subscriptions, requests for one reply, and typed payloads.

mod publish;
mod request;
mod subscribe;
mod typed;

use integration::LIMIT;
use natstream::{HandlerError, Message, Pool, Server, Subscription};
use testkit::within;
use tokio::sync::mpsc::{self, UnboundedReceiver};

/// What a subscription hands on to its test.
type Inbox = UnboundedReceiver<Message>;

/// Subscribes with a handler that hands on what it gets.
async fn listen(server: &Server, subject: &str, group: Option<&str>) -> (Subscription, Inbox) {
    let (heard, inbox) = mpsc::unbounded_channel();
    let mut subscription = server
        .on_message(subject, move |message| {
            let heard = heard.clone();
            async move { heard.send(message).map_err(HandlerError::internal) }
        })
        .max_concurrent(1);
    if let Some(group) = group {
        subscription = subscription.queue_group(group);
    }
    (within(LIMIT, subscription).await.expect("subscribed"), inbox)
}

/// The next message.
async fn next(inbox: &mut Inbox) -> Message {
    within(LIMIT, inbox.recv()).await.expect("a message")
}

/// Publishes, and waits until nats-server has it.
async fn publish(pool: &Pool, subject: &str, payload: impl Into<Vec<u8>>) {
    within(LIMIT, pool.publish(subject, payload.into()))
        .await
        .expect("published");
    within(LIMIT, pool.flush(LIMIT)).await.expect("flushed");
}
