//! `natstream bus dlq`: what was put aside, and what becomes of it.

use rustix::process::Signal;
use serde_json::{Value, json};
use testkit::{unique_name, unique_subject};

use crate::bus::{info, stream};
use crate::consume::{consume, lines};
use crate::support::{end, natstream, run, signal};

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
async fn what_is_not_there_is_told() {
    let missing = unique_name("CLI");
    run(["bus", "dlq", "ls", &missing]).await.exits_with(1);
    run(["bus", "dlq", "ls", "--in", &missing]).await.exits_with(1);
    run(["bus", "dlq", "redrive", &missing]).await.exits_with(1);
    run(["bus", "dlq", "ls"]).await.exits_with(2);
}
