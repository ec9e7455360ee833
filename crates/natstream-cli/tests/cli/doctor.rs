//! `natstream doctor`: what it finds on real servers with real configurations.

use futures_util::StreamExt as _;
use natstream::{ConnectConfig, Connection};
use serde_json::Value;
use testkit::{Cluster, ConsulFault, ConsulServer, NatsServer, unique_name, unique_subject, within};

use crate::support::{LIMIT, Run, Serving, finish, natstream, run};

/// Lets a user ask for its permissions.
const INFO: &str = "\"$SYS.REQ.USER.INFO\"";

/// The findings of a run with `--json`.
fn findings(run: &Run) -> Vec<Value> {
    let lines = run.lines().into_iter();
    lines
        .map(|line| serde_json::from_str(line).expect("a finding is JSON"))
        .collect()
}

/// The worst finding of a check.
#[track_caller]
fn find(run: &Run, check: &str) -> (String, String) {
    let findings = findings(run);
    let of = |name: &str| {
        let found = findings
            .iter()
            .find(|finding| finding["check"] == check && finding["level"] == name)?;
        Some((name.to_owned(), found["fix"].as_str().unwrap_or_default().to_owned()))
    };
    let worst = ["wrong", "warning", "info", "ok"].into_iter().find_map(of);
    worst.unwrap_or_else(|| panic!("`{check}` was not checked: {run:?}"))
}

#[track_caller]
fn level(run: &Run, check: &str) -> String {
    find(run, check).0
}

#[track_caller]
fn fix(run: &Run, check: &str) -> String {
    find(run, check).1
}

/// A server with these users, each with the password `p`.
async fn server_of(users: &[(&str, &str)]) -> NatsServer {
    let users: String = users
        .iter()
        .map(|(name, permissions)| format!("{{ user: \"{name}\", password: p, permissions: {{ {permissions} }} }}\n"))
        .collect();
    let config = format!("authorization {{ users: [\n{users}] }}");
    within(LIMIT, NatsServer::builder().jetstream(true).config(config).start()).await
}

/// Runs `natstream doctor --json` as a user.
async fn doctor(server: &NatsServer, user: &str, args: &[&str]) -> Run {
    let mut command = natstream(["doctor", "--json", "--user", user, "--password", "p", "-s"]);
    finish(command.arg(server.url()).args(args)).await
}

async fn serve(server: &NatsServer, user: &str, subject: &str) -> Serving {
    let mut command = natstream([
        "serve",
        subject,
        "--count",
        "1",
        "--user",
        user,
        "--password",
        "p",
        "-s",
    ]);
    Serving::spawn(command.arg(server.url())).await
}

async fn connect(url: &str) -> Connection {
    within(LIMIT, Connection::connect(ConnectConfig::new(url)))
        .await
        .unwrap()
}

#[tokio::test]
async fn nothing_is_wrong_with_a_server_without_configuration() {
    let server = within(LIMIT, NatsServer::start()).await;
    let text = finish(natstream(["doctor", "-s"]).arg(server.url()))
        .await
        .exits_with(0);
    for line in text.lines() {
        let known = ["ok  ", "info  ", "warning  ", "         fix: "];
        assert!(known.iter().any(|start| line.starts_with(start)), "{line}");
    }
    assert_eq!(text.stderr, "nothing is wrong\n");

    let json = finish(natstream(["doctor", "--json", "-s"]).arg(server.url()))
        .await
        .exits_with(0);
    for check in [
        "connection",
        "version",
        "max_payload",
        "round_trip",
        "inbox",
        "user",
        "responses",
    ] {
        assert_eq!(level(&json, check), "ok", "{check}");
    }
    for check in ["tls", "authentication", "jetstream"] {
        assert_eq!(level(&json, check), "info", "{check}");
        assert!(!fix(&json, check).is_empty(), "{check}");
    }
    assert_eq!(json.summary()["wrong"], 0);

    let quiet = finish(natstream(["doctor", "--quiet", "-s"]).arg(server.url())).await;
    assert_eq!(quiet.exits_with(0).stderr, "");
}

