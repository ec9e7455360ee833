//! `--metrics`: what Prometheus and probes see of `serve`, `record` and `bus consume`.

use std::collections::BTreeSet;

use rustix::process::Signal;
use serde_json::Value;
use testkit::{NatsServer, settles, unique_subject, within};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::bus::stream;
use crate::support::{LIMIT, Serving, natstream, run};

/// A command with `--metrics`, and where it answers.
struct Shown {
    serving: Serving,
    address: String,
}

impl Shown {
    /// Ready when it has said what begins so.
    async fn start(args: &[&str], says: &str) -> Self {
        let serving = Serving::spawn_saying(&mut natstream(args), says).await;
        let address = serving.said().lines().find_map(|line| {
            let address = line.strip_prefix("metrics on http://")?;
            address.strip_suffix("/metrics")
        });
        let address = address.expect("it says where it answers").to_owned();
        Self { serving, address }
    }

    /// The status and the body of a path.
    async fn get(&self, path: &str) -> (u16, String) {
        ask(&self.address, &format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")).await
    }

    /// The names of all metrics that it shows.
    async fn names(&self) -> BTreeSet<String> {
        let (status, body) = self.get("/metrics").await;
        assert_eq!(status, 200);
        let types = body.lines().filter_map(|line| line.strip_prefix("# TYPE "));
        types
            .filter_map(|line| line.split(' ').next().map(str::to_owned))
            .collect()
    }

    async fn ready(&self) -> u16 {
        self.get("/readyz").await.0
    }
}

async fn ask(address: &str, question: &str) -> (u16, String) {
    let asked = async {
        let mut stream = TcpStream::connect(address).await.expect("somebody listens");
        stream.write_all(question.as_bytes()).await.expect("written");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("text");
        answer
    };
    let answer = within(LIMIT, asked).await;
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    let status = head.split(' ').nth(1).expect("a status").parse().expect("a number");
    (status, body.to_owned())
}

const ANYWHERE: [&str; 2] = ["--metrics", "127.0.0.1:0"];

#[tokio::test]
async fn a_server_says_whether_it_lives_and_is_ready() {
    let mut nats = within(LIMIT, NatsServer::start()).await;
    let (subject, url) = (unique_subject("cli.metrics"), nats.url());
    let args = [
        "serve",
        &subject,
        "-s",
        &url,
        "--drain",
        "50s",
        "--",
        "sh",
        "-c",
        "exec sleep 1000",
    ];
    let serve = Shown::start(&[&args[..4], &ANYWHERE, &args[4..]].concat(), "serving ").await;
    assert_eq!((serve.get("/healthz").await.0, serve.ready().await), (200, 200));
    for (question, status) in [
        ("GET /other HTTP/1.1\r\n\r\n", 404),
        ("HEAD /healthz HTTP/1.1\r\n\r\n", 200),
        ("POST /metrics HTTP/1.1\r\nContent-Length: 0\r\n\r\n", 405),
        ("hello\r\n\r\n", 400),
    ] {
        assert_eq!(ask(&serve.address, question).await.0, status, "{question}");
    }
    nats.kill();
    settles(LIMIT, || serve.ready(), 503).await;
    assert_eq!(serve.get("/healthz").await.0, 200, "it lives");
    within(LIMIT, nats.restart()).await;
    settles(LIMIT, || serve.ready(), 200).await;

    // A call that runs keeps it from ending.
    let mut call = natstream(["call", &subject, "-s", &url]).spawn().expect("started");
    let active = || async {
        let (_, body) = serve.get("/metrics").await;
        body.lines()
            .any(|line| line.starts_with("natstream_server_active_calls") && line.ends_with(" 1"))
    };
    settles(LIMIT, active, true).await;
    serve.serving.signal(Signal::TERM);
    settles(LIMIT, || serve.ready(), 503).await;
    assert_eq!(serve.get("/healthz").await.0, 200, "it drains");
    serve.serving.signal(Signal::TERM);
    serve.serving.end().await.exits_with(130);
    within(LIMIT, call.wait()).await.expect("it ends");
}

#[tokio::test]
async fn a_wrong_address_is_a_mistake() {
    for address in ["nowhere", "127.0.0.1", "127.0.0.1:70000", "192.0.2.1:0"] {
        let subject = unique_subject("cli.metrics");
        let serve = ["serve", &subject, "--count", "1", "--metrics", address];
        run(serve).await.exits_with(2);
    }
}

#[tokio::test]
async fn the_dashboard_shows_what_there_is() {
    let subject = unique_subject("cli.metrics");
    let serve = Shown::start(
        &[&["serve", &subject, "--count", "3"], &ANYWHERE[..]].concat(),
        "serving ",
    )
    .await;
    run(["call", &subject]).await.exits_with(0);
    // A call that is refused: errors are shown by their code.
    run(["call", &subject, "--no-control", "--deadline", "10s"]).await;

    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path().to_str().expect("text");
    let record = ["record", &subject, "--dir", dir, "--name", "test"];
    let record = Shown::start(&[&record, &ANYWHERE[..]].concat(), "recording ").await;

    let (name, events) = stream(&[]).await;
    run(["bus", "publish", &events, "x"]).await.exits_with(0);
    let consume = ["bus", "consume", &name, "--durable", "c"];
    let consume = Shown::start(&[&consume, &ANYWHERE[..]].concat(), "consuming ").await;

    let (files, streams) = (format!("{dir}/stream"), ["--stream", &name, "--durable", "r", "--dir"]);
    let archive = [&["record"], &streams[..], &[&files, "--name", "archive"], &ANYWHERE].concat();
    let archive = Shown::start(&archive, "recording ").await;

    let dashboard = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/grafana/natstream.json");
    let dashboard = std::fs::read_to_string(dashboard).expect("the dashboard");
    let dashboard: Value = serde_json::from_str(&dashboard).expect("JSON");
    let wanted = metrics(&dashboard);
    assert!(wanted.len() > 20, "{wanted:?}");
    let there = || async {
        let mut names = serve.names().await;
        names.extend(record.names().await);
        names.extend(consume.names().await);
        wanted.difference(&names).cloned().collect::<Vec<_>>()
    };
    settles(LIMIT, there, Vec::<String>::new()).await;
    for shown in [&record, &consume, &archive] {
        assert_eq!(shown.ready().await, 200);
    }
    assert!(archive.names().await.contains("natstream_recording_position"));
    for shown in [serve, record, consume, archive] {
        shown.serving.stop().await.exits_with(0);
    }
}

/// The metrics in all expressions of a dashboard.
fn metrics(value: &Value) -> BTreeSet<String> {
    match value {
        Value::Object(fields) => fields
            .iter()
            .flat_map(|(name, value)| match (name.as_str(), value) {
                ("expr" | "query" | "definition", Value::String(text)) => names(text),
                _ => metrics(value),
            })
            .collect(),
        Value::Array(values) => values.iter().flat_map(metrics).collect(),
        _ => BTreeSet::new(),
    }
}

fn names(expression: &str) -> BTreeSet<String> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = expression
        .split(|c| !is_part(c))
        .filter(|word| word.starts_with("natstream_"));
    let name = |word: &str| {
        let parts = ["_bucket", "_sum", "_count"];
        let part = parts.iter().find_map(|part| word.strip_suffix(part));
        part.unwrap_or(word).to_owned()
    };
    words.map(name).collect()
}
