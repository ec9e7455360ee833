//! Servers that cannot be used, and lists in which one can.

mod support;

use std::time::Duration;

use natstream_connect::{ConnectConfig, ConnectErrorKind, Connection};
use support::{LIMIT, TIMEOUT, connected, deserted, everything, fake, refused, server};
use testkit::within;

#[tokio::test]
async fn nobody_listens() {
    let url = deserted().await;
    // Far below the limit of a test: a refusal needs no timeout.
    let error = refused(ConnectConfig::new(url.as_str()).connect_timeout(Duration::from_secs(60))).await;
    assert_eq!(error.kind(), ConnectErrorKind::Refused);
    assert!(error.is_retryable());
    assert_eq!(
        error.to_string(),
        format!("cannot connect to {url}: nobody listens there")
    );
    let chain = everything(&error);
    assert_eq!(
        chain.matches("Connection refused").count(),
        2,
        "once in Debug, once in the chain: {chain}"
    );
}

#[tokio::test]
async fn a_silent_server_times_out() {
    let url = fake("").await;
    let limit = Duration::from_millis(200);
    let error = within(TIMEOUT, refused(ConnectConfig::new(url).connect_timeout(limit))).await;
    assert_eq!(error.kind(), ConnectErrorKind::Timeout);
    assert!(error.is_timeout());
    assert!(error.to_string().contains("200ms"), "{error}");
}

#[tokio::test]
async fn a_server_that_stops_in_the_middle_of_the_handshake_times_out() {
    let url = fake("INFO {\"max_payload\":1024}\r\n").await;
    let error = refused(ConnectConfig::new(url).connect_timeout(Duration::from_millis(200))).await;
    assert_eq!(error.kind(), ConnectErrorKind::Timeout);
}

#[tokio::test]
async fn what_does_not_speak_nats_is_said_so() {
    for (greeting, expected) in [
        ("HTTP/1.1 400 Bad Request\r\n\r\n", ConnectErrorKind::Protocol),
        ("SSH-2.0-OpenSSH_9.6\r\n", ConnectErrorKind::Protocol),
        ("INFO {\r\n", ConnectErrorKind::Protocol),
        ("PING\r\n", ConnectErrorKind::Protocol),
        ("MSG a\r\n", ConnectErrorKind::Protocol),
        // async-nats 0.51 panics over this one.
        ("-ERR\r\n", ConnectErrorKind::Protocol),
        ("-ERR 'maximum connections exceeded'\r\n", ConnectErrorKind::Rejected),
        ("-ERR 'Authorization Violation'\r\n", ConnectErrorKind::Authentication),
        ("INFO {\"connect_urls\":[\"http://x\"]}\r\n", ConnectErrorKind::Protocol),
    ] {
        let error = refused(ConnectConfig::new(fake(greeting).await)).await;
        assert_eq!(error.kind(), expected, "{greeting:?}: {}", everything(&error));
    }
}

#[tokio::test]
async fn a_server_that_is_full_is_said_so() {
    let server = server("max_connections: 2").await;
    // testkit's own look at the server may still count as one.
    let mut open = Vec::new();
    let error = loop {
        match within(LIMIT, Connection::connect(ConnectConfig::new(server.url()))).await {
            Ok(connection) => open.push(connection),
            Err(error) => break error,
        }
    };
    assert!((1..=2).contains(&open.len()));
    // The end of the connection may overtake the server's reason.
    let (rejected, cut_off) = (ConnectErrorKind::Rejected, ConnectErrorKind::Io);
    assert!([rejected, cut_off].contains(&error.kind()), "{}", everything(&error));
    assert!(error.is_retryable());
}

#[tokio::test]
async fn a_name_without_address() {
    let error = refused(ConnectConfig::new("nats://natstream.invalid")).await;
    assert_eq!(error.kind(), ConnectErrorKind::Dns, "{}", everything(&error));
}

#[tokio::test]
async fn the_next_server_of_the_list_is_used() {
    let server = server("").await;
    for bad in [
        deserted().await,
        fake("").await,
        fake("HTTP/1.1 400 Bad Request\r\n\r\n").await,
    ] {
        let config = ConnectConfig::new([bad, server.url()]).retain_servers_order();
        let connection = connected(config.connect_timeout(Duration::from_millis(500))).await;
        assert_eq!(connection.server_url().unwrap(), server.url());
        assert_eq!(connection.state().borrow().epoch, 1);
    }
}

#[tokio::test]
async fn the_error_of_a_list_names_all_and_has_the_most_telling_kind() {
    let urls = [deserted().await, fake("").await, fake("SSH-2.0\r\n").await];
    let config = ConnectConfig::new(&urls).retain_servers_order();
    let error = refused(config.connect_timeout(Duration::from_millis(200))).await;
    assert_eq!(error.kind(), ConnectErrorKind::Protocol);
    let tried: Vec<_> = error.servers_tried().collect();
    assert_eq!(
        tried,
        [
            (urls[0].as_str(), ConnectErrorKind::Refused),
            (urls[1].as_str(), ConnectErrorKind::Timeout),
            (urls[2].as_str(), ConnectErrorKind::Protocol),
        ]
    );
    let text = error.to_string();
    assert!(urls.iter().all(|url| text.contains(url)), "{text}");
}

#[tokio::test]
async fn the_whole_connect_has_a_limit() {
    let urls = [fake("").await, fake("").await, fake("").await];
    let config = ConnectConfig::new(&urls).connect_timeout(Duration::from_millis(200));
    // 3 × 200 ms; 5 s is the default for one.
    let error = within(TIMEOUT, refused(config)).await;
    assert_eq!(error.kind(), ConnectErrorKind::Timeout);
    assert_eq!(error.servers_tried().count(), 3);
}

#[tokio::test]
async fn giving_up_leaves_nothing_behind() {
    let url = fake("").await;
    let connect = Connection::connect(ConnectConfig::new(url));
    assert!(tokio::time::timeout(Duration::from_millis(50), connect).await.is_err());
    // The runtime would not end with a task of ours: there is none.
    let metrics = tokio::runtime::Handle::current().metrics();
    assert_eq!(metrics.num_alive_tasks(), 1, "only the fake server's");
}

#[tokio::test]
async fn a_setting_that_cannot_work_opens_no_socket() {
    let error = within(LIMIT, Connection::connect(ConnectConfig::new("ws://localhost")))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ConnectErrorKind::InvalidConfig);
    assert_eq!(error.field(), Some("servers"));
    assert!(error.to_string().contains("WebSocket"), "{error}");
    assert_eq!(error.servers_tried().count(), 0);
}