#[tokio::test]
async fn without_a_connection_there_is_nothing_to_find() {
    let server = server_of(&[("u", "")]).await;
    let nowhere = finish(&mut natstream(["doctor", "-s", "nats://127.0.0.1:1"])).await;
    assert!(nowhere.exits_with(6).stdout.is_empty());
    let stranger = finish(natstream(["doctor", "-s"]).arg(server.url())).await;
    assert!(stranger.exits_with(7).stdout.is_empty());
    run(["doctor", "a.*"]).await.exits_with(2);
}

#[tokio::test]
async fn a_requester_needs_an_inbox() {
    let server = server_of(&[(
        "app",
        &format!("publish: [\"svc.>\", \"_INBOX.>\", \"_R_.>\", {INFO}], subscribe: [\"_INBOX_app.>\"]"),
    )])
    .await;
    let without = doctor(&server, "app", &[]).await.exits_with(1);
    assert!(without.stderr.contains("error: 1 thing is wrong"), "{without:?}");
    assert_eq!(level(&without, "inbox"), "wrong");
    assert!(fix(&without, "inbox").contains("_INBOX.>"));
    assert!(fix(&without, "inbox").contains("--inbox-prefix"));

    let with = doctor(&server, "app", &["--inbox-prefix", "_INBOX_app", "svc.a"]).await;
    let with = with.exits_with(1);
    assert_eq!(level(&with, "inbox"), "ok");
    assert_eq!(level(&with, "call"), "ok");
    assert_eq!(level(&with, "serve"), "info");
    assert_eq!(level(&with, "answer"), "wrong");
}

#[tokio::test]
async fn a_responder_needs_many_responses() {
    let responder = |responses: &str| {
        format!(
            "publish: [{INFO}], subscribe: [\"svc.>\", \"_INBOX.>\"]{}",
            if responses.is_empty() {
                String::new()
            } else {
                format!(", allow_responses: {responses}")
            }
        )
    };
    let cases = [
        ("none", "", "wrong", 1),
        ("true", "true", "wrong", 1),
        ("three", "{ max: 3 }", "wrong", 1),
        ("day", "{ max: -1, expires: \"24h\" }", "ok", 0),
        ("minute", "{ max: -1, expires: \"1m\" }", "warning", 0),
        ("ever", "{ max: -1, expires: \"-1s\" }", "warning", 0),
    ];
    let users: Vec<_> = cases
        .iter()
        .map(|(name, responses, ..)| (*name, responder(responses)))
        .collect();
    let users: Vec<_> = users.iter().map(|(name, rights)| (*name, rights.as_str())).collect();
    let server = server_of(&users).await;
    for (name, _, expected, code) in cases {
        let run = doctor(&server, name, &["svc.a"]).await.exits_with(code);
        assert_eq!(level(&run, "responses"), expected, "{name}");
        let has_fix = fix(&run, "responses").contains("allow_responses: { max: -1, expires: \"24h\" }");
        assert_eq!(has_fix, expected != "ok", "{name}");
        // Who may only serve is not asked to call.
        assert_eq!(level(&run, "call"), "info", "{name}");
        assert_eq!(level(&run, "serve"), "ok", "{name}");
        assert_eq!(level(&run, "answer"), "info", "{name}");
    }
}

#[tokio::test]
async fn what_a_user_may_not_ask_is_tried_out() {
    let server = server_of(&[
        ("denied", &format!("publish: {{ deny: [{INFO}, \"$JS.>\"] }}")),
        ("caller", "publish: [\"_INBOX.>\"]"),
        ("closed", "publish: [\"svc.>\"], allow_responses: true"),
    ])
    .await;
    for (user, expected) in [("denied", "ok"), ("caller", "info"), ("closed", "warning")] {
        let run = doctor(&server, user, &[]).await.exits_with(0);
        assert_eq!(level(&run, "user"), "info", "{user}");
        assert!(fix(&run, "user").contains(INFO), "{user}");
        assert_eq!(level(&run, "responses"), expected, "{user}");
        assert_eq!(level(&run, "jetstream"), "info", "{user}");
        assert!(fix(&run, "jetstream").contains("$JS.API.>"), "{user}");
    }
}

