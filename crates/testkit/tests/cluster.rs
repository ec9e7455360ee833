//! Clusters of real nats-servers.

use std::{
    io::{BufRead, BufReader},
    net::TcpStream,
    time::Duration,
};

use async_nats::{Client, ConnectOptions};
use futures_util::StreamExt;
use serde_json::{Value, json};
use testkit::{Cluster, settles, settles_where, unique_name, unique_subject, within};

/// A cluster with JetStream takes a few seconds to form.
const START: Duration = Duration::from_secs(90);
const LONG: Duration = Duration::from_secs(30);

/// What a server greets a new client with.
fn info(url: &str) -> Value {
    let stream = TcpStream::connect(url.strip_prefix("nats://").unwrap()).unwrap();
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).unwrap();
    serde_json::from_str(line.strip_prefix("INFO ").unwrap()).unwrap()
}

/// A client that stays at this server.
async fn client(url: &str) -> Client {
    let options = ConnectOptions::new().ignore_discovered_servers();
    within(LONG, options.connect(url)).await.unwrap()
}

/// That a request from one server reaches a responder at the other.
async fn assert_routed(from: &str, to: &str) {
    let (from, to) = (client(from).await, client(to).await);
    let subject = unique_subject("routed");
    let mut requests = to.subscribe(subject.clone()).await.unwrap();
    within(LONG, to.flush()).await.unwrap();
    let asked = settles_where(
        LONG,
        // There are no responders until the other server has heard of this one.
        || from.request(subject.clone(), "ping".into()),
        Result::is_ok,
    );
    let answers = async {
        let request = requests.next().await.unwrap();
        to.publish(request.reply.unwrap(), "pong".into()).await.unwrap();
    };
    let (answer, ()) = within(LONG, async { tokio::join!(asked, answers) }).await;
    assert_eq!(answer.unwrap().payload, "pong");
}

#[tokio::test]
async fn a_message_crosses_the_cluster_without_a_dead_node() {
    let mut cluster = within(START, Cluster::start(3)).await;
    assert_eq!(cluster.size(), 3);
    let urls = cluster.urls();
    assert_routed(&urls[1], &urls[2]).await;

    cluster.node_mut(0).kill();
    assert_routed(&urls[1], &urls[2]).await;
    // Two of three are formed.
    within(START, cluster.formed()).await;

    within(START, cluster.node_mut(0).restart()).await;
    within(START, cluster.formed()).await;
    assert_eq!(cluster.urls(), urls);
    assert_eq!(info(&cluster.url(0))["server_name"], "n0");
    assert_routed(&urls[0], &urls[2]).await;
    assert_routed(&urls[1], &urls[0]).await;
}

#[tokio::test]
async fn all_nodes_come_back_at_once() {
    let mut cluster = within(START, Cluster::start(3)).await;
    let name = info(&cluster.url(0))["cluster"].clone();
    for i in 0..3 {
        cluster.node_mut(i).kill();
    }
    for i in 0..3 {
        within(START, cluster.node_mut(i).restart()).await;
    }
    within(START, cluster.formed()).await;
    for i in 0..3 {
        assert_eq!(info(&cluster.url(i))["cluster"], name);
    }
    assert_routed(&cluster.url(0), &cluster.url(2)).await;
}

#[tokio::test]
async fn nodes_tell_of_each_other_unless_told_not_to() {
    let told = within(START, Cluster::start(2)).await;
    // It hears of the other one a moment after the route is there.
    let urls = async || info(&told.url(0))["connect_urls"].as_array().map_or(0, Vec::len);
    settles(LONG, urls, 2).await;

    let silent = Cluster::builder(2).advertise(false).config("max_payload: 12345");
    let silent = within(START, silent.start()).await;
    let info = info(&silent.url(0));
    assert!(info["connect_urls"].is_null(), "{info}");
    assert_eq!(info["max_payload"], 12345);
}

#[tokio::test]
async fn a_lame_duck_sends_its_clients_to_the_others_and_ends() {
    let cluster = Cluster::builder(2).config("lame_duck_grace_period: \"100ms\"");
    let mut cluster = within(START, cluster.start()).await;
    // Before it knows of the other one, a client has nowhere to go.
    let urls = async || info(&cluster.url(0))["connect_urls"].as_array().map_or(0, Vec::len);
    settles(LONG, urls, 2).await;
    let client = within(LONG, async_nats::connect(cluster.url(0))).await.unwrap();
    cluster.node_mut(0).lame_duck();
    within(LONG, cluster.node_mut(0).ended(LONG)).await;
    settles_where(LONG, || async { client.server_info().server_name }, |name| name == "n1").await;
    within(LONG, client.flush()).await.unwrap();
}

#[tokio::test]
async fn jetstream_replicates_and_survives_a_node() {
    let mut cluster = within(START, Cluster::builder(3).jetstream(true).start()).await;
    let name = unique_name("STREAM");
    let config = json!({"name": name, "subjects": [name], "num_replicas": 3, "storage": "file"});
    let client = client(&cluster.url(1)).await;
    let created = api(&client, &format!("STREAM.CREATE.{name}"), &config).await;
    assert_eq!(created["config"]["num_replicas"], 3, "{created}");

    let stored = within(LONG, client.request(name.clone(), "one".into())).await.unwrap();
    let stored: Value = serde_json::from_slice(&stored.payload).unwrap();
    assert_eq!(stored["seq"], 1, "{stored}");

    cluster.node_mut(0).kill();
    within(START, cluster.formed()).await;
    within(START, cluster.node_mut(0).restart()).await;
    within(START, cluster.formed()).await;
    let info = format!("STREAM.INFO.{name}");
    // No answer while the stream elects a leader.
    let look = || api(&client, &info, &Value::Null);
    settles_where(LONG, look, |info| info["state"]["messages"] == 1).await;
    assert!(cluster.node(0).dir().join("jetstream").exists());
}

/// The answer of JetStream, or `null` when nobody answers.
async fn api(client: &Client, what: &str, request: &Value) -> Value {
    let payload = if request.is_null() {
        String::new()
    } else {
        request.to_string()
    };
    let answer = within(LONG, client.request(format!("$JS.API.{what}"), payload.into())).await;
    answer.map_or(Value::Null, |answer| serde_json::from_slice(&answer.payload).unwrap())
}
