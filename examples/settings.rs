//! Configuration from a file and the environment: which value is in force, where it comes from, and a connection with it.
//! `cargo xtask nats up`, then `NATS_URL=… cargo run -p examples --example settings -- [FILE]`; without a file, one that goes
//! with the program.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use natstream::connect::settings::Loader;
use natstream::{Connection, Pool};

/// As the seeds' `configs/sdk/nats.yaml`. docs/configuration.md has all keys.
const FILE: &str = "\
urls:
  - nats://nats-1.example:4222
  - nats://nats-2.example:4222
name: orders
username: orders
password: not to be shown   # or password_file, which is read again at every reconnect
timeout: 10s
ping_interval: 2m
max_reconnect: 10
reconnect_wait: 2s
jetstream_enabled: true
";

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let temporary = std::env::temp_dir().join(format!("natstream-settings-{}.yaml", std::process::id()));
    let given = std::env::args().nth(1).map(PathBuf::from);
    if given.is_none() {
        fs::write(&temporary, FILE)?;
    }
    // The environment is stronger than the file, and code is stronger than both.
    let loaded = Loader::new()
        .environment(std::env::vars_os())
        .config_file(given.as_ref().unwrap_or(&temporary))
        .set("name", "orders-example")
        .load();
    if given.is_none() {
        fs::remove_file(temporary)?;
    }
    // An error says everything that is wrong, and not only the first.
    let settings = loaded?;
    for setting in settings.iter() {
        println!("{} = {} ({})", setting.key(), setting.value(), setting.origin());
    }
    for warning in settings.warnings() {
        println!("warning: {warning}");
    }

    // `ConnectConfig::load()` is the short form of it, for the environment and what that names.
    let connection = Connection::connect(settings.connect_config()).await?;
    Pool::new(connection.clone()).flush(Duration::from_secs(5)).await?;
    println!("connected: {}", connection.state().borrow().is_connected());
    connection.close(Duration::from_secs(5)).await?;
    Ok(())
}
