//! An answer that goes on at another responder when the one that sends it is killed with SIGKILL in the middle. The program
//! starts itself as both of them. It takes some seconds: so long a responder may be silent before it counts as gone.
//! `cargo xtask nats up`, then `NATS_URL=… cargo run -p examples --example resume`.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use natstream::{
    ConnectConfig, Connection, HandlerError, NextRequest, Pool, Request, ResponseSender, Responses, Server,
};

const COUNT: u64 = 200_000;

/// The responder that is killed after so many items were read.
const KILL_AFTER: u64 = 50_000;

/// Counts from the number that was asked for, and says who it is.
async fn count(from: u64, _request: Request, mut out: ResponseSender) -> Result<(), HandlerError> {
    out.header("Process", std::process::id().to_string())?;
    for number in from..COUNT {
        out.send(number.to_string()).await?;
    }
    Ok(())
}

/// The processes that are killed, or end when this one has: their input is closed then.
async fn respond(connection: Connection) -> anyhow::Result<()> {
    let server = Server::new(connection);
    server.on_typed("examples.resume", count).await?;
    println!("ready");
    let input_ends = tokio::task::spawn_blocking(|| std::io::stdin().lines().count());
    server.serve_until(input_ends).await;
    Ok(())
}

fn start_responder() -> anyhow::Result<Child> {
    let mut child = Command::new(std::env::current_exe()?)
        .arg("responder")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut line = String::new();
    if let Some(output) = child.stdout.take() {
        BufReader::new(output).read_line(&mut line)?;
    }
    anyhow::ensure!(line == "ready\n", "the responder has not started");
    Ok(child)
}

/// Who sends the answer.
fn process(responses: &Responses) -> Option<u32> {
    responses.header("Process")?.parse().ok()
}

fn number(item: &[u8]) -> Option<u64> {
    std::str::from_utf8(item).ok()?.parse().ok()
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let url = std::env::var("NATS_URL").unwrap_or_else(|_| "nats://127.0.0.1:4222".to_owned());
    let connection = Connection::connect(ConnectConfig::new(url)).await?;
    if std::env::args().nth(1).is_some() {
        return respond(connection).await;
    }
    let mut responders = [start_responder()?, start_responder()?];

    let mut numbers = Pool::new(connection)
        .request_stream("examples.resume", "0")
        // Called when an answer breaks off, with the last item: what follows it is asked for.
        .resume(|last| NextRequest::new(number(last).map_or(0, |last| last + 1).to_string()))
        .heartbeat(Duration::from_secs(1))
        // So that the responder is not done before it is killed: it may not be so far ahead of the reader.
        .window(64 * 1024)
        .await?;
    let (mut expected, mut killed) = (0, None);
    while let Some(item) = numbers.try_next().await? {
        anyhow::ensure!(number(&item) == Some(expected), "expected {expected}, and got {item:?}");
        expected += 1;
        if expected == KILL_AFTER {
            killed = process(&numbers);
            let sender = responders.iter_mut().find(|responder| Some(responder.id()) == killed);
            // SIGKILL: it has no time to do anything.
            sender.ok_or_else(|| anyhow::anyhow!("nobody has sent this"))?.kill()?;
        }
    }
    println!("{expected} numbers, each once, in order");
    println!(
        "attempt {}, by another process: {}",
        numbers.attempt(),
        killed != process(&numbers)
    );
    for responder in &mut responders {
        // The other one ends as its input does.
        drop(responder.stdin.take());
        responder.wait()?;
    }
    Ok(())
}
