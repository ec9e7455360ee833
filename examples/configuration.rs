//! Configuration that is watched: whoever uses it has the values that there are, and what changes, and two who change it do
//! not overwrite each other. `cargo run -p examples --example configuration`.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use natstream::eventbus::kv::{Buckets, Change, KvErrorKind, KvSpec};
use natstream::eventbus::topology::Storage;
use natstream::{ConnectConfig, Connection, Kv};

/// Raises a limit, whoever else does so at the same time.
async fn raise(limits: &Kv<u64>, key: &str, by: u64) -> anyhow::Result<u64> {
    loop {
        let (limit, revision) = match limits.entry(key).await? {
            Some(entry) => (entry.value.unwrap_or_default(), entry.revision),
            None => (0, 0),
        };
        match limits.update(key, limit + by, revision).await {
            // Somebody else was faster.
            Err(error) if error.kind() == KvErrorKind::WrongRevision => {}
            updated => {
                updated?;
                return Ok(limit + by);
            }
        }
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let url = std::env::var("NATS_URL").unwrap_or_else(|_| "nats://127.0.0.1:4222".to_owned());
    let connection = Connection::connect(ConnectConfig::new(url)).await?;
    let spec = KvSpec::new("examples-config").history(5).storage(Storage::Memory);
    let limits = Kv::create(connection.clone(), &spec).await?.typed::<u64>();
    limits.put("limits.rate", 100).await?;

    let mut watch = limits.watch("limits.>").await?;
    // Until all that there is was given.
    while let Change::Entry(entry) = watch.next().await? {
        println!("{} is {:?}", entry.key, entry.value);
    }
    let (a, b) = tokio::join!(raise(&limits, "limits.rate", 10), raise(&limits, "limits.rate", 10));
    println!("raised to {}", a?.max(b?));
    limits.delete("limits.rate").await?;
    for _ in 0..3 {
        if let Change::Entry(entry) = watch.next().await? {
            println!("{} becomes {:?}", entry.key, entry.value);
        }
    }
    Buckets::new(connection).delete("examples-config").await?;
    Ok(())
}
