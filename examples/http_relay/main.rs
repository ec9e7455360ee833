//! A third party's API as a stream: each event of its HTTP answer becomes an item, and the HTTP request ends when the caller
//! leaves. The API is in `api.rs`. `cargo xtask nats up`, then `NATS_URL=… cargo run -p examples --example http_relay`.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

mod api;

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Bytes;
use hyper::{StatusCode, Uri};
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use natstream::{Code, ConnectConfig, Connection, HandlerError, Pool, Request, ResponseSender, Server};
use tokio::net::TcpListener;
use tokio::sync::mpsc::unbounded_channel;
use tokio_util::codec::{FramedRead, LinesCodec};
use tokio_util::io::StreamReader;

/// Longest line taken from the API: somebody else does not say how much memory we need.
const MAX_LINE: usize = 64 * 1024;

/// The relay: server-sent events in, items out.
async fn relay(api: SocketAddr, request: Request, mut out: ResponseSender) -> Result<(), HandlerError> {
    let name = String::from_utf8_lossy(request.payload());
    let uri = format!("http://{api}/{name}").parse::<Uri>();
    let uri = uri.map_err(HandlerError::invalid)?;
    // A service would keep it: it holds connections that are used again.
    let client: Client<HttpConnector, Empty<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    // When the caller leaves, what this waits for is dropped, and the HTTP request with it.
    let response = out.until_closed(client.get(uri)).await?;
    let response = response.map_err(HandlerError::unavailable)?;
    match response.status() {
        StatusCode::OK => {}
        StatusCode::NOT_FOUND => return Err(HandlerError::not_found("the API does not know it")),
        status => return Err(HandlerError::unavailable(status)),
    }
    let body = response.into_body().into_data_stream().map_err(io::Error::other);
    let mut lines = FramedRead::new(StreamReader::new(body), LinesCodec::new_with_max_length(MAX_LINE));
    while let Some(line) = out.until_closed(lines.next()).await? {
        // A body that was cut off is an error here, and so for the caller: it is not taken for a complete answer.
        let line = line.map_err(|error| HandlerError::new(Code::DataLoss, error))?;
        if let Some(event) = line.strip_prefix("data: ") {
            out.send(event).await?;
        }
    }
    Ok(())
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let url = std::env::var("NATS_URL").unwrap_or_else(|_| "nats://127.0.0.1:4222".to_owned());
    let connection = Connection::connect(ConnectConfig::new(url)).await?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let (api, (ended, mut has_ended)) = (listener.local_addr()?, unbounded_channel());
    tokio::spawn(api::serve(listener, ended));
    let server = Server::new(connection.clone());
    server
        .on("examples.relay", move |request, out| relay(api, request, out))
        .await?;

    let pool = Pool::new(connection);
    for name in ["short", "endless", "broken", "unknown"] {
        let mut events = pool.request_stream("examples.relay", name).await?;
        let end = loop {
            match events.try_next().await {
                Ok(Some(_event)) if events.received() == 5 => break "the caller leaves".to_owned(),
                Ok(Some(_event)) => {}
                Ok(None) => break "complete".to_owned(),
                Err(error) => break format!("{:?}", error.status().map(|status| status.code)),
            }
        };
        println!("{name}: {} events, {end}", events.received());
        drop(events);
        has_ended.recv().await;
        println!("  the HTTP request has ended");
    }
    server.drain(Duration::from_secs(5)).await;
    Ok(())
}
