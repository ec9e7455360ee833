//! The Consul of tests keeps to the documented API.

use std::time::Duration;

use testkit::{ConsulFault, ConsulInstance, ConsulServer, within};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

const LIMIT: Duration = Duration::from_secs(10);

/// Everything that comes back.
async fn get(consul: &ConsulServer, target: &str, header: &str) -> String {
    let mut stream = TcpStream::connect(consul.address()).await.unwrap();
    let request = format!("GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{header}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = Vec::new();
    // A reset is an end too.
    let _ = within(LIMIT, stream.read_to_end(&mut text)).await;
    String::from_utf8_lossy(&text).into_owned()
}

async fn ports(consul: &ConsulServer, target: &str) -> Vec<u64> {
    let text = get(consul, target, "").await;
    let body = text.split_once("\r\n\r\n").expect("a body").1;
    let entries: serde_json::Value = serde_json::from_str(body).expect("JSON");
    let entries = entries.as_array().expect("a list").iter();
    entries
        .map(|entry| entry["Service"]["Port"].as_u64().unwrap())
        .collect()
}

#[tokio::test]
async fn instances_are_chosen_by_health_tags_and_datacentre() {
    let consul = ConsulServer::start().await;
    let instance = |port: u16| ConsulInstance::new(format!("127.0.0.1:{port}"));
    consul.set(
        "nats",
        [instance(1), instance(2).failing(), instance(3).tag("a").tag("b c")],
    );
    for (query, expected) in [
        ("", &[1, 2, 3][..]),
        ("?passing", &[1, 3]),
        ("?passing=true&tag=A&tag=b%20c", &[3]),
        ("?passing=1&tag=a&tag=x", &[]),
        ("?dc=dc1&passing=false&stale", &[1, 2, 3]),
    ] {
        let target = format!("/v1/health/service/nats{query}");
        assert_eq!(ports(&consul, &target).await, expected, "{query}");
        assert_eq!(consul.targets().last(), Some(&target));
    }
    assert_eq!(ports(&consul, "/v1/health/service/other").await, [0_u64; 0]);
    for (target, status) in [
        ("/v1/health/service/nats?dc=x", "500"),
        ("/v1/health/service/nats?wait=x", "400"),
        ("/v1/health/service/nats?index=x", "400"),
        ("/v1/kv/x", "404"),
    ] {
        let text = get(&consul, target, "").await;
        assert!(text.starts_with(&format!("HTTP/1.1 {status} ")), "{target}: {text}");
    }
}

#[tokio::test]
async fn a_query_with_an_index_waits_for_a_newer_one() {
    let consul = ConsulServer::start().await;
    consul.set("nats", ["127.0.0.1:1"]);
    let target = format!("/v1/health/service/nats?wait=1m&index={}", consul.index());
    let change = async {
        consul.asked(1).await;
        consul.set("nats", ["127.0.0.1:2"]);
    };
    let both = async { tokio::join!(ports(&consul, &target), change) };
    assert_eq!(within(LIMIT, both).await.0, [2]);
    let brief = format!("/v1/health/service/nats?wait=20ms&index={}", consul.index());
    assert_eq!(ports(&consul, &brief).await, [2], "nothing came");
}

#[tokio::test]
async fn a_token_is_asked_for() {
    let consul = ConsulServer::start().await;
    consul.set("nats", ["127.0.0.1:1"]);
    consul.require_token("right");
    let target = "/v1/health/service/nats";
    assert!(
        get(&consul, target, "X-Consul-Token: wrong\r\n")
            .await
            .contains(" 403 ")
    );
    assert!(get(&consul, target, "X-Consul-Token: right\r\n").await.contains("Port"));
    assert!(
        get(&consul, target, "Authorization: Bearer right\r\n")
            .await
            .contains("Port")
    );
    let anonymous = get(&consul, target, "").await;
    assert!(anonymous.contains("Filtered-By-Acls: true") && anonymous.ends_with("[]"));
}

#[tokio::test]
async fn faults_take_the_api_away() {
    let consul = ConsulServer::start().await;
    consul.set("nats", ["127.0.0.1:1"]);
    let target = "/v1/health/service/nats";
    for (fault, expected) in [
        (ConsulFault::Body("{}".to_owned()), "\r\n\r\n{}"),
        (ConsulFault::Error, "HTTP/1.1 500 "),
        (ConsulFault::HalfBody, "HTTP/1.1 200 "),
        (ConsulFault::Html, "<html>"),
        (ConsulFault::NotHttp, "\x15"),
        (ConsulFault::Redirect("http://x/".to_owned()), "Location: http://x/\r\n"),
        (ConsulFault::Reset, ""),
    ] {
        consul.fail(fault.clone());
        let text = get(&consul, target, "").await;
        assert!(text.contains(expected), "{fault:?}: {text}");
    }
    consul.fail(ConsulFault::Silence);
    let silent = get(&consul, target, "");
    assert!(tokio::time::timeout(Duration::from_millis(100), silent).await.is_err());
    consul.mend();
    consul.restart(3);
    assert!(get(&consul, target, "").await.contains("X-Consul-Index: 3\r\n"));
}
