//! Across accounts: a stream export, pauses longer than its threshold, and no mapping left behind.

use std::time::Duration;

use integration::LIMIT;
use natstream::{ConnectConfig, Connection, Credentials, Pool, ResponseSender, Server};
use testkit::{NatsServer, within};

const ACCOUNTS: &str = r#"
accounts {
  SVC { users = [{user: svc, password: p}], exports = [{service: "svc.>", response_type: stream, response_threshold: "1s"}] }
  APP { users = [{user: app, password: p}], imports = [{service: {account: SVC, subject: "svc.>"}}] }
}
"#;

async fn connect(nats: &NatsServer, user: &str) -> Connection {
    let config = ConnectConfig::new(nats.url()).credentials(Credentials::user_password(user, "p"));
    within(LIMIT, Connection::connect(config)).await.expect("connected")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_crosses_accounts_and_outlives_its_threshold() {
    let nats = NatsServer::builder().config(ACCOUNTS).start().await;
    let server = Server::new(connect(&nats, "svc").await);
    let pool = Pool::new(connect(&nats, "app").await);
    let large = |_request, mut out: ResponseSender| async move {
        for number in 0..20_000u32 {
            out.send([number.to_be_bytes(); 32].concat()).await?;
        }
        Ok(())
    };
    within(LIMIT, server.on("svc.large", large)).await.expect("served");
    let slow = |_request, mut out: ResponseSender| async move {
        out.send("1").await?;
        // sleep: longer than the threshold after which nats-server forgets a silent stream
        tokio::time::sleep(Duration::from_millis(2500)).await;
        out.send("2").await?;
        Ok(())
    };
    within(LIMIT, server.on("svc.slow", slow)).await.expect("served");

    let responses = within(LIMIT, pool.request_stream("svc.large", "")).await.expect("sent");
    let items = within(LIMIT, responses.collect_all(16 << 20)).await.expect("complete");
    assert_eq!(items.len(), 20_000);
    let responses = within(LIMIT, pool.request_stream("svc.slow", "")).await.expect("sent");
    let items = within(LIMIT, responses.collect_all(1000)).await.expect("complete");
    assert_eq!(items, ["1", "2"]);
}
