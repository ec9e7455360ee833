//! The limit: the NATS protocol over a plain socket, with nothing that a library would do.
//!
//! A message holds as many items as a frame of ours; its reader counts them by its size.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use tokio::task::spawn_blocking;

use super::{Caller, Items, Order};

/// As large as a frame of ours, whose items have 4 B more each.
const MESSAGE: usize = 8192;
const MORE: usize = 4;

/// Nothing is lost when the writer is so far ahead at most; nats-server cuts off readers at 64 MiB.
const AHEAD: usize = 8 << 20;

/// Where more may be sent is said so often.
const STEP: usize = AHEAD / 4;

const BUFFER: usize = 256 << 10;

const LIMIT: Duration = Duration::from_secs(60);

#[derive(Clone)]
pub(crate) struct Raw {
    address: String,
    /// Of requests, and with a word more of items and of what is said about more of them.
    subject: String,
}

impl Raw {
    pub(crate) fn new(url: &str, subject: &str) -> Result<Self> {
        let address = url.strip_prefix("nats://").context("a URL")?;
        Ok(Self {
            address: address.to_owned(),
            subject: subject.to_owned(),
        })
    }
}

impl Caller for Raw {
    type Items = Nothing;

    async fn call(&self, _: Order) -> Result<Nothing> {
        bail!("the limit only counts")
    }

    async fn drain(&self, order: Order) -> Result<u64> {
        let raw = self.clone();
        spawn_blocking(move || raw.read(order)).await?
    }
}

pub(crate) enum Nothing {}

impl Items for Nothing {
    async fn next(&mut self) -> Result<Option<Bytes>> {
        match *self {}
    }
}

/// Answers one call at a time, in a thread, until the connection ends.
pub(crate) fn respond(url: &str, subject: &str) -> Result<()> {
    let raw = Raw::new(url, subject)?;
    let mut line = Line::connect(&raw.address, &[subject, &raw.more()])?;
    thread::spawn(move || line.answer(&raw.items()));
    Ok(())
}

fn items_of(size: usize) -> usize {
    (MESSAGE / (size + MORE)).max(1)
}

impl Raw {
    fn items(&self) -> String {
        format!("{}.items", self.subject)
    }

    fn more(&self) -> String {
        format!("{}.more", self.subject)
    }

    fn read(&self, order: Order) -> Result<u64> {
        let mut line = Line::connect(&self.address, &[&self.items()])?;
        line.stream.set_read_timeout(Some(LIMIT))?;
        line.publish(&self.subject, &order.encode())?;
        let more = self.more();
        let (mut count, mut since) = (0, 0);
        while count < order.items {
            let size = line.message()?;
            count += (size / order.size) as u64;
            line.skip(size)?;
            since += size;
            if since >= STEP {
                since -= STEP;
                line.publish(&more, b"")?;
            }
        }
        Ok(count)
    }
}

/// A connection with its subscriptions, and its read buffer.
struct Line {
    stream: TcpStream,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl Line {
    fn connect(address: &str, subjects: &[&str]) -> Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        let mut line = Self {
            stream,
            buffer: vec![0; BUFFER],
            start: 0,
            end: 0,
        };
        line.stream.write_all(b"CONNECT {\"verbose\":false}\r\n")?;
        for (id, subject) in subjects.iter().enumerate() {
            line.stream.write_all(format!("SUB {subject} {id}\r\n").as_bytes())?;
        }
        line.stream.write_all(b"PING\r\n")?;
        while line.word()? != b"PONG" {}
        Ok(line)
    }

    fn publish(&mut self, subject: &str, payload: &[u8]) -> Result<()> {
        let mut message = format!("PUB {subject} {}\r\n", payload.len()).into_bytes();
        message.extend_from_slice(payload);
        message.extend_from_slice(b"\r\n");
        Ok(self.stream.write_all(&message)?)
    }

    /// Waits for a message; its size.
    fn message(&mut self) -> Result<usize> {
        loop {
            let line = self.word()?;
            if line.starts_with(b"MSG ") {
                let size = line.rsplit(|byte| *byte == b' ').next().context("a size")?;
                return Ok(std::str::from_utf8(size)?.parse()?);
            }
            ensure!(!line.starts_with(b"-ERR"), "{}", String::from_utf8_lossy(line));
            if line == b"PING" {
                self.stream.write_all(b"PONG\r\n")?;
            }
        }
    }

    /// One line of the protocol.
    fn word(&mut self) -> Result<&[u8]> {
        let mut looked = 0;
        loop {
            let unread = &self.buffer[self.start..self.end];
            if let Some(at) = unread[looked..].windows(2).position(|pair| pair == b"\r\n") {
                let (from, length) = (self.start, looked + at);
                self.start += length + 2;
                return Ok(&self.buffer[from..from + length]);
            }
            looked = unread.len().saturating_sub(1);
            self.fill()?;
        }
    }

    /// Passes over a payload.
    fn skip(&mut self, size: usize) -> Result<()> {
        let mut left = size + 2;
        loop {
            let here = left.min(self.end - self.start);
            self.start += here;
            left -= here;
            if left == 0 {
                return Ok(());
            }
            self.fill()?;
        }
    }

    fn fill(&mut self) -> Result<()> {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        let read = self.stream.read(&mut self.buffer[self.end..])?;
        ensure!(read > 0, "nats-server has closed the connection");
        self.end += read;
        Ok(())
    }

    fn take(&mut self, size: usize) -> Result<Vec<u8>> {
        while self.end - self.start < size + 2 {
            self.fill()?;
        }
        let payload = self.buffer[self.start..self.start + size].to_vec();
        self.start += size + 2;
        Ok(payload)
    }

    fn answer(&mut self, items: &str) -> Result<()> {
        loop {
            let size = self.message()?;
            let payload = self.take(size)?;
            // What was said about more of the call before.
            if payload.is_empty() {
                continue;
            }
            self.send(items, Order::decode(&payload)?)?;
        }
    }

    fn send(&mut self, subject: &str, order: Order) -> Result<()> {
        let each = items_of(order.size);
        let message = |items: usize| {
            let mut message = format!("PUB {subject} {}\r\n", items * order.size).into_bytes();
            message.resize(message.len() + items * order.size, b'.');
            message.extend_from_slice(b"\r\n");
            message
        };
        let whole = message(each);
        // Several at once, as one write of a library that has them ready.
        let at_once = (BUFFER / 4 / whole.len()).max(1);
        let block = whole.repeat(at_once);
        let mut messages = order.items / each as u64;
        let mut ahead = 0;
        while messages > 0 {
            while ahead >= AHEAD {
                let size = self.message()?;
                self.skip(size)?;
                ahead -= STEP;
            }
            let now = messages.min(at_once as u64) as usize;
            self.stream.write_all(&block[..now * whole.len()])?;
            ahead += now * each * order.size;
            messages -= now as u64;
        }
        let rest = (order.items % each as u64) as usize;
        if rest > 0 {
            self.stream.write_all(&message(rest))?;
        }
        Ok(())
    }
}
