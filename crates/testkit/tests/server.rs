//! The guard over a real nats-server.
#![expect(
    clippy::disallowed_methods,
    reason = "how long a process takes to go away is measured by the real clock"
)]

use std::{
    env, fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use futures_util::StreamExt as _;
use testkit::{NatsServer, shared_url, within};

const START: Duration = Duration::from_secs(15);

/// What a server greets a new client with.
fn info(url: &str) -> serde_json::Value {
    let stream = TcpStream::connect(url.strip_prefix("nats://").unwrap()).unwrap();
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).unwrap();
    serde_json::from_str(line.strip_prefix("INFO ").unwrap()).unwrap()
}

fn listens(url: &str) -> bool {
    TcpStream::connect(url.strip_prefix("nats://").unwrap()).is_ok()
}

/// Polls for what another process does; nothing tells us when it is done.
fn eventually(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < deadline, "not within 10 s: {what}");
        // sleep: the interval of the poll.
        thread::sleep(Duration::from_millis(5));
    }
}

#[tokio::test]
async fn options_reach_the_server() {
    let plain = within(START, NatsServer::start()).await;
    assert!(info(&plain.url())["jetstream"].is_null());

    let server = NatsServer::builder()
        .jetstream(true)
        .monitoring(true)
        .config("max_payload: 12345\nserver_name: \"from-config\"");
    let server = within(START, server.start()).await;
    let info = info(&server.url());
    assert_eq!(info["jetstream"], true);
    assert_eq!(info["max_payload"], 12345);
    assert_eq!(info["server_name"], "from-config");

    let monitoring = server.monitoring_url();
    let mut page = TcpStream::connect(monitoring.strip_prefix("http://").unwrap()).unwrap();
    page.write_all(b"GET /varz HTTP/1.0\r\n\r\n").unwrap();
    let mut text = String::new();
    page.read_to_string(&mut text).unwrap();
    assert!(text.contains("from-config"), "{text}");
}

#[tokio::test]
async fn kill_and_restart_keep_the_ports() {
    let builder = NatsServer::builder().monitoring(true).jetstream(true);
    let mut server = within(START, builder.start()).await;
    let (url, monitoring, pid) = (server.url(), server.monitoring_url(), server.pid());
    let id = info(&url)["server_id"].clone();

    server.kill();
    assert!(!server.is_running());
    assert!(!listens(&url));
    server.kill();

    within(START, server.restart()).await;
    assert_eq!((server.url(), server.monitoring_url()), (url.clone(), monitoring));
    assert_ne!(server.pid(), pid);
    assert_ne!(info(&url)["server_id"], id);

    // A running server is stopped first.
    let pid = server.pid();
    within(START, server.restart()).await;
    assert_ne!(server.pid(), pid);
    assert!(listens(&url));
}

#[tokio::test]
async fn stop_is_orderly() {
    let mut server = within(START, NatsServer::start()).await;
    let url = server.url();
    within(START, server.stop()).await;
    assert!(!server.is_running());
    assert!(!listens(&url));
    assert!(server.log().contains("Server Exiting"), "{}", server.log());
    within(START, server.stop()).await;
}

#[tokio::test]
async fn a_paused_server_accepts_and_says_nothing() {
    let mut server = within(START, NatsServer::start()).await;
    server.pause();
    let stream = TcpStream::connect(("127.0.0.1", server.port())).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let mut byte = [0];
    (&stream).read(&mut byte).unwrap_err();

    server.resume();
    stream.set_read_timeout(Some(START)).unwrap();
    assert_eq!((&stream).read(&mut byte).unwrap(), 1);
}

#[tokio::test]
async fn a_lame_duck_says_so_and_ends() {
    let builder = NatsServer::builder().config("lame_duck_grace_period: \"100ms\"\nlame_duck_duration: \"30s\"");
    let mut server = within(START, builder.start()).await;
    let url = server.url();
    let stream = TcpStream::connect(("127.0.0.1", server.port())).unwrap();
    stream.set_read_timeout(Some(START)).unwrap();
    (&stream)
        .write_all(b"CONNECT {\"verbose\":false,\"protocol\":1}\r\nPING\r\n")
        .unwrap();
    let mut lines = BufReader::new(&stream).lines().map(Result::unwrap);
    // The server knows the client.
    assert!(lines.any(|line| line == "PONG"));

    server.lame_duck();
    assert!(lines.any(|line| line.starts_with("INFO ") && line.contains("\"ldm\":true")));
    // Its connection is closed.
    lines.by_ref().for_each(drop);
    within(START, server.ended(START)).await;
    assert!(!server.is_running());
    assert!(!listens(&url));

    within(START, server.restart()).await;
    assert!(listens(&url));
}