#[tokio::test]
async fn who_has_an_inbox_of_its_own_needs_that_of_its_peers_and_no_other() {
    let orders = "subscribe: [\"svc.>\", \"_INBOX_orders.>\"]";
    let shop = |inboxes: &str| format!("publish: [\"svc.>\", {inboxes}], subscribe: [\"_INBOX_shop.>\"]");
    let server = server_of(&[
        ("orders", orders),
        // As in docs/guide/operating.md, with and without the right to ask for its permissions.
        ("told", &shop(&format!("\"_INBOX_orders.>\", \"_R_.>\", {INFO}"))),
        ("tried", &shop("\"_INBOX_orders.>\", \"_R_.>\"")),
        ("alone", &shop("\"_INBOX_shop.>\"")),
        ("closed", &shop("\"_R_.>\"")),
    ])
    .await;
    let config = ConnectConfig::new(server.url().replace("nats://", "nats://orders:p@")).inbox_prefix("_INBOX_orders");
    let connection = within(LIMIT, Connection::connect(config)).await.expect("connected");
    let responder = natstream::Server::new(connection);
    let items = responder.on_items("svc.a", |_request| async { Ok(["a"]) });
    within(LIMIT, items).await.expect("served");

    for (user, code, responses, answer) in [
        ("told", 0, "info", "ok"),
        ("tried", 0, "info", "ok"),
        ("alone", 1, "info", "wrong"),
        ("closed", 1, "info", "wrong"),
    ] {
        let run = doctor(&server, user, &["--inbox-prefix", "_INBOX_shop", "svc.a"]).await;
        let run = run.exits_with(code);
        assert_eq!(level(&run, "responses"), responses, "{user}: {:#?}", run.lines());
        assert_eq!(level(&run, "answer"), answer, "{user}: {:#?}", run.lines());
        // Nobody is told to open the inboxes of all.
        for check in ["responses", "answer"] {
            assert!(!fix(&run, check).contains("\"_INBOX.>\""), "{user}: {:#?}", run.lines());
        }
        // The call has shown whose it is.
        let names_it = fix(&run, "answer").contains("_INBOX_orders.>");
        assert_eq!(names_it, answer == "wrong", "{user}: {:#?}", run.lines());
    }
}

#[tokio::test]
async fn a_subject_that_may_neither_be_called_nor_served_is_wrong() {
    let server = server_of(&[(
        "u",
        &format!("publish: [{INFO}, \"_INBOX.>\", \"_R_.>\"], subscribe: {{ deny: [\"svc.>\"] }}"),
    )])
    .await;
    let run = doctor(&server, "u", &["svc.a"]).await.exits_with(1);
    assert_eq!(level(&run, "call"), "wrong");
    assert!(fix(&run, "call").contains("publish: { allow: [\"svc.a\"] }"));
    assert_eq!(level(&run, "serve"), "wrong");
    assert!(fix(&run, "serve").contains("without \"svc.>\""));
    doctor(&server, "u", &["other"]).await.exits_with(0);
}

#[tokio::test]
async fn a_small_max_payload_is_told() {
    for (max_payload, expected, code) in [("64KB", "warning", 0), ("1KB", "wrong", 1)] {
        let config = format!("max_payload: {max_payload}");
        let server = within(LIMIT, NatsServer::builder().config(config).start()).await;
        let run = finish(natstream(["doctor", "--json", "-s"]).arg(server.url())).await;
        let run = run.exits_with(code);
        assert_eq!(level(&run, "max_payload"), expected);
        assert!(fix(&run, "max_payload").contains("max_payload"));
    }
}

