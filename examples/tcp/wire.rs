//! What NATS is in other programs: messages with headers, on a TCP connection. And a clock.

use std::io;
use std::time::Duration;

use natstream::proto::{Instant, Message};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

/// Largest message taken from the other side: no length from the network sizes a buffer unchecked.
const MAX_MESSAGE: usize = 128 * 1024;

/// How long to wait where the machine asks for no time.
const PATIENCE: Duration = Duration::from_secs(5);

/// A message on the connection: its length, a flag for "answer me", the header's length and text, the payload.
pub(crate) struct Framed {
    pub(crate) header: String,
    has_control: bool,
    payload: Vec<u8>,
}

/// The message as the machines take it.
pub(crate) fn message(framed: &Framed) -> Message<'_> {
    let mut message = Message::default();
    message.header = Some(framed.header.as_str()).filter(|header| !header.is_empty());
    message.has_headers = message.header.is_some();
    message.has_control = framed.has_control;
    message.payload = framed.payload.clone().into();
    message
}

pub(crate) async fn send(writer: &mut OwnedWriteHalf, header: &str, control: bool, payload: &[u8]) -> io::Result<()> {
    let too_long = |_| io::Error::other("a header of more than 255 bytes");
    let header_len = u8::try_from(header.len()).map_err(too_long)?;
    let mut bytes = Vec::with_capacity(6 + header.len() + payload.len());
    bytes.extend_from_slice(&((2 + header.len() + payload.len()) as u32).to_be_bytes());
    bytes.extend_from_slice(&[u8::from(control), header_len]);
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend_from_slice(payload);
    writer.write_all(&bytes).await
}

/// The next message, or `None` when `wait` is over.
pub(crate) async fn receive(reader: &mut OwnedReadHalf, wait: Option<Duration>) -> io::Result<Option<Framed>> {
    // Waiting for readable bytes loses none when it is given up. A message is then read to its end: the rest of it is near.
    if tokio::time::timeout(wait.unwrap_or(PATIENCE), reader.readable())
        .await
        .is_err()
    {
        return Ok(None);
    }
    let len = reader.read_u32().await? as usize;
    if !(2..=MAX_MESSAGE).contains(&len) {
        return Err(io::Error::other("a message of a wrong length"));
    }
    let mut bytes = vec![0; len];
    reader.read_exact(&mut bytes).await?;
    let (head, rest) = bytes.split_at(2);
    let (header, payload) = rest
        .split_at_checked(usize::from(head[1]))
        .ok_or_else(|| io::Error::other("cut short"))?;
    Ok(Some(Framed {
        header: String::from_utf8_lossy(header).into_owned(),
        has_control: head[0] != 0,
        payload: payload.to_vec(),
    }))
}

/// Time as the machines take it: nanoseconds since the call began.
pub(crate) struct Clock(std::time::Instant);

impl Clock {
    pub(crate) fn start() -> Self {
        Self(std::time::Instant::now())
    }

    pub(crate) fn now(&self) -> Instant {
        Instant::from_nanos(self.0.elapsed().as_nanos() as u64)
    }

    pub(crate) fn until(&self, at: Option<Instant>) -> Option<Duration> {
        at.map(|at| at.saturating_since(self.now()))
    }
}
