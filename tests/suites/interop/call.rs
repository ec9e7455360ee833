//! `natstream call` in the text dialect, to responders that know nothing of natstream.

use serde_json::{Value, json};
use testkit::program::{Run, Serving, run};
use testkit::{unique_name, unique_subject};

use crate::peer::{LANGUAGES, Language, Peer};

/// Both ways to come to the text dialect.
const DIALECTS: [&str; 2] = ["text", "auto:text"];

/// What `natstream call` makes of each responder that answers with `steps`.
async fn calls(steps: Value, args: &[&str]) -> Vec<Run> {
    let mut runs = Vec::new();
    for language in LANGUAGES {
        let subject = unique_subject("interop.call");
        let _responder = Peer::responder(language, &subject, &steps).await;
        for dialect in DIALECTS {
            let call = ["call", &subject, "--dialect", dialect, "--json"];
            runs.push(run([&call[..], args].concat()).await);
        }
    }
    runs
}

#[tokio::test]
async fn a_whole_answer() {
    // Each in a message of its own on the wire, or many in one piece; and what only looks like an end.
    let steps = json!([
        "one", {"flush": true}, "比特", {"flush": true}, {"count": 3}, "x__STREAM_END__", "__STREAM_END__ ",
        {"flush": true}, " __STREAM_ERROR__", "a\nb", "__STREAM_END__", "behind the end",
    ]);
    for call in calls(steps, &["--jsonl"]).await {
        let call = call.exits_with(0);
        let items: Vec<Value> = call
            .lines()
            .iter()
            .map(|line| serde_json::from_str::<Value>(line).expect("JSON")["data"].clone())
            .collect();
        let expected = [
            "one",
            "比特",
            "0",
            "1",
            "2",
            "x__STREAM_END__",
            "__STREAM_END__ ",
            " __STREAM_ERROR__",
            "a\nb",
        ];
        assert_eq!(items, expected);
    }
}

#[tokio::test]
async fn an_answer_of_nothing() {
    for call in calls(json!(["__STREAM_END__"]), &[]).await {
        assert!(call.exits_with(0).stdout.is_empty());
    }
}

#[tokio::test]
async fn empty_items() {
    let steps = json!(["one", "", {"flush": true}, "", "three", "", "__STREAM_END__"]);
    for call in calls(steps, &[]).await {
        assert_eq!(call.exits_with(0).lines(), ["one", "", "", "three", ""]);
    }
}

#[tokio::test]
async fn an_empty_first_item() {
    for call in calls(json!(["", "two", "__STREAM_END__"]), &[]).await {
        let call = call.exits_with(0);
        assert_eq!(call.lines(), ["", "two"], "{call:?}");
    }
}

#[tokio::test]
async fn bytes_that_are_no_text() {
    let subject = unique_subject("interop.call");
    let steps = json!([{"hex": "fe00ff"}, {"hex": "000a"}, "__STREAM_END__"]);
    let _responder = Peer::responder(Language::Python, &subject, &steps).await;
    let call = run(["call", &subject, "--dialect", "text", "--raw"])
        .await
        .exits_with(0);
    assert_eq!(call.stdout, b"\xfe\0\xff\0\n");
}

#[tokio::test]
async fn ten_thousand_quick_items() {
    let steps = json!([{"count": 10_000}, "__STREAM_END__"]);
    for call in calls(steps, &[]).await {
        let call = call.exits_with(0);
        let lines = call.lines();
        assert_eq!(lines.len(), 10_000);
        for (number, line) in lines.iter().enumerate() {
            assert_eq!(*line, number.to_string());
        }
    }
}

#[tokio::test]
async fn what_is_too_quick_is_not_a_whole_answer() {
    // More than the subscription's 65,536; the round trips let what is behind them come through.
    let mut steps = vec![json!({"count": 300_000})];
    steps.extend((0..20).map(|_| json!({"flush": true})));
    steps.push("__STREAM_END__".into());
    for call in calls(Value::Array(steps), &["--idle-timeout", "2s"]).await {
        let items = call.lines().len();
        let is_whole = call.code == Some(0) && items == 300_000;
        assert!(
            is_whole || call.code == Some(5),
            "{items} items: {:?}, {}",
            call.code,
            call.stderr
        );
    }
}

