//! The responders that the calls ask.

use futures_util::StreamExt as _;
use integration::LIMIT;
use natstream::async_nats::{HeaderMap, Message, Subscriber};
use natstream::{Code, Connection, Endpoint, HandlerError, Request, ResponseSender, Server};
use testkit::within;

/// What a handler panics with when it is told to.
pub(crate) const PANIC: &str = "a panic that the test wants";

/// Serves what the calls ask below `base`: `do` ends as the request says, `full` runs one call, `line` runs one and lets
/// one wait, `queue` runs one and lets all others wait.
pub(crate) async fn serve(server: &Server, base: &str) -> Vec<Endpoint> {
    let mut endpoints = Vec::new();
    for (name, limits) in [
        ("do", None),
        ("full", Some((1, 0))),
        ("line", Some((1, 1))),
        ("queue", Some((1, 1_000_000))),
    ] {
        let mut endpoint = server.on(format!("{base}.{name}"), answer);
        if let Some((concurrent, queued)) = limits {
            endpoint = endpoint.max_concurrent(concurrent).max_queued(queued);
        }
        endpoints.push(within(LIMIT, endpoint).await.expect("served"));
    }
    endpoints
}

/// Ends as the request says.
async fn answer(request: Request, mut out: ResponseSender) -> Result<(), HandlerError> {
    match &**request.payload() {
        b"none" => {}
        b"one" => out.send("item").await?,
        b"many" => {
            for number in 0..100u32 {
                out.send([number.to_be_bytes().as_slice(), &[7; 300]].concat()).await?;
            }
        }
        b"trailers" => {
            out.header("name", "value")?;
            out.send("item").await?;
            out.finish_with("trailers");
        }
        b"fails" => return Err(HandlerError::invalid("no").with_details("details")),
        b"fails later" => {
            out.send("item").await?;
            return Err(HandlerError::not_found("gone"));
        }
        b"retryable" => {
            out.send("item").await?;
            return Err(HandlerError::unavailable("later").retryable(true));
        }
        b"panics" => {
            out.send("item").await?;
            panic!("{PANIC}");
        }
        b"endless" => loop {
            out.send([7; 1000]).await?;
        },
        b"silent" => {
            out.closed().await;
        }
        b"item, silent" => {
            out.send("item").await?;
            out.closed().await;
        }
        b"too large" => out.send([7; 2000]).await?,
        b"moved" => {
            tokio::spawn(async move {
                for _ in 0..3 {
                    // The caller may have left.
                    let _ = out.send("item").await;
                }
                out.finish();
            });
        }
        b"moved, dropped" => {
            tokio::spawn(async move { out.send("item").await });
        }
        b"moved, fails" => {
            let closed = out.closed();
            tokio::spawn(async move { out.fail(HandlerError::unavailable("later")) });
            // Outlives the handler and the sender.
            tokio::spawn(closed);
        }
        other => return Err(HandlerError::new(Code::Unimplemented, format!("{other:?}"))),
    }
    Ok(())
}

/// What a unit of a raw responder begins with.
const UNIT: [u8; 8] = [0xfe, 0x01, 0, 0, 0, 9, 0, 0];

/// A responder that begins as it should and then sends what nobody can read, to others too.
pub(crate) async fn answer_garbage(connection: Connection, mut requests: Subscriber) {
    while let Some(request) = requests.next().await {
        let Some(reply) = request.reply.clone() else { continue };
        let nats = connection.nats();
        let control = nats.new_inbox();
        let mut headers = HeaderMap::new();
        headers.insert("Natstream", "1;r=65536;h=1000");
        let first = &request.payload[..];
        let unit = [&UNIT[..], b"\x04item"].concat();
        let stranger = reply
            .rsplit_once('.')
            .map(|(prefix, _)| format!("{prefix}.{}", "A".repeat(22)));
        let send = async |subject: &str, payload: Vec<u8>| {
            let subject = subject.to_owned();
            let (control, headers) = (control.clone(), headers.clone());
            let sent = nats.publish_with_reply_and_headers(subject, control, headers, payload.into());
            // The connection may have ended.
            let _ = sent.await;
        };
        match first {
            b"malformed" => {}
            b"foreign" => send(&reply, b"no marker".to_vec()).await,
            _ => send(&reply, unit.clone()).await,
        }
        send(&reply, UNIT[..7].to_vec()).await;
        // For a call that never was.
        send(&stranger.unwrap_or_default(), unit).await;
    }
}

/// The subject that a message says to be answered at, with another last token.
pub(crate) fn beside(message: &Message) -> String {
    let control = message.reply.as_deref().expect("a control subject");
    let (prefix, token) = control.rsplit_once('.').expect("tokens");
    format!("{prefix}.{}", "B".repeat(token.len()))
}
