//! `natstream record`, `record verify` and `replay`.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::Signal;
use serde_json::{Value, json};
use testkit::{NatsServer, unique_subject};

use crate::support::{Listening, Run, finish, natstream, signal, until};

async fn recording(subject: &str, dir: &Path, args: &[&str]) -> Listening {
    let dir = dir.to_str().expect("text");
    let record = ["record", subject, "--dir", dir, "--name", "test", "--json"];
    Listening::start(&[&record, args].concat(), "recording ").await
}

async fn publish(subject: &str, data: &str, count: u32) {
    let count = count.to_string();
    finish(&mut natstream([
        "pub", subject, data, "--count", &count, "-H", "X-A: 1",
    ]))
    .await
    .exits_with(0);
}

async fn verify(dir: &Path) -> Run {
    finish(natstream(["record", "verify", "--json"]).arg(dir)).await
}

/// Complete files.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)
        .expect("a directory")
        .map(|entry| entry.expect("an entry").path())
    {
        let name = entry.file_name().expect("a name").to_string_lossy().into_owned();
        if entry.is_dir() {
            files.extend(self::files(&entry));
        } else if !name.starts_with('.') && !name.ends_with(".part") {
            files.push(entry);
        }
    }
    files.sort();
    files
}

#[tokio::test]
async fn messages_are_in_files_when_it_has_ended() {
    let (dir, subject) = (tempfile::tempdir().unwrap(), unique_subject("cli.record"));
    let recording = recording(&format!("{subject}.>"), dir.path(), &["--format", "jsonl"]).await;
    publish(&format!("{subject}.a"), "one", 3).await;
    let run = recording.stop().await.exits_with(0);
    let summary = run.summary();
    assert_eq!(
        (&summary["messages"], &summary["bytes"], &summary["files"]),
        (&json!(3), &json!(9), &json!(1))
    );
    let found = files(dir.path());
    assert_eq!(found.len(), 1);
    let text = fs::read_to_string(&found[0]).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 3);
    assert_eq!(
        (&lines[2]["data"], &lines[2]["headers"]),
        (&json!("one"), &json!({"X-A": ["1"]}))
    );
    let run = verify(dir.path()).await.exits_with(0);
    assert_eq!(
        (&run.summary()["records"], &run.summary()["unlisted"]),
        (&json!(3), &json!(0))
    );
}

#[tokio::test]
async fn enough_is_enough_and_files_are_compressed() {
    for (compress, ending) in [("gzip", "gz"), ("zstd", "zst")] {
        let (dir, subject) = (tempfile::tempdir().unwrap(), unique_subject("cli.record"));
        let args = [
            "--max-items",
            "100",
            "--compress",
            compress,
            "--rotate",
            "daily,size:100B",
        ];
        let recording = recording(&subject, dir.path(), &args).await;
        publish(&subject, "123456789", 150).await;
        let run = recording.end().await.exits_with(0);
        assert_eq!(
            (&run.summary()["messages"], &run.summary()["files"]),
            (&json!(100), &json!(10))
        );
        let found = files(dir.path());
        assert_eq!(found.len(), 10);
        assert!(
            found
                .iter()
                .all(|path| path.extension().is_some_and(|own| own == ending))
        );
        let run = verify(dir.path()).await.exits_with(0);
        assert_eq!(
            (&run.summary()["records"], &run.summary()["unlisted"]),
            (&json!(100), &json!(0))
        );
    }
}