#[tokio::test]
async fn drop_ends_the_process_and_removes_its_directory() {
    let server = within(START, NatsServer::builder().jetstream(true).start()).await;
    let (url, dir) = (server.url(), server.dir().to_owned());
    drop(server);
    assert!(!listens(&url));
    assert!(!dir.exists());
}

#[tokio::test]
async fn a_server_that_does_not_start_shows_its_log() {
    let bad = NatsServer::builder().config("max_payload: banana");
    let error = within(START, bad.try_start()).await.unwrap_err().to_string();
    assert!(error.contains("bad") || error.contains("banana"), "{error}");

    let taken = within(START, NatsServer::start()).await;
    let second = NatsServer::builder().port(taken.port());
    let error = within(START, second.try_start()).await.unwrap_err().to_string();
    assert!(error.contains("address already in use"), "{error}");
}

#[tokio::test]
async fn the_shared_server_is_one_server() {
    let url = shared_url();
    assert_eq!(url, shared_url());
    let first = info(url);
    assert_eq!(first["jetstream"], true);
    assert_eq!(first["server_id"], info(shared_url())["server_id"]);
}

/// Not a test by itself: the process that [`a_killed_test_leaves_nothing_behind`] kills.
#[tokio::test]
async fn helper_that_waits_to_be_killed() {
    let Some(file) = env::var_os("TESTKIT_HELPER") else {
        return;
    };
    let server = within(START, NatsServer::builder().jetstream(true).start()).await;
    let told = format!("{}\n{}\n", server.url(), server.dir().display());
    // A rename, so that the reader never sees half of it.
    let part = Path::new(&file).with_extension("part");
    fs::write(&part, told).unwrap();
    fs::rename(part, file).unwrap();
    std::future::pending::<()>().await;
}

#[test]
fn a_killed_test_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("told");
    let mut helper = Command::new(env::current_exe().unwrap())
        .args(["--exact", "helper_that_waits_to_be_killed"])
        .env("TESTKIT_HELPER", &file)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    eventually("the helper's server runs", || file.exists());
    let told = fs::read_to_string(file).unwrap();
    let (url, server_dir) = told.trim_end().split_once('\n').unwrap();
    assert!(listens(url));

    helper.kill().unwrap();
    helper.wait().unwrap();
    eventually("its server has gone", || !listens(url));
    eventually("its directory has gone", || !Path::new(server_dir).exists());
}

#[tokio::test]
async fn a_reload_changes_what_a_running_server_does() {
    let config = |user: &str| format!("authorization {{ users = [{{user: {user}, password: p}}] }}");
    let server = NatsServer::builder().config(config("old"));
    let mut server = within(START, server.start()).await;
    let (pid, url) = (server.pid(), server.url());
    let connect = async |user: &str| {
        let options = async_nats::ConnectOptions::with_user_and_password(user.to_owned(), "p".to_owned());
        options.connect(&url).await.is_ok()
    };
    assert!(connect("old").await && !connect("new").await);
    within(START, server.reload(config("new"))).await;
    assert!(connect("new").await && !connect("old").await);
    assert_eq!(server.pid(), pid);
    // A restart keeps it.
    within(START, server.restart()).await;
    assert!(connect("new").await && !connect("old").await);
}

#[tokio::test]
async fn mappings_are_counted_for_each_account() {
    let config = r#"accounts {
        A { users = [{user: a, password: p}], exports = [{service: "s", response_type: stream}] }
        B { users = [{user: b, password: p}], imports = [{service: {account: A, subject: "s"}}] }
    }"#;
    let server = NatsServer::builder().monitoring(true).config(config);
    let server = within(START, server.start()).await;
    let connect = async |user: &str| {
        let options = async_nats::ConnectOptions::with_user_and_password(user.to_owned(), "p".to_owned());
        options.connect(server.url()).await.expect("connected")
    };
    let (serves, asks) = (connect("a").await, connect("b").await);
    let mut requests = serves.subscribe("s").await.expect("subscribed");
    // A round trip: `flush` is none.
    serves.request("nobody", "".into()).await.expect_err("nobody answers");
    let inbox = asks.new_inbox();
    let mut answers = asks.subscribe(inbox.clone()).await.expect("subscribed");
    asks.publish_with_reply("s", inbox, "".into()).await.expect("sent");
    let request = within(START, requests.next()).await.expect("a request");
    assert_eq!((server.mappings("A").await, server.mappings("B").await), (1, 0));
    // An empty message is the end.
    let reply = request.reply.expect("a reply subject");
    serves.publish(reply, "".into()).await.expect("sent");
    within(START, answers.next()).await.expect("the end");
    assert_eq!((server.mappings("A").await, server.mappings("B").await), (0, 0));
}
