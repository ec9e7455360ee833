//! Exit codes, and what is said with them.

use testkit::{NatsServer, unique_subject, within};

use crate::support::{LIMIT, Run, finish, natstream, run};

/// No NATS server listens there.
const NOWHERE: &str = "nats://127.0.0.1:1";

/// An error in the form that all have, with this in it.
#[track_caller]
fn says(run: &Run, text: &str) {
    assert!(run.stderr.lines().any(|line| line.starts_with("error: ")), "{run:?}");
    assert!(run.stderr.contains(text), "`{text}` is not in {run:?}");
    assert!(!run.stderr.contains("panicked"), "{run:?}");
    assert!(run.stdout.is_empty(), "{run:?}");
}

#[tokio::test]
async fn mistakes_in_the_command_line() {
    let nowhere = |args: &[&str]| {
        let mut command = natstream(["-s", NOWHERE]);
        command.args(args);
        command
    };
    for (args, text) in [
        (&["call", "a b"][..], "a blank"),
        (&["call", "a..b"], "an empty token"),
        (&["call", ".a"], "an empty token"),
        (&["call", ""], "empty"),
        (&["call", "a.*"], "a wildcard"),
        (&["call", "a", "@/no/such/file"], "cannot read /no/such/file"),
        (&["call", "a", "b", "c"], "unexpected argument"),
        (&["call", "a", "-H", "novalue"], "NAME:VALUE"),
        (&["call", "a", "--max-items", "0"], "--max-items"),
        (&["call", "a", "--window", "1"], "8KiB"),
        (&["call", "a", "--heartbeat", "1h"], "between 1s and 60s"),
        (&["call", "a", "--deadline", "soon"], "a length of time"),
        (&["call", "a", "--deadline", "0s"], "the time is 0"),
        (&["call", "a", "--max-item", "1 parsec"], "a size"),
        (&["call", "a", "--raw", "--jsonl"], "cannot be used with"),
        (&["call", "a", "--token", "x", "--creds", "y"], "exclude each other"),
        (&["call", "a", "--user", "x"], "needs --password"),
        (&["call", "a", "--tls-cert", "x"], "needs --tls-key"),
        (
            &["call", "a", "--creds", "/no/such/file"],
            "cannot read the credentials file",
        ),
        (&["call", "a", "--nkey", "/no/such/file"], "cannot read the nkey file"),
        (&["call", "a", "--inbox-prefix", "a b"], "inbox_prefix"),
        (&["call", "a", "-s", "http://x"], "nats://"),
        (&["serve", "a"], "required"),
        (&["serve", "a..b", "--count", "1"], "an empty token"),
        (&["serve", "a", "--count", "1", "--lines", "x"], "cannot be used with"),
        (&["serve", "a", "--count", "1", "--", "cat"], "cannot be used with"),
        (&["serve", "a", "--count", "1", "--follow"], "cannot be used with"),
        (&["serve", "a", "--count", "1", "--queue", "a b"], "queue group"),
        (
            &["serve", "a", "--count", "1", "--max-concurrent", "0"],
            "--max-concurrent",
        ),
        (
            &["serve", "a", "--count", "1", "--size", "2KiB", "--max-item", "1KiB"],
            "--size",
        ),
        (&["serve", "a", "--size", "1", "--", "cat"], "cannot be used with"),
        (&["serve", "a", "--", "no-such-program"], "not a program"),
        (&["doctor", "a.*"], "a wildcard"),
        (&["doctor", "$JS.API.STREAM.DELETE.A"], "could do harm"),
        (&["doctor", "a", "b"], "unexpected argument"),
        (&["top"], "`natstream ls --json`"),
        (&["top", "--interval", "1ms"], "100ms"),
        (&["nonsense"], "nonsense"),
        (&[], "subcommand"),
    ] {
        let run = finish(&mut nowhere(args)).await.exits_with(2);
        says(&run, text);
    }
}

