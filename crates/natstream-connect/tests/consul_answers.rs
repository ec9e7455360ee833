//! What becomes of Consul's answers, good and bad.

mod support;

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use natstream_connect::async_nats::rustls::ServerConfig;
use natstream_connect::async_nats::rustls::crypto::ring::default_provider;
use natstream_connect::async_nats::rustls::pki_types::pem::PemObject;
use natstream_connect::async_nats::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use natstream_connect::consul::{Consul, ConsulConfig, ConsulError, ConsulErrorKind};
use testkit::{
    Authority, CertificateFiles, ConsulFault, ConsulInstance, ConsulServer, Proxy, free_port, settles, settles_where,
    within,
};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsAcceptor;

use support::{LIMIT, SECRET, everything};

/// In place of 3 s.
const TIMEOUT: Duration = Duration::from_millis(300);

fn config(server: &ConsulServer) -> ConsulConfig {
    ConsulConfig::new("nats").address(server.url()).timeout(TIMEOUT)
}

fn consul(config: ConsulConfig) -> Consul {
    Consul::new(config).unwrap()
}

async fn first(consul: &Consul) -> Vec<String> {
    within(LIMIT, consul.first()).await.unwrap()
}

async fn failure(consul: &Consul) -> ConsulError {
    let error = within(LIMIT, consul.first()).await.unwrap_err();
    let text = format!("{} {consul:?}", everything(&error));
    assert!(!text.contains(SECRET), "{text}");
    error
}

/// What the watch says, once it says that.
async fn named(consul: &Consul, expected: &[&str]) {
    let mut servers = consul.servers();
    let named = servers.wait_for(|servers| **servers == *expected);
    within(LIMIT, named).await.expect("somebody asks");
}

#[tokio::test]
async fn healthy_instances_with_all_tags_are_named_and_changes_arrive() {
    let server = ConsulServer::start().await;
    let instance = |port: u16| ConsulInstance::new(format!("127.0.0.1:{port}")).tag("a").tag("b");
    server.set(
        "nats",
        [
            instance(2),
            instance(1).at_node(),
            instance(3).failing(),
            ConsulInstance::new("127.0.0.1:4").tag("a"),
        ],
    );
    let consul = consul(config(&server).datacenter("dc1").stale().tag("a").tag("b"));
    let mut servers = consul.servers();
    assert_eq!(first(&consul).await, ["nats://127.0.0.1:1", "nats://127.0.0.1:2"]);
    server.asked(2).await;
    server.set("nats", [instance(5)]);
    named(&consul, &["nats://127.0.0.1:5"]).await;
    assert!(servers.has_changed().unwrap());
    assert_eq!(**servers.borrow_and_update(), ["nats://127.0.0.1:5".to_owned()]);
    assert_eq!(
        first(&consul).await,
        ["nats://127.0.0.1:5"],
        "what is known is not asked for"
    );
    let targets = server.targets();
    assert_eq!(
        targets[0],
        "/v1/health/service/nats?passing=true&stale&dc=dc1&tag=a&tag=b"
    );
    assert!(targets[1].ends_with("&index=11&wait=60000ms"), "{}", targets[1]);
}

#[tokio::test]
async fn what_changes_nothing_is_not_told() {
    let server = ConsulServer::start().await;
    server.set("nats", ["127.0.0.1:1"]);
    let consul = consul(config(&server));
    first(&consul).await;
    let servers = consul.servers();
    server.asked(2).await;
    server.touch();
    server.asked(3).await;
    assert!(!servers.has_changed().unwrap());
}

#[tokio::test]
async fn every_bad_answer_has_its_error_and_mends() {
    let endless = format!(
        r#"{}[{{"Service": {{"Address": "a", "Port": 1}}}}]"#,
        " ".repeat(1024 * 1024)
    );
    let cases = [
        (ConsulFault::Body("{}".to_owned()), ConsulErrorKind::Garbage),
        (ConsulFault::Body("[]".to_owned()), ConsulErrorKind::NoServers),
        (ConsulFault::Body(endless), ConsulErrorKind::Garbage),
        (ConsulFault::Body(String::new()), ConsulErrorKind::Garbage),
        (ConsulFault::Error, ConsulErrorKind::Status),
        (ConsulFault::HalfBody, ConsulErrorKind::Io),
        (ConsulFault::Html, ConsulErrorKind::Garbage),
        (ConsulFault::NotHttp, ConsulErrorKind::Garbage),
        (
            ConsulFault::Redirect("http://127.0.0.1:1/".to_owned()),
            ConsulErrorKind::Status,
        ),
        (ConsulFault::Reset, ConsulErrorKind::Io),
        (ConsulFault::Silence, ConsulErrorKind::Timeout),
    ];
    join_all(cases.map(|(fault, kind)| bad_answer(fault, kind))).await;
}

