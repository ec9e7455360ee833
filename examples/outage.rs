//! A stream whose connections break in the middle, on both sides at once: it goes on, each item once. The program puts a proxy
//! of its own before nats-server, and cuts it. `cargo xtask nats up`, then `NATS_URL=… cargo run -p examples --example outage`.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::io;
use std::time::Duration;

use anyhow::Context as _;
use natstream::{ConnectConfig, Connection, Pool, Server};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

const COUNT: u64 = 200_000;

/// Passes everything on to `server`. Whenever `cuts` changes, all connections break.
async fn proxy(listener: TcpListener, server: String, cuts: watch::Receiver<u32>) -> io::Result<()> {
    loop {
        let (mut client, _) = listener.accept().await?;
        let (server, mut cuts) = (server.clone(), cuts.clone());
        cuts.mark_unchanged();
        tokio::spawn(async move {
            let pass = async {
                let mut server = TcpStream::connect(server).await?;
                tokio::io::copy_bidirectional(&mut client, &mut server).await
            };
            tokio::select! {
                _passed = pass => {}
                _cut = cuts.changed() => {}
            }
        });
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let url = std::env::var("NATS_URL").unwrap_or_else(|_| "nats://127.0.0.1:4222".to_owned());
    let address = url.rsplit("//").next().context("NATS_URL is a URL")?.to_owned();
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let proxied = format!("nats://{}", listener.local_addr()?);
    let (cut, cuts) = watch::channel(0);
    tokio::spawn(proxy(listener, address, cuts));

    // Servers that the first one names would be reached without the proxy.
    let config = ConnectConfig::new(proxied).ignore_discovered_servers();
    let responder = Connection::connect(config.clone()).await?;
    let caller = Connection::connect(config).await?;
    let server = Server::new(responder);
    server
        .on("examples.outage", |_request, mut out| async move {
            for number in 0..COUNT {
                out.send(number.to_string()).await?;
            }
            Ok(())
        })
        .await?;

    // Whoever wants to know how the connection is reads a level, and waits for it to change.
    let mut state = caller.state();
    let mut numbers = Pool::new(caller)
        .request_stream("examples.outage", "")
        .window(64 * 1024) // or all of it would be here before the first cut
        .await?;
    let mut expected = 0;
    while let Some(number) = numbers.try_next().await? {
        anyhow::ensure!(
            number == expected.to_string(),
            "expected {expected}, and got {number:?}"
        );
        expected += 1;
        if expected == 50_000 || expected == 100_000 {
            let epoch = state.borrow_and_update().epoch;
            cut.send_modify(|cuts| *cuts += 1);
            // A reader need not wait. This one does, so that the cut is not over before it was noticed.
            state
                .wait_for(|state| state.is_connected() && state.epoch > epoch)
                .await?;
        }
    }
    println!(
        "{expected} numbers, each once, in order, over {} reconnects",
        numbers.reconnects()
    );
    println!("guarantee {:?}, attempt {}", numbers.guarantee(), numbers.attempt());
    server.drain(Duration::from_secs(5)).await;
    Ok(())
}
