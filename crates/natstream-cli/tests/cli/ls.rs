//! `natstream ls`, and what `serve` says to it.

use futures_util::StreamExt as _;
use serde_json::{Value, json};
use testkit::{NatsServer, unique_name, unique_subject, within};
use tokio::task::JoinSet;

use crate::support::{LIMIT, Run, Serving, run};

/// The objects of a run with `--json`.
fn objects(run: &Run) -> Vec<Value> {
    let lines = run.lines();
    let object = |line: &&str| serde_json::from_str(line).expect("a line is JSON");
    lines.iter().map(object).collect()
}

#[tokio::test]
async fn endpoints_are_listed_with_their_counters() {
    let (subject, name) = (unique_subject("cli.ls"), unique_name("cli"));
    let _serving = Serving::start(&subject, ["--name", &name, "--count", "3"]).await;
    run(["call", &subject]).await.exits_with(0);

    let list = run(["ls", "--json"]).await.exits_with(0);
    // Other tests use the same nats-server.
    let objects = objects(&list);
    let ours: Vec<_> = objects.iter().filter(|object| object["name"] == name).collect();
    let [object] = ours[..] else {
        panic!("not one row: {list:?}")
    };
    assert_eq!((&object["subject"], &object["queue"]), (&json!(subject), &json!("q")));
    assert_eq!(object["endpoint"], subject.replace('.', "-"));
    for (field, value) in [
        ("calls", 1),
        ("active", 0),
        ("items", 3),
        ("bytes", 3),
        ("finished", 1),
        ("failed", 0),
    ] {
        assert_eq!(object[field], value, "{field}: {object}");
    }
    assert!(object["average_ms"].as_f64() > Some(0.0), "{object}");

    let list = run(["ls"]).await.exits_with(0);
    let lines = list.lines();
    assert!(lines[0].starts_with("NAME") && lines[0].contains("STALLED"), "{list:?}");
    let line = lines.iter().find(|line| line.starts_with(&name));
    assert!(line.is_some_and(|line| line.contains(&subject)), "{list:?}");
}

#[tokio::test]
async fn nobody_there_is_told() {
    let server = within(LIMIT, NatsServer::start()).await;
    for args in [&["ls", "-s", &server.url()][..], &["ls", "--json", "-s", &server.url()]] {
        let list = run(args).await.exits_with(3);
        assert!(
            list.stdout.is_empty() && list.stderr.starts_with("error: no service answers"),
            "{list:?}"
        );
    }
}

#[tokio::test]
async fn strangers_may_answer_anything() {
    let server = within(LIMIT, NatsServer::start()).await;
    let client = within(LIMIT, natstream::async_nats::connect(server.url()))
        .await
        .unwrap();
    let mut questions = within(LIMIT, client.subscribe("$SRV.STATS")).await.unwrap();
    within(LIMIT, client.flush()).await.unwrap();
    let mut stranger = JoinSet::new();
    stranger.spawn(async move {
        while let Some(question) = questions.next().await {
            for answer in [
                "",
                "\u{1b}[2J",
                r#"{"name": "plain", "endpoints": [{"name": "x", "data": 1}]}"#,
                r#"{"name": "\u001b[31mred\u009b", "endpoints": [{"subject": "a\nb\u202e", "data": {"natstream": 1, "items": 1e300}}]}"#,
            ] {
                client
                    .publish(question.reply.clone().unwrap(), answer.into())
                    .await
                    .unwrap();
            }
        }
    });
    for args in [&["ls", "-s", &server.url()][..], &["ls", "--json", "-s", &server.url()]] {
        let list = run(args).await.exits_with(0);
        let text = String::from_utf8(list.stdout).unwrap();
        let is_raw = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
        assert!(
            !text.contains(is_raw) && text.contains("18446744073709551615"),
            "{text:?}"
        );
        assert_eq!(text.lines().count(), if args.contains(&"--json") { 1 } else { 2 });
    }
}

#[tokio::test]
async fn a_user_who_may_not_be_found_serves_and_one_who_may_not_ask_is_told() {
    let config = r#"authorization { users = [
        { user: shy, password: secret, permissions: { subscribe: { deny: ["$SRV.>"] } } }
        { user: deaf, password: secret, permissions: { publish: { deny: ["$SRV.>"] } } }
        { user: all, password: secret }
    ] }"#;
    let server = within(LIMIT, NatsServer::builder().config(config).start()).await;
    let url = |user: &str| server.url().replace("nats://", &format!("nats://{user}:secret@"));
    let serving = Serving::start("a", ["-s", &url("shy"), "--count", "3"]).await;
    let call = run(["call", "a", "-s", &url("all")]).await.exits_with(0);
    assert_eq!(call.lines(), ["0", "1", "2"]);
    run(["ls", "-s", &url("all")]).await.exits_with(3);
    let refused = run(["ls", "-s", &url("deaf")]).await.exits_with(7);
    assert!(refused.stderr.contains("$SRV.STATS"), "{refused:?}");
    serving.stop().await.exits_with(0);
}

#[tokio::test]
async fn a_name_that_cannot_be_is_a_mistake() {
    let serve = run(["serve", "a", "--count", "1", "--name", "a.b"]).await.exits_with(2);
    assert!(serve.stderr.contains("name of the service"), "{serve:?}");
}
