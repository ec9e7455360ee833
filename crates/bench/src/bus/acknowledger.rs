//! The least that a publisher needs of nats-server, in this process: it acks whatever comes.

use anyhow::{Context as _, Result};
use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

const INFO: &str =
    "INFO {\"server_id\":\"x\",\"version\":\"2.15.1\",\"max_payload\":1048576,\"headers\":true,\"proto\":1}\r\n";

/// Listens for one connection; its URL.
pub(super) async fn start() -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("nats://{}", listener.local_addr()?);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    Ok(url)
}

async fn serve(mut stream: TcpStream) -> Result<()> {
    stream.set_nodelay(true)?;
    stream.write_all(INFO.as_bytes()).await?;
    let mut input = BytesMut::with_capacity(1 << 18);
    let mut output = Vec::with_capacity(1 << 18);
    let mut subscriptions: Vec<(String, String)> = Vec::new();
    let mut sequence = 0_u64;
    loop {
        if stream.read_buf(&mut input).await? == 0 {
            return Ok(());
        }
        while let Some(end) = input.windows(2).position(|pair| pair == b"\r\n") {
            let line = std::str::from_utf8(&input[..end])?;
            let words: Vec<&str> = line.split(' ').collect();
            let body = match words[0] {
                "PUB" | "HPUB" => words.last().context("a size")?.parse::<usize>()? + 2,
                _ => 0,
            };
            if input.len() < end + 2 + body {
                break;
            }
            match words[0] {
                "PING" => output.extend_from_slice(b"PONG\r\n"),
                "SUB" => {
                    let prefix = words[1].trim_end_matches('>').to_owned();
                    subscriptions.push((prefix, (*words.last().context("a number")?).to_owned()));
                }
                // PUB subject reply size, HPUB subject reply headers size.
                "PUB" if words.len() == 4 => ack(&mut output, &subscriptions, words[2], &mut sequence),
                "HPUB" if words.len() == 5 => ack(&mut output, &subscriptions, words[2], &mut sequence),
                _ => {}
            }
            input.advance(end + 2 + body);
        }
        stream.write_all(&output).await?;
        output.clear();
    }
}

fn ack(output: &mut Vec<u8>, subscriptions: &[(String, String)], reply: &str, sequence: &mut u64) {
    *sequence += 1;
    let found = subscriptions
        .iter()
        .find(|(prefix, _)| reply.starts_with(prefix.as_str()));
    if let Some((_, sid)) = found {
        let body = format!("{{\"stream\":\"X\", \"seq\":{sequence}}}");
        output.extend_from_slice(format!("MSG {reply} {sid} {}\r\n{body}\r\n", body.len()).as_bytes());
    }
}
