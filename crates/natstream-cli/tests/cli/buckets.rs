//! `natstream kv` and `natstream object`: what they print, and exit codes.

use std::fs;
use std::process::Stdio;

use rustix::process::Signal;
use serde_json::Value;
use testkit::{shared_url, unique_name, within};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, ChildStdout};

use crate::support::{LIMIT, Listening, Run, end, natstream, run, signal};

/// Runs the program against the shared server.
async fn on(args: &[&str]) -> Run {
    run(["-s", shared_url()].iter().chain(args)).await
}

async fn bucket(command: &str) -> String {
    let name = unique_name("cli");
    on(&[command, "add", &name]).await.exits_with(0);
    name
}

fn json(line: &str) -> Value {
    serde_json::from_str(line).expect("JSON")
}

#[tokio::test]
async fn values_are_put_compared_and_read() {
    let name = unique_name("cli");
    on(&["kv", "add", &name, "--history", "5"]).await.exits_with(0);
    on(&["kv", "add", &name, "--history", "5"]).await.exits_with(0);
    on(&["kv", "add", &name, "--history", "6"]).await.exits_with(1);
    on(&["kv", "add", &name, "--history", "6", "--update", "harmless"])
        .await
        .exits_with(0);
    let kv = async |args: &[&str]| on(&["kv"].iter().chain(args).copied().collect::<Vec<_>>()).await;
    assert_eq!(kv(&["put", &name, "a.b", "1"]).await.exits_with(0).lines(), ["1"]);
    assert_eq!(kv(&["get", &name, "a.b"]).await.exits_with(0).lines(), ["1"]);
    kv(&["create", &name, "a.b", "2"]).await.exits_with(1);
    kv(&["update", &name, "a.b", "2", "--revision", "7"])
        .await
        .exits_with(1);
    assert_eq!(
        kv(&["update", &name, "a.b", "2", "--revision", "1"])
            .await
            .exits_with(0)
            .lines(),
        ["2"]
    );
    kv(&["create", &name, "c", "x"]).await.exits_with(0);
    assert_eq!(kv(&["keys", &name]).await.exits_with(0).lines(), ["a.b", "c"]);
    assert_eq!(kv(&["keys", &name, "a.>"]).await.exits_with(0).lines(), ["a.b"]);
    let entry = json(kv(&["get", &name, "a.b", "--json"]).await.exits_with(0).lines()[0]);
    assert_eq!((&entry["value"], &entry["revision"]), (&"2".into(), &2.into()));
    kv(&["del", &name, "a.b"]).await.exits_with(0);
    kv(&["get", &name, "a.b"]).await.exits_with(1);
    let history = kv(&["history", &name, "a.b"]).await.exits_with(0);
    assert_eq!(history.lines(), ["1 PUT a.b 1", "2 PUT a.b 2", "4 DEL a.b"]);
    assert_eq!(
        kv(&["get", &name, "a.b", "--revision", "1"])
            .await
            .exits_with(0)
            .lines(),
        ["1"]
    );
    kv(&["purge", &name, "a.b"]).await.exits_with(0);
    assert_eq!(
        kv(&["history", &name, "a.b"]).await.exits_with(0).lines(),
        ["5 PURGE a.b"]
    );
    kv(&["put", &name, "a b", "1"]).await.exits_with(2);
    let watched = kv(&["watch", &name, "--once"]).await.exits_with(0);
    assert_eq!(watched.lines(), ["3 PUT c x", "5 PURGE a.b"]);
    kv(&["rm", &name]).await.exits_with(0);
    kv(&["put", &name, "a", "1"]).await.exits_with(1);
}

/// A watch that runs, and what it has printed.
struct Watching {
    child: Child,
    stdout: BufReader<ChildStdout>,
}

impl Watching {
    async fn start(name: &str, args: &[&str]) -> Self {
        let args = ["-s", shared_url(), "kv", "watch", name]
            .into_iter()
            .chain(args.iter().copied());
        let mut child = natstream(args).spawn().expect("started");
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        Self { child, stdout }
    }

