//! What users may not do: errors that say so at once where that can be known, and in bounded time elsewhere.

use std::time::{Duration, Instant};

use integration::LIMIT;
use integration::numbers::count;
use natstream::{
    ConnectConfig, Connection, Credentials, Denied, Dialect, Endpoint, Pool, RequestError, RequestErrorKind, Server,
};
use testkit::{NatsServer, within};

mod hostile;
mod load;
mod reload;
mod requester;
mod responder;
mod tokens;

/// The shortest: silence is lost after three.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// A refusal of nats-server takes a round trip. No clock of a call is as short.
const AT_ONCE: Duration = Duration::from_secs(2);

/// All that a call can be.
const DIALECTS: [Dialect; 5] = [
    Dialect::Native,
    Dialect::Text,
    Dialect::Sentinel,
    Dialect::AutoText,
    Dialect::AutoSentinel,
];

/// More than one message.
const LONG: &str = "20000";
const LONG_ITEMS: u64 = 20_000;

/// Users of one account, each with what it may do. `all` may do everything.
fn users(users: &[(&str, &str)]) -> String {
    format!("authorization {{ users = [{}] }}", list(users))
}

/// The users that serve in an account that exports `svc.>`, and those that call in another one that imports it.
fn accounts(servers: &[(&str, &str)], callers: &[(&str, &str)]) -> String {
    format!(
        "accounts {{
          SVC {{ users = [{}], exports = [{{service: \"svc.>\", response_type: stream, response_threshold: \"5s\"}}] }}
          APP {{ users = [{{user: caller, password: p}}, {}],
                 imports = [{{service: {{account: SVC, subject: \"svc.>\"}}}}] }}
        }}",
        list(servers),
        callers.iter().map(user).collect::<String>(),
    )
}

fn list(users: &[(&str, &str)]) -> String {
    let all = "{user: all, password: p}".to_owned();
    users.iter().map(user).fold(all, |list, user| list + "\n" + &user)
}

fn user((name, permissions): &(&str, &str)) -> String {
    format!("{{user: {name}, password: p, permissions: {{{permissions}}}}}\n")
}

async fn start(config: String) -> NatsServer {
    within(LIMIT, NatsServer::builder().monitoring(true).config(config).start()).await
}

fn config(nats: &NatsServer, user: &str) -> ConnectConfig {
    ConnectConfig::new(nats.url()).credentials(Credentials::user_password(user, "p"))
}

async fn connect(nats: &NatsServer, user: &str) -> Connection {
    within(LIMIT, Connection::connect(config(nats, user)))
        .await
        .expect("connected")
}

async fn pool(nats: &NatsServer, user: &str) -> Pool {
    Pool::new(connect(nats, user).await)
}

/// A server that counts on `svc.count`, and also for callers that may not publish to control subjects.
async fn serve(connection: Connection) -> (Server, Endpoint) {
    let server = Server::new(connection);
    let endpoint = server.on("svc.count", count).allow_uncontrolled(true);
    let endpoint = within(LIMIT, endpoint).await.expect("served");
    (server, endpoint)
}

#[track_caller]
fn assert_denied(error: &RequestError, denied: Denied, began: Instant) {
    let seen = (error.kind(), error.denied());
    assert_eq!(seen, (RequestErrorKind::NotPermitted, Some(denied)), "{error}");
    assert!(error.hint().is_some(), "{error}");
    assert!(began.elapsed() < AT_ONCE, "{error} after {:?}", began.elapsed());
}
