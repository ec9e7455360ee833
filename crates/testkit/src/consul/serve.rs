//! The connections of a Consul.

use std::{io, pin::pin, sync::Arc, time::Duration};

use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{
    ConsulFault, Hub, State,
    answer::Query,
    http::{Request, Response},
};
use crate::select::first;

/// Accepts until it is dropped, and all connections with it.
pub(super) async fn accept(listener: TcpListener, hub: Arc<Hub>) {
    let mut connections = JoinSet::new();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                connections.spawn(connection(stream, hub.clone()));
            }
            // No descriptors are left, for a while.
            Err(_) => sleep(Duration::from_millis(10)).await,
        }
        while connections.try_join_next().is_some() {}
    }
}

/// Serves until the client has gone, or is cut off.
async fn connection(mut stream: TcpStream, hub: Arc<Hub>) {
    let born = hub.state.borrow().cuts;
    let served = {
        let cut = pin!(async {
            wait(&hub, |state| state.cuts != born).await;
            Err(io::ErrorKind::ConnectionReset.into())
        });
        first([cut, pin!(serve(&mut stream, &hub))]).await
    };
    if served.is_err() {
        // Fails only for a stream that has been reset already.
        let _ = stream.set_zero_linger();
    }
}

/// An error ends the connection with a reset.
async fn serve(stream: &mut TcpStream, hub: &Hub) -> io::Result<()> {
    let mut rest = Vec::new();
    while let Some(request) = Request::read(stream, &mut rest).await? {
        hub.note(&request.target);
        let goes_on = match Query::read(&request) {
            Ok(query) => answer(stream, hub, &query).await?,
            Err(refusal) => {
                refusal.write(stream).await?;
                true
            }
        };
        if !goes_on || request.header("connection") == Some("close") {
            return Ok(());
        }
    }
    Ok(())
}

/// Answers when there is something new, or the time is up. Whether the connection goes on.
async fn answer(stream: &mut TcpStream, hub: &Hub, query: &Query) -> io::Result<bool> {
    let due = pin!(async {
        let due = wait(hub, |state| state.fault.is_some() || query.is_due(state));
        // Up to a 16th more, so that clients do not come in step. The middle will do here.
        let _ = timeout(query.wait + query.wait / 32, due).await;
        Ok(())
    });
    first([due, pin!(gone(stream))]).await?;
    let (fault, answer) = {
        let state = hub.state.borrow();
        (state.fault.clone(), query.answer(&state))
    };
    match fault {
        None => answer.write(stream).await.map(|()| true),
        Some(fault) => fail(stream, fault, answer).await,
    }
}

/// Whether the connection goes on.
async fn fail(stream: &mut TcpStream, fault: ConsulFault, mut answer: Response) -> io::Result<bool> {
    match fault {
        ConsulFault::Body(body) => {
            answer.body = body;
            answer.write(stream).await?;
        }
        ConsulFault::Error => {
            let answer = Response::text("500 Internal Server Error", "No cluster leader");
            answer.write(stream).await?;
        }
        ConsulFault::HalfBody => {
            let bytes = answer.bytes();
            stream
                .write_all(&bytes[..bytes.len() - answer.body.len() / 2 - 1])
                .await?;
            return Ok(false);
        }
        ConsulFault::Html => {
            let page = "<!DOCTYPE html><html><body>Please log in.</body></html>";
            let mut answer = Response::text("200 OK", page);
            answer.content_type = "text/html";
            answer.write(stream).await?;
        }
        ConsulFault::NotHttp => {
            stream.write_all(b"\x15\x03\x01\x00\x02\x02\x16\r\n\r\n").await?;
            return Ok(false);
        }
        ConsulFault::Redirect(to) => {
            let mut answer = Response::text("301 Moved Permanently", "");
            answer.headers.push(("Location", to));
            answer.write(stream).await?;
        }
        ConsulFault::Reset => return Err(io::ErrorKind::ConnectionReset.into()),
        ConsulFault::Silence => gone(stream).await?,
    }
    Ok(true)
}

/// Waits until the client has gone.
async fn gone(stream: &TcpStream) -> io::Result<()> {
    match stream.peek(&mut [0]).await? {
        0 => Err(io::ErrorKind::ConnectionAborted.into()),
        // It asks again before it has its answer: nobody looks for its end then.
        _ => std::future::pending().await,
    }
}

async fn wait(hub: &Hub, condition: impl Fn(&State) -> bool) {
    let mut state = hub.state.subscribe();
    state
        .wait_for(|state| condition(state))
        .await
        .expect("the sender lives in `hub`");
}