async fn bad_answer(fault: ConsulFault, kind: ConsulErrorKind) {
    let server = ConsulServer::start().await;
    server.set("nats", ["127.0.0.1:1"]);
    server.fail(fault.clone());
    let consul = consul(config(&server).token(SECRET));
    let error = failure(&consul).await;
    assert_eq!(error.kind(), kind, "{fault:?}: {}", everything(&error));
    server.mend();
    // An empty list is an answer, and is followed by a question that waits.
    server.touch();
    named(&consul, &["nats://127.0.0.1:1"]).await;
    settled(&consul).await;

    // The question that waits is met by it too, and the list stays.
    server.asked(server.requests() + 1).await;
    let mut servers = consul.servers();
    server.fail(fault.clone());
    if kind != ConsulErrorKind::Timeout {
        settles_where(LIMIT, || async { consul.failure() }, Option::is_some).await;
    }
    assert!(!servers.has_changed().unwrap(), "{fault:?}");
    server.mend();
    server.restart(20);
    server.set("nats", ["127.0.0.1:2"]);
    within(LIMIT, servers.changed()).await.unwrap();
    assert_eq!(**servers.borrow(), ["nats://127.0.0.1:2".to_owned()], "{fault:?}");
    settled(&consul).await;
}

/// The failure is over.
async fn settled(consul: &Consul) {
    settles(LIMIT, || async { consul.failure().map(|error| error.kind()) }, None).await;
}

#[tokio::test(start_paused = true)]
async fn by_default_the_time_is_3_seconds() {
    // The system accepts, and nobody speaks.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let consul = consul(ConsulConfig::new("nats").address(address));
    let begun = now();
    assert!(consul.first().await.unwrap_err().is_timeout());
    assert!(begun.elapsed() >= Duration::from_secs(3), "{:?}", begun.elapsed());
    assert!(begun.elapsed() < Duration::from_millis(3010), "{:?}", begun.elapsed());
}

#[expect(clippy::disallowed_methods, reason = "tests may look at the clock")]
fn now() -> Instant {
    Instant::now()
}

#[tokio::test]
async fn a_consul_that_is_down_is_told_at_the_end_of_the_time_and_found_when_it_is_back() {
    let server = ConsulServer::start().await;
    server.set("nats", ["127.0.0.1:1"]);
    let proxy = Proxy::start(server.address()).await;
    proxy.listen(false).await;
    let consul = consul(config(&server).address(proxy.address().to_string()));
    assert_eq!(failure(&consul).await.kind(), ConsulErrorKind::Io);
    proxy.listen(true).await;
    named(&consul, &["nats://127.0.0.1:1"]).await;
    proxy.cut();
    server.set("nats", ["127.0.0.1:2"]);
    named(&consul, &["nats://127.0.0.1:2"]).await;
}

#[tokio::test]
async fn a_restart_with_a_lower_index_is_followed() {
    let server = ConsulServer::start().await;
    server.restart(1_000_000);
    server.set("nats", ["127.0.0.1:1"]);
    // At a wait of 1 s also the lower index of an answer is seen, not the reset only.
    let consul = consul(config(&server).wait(Duration::from_secs(1)));
    first(&consul).await;
    server.asked(2).await;
    server.restart(0);
    server.set("nats", ["127.0.0.1:2"]);
    named(&consul, &["nats://127.0.0.1:2"]).await;
    server.set("nats", ["127.0.0.1:3"]);
    named(&consul, &["nats://127.0.0.1:3"]).await;
}

#[tokio::test]
async fn silence_in_the_middle_is_noticed() {
    let server = ConsulServer::start().await;
    server.set("nats", ["127.0.0.1:1"]);
    let consul = consul(config(&server).wait(Duration::from_secs(1)));
    first(&consul).await;
    server.asked(2).await;
    server.fail(ConsulFault::Silence);
    server.asked(3).await;
    assert_eq!(
        consul.failure().map(|error| error.kind()),
        Some(ConsulErrorKind::Timeout)
    );
    server.mend();
    server.set("nats", ["127.0.0.1:2"]);
    named(&consul, &["nats://127.0.0.1:2"]).await;
}

