//! What is stronger than what.

use std::time::Duration;

use super::*;
use crate::credentials::Credentials;
use crate::settings::Origin;

#[test]
fn the_strongest_place_wins() {
    let world = World::new();
    let file = world.write("nats.yaml", "name: file\nservice_name: file\ntimeout: 1s\nurls: file\n");
    world.context(
        "c",
        r#"{"url": "context", "inbox_prefix": "context", "jetstream_domain": "context"}"#,
    );
    let environment = [
        ("NATSTREAM_CONFIG", file.to_str().unwrap()),
        ("NATS_CONTEXT", "c"),
        ("NATSTREAM_NAME", "own"),
        ("ISA_CLOUD_NATS_NAME", "isa"),
        ("ISA_CLOUD_NATS_SERVICE_NAME", "isa"),
        ("NATS_TIMEOUT", "2s"),
        ("ISA_CLOUD_NATS_PING_INTERVAL", "3s"),
        ("NATSTREAM_RECONNECT_WAIT", ""),
    ];
    let loader = || world.loader().environment(variables(&environment));
    let settings = load(loader().flag("--ping", "ping_interval", "4s").set("max_reconnect", "7"));
    assert_eq!(
        shown(&settings, world.0.path()),
        [
            "urls = nats://file:4222 (nats.yaml:4)",
            "tls_first = false (default)",
            "inbox_prefix = context (nats/context/c.json)",
            "name = own (NATSTREAM_NAME)",
            "timeout = 2s (NATS_TIMEOUT)",
            "ping_interval = 4s (--ping)",
            "max_reconnect = 7 (the program)",
            "connections_per_server = 1 (default)",
            "jetstream_domain = context (nats/context/c.json)",
            "use_consul = false (default)",
            "service_name = isa (ISA_CLOUD_NATS_SERVICE_NAME)",
        ]
    );
    assert_eq!(settings.timeout(), Duration::from_secs(2));
    assert_eq!(settings.jetstream_domain(), Some("context"));
    assert_eq!(
        settings.origin("name"),
        Some(&Origin::Variable("NATSTREAM_NAME".to_owned()))
    );
    assert_eq!(settings.origin("token"), None);

    // Who names a file does not want the context of the environment, and the other way round.
    let settings = load(loader().config_file(&file));
    assert_eq!(value(&settings, "inbox_prefix").as_deref(), Some("_INBOX"));
    let settings = load(loader().context("c"));
    assert_eq!(value(&settings, "urls").as_deref(), Some("nats://context:4222"));
    let error = fail(loader().config_file(&file).context("c"));
    assert_eq!(error.kind(), SettingsErrorKind::Conflict);
}

#[test]
fn the_defaults_are_those_of_the_connection() {
    let settings = load(Loader::new());
    let loaded = settings.connect_config();
    let plain = crate::ConnectConfig::new("nats://127.0.0.1:4222");
    assert_eq!(format!("{loaded:?}"), format!("{plain:?}"));
    // And those that are shown are these.
    let mut given = Loader::new();
    for setting in settings.iter() {
        given = given.set(setting.key(), setting.value());
    }
    assert_eq!(format!("{:?}", load(given).connect_config()), format!("{plain:?}"));
}

#[test]
fn every_connection_setting_arrives() {
    let settings = load_file(
        "urls: [tls://a, 'b,c']\nname: n\ninbox_prefix: _I.x\ntimeout: 1.5s\nping_interval: 2m\nmax_reconnect: 0\n\
         reconnect_wait: 250ms\njetstream_domain: hub\nusername: u\npassword: p\ntls_ca: /ca\ntls_cert: /cert\ntls_key: /key\n\
         tls_first: yes\nidle_per_server: 8\nconsul_tags: a, b\nconsul_token: t\njetstream_enabled: on\n",
    );
    let text = format!("{:?}", settings.connect_config());
    for part in [
        r#"["tls://a:4222", "nats://b:4222", "nats://c:4222"]"#,
        r#"name: Some("n")"#,
        r#"inbox_prefix: "_I.x""#,
        "connect_timeout: 1.5s",
        "ping_interval: 120s",
        "max_reconnects: Some(0)",
        "reconnect_wait: Some(250ms)",
        r#"jetstream_domain: Some("hub")"#,
        r#"UserPassword { user: "u""#,
        r#"root_certificates: ["/ca"]"#,
        r#"client_certificate: Some(("/cert", "/key"))"#,
        "handshake_first: true",
    ] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    assert_eq!(settings.connections_per_server().get(), 8);
    assert_eq!(settings.servers(), 3);
    assert_eq!(settings.consul_tags(), ["a", "b"]);
    assert_eq!(settings.jetstream_enabled(), Some(true));
    assert!(settings.consul_token().is_some() && settings.consul_address().is_none());
    assert!(format!("{:?}", load_file("max_reconnect: -1").connect_config()).contains("max_reconnects: None"));
}

