//! `natstream bus consume` and `bus consumer`: what is printed and handed over, and when it ends.

use std::process::Stdio;

use rustix::process::Signal;
use serde_json::{Value, json};
use testkit::{NatsServer, unique_name, unique_subject, within};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};

use crate::bus::stream;
use crate::support::{LIMIT, Listening, Run, end, finish, is_gone, natstream, run, signal, until};

/// A stream with the lines 1 to `count`.
pub(crate) async fn lines(count: u64) -> (String, String) {
    let (name, subject) = stream(&[]).await;
    let mut command = natstream(["bus", "publish", &subject, "-", "--lines"]);
    let mut child = command.stdin(Stdio::piped()).spawn().expect("started");
    let text: String = (1..=count).map(|n| format!("{n}\n")).collect();
    let mut input = child.stdin.take().expect("a pipe");
    within(LIMIT, input.write_all(text.as_bytes())).await.expect("written");
    drop(input);
    end(child).await.exits_with(0);
    (name, subject)
}

/// Consumes, with these options behind the stream and the consumer.
pub(crate) async fn consume(stream: &str, durable: &str, more: &[&str]) -> Run {
    let args = ["--json", "bus", "consume", stream, "--durable", durable];
    run(args.iter().chain(more)).await
}

pub(crate) async fn consumer(stream: &str, name: &str) -> Value {
    let run = run(["bus", "consumer", "info", stream, name, "--json"])
        .await
        .exits_with(0);
    serde_json::from_str(run.lines()[0]).expect("JSON")
}

#[tokio::test]
async fn payloads_are_lines_in_the_order_of_the_stream() {
    let (name, _) = lines(500).await;
    let run = consume(&name, "c", &["--max-items", "500"]).await.exits_with(0);
    assert!(run.lines().iter().copied().eq((1..=500).map(|n| n.to_string())));
    assert_eq!(run.summary()["handled"], json!(500));
    assert_eq!(run.summary()["lag"], json!(0));
    let again = consume(&name, "c", &["--idle-timeout", "300ms"]).await.exits_with(0);
    assert!(again.lines().is_empty(), "all are acked: {again:?}");
}

#[tokio::test]
async fn exactly_so_many_are_taken() {
    let (name, _) = lines(20).await;
    let run = consume(&name, "c", &["--max-items", "7", "--concurrency", "3"])
        .await
        .exits_with(0);
    assert_eq!(run.lines().len(), 7);
    let info = consumer(&name, "c").await;
    assert_eq!(
        (
            &info["delivered"],
            &info["ack_floor"],
            &info["ack_pending"],
            &info["pending"]
        ),
        (&json!(7), &json!(7), &json!(0), &json!(13))
    );
    // One that fails is tried again here, and no other is taken in its place.
    let script = "test $NATSTREAM_ATTEMPT = 3";
    let options = ["--max-items", "2", "--backoff", "10ms", "--", "sh", "-c", script];
    let run = consume(&name, "c", &options).await.exits_with(0);
    assert_eq!(
        (&run.summary()["handled"], &run.summary()["failed"]),
        (&json!(2), &json!(4))
    );
    assert_eq!(consumer(&name, "c").await["delivered"], json!(9));
}

#[tokio::test]
async fn messages_are_printed_as_objects() {
    let (name, subject) = stream(&[]).await;
    run(["bus", "publish", &subject, "比特", "-H", "Tenant:north"])
        .await
        .exits_with(0);
    let run = consume(&name, "c", &["--max-items", "1", "--jsonl"])
        .await
        .exits_with(0);
    let object: Value = serde_json::from_str(run.lines()[0]).expect("JSON");
    assert_eq!(
        (&object["subject"], &object["seq"], &object["attempt"], &object["data"]),
        (&json!(subject), &json!(1), &json!(1), &json!("比特"))
    );
    assert_eq!(object["headers"]["Tenant"], json!(["north"]));
}

#[tokio::test]
async fn a_command_gets_the_message() {
    let (name, subject) = stream(&[]).await;
    run([
        "bus",
        "publish",
        &subject,
        "body",
        "-H",
        "Order-Id:7",
        "-H",
        "Order-Id:8",
    ])
    .await
    .exits_with(0);
    let script = r#"echo "$NATSTREAM_SUBJECT $NATSTREAM_STREAM $NATSTREAM_CONSUMER $NATSTREAM_SEQUENCE $NATSTREAM_ATTEMPT"
        echo "$NATSTREAM_HEADER_ORDER_ID"; echo "$NATSTREAM_HEADERS"; cat"#;
    let run = consume(&name, "c", &["--max-items", "1", "--", "sh", "-c", script])
        .await
        .exits_with(0);
    let lines = run.lines();
    assert_eq!(lines[0], format!("{subject} {name} c 1 1"));
    assert_eq!((lines[1], lines[3]), ("7", "body"));
    let headers: Value = serde_json::from_str(lines[2]).expect("JSON");
    assert_eq!(headers["Order-Id"], json!(["7", "8"]));
}

