//! Alerts in real time: readings come as events, and whoever watches them raises an alert when a sensor is too hot for three
//! readings in a row. `cargo xtask nats up`, then `NATS_URL=… cargo run -p examples --example alerts`.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use natstream::{ConnectConfig, Connection, HandlerError, Message, Pool, Server};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::unbounded_channel;

const LIMIT: f64 = 90.0;

#[derive(Debug, Serialize, Deserialize)]
struct Alert {
    sensor: String,
    celsius: f64,
}

/// How many readings in a row were too hot, by sensor.
#[derive(Clone, Default)]
struct Watch(Arc<Mutex<HashMap<String, u32>>>);

impl Watch {
    /// An alert, at the third hot reading and not again before the sensor has cooled down.
    fn read(&self, sensor: &str, celsius: f64) -> Option<Alert> {
        let mut sensors = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let hot = sensors.entry(sensor.to_owned()).or_insert(0);
        *hot = if celsius > LIMIT { *hot + 1 } else { 0 };
        let sensor = sensor.to_owned();
        (*hot == 3).then_some(Alert { sensor, celsius })
    }
}

async fn watch(watch: Watch, pool: Pool, reading: Message) -> Result<(), HandlerError> {
    let sensor = reading.subject().rsplit('.').next().unwrap_or_default();
    if let Some(alert) = watch.read(sensor, reading.json()?) {
        // To everybody who wants to know. What must reach somebody goes to a stream: see `welcome_mail`.
        let raised = pool
            .publish_as(format!("examples.alerts.raised.{sensor}"), &alert)
            .await;
        raised.map_err(HandlerError::internal)?;
    }
    Ok(())
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let url = std::env::var("NATS_URL").unwrap_or_else(|_| "nats://127.0.0.1:4222".to_owned());
    let connection = Connection::connect(ConnectConfig::new(url)).await?;
    let (server, pool) = (Server::new(connection.clone()), Pool::new(connection));
    let (raised, mut alerts) = unbounded_channel();
    server
        .on_message("examples.alerts.raised.*", move |alert| {
            let raised = raised.clone();
            async move {
                let _ = raised.send(alert.json::<Alert>()?);
                Ok(())
            }
        })
        .max_concurrent(1)
        .await?;
    let (watched, publisher) = (Watch::default(), pool.clone());
    server
        .on_message("examples.alerts.readings.*", move |reading| {
            watch(watched.clone(), publisher.clone(), reading)
        })
        // What is counted in a row must come in a row.
        .max_concurrent(1)
        .await?;

    let boiler = [80.0, 95.0, 96.0, 70.0, 91.0, 92.0, 93.0, 94.0, 60.0];
    let hall = [20.0, 21.0, 99.0, 99.0, 20.0, 99.0, 20.0, 20.0, 20.0];
    for (boiler, hall) in boiler.iter().zip(hall) {
        pool.publish_as("examples.alerts.readings.boiler", boiler).await?;
        pool.publish_as("examples.alerts.readings.hall", &hall).await?;
    }
    if let Some(alert) = alerts.recv().await {
        println!("{} is at {} degrees", alert.sensor, alert.celsius);
    }
    server.drain(Duration::from_secs(5)).await;
    alerts.close();
    println!("further alerts: {}", alerts.recv().await.is_some());
    Ok(())
}