#[test]
fn tls_is_required_when_it_is_asked_for() {
    let tls = |given: &[(&str, &str)], file: &str| {
        let world = World::new();
        let file = world.write("nats.yaml", file);
        let settings = load(Loader::new().config_file(file).environment(variables(given)));
        let text = format!("{:?}", settings.connect_config());
        let tls = text.split_once("tls: ").unwrap().1;
        match (tls.starts_with("None"), tls.contains("required: true")) {
            (true, _) => "none",
            (false, true) => "required",
            (false, false) => "optional",
        }
    };
    let (on, off) = ("tls_enabled: true", "tls_enabled: false");
    for (environment, file, expected) in [
        (&[][..], "", "none"),
        (&[], on, "required"),
        (&[], off, "none"),
        (&[], "tls_ca: /ca", "required"),
        (&[], "tls_first: true", "required"),
        (&[], "tls_first: false", "none"),
        (&[], "tls_ca: /ca\ntls_enabled: false", "optional"),
        (&[("NATS_CA", "/ca")], off, "required"),
        (&[("NATSTREAM_TLS_ENABLED", "0")], "tls_ca: /ca", "optional"),
        (&[("NATSTREAM_TLS_ENABLED", "false")], on, "none"),
    ] {
        assert_eq!(tls(environment, file), expected, "{environment:?} {file}");
    }
}

/// Which form of identity is chosen.
fn identity(settings: &Settings) -> &'static str {
    match settings.credentials() {
        Credentials::None => "none",
        Credentials::Token(_) => "token",
        Credentials::UserPassword { .. } => "user",
        Credentials::CredentialsFile(_) => "creds",
        Credentials::NkeySeed(_) => "nkey",
        Credentials::Jwt { .. } => "jwt",
        _ => "another",
    }
}

#[test]
fn an_identity_comes_from_one_place_as_a_whole() {
    for (environment, file, expected, origin) in [
        (&[][..], "token: s3cr3t", "token", "token"),
        (
            &[("NATS_TOKEN", "s3cr3t")],
            "username: u\npassword: s3cr3t",
            "token",
            "token",
        ),
        (&[("NATS_CREDS", "/c")], "token: s3cr3t", "creds", "creds"),
        (
            &[("NATS_NKEY", "/n"), ("NATSTREAM_TOKEN", "s3cr3t")],
            "",
            "token",
            "token",
        ),
        (&[("NATS_JWT", "s3cr3t"), ("NATS_SEED", "s3cr3t")], "", "jwt", "jwt"),
        // But for a user's name and password.
        (&[("NATSTREAM_PASSWORD", "s3cr3t")], "username: u", "user", "username"),
        (&[("NATS_USER", "u")], "password: s3cr3t", "user", "username"),
        // User info in the URL counts as what it is.
        (&[], "urls: nats://u:s3cr3t@a", "user", "password"),
        (&[("NATS_URL", "s3cr3t@a")], "token: s3cr3t", "token", "token"),
        (&[("NATS_CREDS", "/c")], "urls: nats://u:s3cr3t@a", "creds", "creds"),
        (
            &[("NATS_URL", "nats://a")],
            "username: u\npassword: s3cr3t\n",
            "user",
            "username",
        ),
    ] {
        let world = World::new();
        let file = world.write("nats.yaml", file);
        let settings = load(Loader::new().config_file(file).environment(variables(environment)));
        assert_eq!(identity(&settings), expected, "{environment:?}");
        assert!(settings.origin(origin).is_some(), "{environment:?}");
        // There is no second one that `prepare` would complain about.
        let debug = format!("{:?}", settings.connect_config());
        assert!(debug.contains("user_info: None"), "{debug}");
    }
    let flags = Loader::new()
        .flag("--token", "token", SECRET)
        .environment(variables(&[("NATS_URL", "u:s3cr3t@a")]));
    assert_eq!(identity(&load(flags)), "token");
}

#[test]
fn identities_that_exclude_each_other_are_named() {
    for (environment, words) in [
        (
            &[("NATS_TOKEN", SECRET), ("NATS_CREDS", "/c")][..],
            "(NATS_TOKEN) and `creds` (NATS_CREDS) exclude",
        ),
        (
            &[("NATS_URL", "u:s3cr3t@a"), ("NATS_TOKEN", SECRET)],
            "in the server URL (NATS_URL) and `token`",
        ),
        (
            &[("NATS_TOKEN", SECRET), ("NATS_TOKEN_FILE", "/dev/null")],
            "given twice; the other one is NATS_TOKEN",
        ),
        (&[("NATSTREAM_URL", "a"), ("NATSTREAM_SERVERS", "b")], "given twice"),
    ] {
        let error = fail(Loader::new().environment(variables(environment)));
        assert_eq!(error.kind(), SettingsErrorKind::Conflict, "{error}");
        assert!(error.to_string().contains(words), "{error}");
    }
    for (environment, key, other) in [
        (("NATS_USER", "u"), "username", "password"),
        (("NATS_PASSWORD", SECRET), "password", "username"),
        (("NATS_JWT", SECRET), "jwt", "seed"),
        (("NATS_CERT", "/c"), "tls_cert", "tls_key"),
        (("NATS_KEY", "/k"), "tls_key", "tls_cert"),
    ] {
        let error = fail(Loader::new().environment(variables(&[environment])));
        assert_eq!((error.kind(), error.key()), (SettingsErrorKind::Incomplete, Some(key)));
        let words = format!("`{key}` needs `{other}` ({})", environment.0);
        assert_eq!(error.to_string(), words);
    }
}
