//! A release is distributed as an object: put from a reader, read as a stream, checked at the end.
//! `cargo run -p examples --example release`.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use natstream::eventbus::topology::Storage;
use natstream::{ConnectConfig, Connection, ObjectSpec, Objects};
use tokio::io::AsyncReadExt as _;

const MIB: u64 = 1 << 20;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let url = std::env::var("NATS_URL").unwrap_or_else(|_| "nats://127.0.0.1:4222".to_owned());
    let connection = Connection::connect(ConnectConfig::new(url)).await?;
    let spec = ObjectSpec::new("examples-releases").storage(Storage::Memory);
    let releases = Objects::create(connection.clone(), &spec).await?;

    // Any reader will do, a file for example; there is never more of it in memory than the window.
    let archive = tokio::io::repeat(b'r').take(10 * MIB);
    let info = releases
        .put("app-1.0.tar")
        .description("the first one")
        .metadata("platform", "linux")
        .on_progress(|stored| {
            if stored % (5 * MIB) == 0 {
                println!("{} MiB are stored", stored / MIB);
            }
        })
        .read(archive)
        .await?;
    println!("{} has {} chunks", info.name, info.chunks);

    let mut release = releases.get("app-1.0.tar").await?;
    let mut read = 0;
    // An error, in place of the end, where a part is missing, or is not what was put.
    while let Some(chunk) = release.chunk().await? {
        read += chunk.len() as u64;
    }
    println!("{} MiB were read, and are what was put", read / MIB);
    for info in releases.list().await? {
        println!("{}: {} bytes", info.name, info.size);
    }
    Objects::delete_bucket(&connection, "examples-releases").await?;
    Ok(())
}
