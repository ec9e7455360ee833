//! Servers from Consul, and those of the configuration when it names none. Changes in Consul move the running connection.
//! `CONSUL_HTTP_ADDR=… NATS_URL=… cargo run -p examples --example consul`.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::time::Duration;

use natstream::Connection;
use natstream::connect::settings::Loader;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let settings = Loader::new()
        .environment(std::env::vars_os())
        // As in the seeds' file; `NATSTREAM_USE_CONSUL=true` does the same.
        .set("use_consul", "true")
        .set("service_name", "nats-service")
        // Consul has half of it to answer.
        .set("timeout", "6s")
        .load()?;
    println!(
        "asked for {} at {}",
        settings.service_name(),
        settings.consul_address().unwrap_or("the default address")
    );
    let connection = Connection::connect(settings.connect_config()).await?;
    println!("connected to {}", connection.server_url().unwrap_or_default());
    connection.close(Duration::from_secs(5)).await?;
    Ok(())
}
