//! Across accounts: every type of export, calls of every ending, reconnects, and no mapping left behind.

use std::time::Duration;

use integration::LIMIT;
use natstream::{ConnectConfig, Connection, Credentials, Pool, RetryBudget, Server};
use testkit::{NatsServer, settles, within};

mod calls;
mod exports;
mod reconnects;
mod stream;

/// The shortest: silence is lost after three.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// What exports `svc.>` so, and imports it.
fn accounts(export: &str, imports: &str) -> String {
    format!(
        "accounts {{
          SVC {{ users = [{{user: svc, password: p}}], exports = [{{service: \"svc.>\"{export}}}] }}
          APP {{ users = [{{user: app, password: p}}], imports = [{imports}] }}
        }}"
    )
}

/// The whole service under its own name.
const IMPORT: &str = "{service: {account: SVC, subject: \"svc.>\"}}";

/// What streams need.
const STREAM: &str = ", response_type: stream";

/// A nats-server with both accounts, a caller in one and a responder in the other.
struct Accounts {
    nats: NatsServer,
    pool: Pool,
    server: Server,
}

impl Accounts {
    /// With `export` behind the subject of the export.
    async fn start(export: &str) -> Self {
        Self::start_with(accounts(export, IMPORT)).await
    }

    async fn start_with(config: String) -> Self {
        let nats = within(LIMIT, NatsServer::builder().monitoring(true).config(config).start()).await;
        let server = Server::new(connect(nats.url(), "svc").await);
        let pool = pool(connect(nats.url(), "app").await);
        Self { nats, pool, server }
    }

    /// Waits until no mapping is left in either account.
    async fn settled(&self) {
        settles(LIMIT, || mappings(&self.nats), [0, 0]).await;
    }
}

/// A pool that may try again as often as a test wants.
fn pool(connection: Connection) -> Pool {
    let budget = RetryBudget::new(1000.0, 1_000_000);
    Pool::builder(connection).retry_budget(budget).build()
}

async fn connect(url: String, user: &str) -> Connection {
    let config = ConnectConfig::new(url).credentials(Credentials::user_password(user, "p"));
    within(LIMIT, Connection::connect(config)).await.expect("connected")
}

/// What is left of calls in nats-server: in the account that serves, and in the one that calls.
async fn mappings(nats: &NatsServer) -> [usize; 2] {
    [nats.mappings("SVC").await, nats.mappings("APP").await]
}
