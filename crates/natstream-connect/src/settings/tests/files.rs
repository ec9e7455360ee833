//! Files: what they may hold, and what they may not.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;
use crate::settings::file::gather_text;
use crate::settings::given::Gathered;

/// The file of the Go SDK whose users shall be able to change over.
const SEED: &str = include_str!("seed.yaml");

#[test]
fn the_file_of_the_go_sdk_is_taken_as_it_is() {
    let world = World::new();
    let file = world.write("nats.yaml", SEED);
    let environment = [
        ("ISA_CLOUD_NATS_URLS", "nats://server1:4222,nats://server2:4222"),
        ("ISA_CLOUD_NATS_USERNAME", "admin"),
        ("ISA_CLOUD_NATS_PASSWORD", SECRET),
        ("ISA_CLOUD_NATS_USE_CONSUL", "true"),
    ];
    let settings = load(Loader::new().config_file(&file));
    assert_eq!(
        shown(&settings, world.0.path()),
        [
            "urls = nats://localhost:4222 (nats.yaml:3)",
            "tls_enabled = false (nats.yaml:28)",
            "tls_first = false (default)",
            "inbox_prefix = _INBOX (default)",
            "timeout = 10s (nats.yaml:14)",
            "ping_interval = 2m (nats.yaml:15)",
            "max_reconnect = 10 (nats.yaml:12)",
            "reconnect_wait = 2s (nats.yaml:13)",
            "connections_per_server = 1 (default)",
            "jetstream_enabled = true (nats.yaml:19)",
            "use_consul = true (nats.yaml:7)",
            "service_name = nats-service (nats.yaml:8)",
        ]
    );
    assert_eq!(settings.warnings().len(), 1, "{:?}", settings.warnings());
    for key in ["`cluster_id`", "`grpc_port`", "`max_pings_out`"] {
        assert!(settings.warnings()[0].contains(key), "{:?}", settings.warnings());
    }
    let settings = load(Loader::new().config_file(file).environment(variables(&environment)));
    assert_eq!(
        value(&settings, "urls").as_deref(),
        Some("nats://server1:4222,nats://server2:4222")
    );
    assert_eq!(value(&settings, "username").as_deref(), Some("admin"));
    assert_eq!(value(&settings, "password").as_deref(), Some("[redacted]"));
    assert!(settings.use_consul());
}

#[test]
fn a_context_of_the_nats_cli_is_read() {
    let world = World::new();
    let json = r#"{"description": "x", "url": "nats://a,nats://b", "socks_proxy": "", "token": "", "user": "u",
        "password": "s3cr3t", "creds": "", "nkey": "", "cert": "~/c.pem", "key": "~/k.pem", "ca": "file:///ca.pem", "nsc": "",
        "jetstream_domain": "hub", "jetstream_api_prefix": "", "jetstream_event_prefix": "", "inbox_prefix": "_I",
        "user_jwt": "", "color_scheme": "red", "tls_first": true, "windows_ca_certs_match": null, "new_field": 7}"#;
    world.context("prod", json);
    let home = [("HOME", "/h"), ("NATS_CONTEXT", "prod")];
    let settings = load(world.loader().environment(variables(&home)));
    assert_eq!(
        shown(&settings, world.0.path())[..8],
        [
            "urls = nats://a:4222,nats://b:4222 (nats/context/prod.json)",
            "username = u (nats/context/prod.json)",
            "password = [redacted] (nats/context/prod.json)",
            "tls_ca = /ca.pem (nats/context/prod.json)",
            "tls_cert = /h/c.pem (nats/context/prod.json)",
            "tls_key = /h/k.pem (nats/context/prod.json)",
            "tls_first = true (nats/context/prod.json)",
            "inbox_prefix = _I (nats/context/prod.json)",
        ]
    );
    let [warning] = settings.warnings() else {
        panic!("{:?}", settings.warnings());
    };
    assert!(warning.contains("`new_field` is not known"), "{warning}");

    // XDG_CONFIG_HOME and HOME say where contexts lie.
    let xdg = [("XDG_CONFIG_HOME", world.0.path().to_str().unwrap())];
    load(Loader::new().environment(variables(&xdg)).context("prod"));
    world.write(".config/nats/context/home.json", "{}");
    let home = [("HOME", world.0.path().to_str().unwrap())];
    load(Loader::new().environment(variables(&home)).context("home"));
}