#[tokio::test]
async fn jetstream_is_looked_at_where_it_is_enabled() {
    let config = "accounts {
        ON { users: [{ user: yes_js, password: p }], jetstream: { max_streams: 1, max_file: 10MB, max_mem: 10MB } }
        OFF { users: [{ user: no_js, password: p }] }
    }";
    let server = within(LIMIT, NatsServer::builder().jetstream(true).config(config).start()).await;
    let off = doctor(&server, "no_js", &[]).await.exits_with(0);
    assert_eq!(level(&off, "jetstream"), "info");
    assert!(fix(&off, "jetstream").contains("jetstream: enabled"));

    let on = doctor(&server, "yes_js", &[]).await.exits_with(0);
    assert_eq!(level(&on, "jetstream"), "ok");
    assert!(fix(&on, "durability").contains("sync_interval: always"));

    let connection = connect(&server.url().replace("nats://", "nats://yes_js:p@")).await;
    let stream = r#"{"name":"MEMORY","subjects":["x"],"storage":"memory"}"#;
    let create = connection.nats().request("$JS.API.STREAM.CREATE.MEMORY", stream.into());
    within(LIMIT, create).await.unwrap();
    let full = doctor(&server, "yes_js", &[]).await.exits_with(0);
    assert_eq!(level(&full, "storage"), "warning");
    assert!(fix(&full, "jetstream_limits").contains("max_streams: 2"));
}

#[tokio::test]
async fn a_stream_on_one_server_of_a_cluster_is_told() {
    let cluster = within(LIMIT, Cluster::builder(3).jetstream(true).start()).await;
    let urls = cluster.urls().join(",");
    let connection = connect(&urls).await;
    let (one, three) = (unique_name("ONE"), unique_name("THREE"));
    for (name, replicas) in [(&one, 1), (&three, 3)] {
        let stream = format!(r#"{{"name":"{name}","subjects":["{name}"],"storage":"file","num_replicas":{replicas}}}"#);
        let create = connection
            .nats()
            .request(format!("$JS.API.STREAM.CREATE.{name}"), stream.into());
        within(LIMIT, create).await.unwrap();
    }
    let run = finish(natstream(["doctor", "--json", "-s"]).arg(&urls))
        .await
        .exits_with(0);
    assert_eq!(level(&run, "replicas"), "warning");
    assert!(fix(&run, "replicas").contains("num_replicas: 3"));
    let findings = findings(&run);
    let replicas: Vec<_> = findings.iter().filter(|it| it["check"] == "replicas").collect();
    let text = replicas[0]["text"].as_str().unwrap();
    assert!(
        replicas.len() == 1 && text.contains(&one) && !text.contains(&three),
        "{replicas:?}"
    );
}

#[tokio::test]
async fn a_subject_is_asked_for_a_test_answer() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("ran");
    let subject = unique_subject("cli.doctor");
    let nobody = run(["doctor", &subject, "--json"]).await.exits_with(1);
    assert_eq!(level(&nobody, "answer"), "wrong");
    assert!(fix(&nobody, "answer").contains("natstream serve"));

    let script = format!("touch {}", file.display());
    let serving = Serving::start(&subject, ["--", "sh", "-c", &script]).await;
    let served = run(["doctor", &subject, "--json"]).await.exits_with(0);
    assert_eq!(level(&served, "answer"), "ok");
    serving.stop().await.exits_with(0);
    assert!(!file.exists(), "the command ran");
}

#[tokio::test]
async fn a_program_that_is_not_natstream_is_recognised() {
    let connection = connect(testkit::shared_url()).await;
    let subject = unique_subject("cli.doctor");
    let mut requests = within(LIMIT, connection.nats().subscribe(subject.clone()))
        .await
        .unwrap();
    within(LIMIT, connection.fence(LIMIT)).await.unwrap();
    let args = ["doctor", &subject, "--json"];
    let answer = async {
        let request = within(LIMIT, requests.next()).await.unwrap();
        assert!(request.payload.is_empty());
        let reply = request.reply.unwrap();
        connection.nats().publish(reply, "text".into()).await.unwrap();
    };
    let (run, ()) = tokio::join!(run(args), answer);
    let run = run.exits_with(1);
    assert_eq!(level(&run, "answer"), "wrong");
    assert!(fix(&run, "answer").contains("--dialect auto:text"));
}

