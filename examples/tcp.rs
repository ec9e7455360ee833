//! stream-proto without NATS: both halves of a call over one TCP connection, headers included.
//!
//! `cargo run -p examples --example tcp`
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::io;
use std::time::Duration;

use natstream::proto::{
    Inbound, InboundConfig, Instant, Message, Offer, Open, Outbound, OutboundConfig, PushError, Status, Transmit,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

/// The numbers that the responder counts up to.
const COUNT: u32 = 100_000;

/// Largest message taken from the other side: no length from the network sizes a buffer unchecked.
const MAX_MESSAGE: usize = 128 * 1024;

/// A message on the connection: a length, a flag for "answer me", the header's length and text, the payload.
struct Framed {
    header: String,
    has_control: bool,
    payload: Vec<u8>,
}

#[tokio::main]
async fn main() -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let responder = tokio::spawn(async move { respond(listener.accept().await?.0).await });
    let numbers = call(TcpStream::connect(address).await?).await?;
    responder.await??;
    println!(
        "{} numbers, sum {}",
        numbers.len(),
        numbers.iter().map(|number| u64::from(*number)).sum::<u64>()
    );
    Ok(())
}

/// The caller: sends the Open, then gives every message to its half and every item to the user.
async fn call(stream: TcpStream) -> io::Result<Vec<u32>> {
    let (mut reader, mut writer) = stream.into_split();
    let clock = Clock::start();
    let mut inbound = Inbound::new(InboundConfig::default(), clock.now());
    send(&mut writer, &inbound.open().encode(), true, b"count, please").await?;
    let mut numbers = Vec::new();
    loop {
        while let Some(item) = inbound.poll_item(clock.now()) {
            numbers.push(u32::from_be_bytes(item[..].try_into().map_err(io::Error::other)?));
        }
        while let Some(transmit) = inbound.poll_transmit(clock.now()) {
            send(&mut writer, "", transmit.control, &transmit.payload).await?;
        }
        if let Some(termination) = inbound.termination() {
            return match termination.is_ok() {
                true => Ok(numbers),
                false => Err(io::Error::other(format!("{termination:?}"))),
            };
        }
        if let Some(framed) = receive(&mut reader, clock.until(inbound.poll_timeout())).await? {
            inbound.handle(clock.now(), &message(&framed));
        }
        inbound.handle_timeout(clock.now());
    }
}

/// The responder: answers the Open, pushes numbers while there is credit, and hands out messages.
async fn respond(stream: TcpStream) -> io::Result<()> {
    let (mut reader, mut writer) = stream.into_split();
    let clock = Clock::start();
    let Some(request) = receive(&mut reader, None).await? else {
        return Ok(());
    };
    let Ok(Offer::Supported(open)) = Open::parse(&request.header) else {
        return Err(io::Error::other("no common version"));
    };
    // A stream id is a random number in real life: it tells streams apart.
    let mut outbound = Outbound::new(1, &open, &OutboundConfig::default(), clock.now());
    let answer = outbound.answer().encode();
    let mut next = 0;
    while !outbound.is_forgotten() {
        while next < COUNT {
            match outbound.push(&next.to_be_bytes()) {
                Ok(()) => next += 1,
                Err(PushError::Blocked) => {
                    outbound.wait_for_credit(clock.now());
                    break;
                }
                Err(_) => break,
            }
        }
        outbound.flush();
        if next == COUNT {
            outbound.finish(Status::ok());
        }
        while let Some(Transmit {
            header,
            control,
            payload,
            ..
        }) = outbound.poll_transmit(clock.now())
        {
            send(&mut writer, if header { &answer } else { "" }, control, &payload).await?;
        }
        if let Some(framed) = receive(&mut reader, clock.until(outbound.poll_timeout())).await? {
            outbound
                .handle(clock.now(), &message(&framed))
                .map_err(io::Error::other)?;
        }
        outbound.handle_timeout(clock.now());
    }
    Ok(())
}

fn message(framed: &Framed) -> Message<'_> {
    let mut message = Message::default();
    message.header = Some(framed.header.as_str()).filter(|header| !header.is_empty());
    message.has_headers = message.header.is_some();
    message.has_control = framed.has_control;
    message.payload = framed.payload.clone().into();
    message
}

async fn send(writer: &mut OwnedWriteHalf, header: &str, control: bool, payload: &[u8]) -> io::Result<()> {
    let mut bytes = Vec::with_capacity(8 + header.len() + payload.len());
    bytes.extend_from_slice(&((2 + header.len() + payload.len()) as u32).to_be_bytes());
    bytes.extend_from_slice(&[u8::from(control), header.len() as u8]);
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend_from_slice(payload);
    writer.write_all(&bytes).await
}

/// The next message, or `None` when `wait` is over, or the other side has gone.
async fn receive(reader: &mut OwnedReadHalf, wait: Option<Duration>) -> io::Result<Option<Framed>> {
    // Waiting for readable bytes loses none when it is given up; reading a message does not wait for long.
    let wait = wait.unwrap_or(Duration::from_secs(5));
    if tokio::time::timeout(wait, reader.readable()).await.is_err() {
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
struct Clock(std::time::Instant);

impl Clock {
    fn start() -> Self {
        Self(std::time::Instant::now())
    }

    fn now(&self) -> Instant {
        Instant::from_nanos(self.0.elapsed().as_nanos() as u64)
    }

    fn until(&self, at: Option<Instant>) -> Option<Duration> {
        at.map(|at| at.saturating_since(self.now()))
    }
}
