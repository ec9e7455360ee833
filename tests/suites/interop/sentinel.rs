//! The sentinel dialect, which ends with an empty message: `requestMany` of nats.js, and whoever answers it.

use serde_json::{Value, json};
use testkit::program::{Run, Serving, run};
use testkit::unique_subject;

use crate::peer::{LANGUAGES, Language, Peer, bare};

const SENTINEL: [&str; 2] = ["--foreign-dialect", "sentinel"];

/// What `natstream call` makes of each responder that answers with `steps`.
async fn calls(steps: Value, args: &[&str]) -> Vec<Run> {
    let mut runs = Vec::new();
    for language in LANGUAGES {
        let subject = unique_subject("interop.sentinel");
        let _responder = Peer::responder(language, &subject, &steps).await;
        for dialect in ["sentinel", "auto:sentinel"] {
            let call = ["call", &subject, "--dialect", dialect, "--json"];
            runs.push(run([&call[..], args].concat()).await);
        }
    }
    runs
}

#[tokio::test]
async fn request_many_gets_a_whole_answer() {
    let subject = unique_subject("interop.sentinel");
    let script = "cat; echo; echo 二; echo __STREAM_END__";
    let command = ["--", "sh", "-c", script];
    let _serving = Serving::start(&subject, [&SENTINEL[..], &command].concat()).await;
    for language in LANGUAGES {
        let messages = Peer::start(language, "caller", &[&subject, "question ü"])
            .messages()
            .await;
        // To the Python peer, which speaks both dialects, that item is an end already.
        let expected = ["question ü", "二", "__STREAM_END__", ""];
        assert_eq!(bare(&messages)[..3], expected[..3]);
        if language == Language::JavaScript {
            assert_eq!(bare(&messages), expected);
        }
    }
}

#[tokio::test]
async fn request_many_gets_ten_thousand_items() {
    let subject = unique_subject("interop.sentinel");
    let count = ["--count", "10000"];
    let _serving = Serving::start(&subject, [&SENTINEL[..], &count].concat()).await;
    let messages = Peer::start(Language::JavaScript, "caller", &[&subject, ""])
        .messages()
        .await;
    let payloads = bare(&messages);
    assert_eq!(payloads.len(), 10_001);
    for (number, payload) in payloads[..10_000].iter().enumerate() {
        assert_eq!(*payload, number.to_string());
    }
    assert_eq!(payloads[10_000], "");
}

#[tokio::test]
async fn request_many_is_told_of_a_failure() {
    let subject = unique_subject("interop.sentinel");
    let command = ["--", "sh", "-c", "echo one; echo it broke >&2; exit 3"];
    let _serving = Serving::start(&subject, [&SENTINEL[..], &command].concat()).await;
    let messages = Peer::start(Language::JavaScript, "caller", &[&subject, ""])
        .messages()
        .await;
    let [item, error] = &messages[..] else {
        panic!("an item and an error, not {messages:?}");
    };
    assert_eq!(bare(std::slice::from_ref(item)), ["one"]);
    assert_eq!(error.data(), "");
    assert_eq!(error.header("Nats-Service-Error"), Some("UNKNOWN: it broke"));
    assert_eq!(error.header("Nats-Service-Error-Code"), Some("2"));
}

#[tokio::test]
async fn an_empty_item_is_a_failure_and_no_end() {
    let subject = unique_subject("interop.sentinel");
    let command = ["--", "printf", "one\n\nthree\n"];
    let _serving = Serving::start(&subject, [&SENTINEL[..], &command].concat()).await;
    let messages = Peer::start(Language::JavaScript, "caller", &[&subject, ""])
        .messages()
        .await;
    let [item, error] = &messages[..] else {
        panic!("an item and an error, not {messages:?}");
    };
    assert_eq!((item.data(), error.data()), ("one", ""));
    assert!(error.header("Nats-Service-Error").is_some(), "{messages:?}");
}

#[tokio::test]
async fn a_whole_answer() {
    let steps = json!(["one", "比特", {"flush": true}, {"count": 3}, "__STREAM_END__", "", "behind the end"]);
    for call in calls(steps, &[]).await {
        let call = call.exits_with(0);
        assert_eq!(call.lines(), ["one", "比特", "0", "1", "2", "__STREAM_END__"]);
    }
    for call in calls(json!([""]), &[]).await {
        assert!(call.exits_with(0).stdout.is_empty());
    }
    for call in calls(json!([{"count": 10_000}, ""]), &[]).await {
        assert_eq!(call.exits_with(0).lines().len(), 10_000);
    }
}

#[tokio::test]
async fn a_failure() {
    let error = json!({"Nats-Service-Error": "no such thing", "Nats-Service-Error-Code": "404"});
    for call in calls(json!(["one", {"headers": error}, ""]), &[]).await {
        let call = call.exits_with(1);
        assert_eq!(call.lines(), ["one"]);
        assert!(call.stderr.contains("no such thing"), "{call:?}");
    }
}

#[tokio::test]
async fn silence_is_no_end() {
    for call in calls(json!(["one"]), &["--idle-timeout", "300ms"]).await {
        let call = call.exits_with(4);
        assert_eq!(call.lines(), ["one"]);
        assert_eq!(call.summary()["clock"], "idle", "{call:?}");
    }
}