#[tokio::test]
async fn a_responder_whose_answers_are_cut_is_found_out() {
    let server = server_of(&[
        ("all", ""),
        ("one", "subscribe: [\"svc.>\", \"_INBOX.>\"], allow_responses: true"),
        (
            "many",
            "subscribe: [\"svc.>\", \"_INBOX.>\"], allow_responses: { max: -1, expires: \"24h\" }",
        ),
    ])
    .await;
    for (user, expected, code) in [("one", "wrong", 1), ("many", "ok", 0)] {
        let subject = format!("svc.{user}");
        let _serving = serve(&server, user, &subject).await;
        let run = doctor(&server, "all", &[&subject]).await.exits_with(code);
        assert_eq!(level(&run, "answer"), expected, "{user}");
        let has_fix = fix(&run, "answer").contains("allow_responses: { max: -1");
        assert_eq!(has_fix, code == 1, "{user}");
    }
}

#[tokio::test]
async fn an_export_without_a_response_type_is_found_out() {
    let config = "accounts {
        SVC {
            users: [{ user: svc, password: p }]
            exports: [{ service: \"one.>\" }, { service: \"many.>\", response_type: stream }]
        }
        APP {
            users: [{ user: app, password: p }]
            imports: [
                { service: { account: SVC, subject: \"one.>\" } }, { service: { account: SVC, subject: \"many.>\" } }
            ]
        }
    }";
    let server = within(LIMIT, NatsServer::builder().config(config).start()).await;
    for (subject, expected, code) in [("one.a", "wrong", 1), ("many.a", "ok", 0)] {
        let _serving = serve(&server, "svc", subject).await;
        let run = doctor(&server, "app", &[subject]).await.exits_with(code);
        assert_eq!(level(&run, "answer"), expected, "{subject}");
        let line = format!("exports: [{{ service: \"{subject}\", response_type: stream }}]");
        assert_eq!(fix(&run, "answer") == line, code == 1, "{subject}");
        let own = doctor(&server, "svc", &[subject]).await.exits_with(0);
        assert_eq!(level(&own, "answer"), "ok", "{subject}");
    }
}

#[tokio::test]
async fn a_requester_that_can_give_no_credit_is_told() {
    let server = server_of(&[
        ("all", ""),
        ("app", "publish: [\"svc.>\"], subscribe: [\"_INBOX.>\"]"),
        (
            "granted",
            "publish: [\"svc.>\"], subscribe: [\"_INBOX.>\"], allow_responses: { max: -1, expires: \"24h\" }",
        ),
    ])
    .await;
    let _serving = serve(&server, "all", "svc.a").await;
    let run = doctor(&server, "app", &["svc.a"]).await.exits_with(1);
    assert_eq!(level(&run, "answer"), "wrong");
    assert!(fix(&run, "answer").contains("_INBOX.>"));

    let run = doctor(&server, "granted", &["svc.a"]).await.exits_with(0);
    assert_eq!(level(&run, "answer"), "ok");

    // May not call, and may not ask what it may: it might be one that serves.
    let other = doctor(&server, "app", &["other"]).await.exits_with(0);
    assert_eq!(level(&other, "answer"), "warning");
    assert!(fix(&other, "answer").contains("allow: [\"other\"]"));
}

#[tokio::test]
async fn what_consul_answers_is_said() {
    let registry = within(LIMIT, ConsulServer::start()).await;
    let server = within(LIMIT, NatsServer::start()).await;
    let examine = async || {
        let mut command = natstream(["-s", &server.url(), "--timeout", "1s", "doctor", "--json"]);
        let command = command
            .env("NATSTREAM_USE_CONSUL", "true")
            .env("CONSUL_HTTP_ADDR", registry.url());
        finish(command).await
    };
    registry.set("nats-service", [server.url()]);
    let run = examine().await.exits_with(0);
    assert_eq!(level(&run, "consul"), "ok");
    registry.set("nats-service", [""; 0]);
    let run = examine().await.exits_with(1);
    assert_eq!(level(&run, "consul"), "wrong");
    assert!(fix(&run, "consul").contains("nats-service"), "{run:?}");
    registry.fail(ConsulFault::Html);
    let run = examine().await.exits_with(1);
    assert_eq!(level(&run, "consul"), "wrong");
}
