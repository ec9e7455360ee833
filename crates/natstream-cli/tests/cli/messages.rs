//! `natstream pub`, `natstream sub` and `natstream request`: messages without streams.

use serde_json::Value;
use testkit::{NatsServer, unique_subject, within};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::support::{LIMIT, Listening, Run, Serving, finish, natstream, run};

async fn subscribed(args: &[&str]) -> Listening {
    Listening::start(&[&["sub"], args].concat(), "listening to ").await
}

async fn publish(args: &[&str]) -> Run {
    let run = finish(natstream(["pub"]).args(args)).await.exits_with(0);
    assert!(run.stdout.is_empty(), "{run:?}");
    run
}

#[tokio::test]
async fn messages_are_printed_as_lines() {
    let subject = unique_subject("cli.sub");
    let sub = subscribed(&[&format!("{subject}.>"), "--max-items", "4", "--json"]).await;
    publish(&[&format!("{subject}.a"), "one"]).await;
    let run = publish(&[&format!("{subject}.b.c"), "two", "--count", "3", "--json"]).await;
    assert_eq!(run.summary(), serde_json::json!({"messages": 3, "bytes": 9}));
    let sub = sub.end().await.exits_with(0);
    assert_eq!(sub.lines(), ["one", "two", "two", "two"]);
    assert_eq!(
        sub.summary(),
        serde_json::json!({"messages": 4, "bytes": 12, "dropped": 0})
    );
}

#[tokio::test]
async fn messages_are_printed_as_json() {
    let subject = unique_subject("cli.sub");
    let sub = subscribed(&[&subject, "--jsonl", "--max-items", "2"]).await;
    publish(&[&subject, "text", "-H", "X-Name: value", "--reply", "_INBOX.a.b"]).await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), b"\xff").unwrap();
    publish(&[&subject, &format!("@{}", file.path().display())]).await;
    let sub = sub.end().await.exits_with(0);
    let lines: Vec<Value> = sub
        .lines()
        .iter()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let first = serde_json::json!({
        "subject": subject, "reply": "_INBOX.a.b", "headers": {"X-Name": ["value"]}, "data": "text",
    });
    assert_eq!(
        lines,
        [first, serde_json::json!({"subject": subject, "data_base64": "/w=="})]
    );
}

#[tokio::test]
async fn one_of_a_group_gets_a_message() {
    let subject = unique_subject("cli.sub");
    let args = [&*subject, "--queue", "workers", "--json"];
    let (printed, mut lines) = mpsc::unbounded_channel();
    let mut members = Vec::new();
    let mut readers = JoinSet::new();
    for _ in 0..2 {
        let mut member = subscribed(&args).await;
        let mut stdout = BufReader::new(member.child.stdout.take().unwrap()).lines();
        let printed = printed.clone();
        readers.spawn(async move {
            while let Ok(Some(line)) = stdout.next_line().await {
                let _ = printed.send(line);
            }
        });
        members.push(member);
    }
    publish(&[&subject, "task", "--count", "100"]).await;
    for _ in 0..100 {
        assert_eq!(within(LIMIT, lines.recv()).await.unwrap(), "task");
    }
    let mut messages = 0;
    for member in members {
        let member = member.stop().await.exits_with(0);
        messages += member.summary()["messages"].as_u64().unwrap();
    }
    assert_eq!(messages, 100);
}

#[tokio::test]
async fn ctrl_c_is_a_clean_end() {
    let subject = unique_subject("cli.sub");
    let mut sub = subscribed(&[&subject, "--json"]).await;
    publish(&[&subject, "one"]).await;
    let mut stdout = BufReader::new(sub.child.stdout.take().unwrap());
    let mut line = String::new();
    within(LIMIT, stdout.read_line(&mut line)).await.unwrap();
    assert_eq!(line, "one\n");
    let sub = sub.stop().await.exits_with(0);
    assert_eq!(sub.summary()["messages"], 1);
}

#[tokio::test]
async fn a_closed_standard_output_is_not_an_error() {
    let subject = unique_subject("cli.sub");
    let mut sub = subscribed(&[&subject]).await;
    drop(sub.child.stdout.take());
    let sub = sub.end().await.exits_with(0);
    assert!(!sub.stderr.contains("error:"), "{sub:?}");
}

#[tokio::test]
async fn the_reply_is_printed() {
    let subject = unique_subject("cli.request");
    // Its answer in the text dialect: the first item is the reply.
    let _serving = Serving::start(&subject, ["--", "cat"]).await;
    let request = run(["request", &subject, "hello"]).await.exits_with(0);
    assert_eq!(request.stdout, b"hello\n");
    assert_eq!(request.stderr, "");
    let request = run(["request", &subject, "hello", "--raw"]).await.exits_with(0);
    assert_eq!(request.stdout, b"hello");
    let request = run(["request", &subject, "hello", "--jsonl"]).await.exits_with(0);
    let line: Value = serde_json::from_slice(&request.stdout).unwrap();
    assert_eq!(
        (&line["subject"], &line["data"]),
        (&subject.as_str().into(), &"hello".into())
    );
}

#[tokio::test]
async fn requests_fail_with_their_exit_codes() {
    let nobody = run(["request", &unique_subject("cli.request")]).await.exits_with(3);
    assert!(nobody.stderr.contains("error: "), "{nobody:?}");

    let subject = unique_subject("cli.request");
    let script = "if [ \"$NATS_REQUEST_BODY\" ]; then echo broken >&2; exit 7; fi; exec sleep 1000";
    // In the text dialect, a failure would be an ordinary message with a signal in it.
    let args = ["--foreign-dialect", "sentinel", "--", "sh", "-c", script];
    let _serving = Serving::start(&subject, args).await;
    let failed = run(["request", &subject, "x"]).await.exits_with(1);
    assert!(failed.stderr.contains("broken"), "{failed:?}");

    let listening = unique_subject("cli.request");
    let _sub = subscribed(&[&listening]).await;
    let late = run(["request", &listening, "--timeout", "300ms"]).await.exits_with(4);
    assert!(late.stderr.contains("--timeout"), "{late:?}");
}

#[tokio::test]
async fn what_is_not_permitted_is_told() {
    let config = "authorization { users: [{ user: u, password: p, permissions: { publish: { deny: \"no\" }, \
                  subscribe: { deny: \"no\" } } }] }";
    let nats = NatsServer::builder().config(config).start().await;
    let url = nats.url().replace("nats://", "nats://u:p@");
    for args in [&["pub", "no"][..], &["sub", "no"], &["request", "no"]] {
        let run = finish(natstream(["-s", &url]).args(args)).await.exits_with(7);
        assert!(run.stderr.contains("error: "), "{args:?} {run:?}");
    }
    finish(natstream(["-s", &url]).args(["pub", "yes"])).await.exits_with(0);
}

#[tokio::test]
async fn mistakes_in_the_command_line() {
    for args in [
        &["pub", "a.*"][..],
        &["pub", "a", "--reply", "b c"],
        &["pub", "a", "--count", "0"],
        &["pub", "a", "-H", "Nats-Msg-Id:1"],
        &["pub", "a", "@/no/such/file"],
        &["sub", "a..b"],
        &["sub", "a", "--queue", "b c"],
        &["sub", "a", "--raw", "--jsonl"],
        &["request", "a.>"],
    ] {
        let run = run(args).await.exits_with(2);
        assert!(run.stderr.contains("error: "), "{args:?} {run:?}");
    }
}
