//! The monitoring pages of a server.

use std::io;

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::server::NatsServer;

/// What clients hold of a server, and give back when they go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Levels {
    /// Connections of clients.
    pub connections: u64,
    /// Subscriptions of all accounts. The server has some of its own.
    pub subscriptions: u64,
}

impl NatsServer {
    /// A monitoring page as JSON: `/varz`, `/connz?subs=1`, `/subsz`, `/routez`, `/jsz`, `/healthz`.
    ///
    /// # Panics
    ///
    /// When the server was built without [`monitoring`](crate::NatsServerBuilder::monitoring), is
    /// down, or has no such page. A paused server does not answer: put it
    /// [`within`](crate::within) a limit.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection of the request.
    pub async fn page(&self, path: &str) -> Value {
        match self.try_page(path).await {
            Ok(page) => page,
            Err(error) => panic!("no page {path} from {}: {error}", self.monitoring_url()),
        }
    }

    /// How many connections and subscriptions the server has, from `/varz`.
    ///
    /// A server counts them when it has noticed; compare through [`settles`](crate::settles). In a
    /// cluster, compare a node with itself: interest of other nodes may count too.
    ///
    /// # Panics
    ///
    /// As [`page`](Self::page) does.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection of the request.
    pub async fn levels(&self) -> Levels {
        let page = self.page("/varz").await;
        let level = |name: &str| {
            page[name]
                .as_u64()
                .unwrap_or_else(|| panic!("no number `{name}` in /varz"))
        };
        Levels {
            connections: level("connections"),
            subscriptions: level("subscriptions"),
        }
    }

    /// How many mappings of reply subjects the server has in `account`, from `/accountz`.
    ///
    /// Each call across accounts makes one in the account that serves, and one in the account that calls when its
    /// responder asks for messages of the caller. They are at the server that the caller is connected to.
    ///
    /// # Panics
    ///
    /// As [`page`](Self::page) does, and when there is no such account.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection of the request.
    pub async fn mappings(&self, account: &str) -> usize {
        let page = self.page(&format!("/accountz?acc={account}")).await;
        let detail = &page["account_detail"];
        assert!(detail.is_object(), "no account {account} in {page}");
        // Left out when there are none.
        detail["responses"].as_object().map_or(0, serde_json::Map::len)
    }

    /// [`page`](Self::page) of a server that may be down.
    pub(crate) async fn try_page(&self, path: &str) -> io::Result<Value> {
        let url = self.monitoring_url();
        let address = url.trim_start_matches("http://");
        let mut stream = TcpStream::connect(address).await?;
        // Version 1.0: the page ends with the connection, and comes in one piece.
        let request = format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        parse(&answer)
    }
}

/// The body of an answer. Also that of an error: `/healthz` tells by it what is wrong.
fn parse(answer: &[u8]) -> io::Result<Value> {
    let head = answer.windows(4).position(|window| window == b"\r\n\r\n");
    let body = head.map_or(&[][..], |end| &answer[end + 4..]);
    serde_json::from_slice(body).map_err(|error| {
        let text = String::from_utf8_lossy(answer);
        let status = text.lines().next().unwrap_or_default();
        io::Error::new(io::ErrorKind::InvalidData, format!("{error} after `{status}`"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_body_is_read() {
        let page = parse(b"HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n{\"connections\": 3}").unwrap();
        assert_eq!(page["connections"], 3);
    }

    #[test]
    fn what_is_no_page_is_an_error() {
        for answer in [
            "",
            "HTTP/1.0 404 Not Found\r\n\r\n404 page not found\n",
            "HTTP/1.0 200 OK\r\n\r\n{\"a\":",
        ] {
            parse(answer.as_bytes()).unwrap_err();
        }
    }
}
