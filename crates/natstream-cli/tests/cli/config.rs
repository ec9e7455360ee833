//! Where the configuration comes from, and what is said about it.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::{Authority, NatsServer, shared_url, unique_subject, within};
use tokio::process::Command;

use crate::support::{LIMIT, Run, Serving, finish, natstream};

/// No NATS server listens there.
const NOWHERE: &str = "nats://127.0.0.1:1";

/// A directory with files and contexts, and a program that is told nothing else.
struct World(TempDir);

impl World {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("there is room for a directory"))
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::create_dir_all(path.parent().expect("it has a parent")).expect("a directory can be made");
        std::fs::write(&path, text).expect("a file can be written");
        path
    }

    fn natstream(&self, args: &[&str]) -> Command {
        let mut command = natstream(args);
        command.env_remove("NATS_URL").env("XDG_CONFIG_HOME", self.0.path());
        command
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("the path is UTF-8")
}

/// The listing, with the directory left out.
fn listing(run: &Run, world: &World) -> String {
    let text = std::str::from_utf8(&run.stdout).expect("the output is UTF-8");
    text.replace(&format!("{}/", world.0.path().display()), "")
}

#[tokio::test]
async fn show_tells_values_and_where_they_come_from() {
    let world = World::new();
    let file = world.write(
        "nats.yaml",
        "urls: [nats://u:s3cr3t@a, b]\ngrpc_port: 1\ntimeout: 1s\nservice_name: \"\"\n",
    );
    let mut show = world.natstream(&[
        "config",
        "show",
        "--origin",
        "--config",
        text(&file),
        "--inbox-prefix",
        "_I",
    ]);
    let run = finish(show.env("NATSTREAM_TIMEOUT", "1m30s")).await.exits_with(0);
    let listed = listing(&run, &world);
    let lines: Vec<_> = listed
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    assert_eq!(
        lines,
        [
            "urls: nats://a:4222,nats://b:4222 # nats.yaml:1",
            "username: u # nats.yaml:1",
            "password: [redacted] # nats.yaml:1",
            "tls_first: false # default",
            "inbox_prefix: _I # --inbox-prefix",
            "timeout: 1m 30s # NATSTREAM_TIMEOUT",
            "ping_interval: 10s # default",
            "max_reconnect: -1 # default",
            "connections_per_server: 1 # default",
            "use_consul: false # default",
            "service_name: nats-service # default",
        ]
    );
    assert_eq!(run.stderr.matches("`grpc_port`").count(), 1, "{run:?}");
    assert_eq!(run.stderr.lines().count(), 1, "{run:?}");

    let run = finish(&mut world.natstream(&["--json", "config", "show", "--token", "s3cr3t"]))
        .await
        .exits_with(0);
    let lines: Vec<Value> = run
        .lines()
        .iter()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    assert_eq!(
        lines[1],
        json!({"key": "token", "value": "[redacted]", "secret": true, "origin": "--token"})
    );
    let run = finish(&mut world.natstream(&["config", "show"])).await.exits_with(0);
    assert_eq!(run.lines()[0], "urls: nats://127.0.0.1:4222");
}

#[tokio::test]
async fn check_tells_all_mistakes() {
    let world = World::new();
    let good = world.write("good.yaml", "urls: a\nmax_pings_out: 2\n");
    let run = finish(&mut world.natstream(&["config", "check", "--config", text(&good)]))
        .await
        .exits_with(0);
    assert_eq!(run.stderr, "nothing is wrong\n");
    let listed = listing(&run, &world);
    assert!(
        listed.starts_with("warning: ") && listed.contains("`max_pings_out` (good.yaml:2)"),
        "{listed}"
    );

    let bad = world.write("bad.yaml", "urls: http://a\npasword: s3cr3t\nusername: [x]\n");
    let run = finish(&mut world.natstream(&["config", "check", "--config", text(&bad)]))
        .await
        .exits_with(2);
    let listed = listing(&run, &world);
    for words in [
        "error: `urls`: server 1 (`http://a`)",
        "error: bad.yaml:2: unknown key `pasword`; did you mean `password`?",
        "error: `username`: it is not a text",
    ] {
        assert!(listed.contains(words), "`{words}` is not in {listed}");
    }
    assert!(run.stderr.starts_with("error: 3 things are wrong"), "{run:?}");

    // What only the files that are named can show.
    let files = world.write("files.yaml", "creds: /no/such/file\n");
    let run = finish(&mut world.natstream(&["--json", "config", "check", "--config", text(&files)]))
        .await
        .exits_with(2);
    let line: Value = serde_json::from_str(run.lines()[0]).expect("JSON");
    assert_eq!(
        (line["level"].as_str(), line["key"].as_str()),
        (Some("error"), Some("credentials"))
    );
}

