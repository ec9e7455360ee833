//! Services as nats.js has them: `natstream serve` is one, and those of others can be called.

use serde_json::Value;
use testkit::program::{Serving, run};
use testkit::{unique_name, unique_subject};

use crate::peer::{Language, Peer};

/// What nats.js finds out about services of this name.
async fn discover(name: &str) -> Value {
    Peer::start(Language::JavaScript, "discover", &[name]).says().await
}

#[tokio::test]
async fn natstream_serve_is_discovered() {
    let (subject, name) = (unique_subject("interop.services"), unique_name("service"));
    let _serving = Serving::start(&subject, ["--count", "3", "--name", &name]).await;
    run(["call", &subject]).await.exits_with(0);

    let found = discover(&name).await;
    for verb in ["ping", "info", "stats"] {
        let answers = found[verb].as_array().expect("a list");
        assert_eq!(answers.len(), 1, "{found}");
        assert_eq!(answers[0]["name"], name.as_str(), "{found}");
    }
    let endpoint = &found["info"][0]["endpoints"][0];
    assert_eq!(endpoint["subject"], subject.as_str(), "{found}");
    let endpoint = &found["stats"][0]["endpoints"][0];
    assert_eq!(
        (&endpoint["num_requests"], &endpoint["num_errors"]),
        (&1.into(), &0.into()),
        "{found}"
    );
}

#[tokio::test]
async fn a_service_of_one_reply_gives_its_item_and_no_end() {
    let (subject, name) = (unique_subject("interop.services"), unique_name("service"));
    let _service = Peer::ready(Language::JavaScript, "service", &[&name, &subject]).await;
    for dialect in ["sentinel", "text", "auto:sentinel", "auto:text"] {
        let call = ["call", &subject, "hello", "--json", "--dialect", dialect];
        // Nothing says that it was all: that is for the caller to know.
        let idle = ["--idle-timeout", "300ms"];
        let silent = run([&call[..], &idle].concat()).await.exits_with(4);
        assert_eq!(silent.lines(), ["echo hello"]);
        assert_eq!(silent.summary()["clock"], "idle", "{silent:?}");
        let first = run([&call[..], &["--max-items", "1"]].concat()).await.exits_with(0);
        assert_eq!(first.lines(), ["echo hello"]);
    }
}

#[tokio::test]
async fn an_error_of_a_service_is_a_failure() {
    let (subject, name) = (unique_subject("interop.services"), unique_name("service"));
    let _service = Peer::ready(Language::JavaScript, "service", &[&name, &subject]).await;
    for dialect in ["sentinel", "text", "auto:sentinel", "auto:text"] {
        let call = run(["call", &subject, "fail", "--dialect", dialect])
            .await
            .exits_with(1);
        assert!(call.stderr.contains("no such thing"), "{call:?}");
    }
}
