//! gRPC: server streaming, with a service written by hand.

use std::convert::Infallible;
use std::task::{Context, Poll};

use anyhow::Result;
use bytes::{Buf as _, BufMut as _, Bytes};
use futures_util::future::{Ready, ready};
use futures_util::stream::{self, BoxStream, StreamExt as _};
use tokio::sync::mpsc;
use tonic::body::Body;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::tokio_stream::wrappers::ReceiverStream;
use tonic::codegen::{BoxFuture, Service, http};
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Server};
use tonic::{Request, Response, Status, Streaming};

use super::{Caller, Items, Order};

const READY: &str = "/bench.Items/Ready";
const CHANNEL: &str = "/bench.Items/Channel";

/// As in the examples of tonic.
const CAPACITY: usize = 128;

#[derive(Clone)]
pub(crate) struct Tonic {
    channel: Channel,
    path: &'static str,
}

impl Tonic {
    /// Of items that are always ready, or that come through a channel.
    pub(crate) async fn connect(url: &str, has_channel: bool) -> Result<Self> {
        Ok(Self {
            channel: Channel::from_shared(url.to_owned())?.connect().await?,
            path: if has_channel { CHANNEL } else { READY },
        })
    }
}

impl Caller for Tonic {
    type Items = Streaming<Bytes>;

    async fn call(&self, order: Order) -> Result<Self::Items> {
        let mut grpc = Grpc::new(self.channel.clone());
        grpc.ready().await?;
        let path = http::uri::PathAndQuery::from_static(self.path);
        let answer = grpc.server_streaming(Request::new(order.encode()), path, Plain).await?;
        Ok(answer.into_inner())
    }
}

impl Items for Streaming<Bytes> {
    async fn next(&mut self) -> Result<Option<Bytes>> {
        Ok(self.message().await?)
    }
}

/// Messages as they are.
#[derive(Clone, Copy, Debug)]
struct Plain;

impl Codec for Plain {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Plain {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put(item);
        Ok(())
    }
}

impl Decoder for Plain {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}

/// Serves on a free port until the program ends; the URL.
pub(crate) async fn respond() -> Result<String> {
    let incoming = TcpIncoming::bind(([127, 0, 0, 1], 0).into())?.with_nodelay(Some(true));
    let url = format!("http://{}", incoming.local_addr()?);
    tokio::spawn(Server::builder().serve_with_incoming(Serving, incoming));
    Ok(url)
}

/// What `tonic-build` would write.
#[derive(Clone, Copy, Debug)]
struct Serving;

impl Service<http::Request<Body>> for Serving {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let has_channel = request.uri().path() == CHANNEL;
        Box::pin(async move {
            let mut grpc = tonic::server::Grpc::new(Plain);
            Ok(grpc.server_streaming(Method { has_channel }, request).await)
        })
    }
}

struct Method {
    has_channel: bool,
}

type Answer = BoxStream<'static, Result<Bytes, Status>>;

impl tonic::server::ServerStreamingService<Bytes> for Method {
    type Response = Bytes;
    type ResponseStream = Answer;
    type Future = Ready<Result<Response<Answer>, Status>>;

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        let answer = Order::decode(request.get_ref()).map(|order| match self.has_channel {
            true => through_a_channel(order),
            false => always_ready(order),
        });
        ready(match answer {
            Ok(answer) => Ok(Response::new(answer)),
            Err(error) => Err(Status::invalid_argument(error.to_string())),
        })
    }
}

fn always_ready(order: Order) -> Answer {
    let item = order.item();
    let items = stream::iter((0..order.items).map(move |_| Ok(item.clone())));
    if order.stays {
        items.chain(stream::pending()).boxed()
    } else {
        items.boxed()
    }
}

fn through_a_channel(order: Order) -> Answer {
    let (sender, receiver) = mpsc::channel(CAPACITY);
    let item = order.item();
    tokio::spawn(async move {
        for _ in 0..order.items {
            // It fails when the caller has left.
            if sender.send(Ok(item.clone())).await.is_err() {
                return;
            }
        }
        if order.stays {
            sender.closed().await;
        }
    });
    ReceiverStream::new(receiver).boxed()
}