#[tokio::test]
async fn requests_that_cannot_be_sent() {
    let subject = unique_subject("cli.exit");
    let body = tempfile::NamedTempFile::new().unwrap();
    let file = format!("@{}", body.path().display());
    // Each fits max_payload without the headers; the first one, of 64 MiB and a byte, fits no server.
    for size in [(64 << 20) + 1, 2 << 20, 1 << 20] {
        std::fs::write(body.path(), vec![b'x'; size]).unwrap();
        says(&run(["call", &subject, &file]).await.exits_with(2), "");
    }
    for header in ["Natstream: 1", "Nats-Msg-Id: x", "X: ü", "a b: c"] {
        says(&run(["call", &subject, "-H", header]).await.exits_with(2), "header");
    }
}

#[tokio::test]
async fn nobody_serves() {
    let call = run(["call", &unique_subject("cli.exit"), "--json"]).await.exits_with(3);
    assert_eq!(call.summary()["ended"], "no_responders");
    assert!(call.summary()["duration_ms"].as_f64() < Some(1000.0), "{call:?}");
    says(&call, "hint: start a responder");
}

#[tokio::test]
async fn no_connection() {
    for args in [&["call", "a"][..], &["serve", "a", "--count", "1"], &["ls"]] {
        let mut command = natstream(args);
        let run = finish(command.args(["--server", NOWHERE])).await.exits_with(6);
        says(&run, "caused by: ");
        says(&run, "hint: ");
    }
    // Somebody listens and says nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = silent.local_addr().unwrap().to_string();
    let run = run(["call", "a", "-s", &url, "--timeout", "300ms"]).await.exits_with(6);
    says(&run, "no answer within 300ms");
}

#[tokio::test]
async fn what_can_be_done_is_said() {
    let (subject, stream) = (unique_subject("cli.exit"), "NO_SUCH_STREAM");
    let dir = tempfile::tempdir().expect("there is room for a directory");
    let dir = dir.path().to_str().expect("it is text");
    for (args, code, hint) in [
        (&["serve", "a", "--", "no-such-program"][..], 2, "`--`"),
        (&["bus", "stream", "info", stream], 1, "bus stream ls"),
        (&["bus", "consumer", "ls", stream], 1, "bus stream ls"),
        (&["bus", "consume", stream, "--durable", "a"], 1, "bus stream ls"),
        (&["bus", "dlq", "ls", stream], 1, "bus stream ls"),
        (
            &["bus", "publish", &subject, "x", "--deadline", "1s"],
            8,
            "bus stream add",
        ),
        (&["kv", "get", "no-such-bucket", "a"], 1, "kv add"),
        (&["object", "info", "no-such-bucket", "a"], 1, "object add"),
        (
            &[
                "record",
                "--stream",
                stream,
                "--durable",
                "a",
                "--dir",
                dir,
                "--name",
                "a",
            ],
            1,
            "bus stream ls",
        ),
    ] {
        let run = run(args).await.exits_with(code);
        let hints: Vec<_> = run.stderr.lines().filter(|line| line.starts_with("hint: ")).collect();
        assert!(
            hints.len() == 1 && hints[0].contains(hint),
            "`{hint}` is no hint in {run:?}"
        );
    }
}

