//! A mail for each user that was created: a service that listens to some events of a stream, and tries again when the mail
//! server does not answer. `cargo run -p examples --example welcome_mail`.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::sync::Mutex;
use std::time::Duration;

use natstream::eventbus::envelope::Envelope;
use natstream::eventbus::topology::Storage;
use natstream::eventbus::{HandlerError, Message};
use natstream::{Bus, ConnectConfig, Connection, Consumer, ConsumerSpec, StreamSpec, Topology};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct User {
    name: String,
}

/// Delivery is at least once, so whoever acts on the world remembers what was done: the mail server, by the id of the event.
#[derive(Default)]
struct MailServer {
    sent: Mutex<Vec<(String, String)>>,
}

impl MailServer {
    fn send(&self, id: &str, to: &str, attempt: u64) -> std::io::Result<()> {
        if to == "Grace" && attempt == 1 {
            return Err(std::io::ErrorKind::TimedOut.into());
        }
        let mut sent = self.sent.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if !sent.iter().any(|(known, _)| known == id) {
            sent.push((id.to_owned(), to.to_owned()));
        }
        Ok(())
    }
}

async fn welcome(mails: &MailServer, message: Message) -> Result<(), HandlerError> {
    // What cannot be read today cannot be read tomorrow.
    let event: Envelope<User> = Envelope::read(message.payload(), message.headers())
        .map_err(|error| HandlerError::reject(format!("no event: {error}")))?;
    // Any other error means: again, after a pause.
    mails.send(&event.attributes.id, &event.data.name, message.attempt())?;
    Ok(())
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let url = std::env::var("NATS_URL").unwrap_or_else(|_| "nats://127.0.0.1:4222".to_owned());
    let connection = Connection::connect(ConnectConfig::new(url)).await?;
    let topology = Topology::new(connection.clone());
    let stream = StreamSpec::new("EXAMPLE_USERS", ["examples.users.>"]).storage(Storage::Memory);
    topology.ensure(&stream).await?;
    let bus = Bus::open(connection.clone()).await?;
    for (name, what) in [
        ("Ada", "created"),
        ("Ada", "renamed"),
        ("Grace", "created"),
        ("Edsger", "created"),
    ] {
        let user = User { name: name.to_owned() };
        let envelope = Envelope::new("/users", format!("user.{what}"), user);
        bus.publish(envelope.event(format!("examples.users.{what}"))?).await?;
    }

    let spec = ConsumerSpec::new("EXAMPLE_USERS", "mail").filters(["examples.users.created"]);
    let consumer = Consumer::builder(connection, spec)
        .backoff([Duration::from_millis(100), Duration::from_secs(5)])
        // A service goes on for ever; this one has seen enough after three.
        .limit(3)
        .open()
        .await?;
    let mails = std::sync::Arc::new(MailServer::default());
    consumer
        .for_each({
            let mails = mails.clone();
            move |message| {
                let mails = mails.clone();
                async move { welcome(&mails, message).await }
            }
        })
        .await?;
    let mut names: Vec<String> = mails
        .sent
        .lock()
        .map_err(|_| anyhow::anyhow!("a handler has panicked"))?
        .iter()
        .map(|(_, name)| name.clone())
        .collect();
    names.sort();
    println!("welcome, {}", names.join(", "));
    println!("{} attempts failed", consumer.stats().failed);
    topology.delete("EXAMPLE_USERS").await?;
    Ok(())
}
