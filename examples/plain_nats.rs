//! Programs that know nothing of natstream, such as the seeds' Go services: one that asks a natstream server, and one that is
//! asked by a natstream caller. Both say `__STREAM_END__` and `__STREAM_ERROR__`.
//! `cargo xtask nats up`, then `NATS_URL=… cargo run -p examples --example plain_nats`.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::time::Duration;

use futures_util::StreamExt as _;
use natstream::async_nats::{Client, Subscriber};
use natstream::{ConnectConfig, Connection, Dialect, HandlerError, Pool, Server};

/// The seeds' caller, with a NATS client and nothing else.
async fn plain_caller(client: &Client, subject: &'static str) -> anyhow::Result<(u64, String)> {
    let inbox = client.new_inbox();
    let mut messages = client.subscribe(inbox.clone()).await?;
    client.publish_with_reply(subject, inbox, "".into()).await?;
    let mut items = 0;
    while let Some(message) = messages.next().await {
        let text = String::from_utf8_lossy(&message.payload);
        if text.starts_with("__STREAM_") {
            return Ok((items, text.into_owned()));
        }
        items += 1;
    }
    anyhow::bail!("the subscription has ended")
}

/// The seeds' responder. A request for `fail` fails in the middle.
async fn plain_responder(client: Client, mut requests: Subscriber) -> anyhow::Result<()> {
    while let Some(request) = requests.next().await {
        let Some(reply) = request.reply else { continue };
        for number in 0..5 {
            client.publish(reply.clone(), format!("item {number}").into()).await?;
        }
        let end = if *request.payload == *b"fail" {
            "__STREAM_ERROR__:the disk is full"
        } else {
            "__STREAM_END__"
        };
        client.publish(reply, end.into()).await?;
    }
    Ok(())
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let url = std::env::var("NATS_URL").unwrap_or_else(|_| "nats://127.0.0.1:4222".to_owned());
    let connection = Connection::connect(ConnectConfig::new(url)).await?;
    let client = connection.nats().clone();

    // Nothing to set: a request without natstream's header is answered in this dialect, by the same handler.
    let server = Server::new(connection.clone());
    server
        .on("examples.plain.ours", |_request, mut out| async move {
            for number in 0..3 {
                out.send(format!("item {number}")).await?;
            }
            Ok(())
        })
        .await?;
    server
        .on("examples.plain.broken", |_request, _out| async {
            Err(HandlerError::unavailable("not today"))
        })
        .await?;
    for subject in ["examples.plain.ours", "examples.plain.broken"] {
        let (items, end) = plain_caller(&client, subject).await?;
        println!("{subject}: {items} items, then {end}");
    }

    let requests = client.subscribe("examples.plain.theirs").await?;
    let responder = tokio::spawn(plain_responder(client.clone(), requests));
    // nats-server has the subscription before the first request.
    client.flush().await?;
    let pool = Pool::new(connection);
    // Natively where the responder can, and else as text: for the time in which services move one after the other.
    for (subject, payload) in [
        ("examples.plain.ours", ""),
        ("examples.plain.theirs", ""),
        ("examples.plain.theirs", "fail"),
    ] {
        let mut answer = pool.request_stream(subject, payload).dialect(Dialect::AutoText).await?;
        let mut items = Vec::new();
        let end = match answer.collect_into(&mut items, 1 << 20).await {
            Ok(()) => "complete".to_owned(),
            Err(error) => format!("{:?}", error.kind()),
        };
        // What a complete answer proves: natively everything, in plain text that its end was seen.
        println!(
            "{subject} {payload:?}: {} items, {end}, guarantee {:?}",
            items.len(),
            answer.guarantee()
        );
    }
    server.drain(Duration::from_secs(5)).await;
    responder.abort();
    Ok(())
}