#[tokio::test]
async fn a_file_or_a_context_stands_in_for_options() {
    let world = World::new();
    let subject = unique_subject("cli.config");
    let file = world.write("nats.yaml", &format!("urls:\n  - {}\n", shared_url()));
    world.write("nats/context/here.json", &format!("{{\"url\": \"{}\"}}", shared_url()));
    let call = |args: &[&str]| {
        let mut command = world.natstream(&["call", &subject]);
        command.args(args);
        command
    };
    let file = text(&file);
    finish(&mut call(&["--config", file])).await.exits_with(3);
    finish(&mut call(&["--context", "here"])).await.exits_with(3);
    finish(call(&[]).env("NATSTREAM_CONFIG", file)).await.exits_with(3);
    finish(call(&[]).env("NATS_CONTEXT", "here")).await.exits_with(3);
    finish(call(&[]).env("ISA_CLOUD_NATS_URLS", shared_url()))
        .await
        .exits_with(3);
    // The environment is stronger, in its own order, and options are strongest.
    finish(call(&["--config", file]).env("NATS_URL", NOWHERE))
        .await
        .exits_with(6);
    let mut both = call(&["--config", file]);
    let both = both.env("NATS_URL", NOWHERE).env("ISA_CLOUD_NATS_URLS", shared_url());
    finish(both).await.exits_with(3);
    finish(both.env("NATSTREAM_URLS", NOWHERE)).await.exits_with(6);
    finish(both.args(["-s", shared_url()])).await.exits_with(3);

    for (args, words) in [
        (&["--config", file, "--context", "here"][..], "exclude each other"),
        (&["--context", "hree"], "did you mean `here`?"),
        (&["--config", "/no/such/file"], "cannot read /no/such/file"),
    ] {
        let run = finish(&mut call(args)).await.exits_with(2);
        assert!(
            run.stderr.starts_with("error: ") && run.stderr.contains(words),
            "{run:?}"
        );
    }
}

#[tokio::test]
async fn tls_may_be_required_with_the_roots_of_the_system() {
    let world = World::new();
    let authority = Authority::new();
    let server = within(LIMIT, authority.server("")).await;
    let subject = unique_subject("cli.config");
    let call = |url: &str, root: &Path| {
        let mut command = world.natstream(&["call", &subject, "-s", url]);
        // Where the system keeps its authorities.
        command
            .env("NATSTREAM_TLS_ENABLED", "true")
            .env("SSL_CERT_FILE", root)
            .env_remove("SSL_CERT_DIR");
        command
    };
    finish(&mut call(&server.url(), &authority.root())).await.exits_with(3);
    let run = finish(&mut call(&server.url(), &Authority::new().root()))
        .await
        .exits_with(6);
    assert!(run.stderr.contains("not trusted"), "{run:?}");
    let run = finish(&mut call(shared_url(), &authority.root())).await.exits_with(6);
    assert!(run.stderr.contains("TLS"), "{run:?}");
}

#[tokio::test]
async fn credentials_that_become_wrong_end_the_program() {
    let world = World::new();
    let token = world.write("token", "s3cr3t\n");
    let config = "authorization { token: s3cr3t }";
    let mut server = within(LIMIT, NatsServer::builder().config(config).start()).await;
    let mut serve = world.natstream(&[
        "serve",
        &unique_subject("cli.config"),
        "--count",
        "1",
        "-s",
        &server.url(),
    ]);
    let serving = Serving::spawn(serve.env("NATSTREAM_TOKEN_FILE", &token)).await;
    world.write("token", "s3cr3t-not\n");
    server.kill();
    within(LIMIT, server.restart()).await;
    let run = serving.end().await.exits_with(7);
    assert!(
        run.stderr.contains("refused 5 times in a row: authorization violation"),
        "{run:?}"
    );
    assert!(!run.stderr.contains("s3cr3t"), "{run:?}");
}