#[tokio::test]
async fn a_token_is_shown_and_a_renewed_one_taken_up() {
    let server = ConsulServer::start().await;
    server.set("nats", ["127.0.0.1:1"]);
    server.require_token(SECRET);
    assert_eq!(
        failure(&consul(config(&server).token("wrong"))).await.kind(),
        ConsulErrorKind::Forbidden
    );
    let nobody = failure(&consul(config(&server))).await;
    assert_eq!(nobody.kind(), ConsulErrorKind::NoServers);
    assert!(nobody.to_string().contains("token"), "{nobody}");
    first(&consul(config(&server).token(SECRET))).await;

    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("token");
    let path = file.to_str().unwrap();
    let renewed = consul(config(&server).with_env([("CONSUL_HTTP_TOKEN_FILE", path)]).unwrap());
    let error = failure(&renewed).await;
    assert_eq!(error.kind(), ConsulErrorKind::InvalidConfig);
    assert!(error.to_string().contains(path), "{error}");
    fs::write(&file, format!("{SECRET}\n")).unwrap();
    named(&renewed, &["nats://127.0.0.1:1"]).await;
}

#[tokio::test]
async fn a_datacentre_that_is_not_there_is_named() {
    let server = ConsulServer::start().await;
    server.serve_datacenter("dc2");
    server.set("nats", ["127.0.0.1:1"]);
    let error = failure(&consul(config(&server).datacenter("dc1"))).await;
    assert_eq!(error.kind(), ConsulErrorKind::Status);
    assert!(error.to_string().contains("`dc1`"), "{error}");
    first(&consul(config(&server).datacenter("dc2"))).await;
}

#[tokio::test]
async fn a_settings_mistake_is_told_before_anything_is_asked() {
    let nats = || ConsulConfig::new("nats").address("https://127.0.0.1:1");
    for (config, part) in [
        (nats().token("a\nb"), "token"),
        (nats().ca_file("/nowhere/ca.pem"), "/nowhere/ca.pem"),
        (nats().ca_file("Cargo.toml"), "Cargo.toml"),
    ] {
        let error = Consul::new(config).unwrap_err();
        assert_eq!(error.kind(), ConsulErrorKind::InvalidConfig);
        assert!(error.to_string().contains(part), "{error}");
    }
}

#[tokio::test]
async fn tls_is_verified() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let server = ConsulServer::start().await;
    server.set("nats", ["127.0.0.1:1"]);
    let address = encrypted(&server, &authority.issue("127.0.0.1")).await;
    let ssl = [("CONSUL_HTTP_ADDR", address.as_str()), ("CONSUL_HTTP_SSL", "true")];
    let config = config(&server).with_env(ssl).unwrap();
    first(&consul(config.clone().ca_file(authority.root()))).await;

    let error = failure(&consul(config.clone().ca_file(stranger.root()))).await;
    assert_eq!(error.kind(), ConsulErrorKind::Tls, "{}", everything(&error));
    let elsewhere = encrypted(&server, &authority.issue("consul.example")).await;
    let error = failure(&consul(
        config
            .clone()
            .address(format!("https://{elsewhere}"))
            .ca_file(authority.root()),
    ))
    .await;
    assert_eq!(error.kind(), ConsulErrorKind::Tls, "{}", everything(&error));
}

/// The address of a Consul behind TLS.
#[expect(clippy::disallowed_methods, reason = "tests may spawn")]
async fn encrypted(server: &ConsulServer, files: &CertificateFiles) -> String {
    let certificate = CertificateDer::from_pem_file(&files.certificate).unwrap();
    let key = PrivateKeyDer::from_pem_file(&files.key).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind(("127.0.0.1", free_port())).await.unwrap();
    let (address, target) = (listener.local_addr().unwrap().to_string(), server.address());
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut client) = acceptor.accept(socket).await else {
                    return;
                };
                let mut target = TcpStream::connect(target).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut client, &mut target).await;
            });
        }
    });
    address
}

#[tokio::test]
async fn nobody_listening_ends_the_questions() {
    let server = ConsulServer::start().await;
    server.set("nats", ["127.0.0.1:1"]);
    let consul = consul(config(&server));
    let servers = consul.servers();
    first(&consul).await;
    server.asked(2).await;
    drop(consul);
    server.set("nats", ["127.0.0.1:2"]);
    server.asked(3).await;
    drop(servers);
    // The task ends before it asks again; a question more would come within 100 ms.
    server.set("nats", ["127.0.0.1:3"]);
    assert!(timeout(Duration::from_millis(500), server.asked(4)).await.is_err());
}
