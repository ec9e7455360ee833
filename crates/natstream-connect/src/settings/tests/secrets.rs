//! Secrets in files, and nowhere else.

use secrecy::ExposeSecret;

use super::*;
use crate::credentials::Credentials;

#[tokio::test]
async fn secrets_may_be_in_files() {
    let world = World::new();
    let secret = world.write("secret", "s3cr3t\n");
    let secret = secret.to_str().unwrap();
    for (variable, more) in [
        ("NATSTREAM_PASSWORD_FILE", ("NATS_USER", "u")),
        ("ISA_CLOUD_NATS_PASSWORD_FILE", ("ISA_CLOUD_NATS_USERNAME", "u")),
        ("NATS_PASSWORD_FILE", ("NATS_USER", "u")),
        ("NATSTREAM_TOKEN_FILE", ("X", "x")),
        ("NATS_TOKEN_FILE", ("X", "x")),
    ] {
        let settings = load(Loader::new().environment(variables(&[(variable, secret), more])));
        let held = match settings.credentials() {
            Credentials::Token(held) | Credentials::UserPassword { password: held, .. } => held,
            other => panic!("{other:?}"),
        };
        assert_eq!(held.read("secret").await.unwrap().expose_secret(), SECRET);
        let shown = settings.iter().find(super::super::Setting::is_secret).unwrap();
        assert_eq!(shown.value(), format!("[redacted] in {secret}"));
        assert_eq!(shown.origin().to_string(), variable);
    }
    let file = world.write("nats.yaml", format!("username: u\npassword_file: {secret}\n"));
    let settings = load(Loader::new().config_file(file));
    assert!(matches!(settings.credentials(), Credentials::UserPassword { .. }));
}

#[test]
fn files_without_a_secret_are_named() {
    let world = World::new();
    let empty = world.write("empty", "\n");
    let large = world.write("large", SECRET.repeat(20_000));
    let binary = world.write("binary", b"\xff\xfe");
    for (path, words) in [
        ("/nowhere/secret", "cannot read /nowhere/secret"),
        (empty.to_str().unwrap(), "is empty"),
        (large.to_str().unwrap(), "larger than 64 KiB"),
        (binary.to_str().unwrap(), "cannot read"),
    ] {
        let error = fail(Loader::new().environment(variables(&[("NATS_TOKEN_FILE", path)])));
        assert_eq!(
            (error.kind(), error.key()),
            (SettingsErrorKind::Unreadable, Some("token"))
        );
        assert!(error.to_string().contains(words), "{error}");
    }
}

#[test]
fn no_place_shows_its_secrets() {
    let world = World::new();
    let file = world.write(
        "nats.yaml",
        "urls: [nats://u:s3cr3t@a]\nconsul_token: s3cr3t\npassword: s3cr3t\njwt: s3cr3t\nseed: s3cr3t\n",
    );
    world.context(
        "c",
        r#"{"url": "s3cr3t@a", "password": "s3cr3t", "user_seed": "s3cr3t"}"#,
    );
    let environment: Vec<(String, &str)> = ["NATSTREAM_", "ISA_CLOUD_NATS_", "NATS_"]
        .iter()
        .flat_map(|prefix| ["PASSWORD", "TOKEN", "JWT", "SEED"].map(|key| (format!("{prefix}{key}"), SECRET)))
        .collect();
    let environment: Vec<(&str, &str)> = environment
        .iter()
        .map(|(name, value)| (name.as_str(), *value))
        .collect();
    let loader = Loader::new()
        .environment(variables(&environment))
        .flag("--token", "token", SECRET)
        .set("password", SECRET)
        .config_file(&file);
    assert!(!format!("{loader:?}").contains(SECRET));
    fail(loader);
    fail(world.loader().context("c"));
    fail(Loader::new().config_file(file));
    load(
        Loader::new()
            .flag("--server", "urls", "nats://u:s3cr3t@a")
            .set("consul_token", SECRET),
    );
}
