//! The third party: an HTTP server that answers with server-sent events, and says when a request has ended.

use std::convert::Infallible;
use std::io;
use std::time::Duration;

use futures_util::{Stream, stream};
use http_body_util::StreamBody;
use hyper::body::{Bytes, Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::mpsc::UnboundedSender;

/// Says when the request that it belongs to has ended.
struct Guard(UnboundedSender<()>);

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.0.send(());
    }
}

/// The API's answer: so many events, and perhaps a crash.
fn events(count: u64, is_broken: bool, guard: Guard) -> impl Stream<Item = io::Result<Frame<Bytes>>> + Send {
    stream::unfold((0, guard), move |(number, guard)| async move {
        tokio::time::sleep(Duration::from_millis(1)).await;
        let event = match number < count {
            true => Ok(Frame::data(Bytes::from(format!(
                "id: {number}\ndata: event {number}\n\n"
            )))),
            false if is_broken => Err(io::Error::other("the API has crashed")),
            false => return None,
        };
        Some((event, (number + 1, guard)))
    })
}

pub(crate) async fn serve(listener: TcpListener, ended: UnboundedSender<()>) -> io::Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        let ended = ended.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            let (status, count, is_broken) = match request.uri().path() {
                "/short" => (StatusCode::OK, 3, false),
                "/endless" => (StatusCode::OK, u64::MAX, false),
                "/broken" => (StatusCode::OK, 3, true),
                _ => (StatusCode::NOT_FOUND, 0, false),
            };
            let mut response = Response::new(StreamBody::new(events(count, is_broken, Guard(ended.clone()))));
            *response.status_mut() = status;
            async move { Ok::<_, Infallible>(response) }
        });
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}
