//! No command says a secret, however it was given, and however much it is asked to say.

use std::path::Path;

use testkit::{NatsServer, unique_subject, within};
use tokio::process::Command;

use crate::support::{LIMIT, Run, finish, natstream, run};

/// Stands for every secret. It is in no help text, and looks like a seed.
const SECRET: &str = "SUAs3cr3t";

/// Commands that end by themselves where they may do what they want, and all others where they may not.
const COMMANDS: [&[&str]; 11] = [
    &["bench", "stream", "--duration", "100ms"],
    &["call"],
    &["config", "show", "--origin"],
    &["config", "check"],
    &["doctor"],
    &["ls"],
    &["pub", "text"],
    &["request", "text"],
    &["serve", "--count", "1"],
    &["sub"],
    &["top"],
];

/// All commands that the help names, those without an entry above by their bare name: none is forgotten.
async fn commands() -> Vec<Vec<String>> {
    let help = run(["--help"]).await.exits_with(0);
    let names = help
        .lines()
        .into_iter()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.strip_prefix("  ")?.split_whitespace().next());
    let subject = unique_subject("cli.secrets");
    let mut commands = Vec::new();
    for name in names {
        let known = COMMANDS.iter().filter(|args| args[0] == name);
        let known: Vec<_> = known.map(|args| args.to_vec()).collect();
        for mut args in if known.is_empty() { vec![vec![name]] } else { known } {
            if ["call", "pub", "request", "serve", "sub"].contains(&name) {
                args.insert(1, &subject);
            }
            commands.push(args.iter().map(ToString::to_string).collect());
        }
    }
    assert!(commands.len() >= COMMANDS.len(), "{commands:?}");
    commands
}

/// A way to give a secret.
type Way = (&'static str, Box<dyn Fn(&mut Command)>);

fn ways(directory: &Path, url: &str) -> Vec<Way> {
    let write = |name: &str, text: &str| {
        let path = directory.join(name);
        std::fs::create_dir_all(path.parent().expect("it has a parent")).expect("a directory can be made");
        std::fs::write(&path, text).expect("a file can be written");
        path.display().to_string()
    };
    let mut ways: Vec<Way> = Vec::new();
    let mut variables = |name, variables: &[(&str, &str)]| {
        let variables: Vec<_> = variables
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_string()))
            .collect();
        ways.push((
            name,
            Box::new(move |command| {
                command.envs(variables.clone());
            }),
        ));
    };
    let with_user_info = url.replace("://", &format!("://app:{SECRET}@"));
    let file = write("secret", &format!("{SECRET}\n"));
    variables("password", &[("NATS_USER", "app"), ("NATS_PASSWORD", SECRET)]);
    variables("own", &[("NATSTREAM_USERNAME", "app"), ("NATSTREAM_PASSWORD", SECRET)]);
    variables(
        "isa",
        &[("ISA_CLOUD_NATS_USERNAME", "app"), ("ISA_CLOUD_NATS_PASSWORD", SECRET)],
    );
    variables("file", &[("NATS_USER", "app"), ("NATSTREAM_PASSWORD_FILE", &file)]);
    variables("token", &[("NATS_TOKEN", SECRET)]);
    variables("jwt", &[("NATS_JWT", SECRET), ("NATS_SEED", SECRET)]);
    variables("nkey", &[("NATS_NKEY", &file)]);
    variables("creds", &[("NATS_CREDS", &file)]);
    variables("url", &[("NATS_URL", &with_user_info)]);
    variables(
        "urls",
        &[("ISA_CLOUD_NATS_URLS", &format!("nats://{SECRET}:x@a:b,{SECRET}@c"))],
    );
    variables("half", &[("NATS_PASSWORD", SECRET)]);
    variables(
        "two",
        &[("NATS_TOKEN", SECRET), ("NATS_CREDS", &file), ("NATS_PASSWORD", SECRET)],
    );
    variables("typo", &[("NATSTREAM_PASWORD", SECRET), ("NATSTREAM_TOKEN", SECRET)]);
    variables(
        "consul",
        &[("CONSUL_HTTP_TOKEN", SECRET), ("NATSTREAM_USE_CONSUL", "true")],
    );
    for (name, text) in [
        (
            "yaml",
            format!("username: app\npassword: {SECRET}\nconsul_token: {SECRET}\n"),
        ),
        ("yaml url", format!("urls: ['{with_user_info}']\n")),
        ("yaml half", format!("password: {SECRET}\n")),
        (
            "yaml wrong",
            format!("password: [{SECRET}]\ntimeout: x\npasswort: {SECRET}\n"),
        ),
        ("yaml broken", format!("password: {SECRET}: x\ntoken: '{SECRET}\n")),
        ("yaml none", SECRET.to_owned()),
    ] {
        let path = write(&format!("{name}.yaml"), &text);
        variables(name, &[("NATSTREAM_CONFIG", &path)]);
    }
    for (name, text) in [
        ("context", format!(r#"{{"user": "app", "password": "{SECRET}"}}"#)),
        ("context broken", format!(r#"{{"user": "app", "password": {SECRET}}}"#)),
    ] {
        write(&format!("nats/context/{name}.json"), &text);
        variables(name, &[("NATS_CONTEXT", name)]);
    }
    let mut options = |name, options: &[&str]| {
        let options: Vec<_> = options.iter().map(ToString::to_string).collect();
        ways.push((
            name,
            Box::new(move |command| {
                command.args(options.clone());
            }),
        ));
    };
    options("--password", &["--user", "app", "--password", SECRET]);
    options("--token", &["--token", SECRET]);
    options("--server", &["--server", &with_user_info]);
    options("--token --password", &["--token", SECRET, "--password", SECRET]);
    ways
}

#[track_caller]
fn is_silent(run: &Run, what: &str) {
    let stdout = String::from_utf8_lossy(&run.stdout);
    for line in run.stderr.lines().chain(stdout.lines()) {
        assert!(!line.contains("s3cr3t"), "{what}: {line}");
    }
    assert!(!run.stderr.contains("panicked"), "{what}: {run:?}");
}

#[tokio::test]
async fn no_command_says_a_secret() {
    let directory = tempfile::tempdir().expect("there is room for a directory");
    // One that takes the password, and one that takes nothing.
    let right = format!("authorization {{ user: app, password: {SECRET} }}");
    let right = within(LIMIT, NatsServer::builder().config(right).start()).await;
    let wrong = NatsServer::builder().config("authorization { user: app, password: other }");
    let wrong = within(LIMIT, wrong.start()).await;
    let mut seen = std::collections::BTreeSet::new();
    for args in commands().await {
        for server in [&right, &wrong] {
            let ends = ["bench", "call", "config", "doctor", "ls", "pub", "request"].contains(&args[0].as_str());
            if std::ptr::eq(server, &right) && !ends {
                continue;
            }
            for (name, give) in ways(directory.path(), &server.url()) {
                let mut command = natstream(&args);
                command
                    .args(["-vvv", "--timeout", "2s"])
                    .env("NATS_URL", server.url())
                    .env("XDG_CONFIG_HOME", directory.path());
                give(&mut command);
                let run = finish(&mut command).await;
                is_silent(&run, &format!("{args:?} with {name}"));
                // Where little is said, little is found.
                assert!(
                    run.code != Some(3) || run.stderr.contains(" DEBUG async_nats"),
                    "{run:?}"
                );
                seen.insert(run.code);
            }
        }
    }
    // It was connected, refused, and misunderstood.
    for code in [0, 2, 3, 7] {
        assert!(seen.contains(&Some(code)), "{code} is not in {seen:?}");
    }
}
