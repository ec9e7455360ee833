//! What the suites of the event bus share.

use std::collections::HashMap;

use async_nats::jetstream;
use futures_util::StreamExt as _;
use natstream::Connection;
use natstream::eventbus::topology::{StreamInfo, StreamSpec, Topology};
use testkit::within;

use crate::LIMIT;

/// Makes a stream as declared.
///
/// # Panics
/// When that fails.
pub async fn stream(connection: &Connection, spec: StreamSpec) -> StreamInfo {
    let topology = Topology::new(connection.clone());
    within(LIMIT, topology.ensure(&spec)).await.expect("a stream")
}

/// A message of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its subject.
    pub subject: String,
    /// Its payload.
    pub payload: String,
    /// Its headers, by name.
    pub headers: HashMap<String, String>,
}

/// All messages of a stream, in order.
///
/// # Panics
/// When they cannot be read.
pub async fn messages(connection: &Connection, stream: &str) -> Vec<Message> {
    let context = jetstream::new(connection.nats().clone());
    let found = async {
        loop {
            match Box::pin(context.get_stream(stream)).await {
                // A cluster that elects a leader answers nobody.
                Err(error) if error.kind() == jetstream::context::GetStreamErrorKind::Request => {}
                found => return found,
            }
        }
    };
    let stream = within(LIMIT, found).await.expect("the stream");
    let count = stream.cached_info().state.messages;
    let mut messages = Vec::new();
    if count == 0 {
        return messages;
    }
    let created = async {
        loop {
            let config = jetstream::consumer::pull::OrderedConfig::default();
            // On the heap: what async-nats's futures hold is large.
            match Box::pin(stream.create_consumer(config)).await {
                // A cluster that elects a leader answers nobody.
                Err(error) if error.kind() == jetstream::stream::ConsumerErrorKind::TimedOut => {}
                created => return created,
            }
        }
    };
    let consumer = within(LIMIT, created).await.expect("a consumer");
    let mut all = within(LIMIT, Box::pin(consumer.messages())).await.expect("messages");
    while (messages.len() as u64) < count {
        let message = within(LIMIT, all.next()).await.expect("one more").expect("readable");
        let headers = message.headers.iter().flat_map(|headers| headers.iter());
        messages.push(Message {
            subject: message.subject.to_string(),
            payload: String::from_utf8(message.payload.to_vec()).expect("text"),
            headers: headers
                .map(|(name, values)| (name.to_string(), values[0].to_string()))
                .collect(),
        });
    }
    messages
}

/// The payloads of all messages of a stream, as numbers, in order.
///
/// # Panics
/// When they are no numbers.
pub async fn numbers(connection: &Connection, stream: &str) -> Vec<u64> {
    let messages = messages(connection, stream).await;
    let numbers = messages.iter().map(|message| message.payload.parse());
    numbers.collect::<Result<_, _>>().expect("numbers")
}
