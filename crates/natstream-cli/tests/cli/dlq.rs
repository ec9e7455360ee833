//! `natstream bus dlq`: what was put aside, and what becomes of it.

use rustix::process::Signal;
use serde_json::{Value, json};
use testkit::{NatsServer, unique_name, unique_subject, within};

use crate::bus::{info, stream};
use crate::consume::{consume, lines};
use crate::support::{LIMIT, end, finish, natstream, run, signal};

async fn list(stream: &str, more: &[&str]) -> Vec<Value> {
    let args = ["--json", "bus", "dlq", "ls", stream];
    let run = run(args.iter().chain(more)).await.exits_with(0);
    let lines = run.lines();
    lines
        .iter()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect()
}

#[tokio::test]
async fn poison_is_put_aside_with_its_reason_and_redriven() {
    let (name, subject) = lines(4).await;
    assert!(list(&name, &[]).await.is_empty(), "nothing was put aside yet");
    let script =
        "read line; case $line in 2) echo 磁盘已满 100% >&2; exit 3;; 3) echo first; echo bad >&2; exit 65;; esac";
    let options = [
        "--max-items",
        "4",
        "--max-deliver",
        "2",
        "--backoff",
        "10ms",
        "--",
        "sh",
        "-c",
        script,
    ];
    let run = consume(&name, "c", &options).await.exits_with(0);
    let summary = run.summary();
    assert_eq!(
        (&summary["handled"], &summary["failed"], &summary["dead"]),
        (&json!(2), &json!(3), &json!(2))
    );

    let letters = list(&name, &[]).await;
    let of = |data: &str| letters.iter().find(|letter| letter["data"] == data).expect("a letter");
    for (data, attempts, words) in [
        ("2", 2, "exit status: 3: 磁盘已满 100%"),
        ("3", 1, "exit status: 65: bad"),
    ] {
        let letter = of(data);
        assert_eq!(
            (
                &letter["subject"],
                &letter["stream"],
                &letter["consumer"],
                &letter["attempts"]
            ),
            (&json!(subject), &json!(name), &json!("c"), &json!(attempts))
        );
        assert!(
            letter["reason"].as_str().is_some_and(|reason| reason.ends_with(words)),
            "{letter}"
        );
    }
    assert_eq!(list(&name, &["--reason", "磁盘"]).await.len(), 1);
    assert_eq!(list(&name, &["--consumer", "other"]).await.len(), 0);
    assert_eq!(list(&name, &["--max-items", "1"]).await.len(), 1);
    let sequence = of("3")["seq"].to_string();
    let dry = [
        "bus",
        "dlq",
        "redrive",
        &name,
        "--sequence",
        &sequence,
        "--dry-run",
        "--json",
    ];
    assert_eq!(crate::support::run(dry).await.exits_with(0).lines().len(), 1);
    assert_eq!(list(&name, &[]).await.len(), 2, "nothing has changed");

    // The original ids are in the duplicate window of the stream, and swallow nothing.
    let one = crate::support::run(["--json", "bus", "dlq", "redrive", &name, "--sequence", &sequence])
        .await
        .exits_with(0);
    assert_eq!(one.summary(), json!({"redriven": 1, "duplicate": 0, "failed": 0}));
    let all = crate::support::run(["--json", "bus", "dlq", "redrive", &name])
        .await
        .exits_with(0);
    assert_eq!(all.summary()["redriven"], json!(1));
    assert!(list(&name, &[]).await.is_empty());
    assert_eq!(info(&name).await["messages"], json!(6));
    let again = consume(&name, "c", &["--max-items", "2"]).await.exits_with(0);
    assert_eq!(again.lines(), ["3", "2"], "in the order in which they were redriven");
}

#[tokio::test]
async fn a_redrive_that_is_killed_loses_and_repeats_nothing() {
    let (name, _) = lines(200).await;
    let options = [
        "--max-items",
        "200",
        "--max-deliver",
        "1",
        "--concurrency",
        "8",
        "--",
        "false",
    ];
    consume(&name, "c", &options).await.exits_with(0);
    assert_eq!(list(&name, &[]).await.len(), 200);
    for _ in 0..2 {
        let before = info(&name).await["messages"].as_u64().expect("a number");
        let child = natstream(["bus", "dlq", "redrive", &name]).spawn().expect("started");
        while info(&name).await["messages"].as_u64().expect("a number") == before {}
        signal(&child, Signal::KILL);
        end(child).await;
    }
    run(["bus", "dlq", "redrive", &name]).await.exits_with(0);
    assert!(list(&name, &[]).await.is_empty());
    assert_eq!(info(&name).await["messages"], json!(400));
}