#[test]
fn contexts_that_cannot_be_used_are_refused() {
    let world = World::new();
    for (name, json, kind, words) in [
        ("garbage", "{s3cr3t", SettingsErrorKind::Syntax, "line 1 column 2"),
        ("list", r#"["s3cr3t"]"#, SettingsErrorKind::Syntax, "not a JSON object"),
        (
            "proxy",
            r#"{"socks_proxy": "socks5://s3cr3t@x"}"#,
            SettingsErrorKind::Unsupported,
            "`socks_proxy`",
        ),
        (
            "nsc",
            r#"{"nsc": "nsc://o/a/u"}"#,
            SettingsErrorKind::Unsupported,
            "`nsc`",
        ),
        (
            "vault",
            r#"{"creds": "op://s3cr3t"}"#,
            SettingsErrorKind::Unsupported,
            "`op://`",
        ),
        (
            "two",
            r#"{"token": "s3cr3t", "creds": "/c"}"#,
            SettingsErrorKind::Conflict,
            "exclude each other",
        ),
    ] {
        world.context(name, json);
        let error = fail(world.loader().context(name));
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(words), "{error}");
    }
    for (name, words) in [
        ("prxoy", "did you mean `proxy`?"),
        ("../x", "not the name"),
        ("/etc/passwd", "not the name"),
    ] {
        let error = fail(world.loader().context(name));
        assert_eq!(error.kind(), SettingsErrorKind::UnknownContext);
        assert!(error.to_string().contains(words), "{error}");
    }
    assert_eq!(
        fail(Loader::new().context("x")).kind(),
        SettingsErrorKind::UnknownContext
    );
}

#[test]
fn values_are_taken_literally() {
    for (text, expected) in [
        ("0123", Some("0123")),
        ("1e3", Some("1e3")),
        ("yes", Some("yes")),
        ("true", Some("true")),
        ("'null'", Some("null")),
        ("\"a\\tb\"", Some("a\tb")),
        ("null", None),
        ("~", None),
        ("", None),
        ("''", None),
    ] {
        assert_eq!(
            value(&load_file(&format!("name: {text}\n")), "name").as_deref(),
            expected,
            "{text}"
        );
    }
    for empty in ["", "# nothing\n", "---\n", "{}", "urls: []", "urls: ['']", "urls:\n"] {
        assert_eq!(
            value(&load_file(empty), "urls").as_deref(),
            Some("nats://127.0.0.1:4222"),
            "{empty}"
        );
    }
    assert_eq!(
        value(&load_file("\u{feff}urls: &a x\nname: *a\n"), "name").as_deref(),
        Some("x")
    );
}

#[test]
fn wrong_values_are_named_with_their_place() {
    for (text, key, line, words) in [
        (
            "\ntimeout: -2s",
            "timeout",
            2,
            "`-2s`: a length of time is not negative",
        ),
        ("timeout: 10", "timeout", 1, "a number with a unit"),
        ("timeout: 0s", "timeout", 1, "the time is 0"),
        ("reconnect_wait: 20000000h", "reconnect_wait", 1, "too long"),
        ("timeout: [1s]", "timeout", 1, "not a text"),
        ("timeout: {a: 1s}", "timeout", 1, "not a text"),
        ("max_reconnect: -2", "max_reconnect", 1, "-1: for ever"),
        ("max_reconnect: many", "max_reconnect", 1, "number of attempts"),
        (
            "connections_per_server: 0",
            "connections_per_server",
            1,
            "number from 1",
        ),
        ("tls_enabled: perhaps", "tls_enabled", 1, "neither true nor false"),
        ("urls: {a: b}", "urls", 1, "neither a text nor a list"),
        ("urls: [[a]]", "urls", 1, "neither a text nor a list"),
        ("urls: [nats://a, 'http://b']", "urls", 1, "server 2 (`http://b`)"),
        ("urls: 'nats://u:s3cr3t@a:x'", "urls", 1, "server 1: the port"),
        ("password: [s3cr3t]", "password", 1, "not a text"),
        ("password: {s3cr3t: 1}", "password", 1, "not a text"),
    ] {
        let error = fail_file(text);
        assert_eq!(
            (error.kind(), error.key()),
            (SettingsErrorKind::InvalidValue, Some(key)),
            "{error}"
        );
        let expected = format!("nats.yaml:{line}");
        assert!(
            error.origin().unwrap().to_string().ends_with(&expected),
            "{text}: {error}"
        );
        assert!(error.to_string().contains(words), "{text}: {error}");
    }
    let error = fail(Loader::new().environment(variables(&[("NATS_TIMEOUT", "soon")])));
    assert!(
        error.to_string().starts_with("`timeout`: `soon`: a length of time"),
        "{error}"
    );
    assert!(error.to_string().ends_with("(NATS_TIMEOUT)"), "{error}");
    let error = fail(Loader::new().flag("--server", "urls", "http://x"));
    assert!(error.to_string().starts_with("--server: server 1"), "{error}");
}

