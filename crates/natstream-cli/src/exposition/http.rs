//! As much of HTTP/1.1 as a probe needs: one question for each connection, without a body.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// Longest head of a question.
const MAX_HEAD: usize = 8 * 1024;

/// The form that Prometheus reads: its text format.
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What is asked.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Question {
    /// HEAD counts too.
    pub(super) is_get: bool,
    pub(super) is_head: bool,
    /// Without a query.
    pub(super) path: String,
}

/// What is answered.
#[derive(Debug)]
pub(super) struct Answer {
    status: u16,
    kind: &'static str,
    body: String,
}

impl Answer {
    pub(super) fn text(status: u16, body: &str) -> Self {
        Self {
            status,
            kind: "text/plain; charset=utf-8",
            body: body.to_owned(),
        }
    }

    pub(super) fn metrics(body: String) -> Self {
        Self {
            status: 200,
            kind: METRICS,
            body,
        }
    }

    /// As it goes over the wire; without its body for a HEAD.
    pub(super) fn bytes(&self, is_head: bool) -> Vec<u8> {
        let Self { status, kind, body } = self;
        let reason = match status {
            200 => "OK",
            400 => "Bad Request",
            404 => "Not Found",
            405 => "Method Not Allowed",
            _ => "Service Unavailable",
        };
        let allow = if *status == 405 { "Allow: GET, HEAD\r\n" } else { "" };
        let mut bytes = format!(
            "HTTP/1.1 {status} {reason}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n{allow}Connection: close\r\n\r\n",
            body.len()
        )
        .into_bytes();
        if !is_head {
            bytes.extend_from_slice(body.as_bytes());
        }
        bytes
    }
}

/// Reads a question; `None` when it is none.
pub(super) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Question>> {
    let mut head = Vec::new();
    loop {
        if let Some(end) = head.windows(4).position(|window| window == b"\r\n\r\n") {
            return Ok(parse(&head[..end]));
        }
        if head.len() >= MAX_HEAD {
            return Ok(None);
        }
        let room = MAX_HEAD - head.len();
        if (&mut *stream).take(room as u64).read_buf(&mut head).await? == 0 {
            return Ok(None);
        }
    }
}

/// Writes an answer, and ends the connection.
pub(super) async fn write(stream: &mut (impl AsyncWrite + Unpin), answer: &[u8]) -> io::Result<()> {
    stream.write_all(answer).await?;
    stream.shutdown().await
}

fn parse(head: &[u8]) -> Option<Question> {
    let line = head.split(|byte| *byte == b'\r').next()?;
    let line = std::str::from_utf8(line).ok()?;
    let mut words = line.split(' ');
    let (method, target, version) = (words.next()?, words.next()?, words.next()?);
    if words.next().is_some() || !version.starts_with("HTTP/1.") || !target.starts_with('/') {
        return None;
    }
    let path = target.split('?').next()?;
    Some(Question {
        is_get: matches!(method, "GET" | "HEAD"),
        is_head: method == "HEAD",
        path: path.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn question(bytes: &[u8]) -> Option<Question> {
        let mut bytes = bytes;
        read(&mut bytes).await.expect("memory can be read")
    }

    #[tokio::test]
    async fn questions_are_read() {
        let asked = question(b"GET /metrics?x=1 HTTP/1.1\r\nHost: a\r\n\r\n")
            .await
            .expect("a question");
        assert!(asked.is_get && !asked.is_head);
        assert_eq!(asked.path, "/metrics");
        let asked = question(b"HEAD / HTTP/1.0\r\n\r\n").await.expect("a question");
        assert!(asked.is_get && asked.is_head);
        assert!(!question(b"POST / HTTP/1.1\r\n\r\n").await.expect("a question").is_get);
    }

    #[tokio::test]
    async fn what_is_no_question_is_refused() {
        let long = [b"GET / HTTP/1.1\r\n".to_vec(), vec![b'x'; MAX_HEAD]].concat();
        for bytes in [
            &b""[..],
            b"GET /",
            b"GET /\r\n\r\n",
            b"GET / HTTP/2\r\n\r\n",
            b"GET http://a/ HTTP/1.1\r\n\r\n",
            b"GET / x HTTP/1.1\r\n\r\n",
            b"\xff\xfe\r\n\r\n",
            &long,
        ] {
            assert_eq!(question(bytes).await, None);
        }
    }

    #[test]
    fn answers_have_their_length() {
        let answer = Answer::text(404, "no\n");
        let text = String::from_utf8(answer.bytes(false)).expect("text");
        assert!(text.starts_with("HTTP/1.1 404 Not Found\r\n"), "{text}");
        assert!(
            text.contains("\r\nContent-Length: 3\r\n") && text.ends_with("\r\n\r\nno\n"),
            "{text}"
        );
        assert!(answer.bytes(true).ends_with(b"\r\n\r\n"));
    }
}