#[tokio::test]
async fn a_letter_that_no_stream_takes_is_kept() {
    let (name, subject) = (unique_name("CLI"), unique_subject("cli.dlq"));
    let subjects = format!("{subject}.a,{subject}.b");
    run(["bus", "stream", "add", &name, "--subjects", &subjects])
        .await
        .exits_with(0);
    for part in ["a", "b", "b"] {
        run(["bus", "publish", &format!("{subject}.{part}"), part])
            .await
            .exits_with(0);
    }
    consume(&name, "c", &["--max-items", "3", "--max-deliver", "1", "--", "false"])
        .await
        .exits_with(0);
    let subjects = format!("{subject}.a");
    run([
        "bus",
        "stream",
        "add",
        &name,
        "--subjects",
        &subjects,
        "--update",
        "any",
    ])
    .await
    .exits_with(0);
    let kept = run(["--json", "bus", "dlq", "redrive", &name, "--deadline", "3s"])
        .await
        .exits_with(8);
    assert_eq!(kept.summary(), json!({"redriven": 1, "duplicate": 0, "failed": 2}));
    let letters = list(&name, &[]).await;
    assert!(
        letters.len() == 2 && letters.iter().all(|letter| letter["data"] == "b"),
        "{letters:?}"
    );
}

#[tokio::test]
async fn letters_may_lie_in_a_stream_of_ones_own() {
    let (name, _) = lines(2).await;
    let (dead, subject) = stream(&[]).await;
    let options = [
        "--max-items",
        "1",
        "--dead-letters",
        &subject,
        "--",
        "sh",
        "-c",
        "exit 65",
    ];
    consume(&name, "c", &options).await.exits_with(0);
    // Another message among them is none.
    run(["bus", "publish", &subject, "x"]).await.exits_with(0);
    assert!(list(&name, &[]).await.is_empty());
    assert_eq!(list(&name, &["--in", &dead]).await.len(), 1);
    let redriven = run(["--json", "bus", "dlq", "redrive", "--in", &dead])
        .await
        .exits_with(0);
    assert_eq!(redriven.summary()["redriven"], json!(1));
    assert_eq!(info(&dead).await["messages"], json!(1));
}

#[tokio::test]
async fn what_is_not_permitted_is_exit_code_7_and_loses_nothing() {
    let config = "authorization { users: [
        { user: all, password: p }
        { user: no_letters, password: p, permissions: { publish: { deny: \"dlq.>\" } } }
        { user: no_get, password: p, permissions: { publish: { deny: \"$JS.API.STREAM.MSG.GET.>\" } } }
        { user: no_orders, password: p, permissions: { publish: { deny: \"o\" } } }
        { user: no_delete, password: p, permissions: { publish: { deny: \"$JS.API.STREAM.MSG.DELETE.>\" } } }
    ] }";
    let server = within(LIMIT, NatsServer::builder().jetstream(true).config(config).start()).await;
    let run = async |user: &str, args: &[&str]| {
        let mut command = natstream(args);
        command.args(["-s", &server.url(), "--user", user, "--password", "p", "--json"]);
        finish(&mut command).await
    };
    run("all", &["bus", "stream", "add", "S", "--subjects", "o"])
        .await
        .exits_with(0);
    run("all", &["bus", "publish", "o", "x"]).await.exits_with(0);
    let consume = "bus consume S --durable c --max-deliver 1 --max-items 1 -- false";
    // It is not acked where it cannot be put aside. Its options stand before the command.
    let consume: Vec<&str> = consume.split(' ').collect();
    let (before, command) = consume.split_at(consume.len() - 2);
    let consume = async |user: &str| {
        let mut child = natstream(before);
        child.args([
            "-s",
            &server.url(),
            "--user",
            user,
            "--password",
            "p",
            "--ack-wait",
            "1s",
        ]);
        finish(child.args(command)).await
    };
    consume("no_letters").await.exits_with(7);
    consume("all").await.exits_with(0);
    for user in ["no_get", "no_orders", "no_delete"] {
        run(user, &["bus", "dlq", "redrive", "S"]).await.exits_with(7);
        let letters = run("all", &["bus", "dlq", "ls", "S"]).await.exits_with(0);
        assert_eq!(letters.lines().len(), 1, "{user}");
    }
    let redriven = run("all", &["bus", "dlq", "redrive", "S"]).await.exits_with(0);
    let told = json!({"redriven": 1, "duplicate": 1, "failed": 0});
    assert_eq!(redriven.summary(), told, "the last one has published it");
}

#[tokio::test]
async fn what_is_not_there_is_told() {
    let missing = unique_name("CLI");
    run(["bus", "dlq", "ls", &missing]).await.exits_with(1);
    run(["bus", "dlq", "ls", "--in", &missing]).await.exits_with(1);
    run(["bus", "dlq", "redrive", &missing]).await.exits_with(1);
    run(["bus", "dlq", "ls"]).await.exits_with(2);
}