#[tokio::test]
async fn what_a_killed_recorder_left_is_mended_by_the_next_one() {
    let (dir, subject) = (tempfile::tempdir().unwrap(), unique_subject("cli.record"));
    let first = recording(&subject, dir.path(), &["--sync", "commit"]).await;
    publish(&subject, "first", 1000).await;
    let part = || {
        let day = fs::read_dir(dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .find(|path| path.is_dir());
        let in_day = day.into_iter().flat_map(|day| fs::read_dir(day).unwrap());
        let mut in_day = in_day.map(|entry| entry.unwrap().path());
        in_day.find(|path| path.extension().is_some_and(|ending| ending == "part"))
    };
    until("it is written", || {
        part().is_some_and(|path| fs::metadata(path).is_ok_and(|data| data.len() == 6000))
    })
    .await;
    signal(&first.child, Signal::KILL);
    first.end().await;
    let run = verify(dir.path()).await.exits_with(0);
    assert_eq!(
        (&run.summary()["files"], &run.summary()["in_progress"]),
        (&json!(0), &json!(1))
    );
    // In another form: what was left is in its own.
    let second = recording(&subject, dir.path(), &["--format", "length-prefixed"]).await;
    publish(&subject, "second", 1).await;
    second.stop().await.exits_with(0);
    let text: String = files(dir.path())
        .iter()
        .rev()
        .map(|path| String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned())
        .collect();
    assert_eq!(text.lines().filter(|line| *line == "first").count(), 1000);
    assert_eq!(text.matches("second").count(), 1);
    let run = verify(dir.path()).await.exits_with(0);
    assert_eq!(
        (&run.summary()["records"], &run.summary()["in_progress"]),
        (&json!(1001), &json!(0))
    );
}

#[tokio::test]
async fn a_second_recorder_has_a_name_of_its_own() {
    let (dir, subject) = (tempfile::tempdir().unwrap(), unique_subject("cli.record"));
    let first = recording(&subject, dir.path(), &[]).await;
    let args = ["record", &subject, "--name", "test", "--dir"];
    finish(natstream(args).arg(dir.path())).await.exits_with(2);
    let second = recording(&subject, dir.path(), &["--writer-id", "b"]).await;
    publish(&subject, "x", 10).await;
    for recording in [first, second] {
        assert_eq!(recording.stop().await.exits_with(0).summary()["messages"], 10);
    }
    assert_eq!(files(dir.path()).len(), 2);
    verify(dir.path()).await.exits_with(0);
}

#[tokio::test]
async fn changes_are_found() {
    let (dir, subject) = (tempfile::tempdir().unwrap(), unique_subject("cli.record"));
    let recording = recording(&subject, dir.path(), &["--rotate", "size:40B"]).await;
    publish(&subject, "123456789", 12).await;
    recording.stop().await.exits_with(0);
    let found = files(dir.path());
    assert_eq!(found.len(), 3);
    verify(dir.path()).await.exits_with(0);
    let flipped = fs::read_to_string(&found[0]).unwrap().replacen('5', "6", 1);
    fs::write(&found[0], flipped).unwrap();
    assert_eq!(
        verify(dir.path())
            .await
            .exits_with(5)
            .stderr
            .matches("\"finding\"")
            .count(),
        1
    );
    fs::write(&found[1], "123456789\n1234").unwrap();
    assert_eq!(
        verify(dir.path())
            .await
            .exits_with(5)
            .stderr
            .matches("\"finding\"")
            .count(),
        2
    );
    fs::remove_file(&found[1]).unwrap();
    let run = verify(dir.path()).await.exits_with(5);
    assert_eq!(
        run.stderr.matches("\"finding\"").count(),
        2,
        "one is changed, one is gone"
    );
}

#[tokio::test]
async fn what_was_recorded_is_published_again() {
    for format in ["timestamped", "jsonl", "line", "length-prefixed"] {
        let (dir, subject) = (tempfile::tempdir().unwrap(), unique_subject("cli.record"));
        let args = ["--format", format, "--compress", "gzip"];
        let recording = recording(&format!("{subject}.>"), dir.path(), &args).await;
        for number in ["1", "2", "3"] {
            publish(&format!("{subject}.{number}"), number, 1).await;
        }
        recording.stop().await.exits_with(0);
        let listening = ["sub", &format!("{subject}.>"), "--max-items", "3", "--jsonl"];
        let sub = Listening::start(&listening, "listening to ").await;
        let knows_subjects = ["timestamped", "jsonl"].contains(&format);
        let replay = finish(natstream(["replay", "--json"]).arg(dir.path())).await;
        let replay = match knows_subjects {
            true => replay,
            false => {
                replay.exits_with(2);
                finish(
                    natstream(["replay", "--json"])
                        .arg(dir.path())
                        .arg(format!("{subject}.x")),
                )
                .await
            }
        };
        assert_eq!(replay.exits_with(0).summary()["records"], 3);
        let run = sub.end().await.exits_with(0);
        let lines: Vec<Value> = run
            .lines()
            .iter()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        for (line, number) in lines.iter().zip(["1", "2", "3"]) {
            let from = if knows_subjects { number } else { "x" };
            assert_eq!(
                (&line["data"], &line["subject"]),
                (&json!(number), &json!(format!("{subject}.{from}")))
            );
            let has_headers = format == "jsonl";
            assert_eq!(line["headers"] == json!({"X-A": ["1"]}), has_headers, "{line}");
        }
    }
}

#[tokio::test]
async fn mistakes_are_told_before_anything_is_done() {
    let dir = tempfile::tempdir().unwrap();
    let below = dir.path().join("new");
    for args in [
        &["x"][..],
        &["a b", "--name", "n"],
        &["x", "--name", "a/b"],
        &["x", "--name", "n", "--zone", "Mars/Olympus"],
        &["x", "--name", "n", "--rotate", "weekly"],
        &["x", "--name", "n", "--template", "{week}"],
        &["x", "--name", "n", "--sync", "sometimes"],
        &["x", "--name", "n", "--queue", "a b"],
    ] {
        finish(natstream(["record"]).args(args).arg("--dir").arg(&below))
            .await
            .exits_with(2);
    }
    finish(natstream(["record", "verify"]).arg(&below)).await.exits_with(2);
    finish(natstream(["replay"]).arg(dir.path())).await.exits_with(2);
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let nowhere = finish(natstream(["record", "x", "--name", "n", "--dir"]).arg(file.join("x"))).await;
    nowhere.exits_with(8);
}

#[tokio::test]
async fn what_cannot_be_published_again_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let subject = unique_subject("cli.replay");
    let lines = [
        format!("{{\"subject\":\"{subject}\",\"data\":\"1\"}}"),
        "5".to_owned(),
        "{\"subject\":\"a.*\",\"data\":\"2\"}".to_owned(),
        format!("{{\"subject\":\"{subject}\",\"data\":\"3\"}}"),
    ];
    fs::write(dir.path().join("a.jsonl"), lines.join("\n") + "\n").unwrap();
    let replay = ["replay", "--json", "--format", "jsonl"];
    let run = finish(natstream(replay).arg(dir.path())).await.exits_with(5);
    assert_eq!(
        (&run.summary()["records"], &run.summary()["damages"]),
        (&json!(2), &json!(2))
    );
    finish(natstream(["replay", "--format", "raw"]).arg(dir.path()).arg("x"))
        .await
        .exits_with(2);
    let config = "authorization { users: [{ user: a, password: b, permissions: { publish: [\"_INBOX.>\"] } }] }";
    let server = NatsServer::builder().config(config).start().await;
    let mut command = natstream(replay);
    command
        .args(["--server", &server.url(), "--user", "a", "--password", "b"])
        .arg(dir.path())
        .arg("forbidden");
    finish(&mut command).await.exits_with(7);
}

#[tokio::test]
async fn a_recorder_whose_disk_is_full_ends_with_its_figures() {
    let (dir, subject) = (tempfile::tempdir().unwrap(), unique_subject("cli.record"));
    let recording = recording(&subject, dir.path(), &["--buffer", "64KiB"]).await;
    // As good as a full disk: nothing can be made there any more.
    fs::remove_dir_all(dir.path()).unwrap();
    fs::write(dir.path(), "in the way").unwrap();
    publish(&subject, &"x".repeat(1000), 20_000).await;
    let run = recording.stop().await.exits_with(8);
    let summary = run.summary();
    let of = |name: &str| summary[name].as_u64().expect("a number");
    assert!(
        of("dropped") > 0 && of("messages") + of("dropped") == 20_000,
        "{summary}"
    );
    fs::remove_file(dir.path()).unwrap();
    fs::create_dir(dir.path()).unwrap();
}