    /// The next line, as soon as it is there.
    async fn line(&mut self) -> String {
        let mut line = String::new();
        within(LIMIT, self.stdout.read_line(&mut line)).await.expect("read");
        line.strip_suffix('\n').expect("a whole line").to_owned()
    }

    /// Ends by itself, or has been told to; returns the exit code and what it has printed besides.
    async fn end(mut self) -> (Option<i32>, String) {
        let mut rest = String::new();
        within(LIMIT, self.stdout.read_to_string(&mut rest))
            .await
            .expect("read");
        (end(self.child).await.code, rest)
    }
}

#[tokio::test]
async fn a_watch_prints_what_there_is_then_each_change_and_ends_when_told() {
    let name = unique_name("cli");
    on(&["kv", "add", &name, "--history", "5"]).await.exits_with(0);
    on(&["kv", "put", &name, "a", "1"]).await.exits_with(0);
    on(&["kv", "put", &name, "a", "2"]).await.exits_with(0);
    on(&["kv", "put", &name, "b.c", "x y"]).await.exits_with(0);
    let mut all = Watching::start(&name, &[]).await;
    assert_eq!(all.line().await, "2 PUT a 2", "the last revision of each key");
    assert_eq!(all.line().await, "3 PUT b.c x y");
    let mut json_lines = Watching::start(&name, &["b.*", "--json"]).await;
    let entry = json(&json_lines.line().await);
    assert_eq!((&entry["key"], &entry["value"]), (&"b.c".into(), &"x y".into()));
    let mut from = Watching::start(&name, &["a", "--from", "1", "--max-items", "3"]).await;
    assert_eq!(from.line().await, "1 PUT a 1", "all revisions");
    assert_eq!(from.line().await, "2 PUT a 2");

    on(&["kv", "put", &name, "a", "3"]).await.exits_with(0);
    assert_eq!(all.line().await, "4 PUT a 3");
    assert_eq!(from.end().await, (Some(0), "4 PUT a 3\n".to_owned()), "after three");
    on(&["kv", "del", &name, "b.c"]).await.exits_with(0);
    assert_eq!(all.line().await, "5 DEL b.c");
    let entry = json(&json_lines.line().await);
    assert_eq!(
        (&entry["operation"], &entry["revision"], entry.get("value")),
        (&"DEL".into(), &5.into(), None)
    );
    on(&["kv", "purge", &name, "a"]).await.exits_with(0);
    assert_eq!(all.line().await, "6 PURGE a");
    for watching in [all, json_lines] {
        signal(&watching.child, Signal::TERM);
        assert_eq!(watching.end().await, (Some(0), String::new()));
    }
}

#[tokio::test]
async fn a_watch_of_changes_leaves_out_what_there_is_and_ends_with_its_bucket() {
    let name = bucket("kv").await;
    on(&["kv", "put", &name, "a", "1"]).await.exits_with(0);
    let args = ["-s", shared_url(), "kv", "watch", &name, "--changes"];
    let watch = Listening::start(&args, "watching").await;
    on(&["kv", "put", &name, "a", "2"]).await.exits_with(0);
    on(&["kv", "rm", &name]).await.exits_with(0);
    // Lost, after a server that has just started would know its streams.
    let run = watch.end().await.exits_with(1);
    assert_eq!(run.lines(), ["2 PUT a 2"]);
}