#[test]
fn unknown_keys_are_errors_all_at_once() {
    let error = fail_file(
        "urls: [a]\npasswrod: s3cr3t\nmax_reconect: 3\npassword_fiel: x\nwhatever: [s3cr3t, {x: s3cr3t}]\ntimeout: x\n",
    );
    let texts: Vec<_> = error.problems().map(ToString::to_string).collect();
    for (text, words) in texts.iter().zip([
        "nats.yaml:2: unknown key `passwrod`; did you mean `password`?",
        "nats.yaml:3: unknown key `max_reconect`; did you mean `max_reconnect`?",
        "nats.yaml:4: unknown key `password_fiel`; did you mean `password_file`?",
        "nats.yaml:5: unknown key `whatever`",
        "`x`: a length of time",
    ]) {
        assert!(text.contains(words), "{text}");
    }
    assert_eq!(texts.len(), 5, "{texts:?}");
    // A file that is something else may have secrets anywhere.
    for text in ["? [s3cr3t]\n: x", "'u:s3cr3t': x", "s3cr3t s3cr3t: x"] {
        fail_file(text);
    }
    assert_eq!(
        fail(Loader::new().set("time_out", "1s")).kind(),
        SettingsErrorKind::UnknownKey
    );
}

#[test]
fn variables_that_are_nearly_right_are_warned_of() {
    let environment = [
        ("NATSTREAM_PASWORD", SECRET),
        ("ISA_CLOUD_NATS_URL_S", "x"),
        ("NATSTREAM_NATS_SERVER", "/usr/bin/nats-server"),
        ("NATS_PASWORD", SECRET),
    ];
    let settings = load(Loader::new().environment(variables(&environment)));
    assert_eq!(
        settings.warnings(),
        [
            "NATSTREAM_PASWORD is not known; did you mean NATSTREAM_PASSWORD?",
            "ISA_CLOUD_NATS_URL_S is not known; did you mean ISA_CLOUD_NATS_URLS?"
        ]
    );
}

#[test]
fn what_is_no_configuration_is_refused() {
    let words = |text: &[u8]| {
        let error = fail_file(text);
        let kinds = kinds(&error);
        let syntax = [SettingsErrorKind::Syntax, SettingsErrorKind::Unreadable];
        assert!(
            kinds.iter().all(|kind| syntax.contains(kind)),
            "{}: {error}",
            String::from_utf8_lossy(text)
        );
        error.to_string()
    };
    for (text, expected) in [
        (&b"s3cr3t"[..], "not a mapping"),
        (b"- s3cr3t\n", "not a mapping"),
        (b"password:s3cr3t\n", "not a mapping"),
        (b"password: s3cr3t: x\n", "not YAML"),
        (b"password: *s3cr3t\n", "not YAML"),
        (b"password: @s3cr3t\n", "not YAML"),
        (b"password: 's3cr3t\n", "not YAML"),
        (b"{password: s3cr3t", ""),
        (b"consul_token:\n\tpassword: s3cr3t\n", ""),
        (b"password: !!binary s3cr3t\n", ""),
        (b"name: a\nname: s3cr3t\n", "second time"),
        (b"name: a\n---\nname: s3cr3t\n", "second document"),
        (b"<<: {password: s3cr3t}\n", "merge keys"),
        (b"password: \xff\xfes3cr3t\n", "cannot read"),
        (b"\0\x01\x02", ""),
    ] {
        let error = words(text);
        assert!(error.contains(expected), "{}: {error}", String::from_utf8_lossy(text));
    }
    let unreadable = fail(Loader::new().config_file("/nowhere/nats.yaml"));
    assert_eq!(unreadable.kind(), SettingsErrorKind::Unreadable);
    assert!(unreadable.to_string().contains("/nowhere/nats.yaml"));
    assert!(std::error::Error::source(&unreadable).is_some());
}

