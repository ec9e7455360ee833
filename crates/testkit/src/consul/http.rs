//! As much of HTTP/1.1 as it takes.

use std::io;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// The longest head of a request.
const MOST_HEAD: usize = 16 * 1024;

/// The head of a request; one with a body is not expected.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) method: String,
    pub(super) target: String,
    headers: Vec<(String, String)>,
}

/// An answer with a body of known length.
#[derive(Debug)]
pub(super) struct Response {
    pub(super) status: &'static str,
    pub(super) content_type: &'static str,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: String,
}

impl Request {
    /// Reads the next one; `rest` is what was read too much. `None` when the client has gone.
    pub(super) async fn read(stream: &mut TcpStream, rest: &mut Vec<u8>) -> io::Result<Option<Self>> {
        loop {
            if let Some(end) = rest.windows(4).position(|window| window == b"\r\n\r\n") {
                let head: Vec<u8> = rest.drain(..end + 4).collect();
                return match Self::parse(&String::from_utf8_lossy(&head)) {
                    Some(request) => Ok(Some(request)),
                    None => Err(io::ErrorKind::InvalidData.into()),
                };
            }
            if rest.len() > MOST_HEAD {
                return Err(io::ErrorKind::InvalidData.into());
            }
            if stream.read_buf(rest).await? == 0 {
                return Ok(None);
            }
        }
    }

    fn parse(head: &str) -> Option<Self> {
        let mut lines = head.split("\r\n");
        let mut first = lines.next()?.split(' ');
        let (method, target) = (first.next()?.to_owned(), first.next()?.to_owned());
        let headers = lines.filter_map(|line| line.split_once(':'));
        Some(Self {
            method,
            target,
            headers: headers
                .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
                .collect(),
        })
    }

    /// `name` in lower case.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    pub(super) fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// The parameters of the query, decoded. One without a value has an empty one.
    pub(super) fn parameters(&self) -> Vec<(String, String)> {
        let query = self.target.split_once('?').map_or("", |(_, query)| query);
        let pairs = query.split('&').filter(|pair| !pair.is_empty());
        pairs
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
            .map(|(key, value)| (decode(key), decode(value)))
            .collect()
    }
}

impl Response {
    pub(super) fn text(status: &'static str, body: impl Into<String>) -> Self {
        Self {
            status,
            content_type: "text/plain; charset=utf-8",
            headers: Vec::new(),
            body: body.into(),
        }
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut head = format!(
            "HTTP/1.1 {}\r\nContent-Type: {}\r\nContent-Length: {}\r\n",
            self.status,
            self.content_type,
            self.body.len()
        );
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        head.push_str(&self.body);
        head.into_bytes()
    }

    pub(super) async fn write(&self, stream: &mut TcpStream) -> io::Result<()> {
        stream.write_all(&self.bytes()).await
    }
}

/// Percent-decoding, of forms too.
pub(super) fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let digits = tail.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let code = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match (first, code) {
            (b'%', Some(code)) => {
                bytes.push(code);
                rest = &tail[2..];
            }
            (b'+', _) => {
                bytes.push(b' ');
                rest = tail;
            }
            _ => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_taken_apart() {
        let request = Request::parse("GET /a%20b?passing&tag=x%2By&tag=a+b HTTP/1.1\r\nX-Token:  t \r\n\r\n").unwrap();
        assert_eq!((request.method.as_str(), request.path()), ("GET", "/a%20b"));
        assert_eq!(request.header("x-token"), Some("t"));
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        assert_eq!(
            request.parameters(),
            [pair("passing", ""), pair("tag", "x+y"), pair("tag", "a b")]
        );
        assert_eq!(decode("%zz%4"), "%zz%4");
    }
}