#[tokio::test]
async fn a_failure() {
    for (error, words) in [
        ("__STREAM_ERROR__:比特流中断", "比特流中断"),
        ("__STREAM_ERROR__", ""),
        ("__STREAM_ERROR__ no colon", "no colon"),
    ] {
        for call in calls(json!(["one", error, "behind the error"]), &[]).await {
            let call = call.exits_with(1);
            assert_eq!(call.lines(), ["one"]);
            assert!(call.stderr.contains(words), "{call:?}");
        }
    }
}

#[tokio::test]
async fn silence_is_no_end() {
    for call in calls(json!(["one", "two"]), &["--idle-timeout", "300ms"]).await {
        let call = call.exits_with(4);
        assert_eq!(call.lines(), ["one", "two"]);
        assert_eq!(call.summary()["clock"], "idle", "{call:?}");
    }
    for call in calls(json!([]), &["--first-timeout", "300ms"]).await {
        let call = call.exits_with(4);
        assert!(call.stdout.is_empty());
        assert_eq!(call.summary()["clock"], "first_item", "{call:?}");
    }
    for call in calls(json!(["one"]), &["--deadline", "500ms"]).await {
        assert_eq!(call.exits_with(4).summary()["clock"], "deadline");
    }
}

#[tokio::test]
async fn nobody_answers() {
    for dialect in DIALECTS {
        let call = run(["call", &unique_subject("interop.call"), "--dialect", dialect]).await;
        call.exits_with(3);
    }
}

#[tokio::test]
async fn who_answers_natively_is_heard_natively() {
    let subject = unique_subject("interop.call");
    // What the text dialect could not say.
    let _serving = Serving::start(&subject, ["--", "printf", "\\n__STREAM_END__\\n__STREAM_ERROR__:x\\n"]).await;
    for dialect in ["auto:text", "auto:sentinel", "native"] {
        let call = run(["call", &subject, "--dialect", dialect]).await.exits_with(0);
        assert_eq!(call.lines(), ["", "__STREAM_END__", "__STREAM_ERROR__:x"]);
    }
}

#[tokio::test]
async fn a_responder_is_told_who_asks_and_nothing_else() {
    let steps = json!(["__STREAM_END__"]);
    for language in LANGUAGES {
        let subject = unique_subject("interop.call");
        let mut responder = Peer::responder(language, &subject, &steps).await;
        let call = ["call", &subject, "question ü", "--dialect"];
        let text = ["text", "--connect-id", "client-7", "-H", "X-Own:1"];
        run([&call[..], &text].concat()).await.exits_with(0);
        let request = responder.says().await;
        assert_eq!(request["data"], "question ü");
        assert_eq!(request["headers"], json!({"Connect-ID": "client-7", "X-Own": "1"}));

        run([&call[..], &["text"]].concat()).await.exits_with(0);
        assert_eq!(responder.says().await["headers"], json!({}));

        run([&call[..], &["auto:text"]].concat()).await.exits_with(0);
        let headers = responder.says().await["headers"].clone();
        assert!(headers["Natstream"].is_string(), "{headers}");
    }
}

#[tokio::test]
async fn a_plain_answer_is_no_answer_to_who_asks_natively() {
    let subject = unique_subject("interop.call");
    let _responder = Peer::responder(Language::Python, &subject, &json!(["one", "__STREAM_END__"])).await;
    let call = run(["call", &subject]).await.exits_with(1);
    assert!(call.stdout.is_empty(), "{call:?}");
    assert!(call.stderr.contains("--dialect auto:text"), "{call:?}");
}

#[tokio::test]
async fn who_leaves_says_so() {
    for dialect in DIALECTS {
        let (subject, id) = (unique_subject("interop.call"), unique_name("client"));
        let mut offline = Peer::responder(Language::Python, "client.offline", &json!([])).await;
        let _responder = Peer::responder(Language::JavaScript, &subject, &json!(["one"])).await;
        let call = ["call", &subject, "--connect-id", &id, "--dialect", dialect];
        run([&call[..], &["--max-items", "1"]].concat()).await.exits_with(0);
        // Other tests have clients too.
        while offline.says().await["data"] != id.as_str() {}
    }
}
