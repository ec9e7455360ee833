//! Payloads that are values.

use std::collections::BTreeMap;

use futures_util::StreamExt as _;
use integration::{LIMIT, Peers};
use natstream::connect::CodecError;
use natstream::{Code, Codec, Flaw, Guarantee, HandlerError, Message, Request, RequestErrorKind, ResponseSender};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use testkit::{unique_subject, within};

use crate::{listen, next};

#[derive(Debug, Deserialize, PartialEq, Serialize)]
struct Query {
    prefix: String,
    count: u32,
}

#[derive(Debug, Deserialize, PartialEq, Serialize)]
struct Row {
    id: u32,
    name: String,
}

async fn rows(query: Query, request: Request, mut out: ResponseSender) -> Result<(), HandlerError> {
    assert!(!request.payload().is_empty());
    for id in 0..query.count {
        let name = format!("{}{id}", query.prefix);
        out.send_as(&Row { id, name }).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_stream_of_values() {
    let Peers { pool, server } = Peers::connect().await;
    let subject = unique_subject("typed");
    within(LIMIT, server.on_typed(&subject, rows)).await.expect("served");
    let query = Query {
        prefix: "row ".to_owned(),
        count: 3,
    };
    let request = pool.request_stream_as(&subject, &query).typed::<Row>();
    let mut responses = within(LIMIT, request).await.expect("sent");
    for id in 0..3 {
        let row = within(LIMIT, responses.try_next()).await.expect("a row");
        let name = format!("row {id}");
        assert_eq!(row, Some(Row { id, name }));
    }
    assert_eq!(within(LIMIT, responses.try_next()).await.expect("complete"), None);
    assert_eq!((responses.attempt(), responses.guarantee()), (1, Guarantee::Complete));

    let request = pool.request_stream_as(&subject, &query).typed::<Row>();
    let responses = within(LIMIT, request).await.expect("sent");
    let rows = within(LIMIT, responses.collect_all(1024)).await.expect("complete");
    assert_eq!(rows.len(), 3);
}

#[tokio::test]
async fn an_item_that_is_no_value_ends_nothing() {
    let Peers { pool, server } = Peers::connect().await;
    let subject = unique_subject("typed");
    let handler = |_| async { Ok(["1", "two", "3"]) };
    within(LIMIT, server.on_items(&subject, handler)).await.expect("served");
    let request = pool.request_stream(&subject, "").typed::<u32>();
    let responses = within(LIMIT, request).await.expect("sent");
    let items: Vec<_> = within(LIMIT, responses.collect()).await;
    let [Ok(1), Err(error), Ok(3)] = &items[..] else {
        panic!("{items:?}");
    };
    assert_eq!(error.kind(), RequestErrorKind::Decode);
    assert_eq!((error.items(), error.subject()), (1, &*subject));
    assert!(!error.is_retryable());

    let request = pool.request_stream(&subject, "").typed::<u32>();
    let responses = within(LIMIT, request).await.expect("sent");
    let error = within(LIMIT, responses.collect_all(1024)).await.expect_err("two");
    assert_eq!((error.kind(), error.items()), (RequestErrorKind::Decode, 1));

    let request = pool.request_stream(&subject, "").typed::<u32>();
    let mut responses = within(LIMIT, request).await.expect("sent");
    let mut items = Vec::new();
    let error = within(LIMIT, responses.collect_into(&mut items, 1024))
        .await
        .expect_err("two");
    assert_eq!((error.kind(), error.items()), (RequestErrorKind::Decode, 1));
    assert_eq!(items, [1]);
    within(LIMIT, responses.collect_into(&mut items, 1024))
        .await
        .expect("complete");
    assert_eq!(items, [1, 3]);
}

#[tokio::test]
async fn a_request_that_is_no_value_fails() {
    let Peers { pool, server } = Peers::connect().await;
    let subject = unique_subject("typed");
    within(LIMIT, server.on_typed(&subject, rows)).await.expect("served");
    let request = pool.request_stream(&subject, "{\"prefix\":1}").typed::<Row>();
    let mut responses = within(LIMIT, request).await.expect("sent");
    let error = within(LIMIT, responses.try_next()).await.expect_err("refused");
    assert_eq!(error.kind(), RequestErrorKind::Failed);
    assert_eq!(error.status().map(|status| status.code), Some(Code::InvalidArgument));
}

#[tokio::test]
async fn a_reply_that_is_a_value() {
    let Peers { pool, server } = Peers::connect().await;
    let subject = unique_subject("typed");
    let sum = |message: Message| async move {
        let numbers: Vec<u64> = message.json()?;
        message.respond_as(&numbers.iter().sum::<u64>()).await
    };
    let subscription = server.on_message(&subject, sum).queue_group("adders");
    within(LIMIT, subscription).await.expect("subscribed");
    let request = pool.request_as(&subject, &[1, 2, 3]).typed::<u64>();
    assert_eq!(within(LIMIT, request).await.expect("a sum"), 6);
    let request = pool.request_as(&subject, &[1, 2, 3]).typed::<String>();
    let error = within(LIMIT, request).await.expect_err("no text");
    assert_eq!(error.kind(), RequestErrorKind::Decode);
    let request = pool.request_as(&subject, "one").typed::<u64>();
    let error = within(LIMIT, request).await.expect_err("no numbers");
    assert_eq!(error.status().map(|status| status.code), Some(Code::InvalidArgument));
}

#[tokio::test]
async fn an_event_that_is_a_value() {
    let Peers { pool, server } = Peers::connect().await;
    let subject = unique_subject("typed");
    let (_subscription, mut inbox) = listen(&server, &subject, None).await;
    let event = BTreeMap::from([("user_id", "123")]);
    within(LIMIT, pool.publish_as(&subject, &event))
        .await
        .expect("published");
    let message = next(&mut inbox).await;
    assert_eq!(message.payload(), r#"{"user_id":"123"}"#);
    let read: BTreeMap<String, String> = message.json().expect("the same");
    assert_eq!(read["user_id"], "123");
}

#[tokio::test]
async fn a_value_without_a_form_is_not_sent() {
    let Peers { pool, .. } = Peers::connect().await;
    let value = BTreeMap::from([((1, 2), "keys are text in JSON")]);
    let publish = pool.publish_as("a", &value).send();
    let request = pool.request_as("a", &value).send();
    let errors = [
        within(LIMIT, publish).await.expect_err("no form"),
        within(LIMIT, request).await.expect_err("no form"),
        within(LIMIT, pool.request_stream_as("a", &value))
            .await
            .expect_err("no form"),
    ];
    for error in errors {
        assert_eq!(
            (error.kind(), error.flaw()),
            (RequestErrorKind::InvalidRequest, Some(Flaw::Body))
        );
    }
}

/// JSON, with an exclamation mark before it.
struct Loud;

impl Codec for Loud {
    fn encode<T: Serialize + ?Sized>(value: &T) -> Result<bytes::Bytes, CodecError> {
        let text = serde_json::to_string(value).map_err(CodecError::new)?;
        Ok(format!("!{text}").into())
    }

    fn decode<T: DeserializeOwned>(payload: &[u8]) -> Result<T, CodecError> {
        let text = payload.strip_prefix(b"!").ok_or_else(|| CodecError::new("too quiet"))?;
        serde_json::from_slice(text).map_err(CodecError::new)
    }
}

#[tokio::test]
async fn another_codec() {
    let Peers { pool, server } = Peers::connect().await;
    let subject = unique_subject("typed");
    let double = |request: Request, mut out: ResponseSender| async move {
        let number: u32 = request.decode::<_, Loud>()?;
        let item = Loud::encode(&(2 * number)).map_err(HandlerError::internal)?;
        Ok(out.send(item).await?)
    };
    within(LIMIT, server.on(&subject, double)).await.expect("served");
    let body = Loud::encode(&21).expect("a number");
    let request = pool.request_stream(&subject, body).typed_with::<u32, Loud>();
    let responses = within(LIMIT, request).await.expect("sent");
    assert_eq!(
        within(LIMIT, responses.collect_all(1024)).await.expect("complete"),
        [42]
    );
}