#[tokio::test]
async fn not_permitted() {
    let config = r#"authorization { users = [
        { user: all, password: secret }
        { user: some, password: secret, permissions: { publish: ["open.>"], subscribe: ["_INBOX.>", "open.>"] } }
        { user: inbox, password: secret, permissions: { subscribe: ["_INBOX_own.>"] } }
    ] }"#;
    let server = within(LIMIT, NatsServer::builder().config(config).start()).await;
    let run = async |user: &str, password: &str, args: &[&str]| {
        let mut command = natstream(args);
        // The shared server's URL is not this one.
        command
            .args(["-s", &server.url()])
            .env("NATS_USER", user)
            .env("NATS_PASSWORD", password);
        finish(&mut command).await
    };

    let wrong = run("all", "wrong", &["call", "open.a"]).await.exits_with(7);
    says(&wrong, "hint: the environment sets NATS_USER and NATS_PASSWORD");
    assert!(!wrong.stderr.contains("wrong"), "the password is in {wrong:?}");
    let none = run("", "", &["call", "open.a"]).await.exits_with(7);
    says(&none, "did not accept the credentials");
    run("all", "secret", &["call", "open.a"]).await.exits_with(3);

    run("some", "secret", &["call", "open.a"]).await.exits_with(3);
    let publish = run("some", "secret", &["call", "closed.a", "--json"])
        .await
        .exits_with(7);
    assert_eq!(publish.summary()["ended"], "not_permitted");
    says(&publish, "the call to `closed.a` is not permitted");
    let subscribe = run("some", "secret", &["serve", "closed.a", "--count", "1"])
        .await
        .exits_with(7);
    says(&subscribe, "no permission to subscribe to `closed.a`");

    let inbox = run("inbox", "secret", &["call", "open.a"]).await.exits_with(7);
    says(&inbox, "--inbox-prefix");
    run("inbox", "secret", &["call", "open.a", "--inbox-prefix", "_INBOX_own"])
        .await
        .exits_with(3);
}

#[tokio::test]
async fn the_environment_stands_in_for_options() {
    let subject = unique_subject("cli.exit");
    let call = |variables: &[(&str, &str)], args: &[&str]| {
        let mut command = natstream(["call", &subject]);
        command.args(args).envs(variables.iter().copied());
        command
    };
    // Empty counts as not set.
    let empty = [
        ("NATS_USER", ""),
        ("NATS_PASSWORD", ""),
        ("NATS_TOKEN", ""),
        ("NATS_CREDS", ""),
        ("NATS_NKEY", ""),
        ("NATS_CA", ""),
        ("NATS_CERT", ""),
        ("NATS_KEY", ""),
        ("NATS_TIMEOUT", ""),
    ];
    finish(&mut call(&empty, &[])).await.exits_with(3);
    finish(&mut call(&[("NATS_URL", NOWHERE)], &[])).await.exits_with(6);
    // The command line is stronger, and an identity there takes the place of a whole one.
    finish(&mut call(&[("NATS_URL", NOWHERE)], &["-s", testkit::shared_url()]))
        .await
        .exits_with(3);
    says(
        &finish(&mut call(&[("NATS_CREDS", "/no/such/file")], &[]))
            .await
            .exits_with(2),
        "/no/such/file",
    );
    finish(&mut call(&[("NATS_CREDS", "/no/such/file")], &["--token", "x"]))
        .await
        .exits_with(3);
    says(
        &finish(&mut call(&[("NATS_TIMEOUT", "soon")], &[])).await.exits_with(2),
        "--timeout",
    );
}

#[tokio::test]
async fn global_options_stand_before_or_after_the_command() {
    let subject = unique_subject("cli.exit");
    let url = testkit::shared_url();
    let options = ["-s", url, "--timeout", "4s", "--json"];
    for args in [
        [&options[..], &["call", &subject]].concat(),
        [&["call", &subject], &options[..]].concat(),
        [&["call"], &options[..], &[&subject]].concat(),
    ] {
        let mut command = natstream(&args);
        let call = finish(command.env("NATS_URL", NOWHERE)).await.exits_with(3);
        assert_eq!(call.summary()["items"], 0);
    }
}

#[tokio::test]
async fn help_tells_everything_but_secrets() {
    for args in [
        &["--help"][..],
        &["call", "--help"],
        &["serve", "-h"],
        &["doctor", "-h"],
    ] {
        let mut command = natstream(args);
        let help = finish(
            command
                .env("NATS_PASSWORD", "s3cr3t")
                .env("NATS_URL", "nats://u:s3cr3t@x"),
        )
        .await;
        let help = help.exits_with(0);
        let text = String::from_utf8(help.stdout).unwrap();
        assert!(text.contains("Examples:") && text.contains("NATS_PASSWORD"), "{text}");
        assert!(!text.contains("s3cr3t"), "{text}");
        assert_eq!(help.stderr, "");
    }
}