#[tokio::test]
async fn objects_go_up_and_down() {
    let name = bucket("object").await;
    let folder = tempfile::tempdir().expect("a folder");
    let (from, to) = (folder.path().join("from"), folder.path().join("to"));
    let content: Vec<u8> = (0..1_000_000_u32).map(|n| (n % 251) as u8).collect();
    fs::write(&from, &content).expect("written");
    let at = format!("@{}", from.display());
    let run = on(&["object", "put", &name, "a b", &at, "--json"]).await.exits_with(0);
    assert_eq!(
        (&run.summary()["bytes"], &run.summary()["chunks"]),
        (&1_000_000.into(), &8.into())
    );
    let to_text = to.display().to_string();
    let run = on(&["object", "get", &name, "a b", &to_text]).await.exits_with(0);
    assert!(
        !run.stderr.contains('\u{1b}') && !run.stderr.contains('\r'),
        "no bar without a terminal"
    );
    assert!(fs::read(&to).expect("there") == content);
    assert!(!folder.path().join("to.part").exists());
    let info = on(&["object", "info", &name, "a b", "--json"]).await.exits_with(0);
    assert_eq!(json(info.lines()[0])["size"], 1_000_000);
    assert_eq!(
        on(&["object", "ls", &name, "--json"]).await.exits_with(0).lines().len(),
        1
    );
    on(&["object", "put", &name, "text", "hello"]).await.exits_with(0);
    assert_eq!(
        on(&["object", "get", &name, "text"]).await.exits_with(0).lines(),
        ["hello"]
    );
    on(&["object", "del", &name, "text"]).await.exits_with(0);
    on(&["object", "get", &name, "text", &to_text]).await.exits_with(1);
    assert!(fs::read(&to).expect("there") == content, "what failed changes nothing");
    on(&["object", "put", &name, "x", "@/none"]).await.exits_with(2);
    on(&["object", "rm", &name]).await.exits_with(0);
    on(&["object", "put", &name, "x", "y"]).await.exits_with(1);
}

/// A process that is killed in the middle of a put leaves no object; what it has stored is swept.
#[tokio::test]
async fn a_put_that_is_killed_leaves_no_object() {
    let name = bucket("object").await;
    let args = [
        "-s",
        shared_url(),
        "object",
        "put",
        &name,
        "a",
        "-",
        "--chunk-size",
        "1KiB",
    ];
    let mut child = natstream(args).stdin(Stdio::piped()).spawn().expect("started");
    let mut stdin = child.stdin.take().expect("piped");
    within(LIMIT, stdin.write_all(&[7; 200 << 10])).await.expect("taken");
    while within(LIMIT, bytes(&name)).await == 0 {}
    signal(&child, Signal::KILL);
    end(child).await;
    drop(stdin);
    on(&["object", "get", &name, "a"]).await.exits_with(1);
    assert_eq!(
        on(&["object", "ls", &name, "--json"]).await.exits_with(0).lines().len(),
        0
    );
    let swept = on(&["object", "sweep", &name, "--quiet-for", "0s", "--json"])
        .await
        .exits_with(0);
    assert_eq!(json(swept.lines()[0])["uploads"], 1);
    assert_eq!(bytes(&name).await, 0);
}

#[tokio::test]
async fn a_put_that_is_told_to_end_leaves_nothing() {
    let name = bucket("object").await;
    let args = [
        "-s",
        shared_url(),
        "object",
        "put",
        &name,
        "a",
        "-",
        "--chunk-size",
        "1KiB",
    ];
    let mut child = natstream(args).stdin(Stdio::piped()).spawn().expect("started");
    let mut stdin = child.stdin.take().expect("piped");
    // Some are under way whenever it is told; the pipe is never at its end, and breaks.
    let write = async { while stdin.write_all(&[7; 64 << 10]).await.is_ok() {} };
    let told = async {
        while bytes(&name).await == 0 {}
        signal(&child, Signal::TERM);
        end(child).await.exits_with(130)
    };
    within(LIMIT, async { tokio::join!(write, told) }).await;
    assert_eq!(bytes(&name).await, 0);
}

/// What the bucket of objects has.
async fn bytes(name: &str) -> u64 {
    let run = on(&["object", "ls", "--json"]).await.exits_with(0);
    let all: Vec<Value> = run.lines().into_iter().map(json).collect();
    let own = all.into_iter().find(|info| info["bucket"] == name);
    own.and_then(|info| info["bytes"].as_u64()).unwrap_or_default()
}