#[tokio::test]
async fn a_message_is_acked_when_its_command_has_ended_well() {
    let (name, _) = lines(3).await;
    // The second one fails twice.
    let script = "read line; test $line != 2 || test $NATSTREAM_ATTEMPT = 3 || { echo no $line >&2; exit 4; }";
    let options = ["--max-items", "3", "--backoff", "10ms", "--", "sh", "-c", script];
    let run = consume(&name, "c", &options).await.exits_with(0);
    let summary = run.summary();
    assert_eq!(
        (&summary["handled"], &summary["failed"], &summary["dead"]),
        (&json!(3), &json!(2), &json!(0))
    );
    let words = run.stderr.lines().filter(|line| *line == "no 2").count();
    assert_eq!(words, 2, "standard error is passed on: {run:?}");
    assert_eq!(consumer(&name, "c").await["ack_floor"], json!(3));
}

#[tokio::test]
async fn keys_stay_in_order_though_their_commands_fail() {
    let (name, subject) = (unique_name("CLI"), unique_subject("cli.keys"));
    run(["bus", "stream", "add", &name, "--subjects", &format!("{subject}.>")])
        .await
        .exits_with(0);
    for (key, number) in [("a", "1"), ("b", "1"), ("a", "2"), ("b", "2"), ("a", "3")] {
        run(["bus", "publish", &format!("{subject}.{key}"), number])
            .await
            .exits_with(0);
    }
    let part = subject.split('.').count() + 1;
    let key = format!("subject:{part}");
    let script = "test $NATSTREAM_ATTEMPT -gt 1 || exit 1; echo ${NATSTREAM_SUBJECT##*.} $(cat)";
    let options = [
        "--key",
        &key,
        "--concurrency",
        "4",
        "--max-items",
        "5",
        "--backoff",
        "10ms",
        "--",
        "sh",
        "-c",
        script,
    ];
    let run = consume(&name, "c", &options).await.exits_with(0);
    let of = |key: &str| {
        let lines = run.lines();
        let lines = lines.iter().filter_map(|line| line.split_once(' '));
        lines
            .filter(|(found, _)| *found == key)
            .map(|(_, number)| number.to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        (of("a").join(" "), of("b").join(" ")),
        ("1 2 3".to_owned(), "1 2".to_owned())
    );
}

#[tokio::test]
async fn a_signal_lets_commands_end() {
    let (name, _) = lines(5).await;
    let directory = tempfile::tempdir().expect("a directory");
    let path = |file: &str| directory.path().join(file).display().to_string();
    let script = format!(
        "echo $NATSTREAM_SEQUENCE >> {}; while ! test -e {}; do sleep 0.05; done",
        path("began"),
        path("go")
    );
    let args = [
        "bus",
        "consume",
        &name,
        "--durable",
        "c",
        "--concurrency",
        "2",
        "--drain",
        "50s",
        "--",
        "sh",
        "-c",
        &script,
    ];
    let consuming = Listening::start(&args, "consuming").await;
    let began = directory.path().join("began");
    until("two run", || {
        std::fs::read_to_string(&began).is_ok_and(|text| text.lines().count() == 2)
    })
    .await;
    signal(&consuming.child, Signal::TERM);
    // It does not begin another one, and waits for those that run.
    std::fs::write(directory.path().join("go"), "").expect("written");
    consuming.end().await.exits_with(0);
    let info = consumer(&name, "c").await;
    assert_eq!((&info["ack_floor"], &info["ack_pending"]), (&json!(2), &json!(0)));
}

#[tokio::test]
async fn a_second_signal_ends_commands() {
    let (name, _) = lines(1).await;
    let directory = tempfile::tempdir().expect("a directory");
    let number = directory.path().join("pid");
    let script = format!("echo $$ > {}; sleep 1000", number.display());
    let args = [
        "bus",
        "consume",
        &name,
        "--durable",
        "c",
        "--drain",
        "50s",
        "--",
        "sh",
        "-c",
        &script,
    ];
    let mut child = natstream(args).spawn().expect("started");
    let read = || {
        let text = std::fs::read_to_string(&number).ok()?;
        text.strip_suffix('\n').map(str::to_owned)
    };
    until("it runs", || read().is_some()).await;
    let pid = read().expect("a number");
    let mut errors = BufReader::new(child.stderr.take().expect("a pipe"));
    signal(&child, Signal::TERM);
    let mut said = String::new();
    while !said.contains("draining") {
        let read = within(LIMIT, errors.read_line(&mut said)).await;
        assert_ne!(read.expect("text"), 0, "{said}");
    }
    signal(&child, Signal::TERM);
    end(child).await.exits_with(130);
    until("its command is gone", || is_gone(&pid)).await;
}

#[tokio::test]
async fn a_command_that_hangs_is_killed() {
    let (name, _) = lines(1).await;
    let options = [
        "--max-items",
        "1",
        "--max-deliver",
        "2",
        "--backoff",
        "10ms",
        "--handler-timeout",
        "200ms",
        "--",
        "sleep",
        "1000",
    ];
    let run = consume(&name, "c", &options).await.exits_with(0);
    assert_eq!(
        (&run.summary()["failed"], &run.summary()["dead"]),
        (&json!(2), &json!(1))
    );
}

#[tokio::test]
async fn consumers_are_made_compared_listed_and_removed() {
    let (name, subject) = lines(4).await;
    let add = async |more: &[&str]| run(["bus", "consumer", "add", &name, "c"].iter().chain(more)).await;
    let options = [
        "--filter",
        &subject,
        "--ack-wait",
        "5s",
        "--max-ack-pending",
        "7",
        "--deliver",
        "3",
    ];
    add(&options).await.exits_with(0);
    add(&options).await.exits_with(0);
    let differs = add(&["--ack-wait", "6s"]).await.exits_with(1);
    assert!(differs.stderr.contains("ack_wait"), "{differs:?}");
    consume(&name, "c", &["--filter", "other", "--max-items", "1"])
        .await
        .exits_with(1);
    let info = consumer(&name, "c").await;
    assert_eq!(
        (&info["pending"], &info["filters"], &info["ack_wait_seconds"]),
        (&json!(2), &json!([subject]), &json!(5.0))
    );
    let list = run(["bus", "consumer", "ls", &name]).await.exits_with(0);
    assert!(list.lines().iter().any(|line| line.starts_with("c ")), "{list:?}");
    let list = run(["bus", "consumer", "ls", &name, "--json"]).await.exits_with(0);
    assert_eq!(list.lines().len(), 1);
    let used = consume(&name, "c", &["--max-items", "2"]).await.exits_with(0);
    assert_eq!(used.lines(), ["3", "4"]);
    run(["bus", "consumer", "rm", &name, "c"]).await.exits_with(0);
    run(["bus", "consumer", "info", &name, "c"]).await.exits_with(1);
}

#[tokio::test]
async fn mistakes_are_told_before_anything_is_consumed() {
    let (name, subject) = lines(1).await;
    let missing = unique_name("CLI");
    let nowhere = unique_subject("nowhere");
    for (stream, more, code) in [
        (missing.as_str(), &["--max-items", "1"][..], 1),
        ("a.b", &[], 2),
        (&name, &["--filter", "a..b"], 2),
        (&name, &["--", "no-such-program"], 2),
        (&name, &["--raw", "--", "cat"], 2),
        (&name, &["--key", "payload"], 2),
        (&name, &["--handler-timeout", "1s"], 2),
        (&name, &["--dead-letters", &nowhere], 3),
        (&name, &["--dead-letters", &subject], 2),
    ] {
        let run = consume(stream, "c", more).await;
        assert_eq!(run.code, Some(code), "{more:?}: {run:?}");
    }
    run(["bus", "consumer", "info", &name, "c"]).await.exits_with(1);
}

#[tokio::test]
async fn what_is_not_permitted_is_exit_code_7() {
    let config = "authorization { users: [
        { user: all, password: p }
        { user: none, password: p, permissions: { publish: { deny: \"$JS.API.CONSUMER.>\" } } }
        { user: deaf, password: p, permissions: { publish: { deny: \"$JS.API.CONSUMER.MSG.NEXT.>\" } } }
        { user: mute, password: p, permissions: { publish: { deny: \"$JS.ACK.>\" } } }
    ] }";
    let server = within(LIMIT, NatsServer::builder().jetstream(true).config(config).start()).await;
    let run = async |user: &str, args: &[&str]| {
        let mut command = natstream(args);
        command.args(["-s", &server.url(), "--user", user, "--password", "p"]);
        finish(&mut command).await
    };
    run("all", &["bus", "stream", "add", "S", "--subjects", "s"])
        .await
        .exits_with(0);
    run("all", &["bus", "publish", "s", "x"]).await.exits_with(0);
    let consume = ["bus", "consume", "S", "--durable", "c", "--max-items", "1"];
    for user in ["none", "deaf", "mute"] {
        let refused = run(user, &consume).await;
        assert_eq!(refused.code, Some(7), "{user}: {refused:?}");
    }
    run("none", &["bus", "consumer", "ls", "S"]).await.exits_with(7);
}