#[test]
#[expect(clippy::disallowed_methods, reason = "what is large has to be refused quickly")]
fn what_is_large_is_refused_quickly() {
    let levels = |level: usize| {
        let list: Vec<String> = (0..9).map(|_| format!("*a{}", level - 1)).collect();
        format!("a{level}: &a{level} [{}]\n", list.join(","))
    };
    let lol = format!("a0: &a0 [x,x,x]\n{}", (1..10).map(levels).collect::<String>());
    let one_key = format!("urls: &a [x]\nconsul_tags: [{}]\n", "*a,".repeat(50_000));
    for text in [
        "urls: [a]\n".repeat(1024 * 1024),
        format!("name: {}", "x".repeat(10 * 1024 * 1024)),
        "x".repeat(10 * 1024 * 1024),
        format!("urls: {}", "[".repeat(1_000_000)),
        "- ".repeat(500_000),
        "a: ".repeat(300_000),
        format!("urls: [{}]", "a,".repeat(400_000)),
        format!("{}: x", "k".repeat(900_000)),
        (0..60_000).map(|n| format!("k{n}: x\n")).collect(),
        format!("urls: {}", (0..100_000).map(|n| format!("h{n},")).collect::<String>()),
        lol,
        one_key,
    ] {
        let started = Instant::now();
        let error = fail_file(&text);
        assert!(error.problems().count() < 100, "{}", error.problems().count());
        let took = started.elapsed();
        assert!(took < Duration::from_secs(5), "{took:?} for {}", &text[..20]);
    }
}

/// What is said about a file with this text.
fn said(text: &str) -> String {
    let mut gathered = Gathered::default();
    gather_text(text, Path::new("nats.yaml"), &mut gathered);
    let resolved = crate::settings::resolve::resolve(&mut gathered);
    let entries = Settings::new(resolved, gathered.warnings);
    format!("{:?} {entries:?} {:?}", gathered.problems, entries.warnings())
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "([a-z_]{1,9}|[-:?{}\\[\\],&*!|>'\"%@`#\n\t ~]){0,40}") {
        said(&text);
    }

    #[test]
    fn no_way_to_write_a_secret_shows_it(before in "[ -~]{0,8}", after in "[ -~]{0,8}", more in "[ -~\n]{0,20}") {
        let text = format!("username: u\npassword: {before}s3cr3t{after}\nname: {more}\n");
        let said = said(&text);
        prop_assert!(!said.contains(SECRET), "{}: {}", text, said);
    }
}

#[cfg(feature = "consul")]
#[test]
fn what_is_said_of_consul_is_taken() {
    let world = World::new();
    let yaml = "use_consul: true\nservice_name: nats\nconsul_address: consul.example:8501\nconsul_tags: [a, b]\nconsul_ssl: true
consul_datacenter: dc2\nconsul_ca: /ca.pem\nconsul_cert: /c.pem\nconsul_key: /k.pem\ntimeout: 4s\n";
    let loader = || Loader::new().config_file(world.write("consul.yaml", yaml));
    let settings = load(loader().set("consul_token", SECRET));
    let config = format!("{:?}", settings.consul_config().expect("it is used"));
    for part in [
        "https://consul.example:8501",
        r#"service: "nats""#,
        r#"datacenter: Some("dc2")"#,
        r#"tags: ["a", "b"]"#,
        "/ca.pem",
        "/c.pem",
        "/k.pem",
        "timeout: 2s",
        "token: Some",
    ] {
        assert!(config.contains(part), "{part}: {config}");
    }
    assert!(load(loader().set("use_consul", "false")).consul_config().is_none());
    let half = world.write("half.yaml", "consul_cert: /c.pem\n");
    let error = fail(Loader::new().config_file(half));
    assert_eq!(error.kind(), SettingsErrorKind::Incomplete);
    let plain = load(Loader::new().set("use_consul", "true").set("consul_ssl", "true"));
    assert!(format!("{:?}", plain.consul_config()).contains("https://127.0.0.1:8500"));
}
