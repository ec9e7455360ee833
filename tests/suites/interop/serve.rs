//! `natstream serve` for callers that know nothing of natstream.

use std::time::Duration;

use testkit::program::{Serving, is_gone, run, until};
use testkit::{unique_name, unique_subject, within};

use crate::peer::{LANGUAGES, Language, Peer, Received, bare};

const END: &str = "__STREAM_END__";

/// A command that says its process id, and stays.
const STAYS: [&str; 4] = ["--", "sh", "-c", "echo $$; exec sleep 1000"];

/// Who is told knows at once.
const SOON: Duration = Duration::from_secs(5);

/// The first item of an answer.
async fn first_line(caller: &mut Peer) -> String {
    caller.says().await["data"].as_str().expect("an item").to_owned()
}

/// What a plain caller gets for this request.
async fn ask(subject: &str, data: &str) -> Vec<Received> {
    Peer::start(Language::Python, "caller", &[subject, data])
        .messages()
        .await
}

#[tokio::test]
async fn a_plain_caller_gets_the_items_and_the_end() {
    let subject = unique_subject("interop.serve");
    let script = "cat; echo; echo 二; printf 'last, unended'";
    let _serving = Serving::start(&subject, ["--", "sh", "-c", script]).await;
    let messages = ask(&subject, "question ü").await;
    assert_eq!(bare(&messages), ["question ü", "二", "last, unended", END]);
    // Nothing has become of those who know more.
    assert_eq!(
        run(["call", &subject, "x"]).await.exits_with(0).lines(),
        ["x", "二", "last, unended"]
    );
}

#[tokio::test]
async fn an_answer_of_nothing_is_an_end() {
    let subject = unique_subject("interop.serve");
    let _serving = Serving::start(&subject, ["--", "true"]).await;
    assert_eq!(bare(&ask(&subject, "").await), [END]);
}

#[tokio::test]
async fn ten_thousand_items_arrive_in_order() {
    let subject = unique_subject("interop.serve");
    let _serving = Serving::start(&subject, ["--count", "10000", "--size", "100"]).await;
    let messages = ask(&subject, "").await;
    let payloads = bare(&messages);
    assert_eq!(payloads.len(), 10_001);
    for (number, payload) in payloads[..10_000].iter().enumerate() {
        assert_eq!(*payload, format!("{number:.<100}"));
    }
    assert_eq!(payloads[10_000], END);
}

#[tokio::test]
async fn a_failure_is_told_with_its_words() {
    let subject = unique_subject("interop.serve");
    let script = "echo one; echo '比特流中断: 沒有了' >&2; exit 3";
    let _serving = Serving::start(&subject, ["--", "sh", "-c", script]).await;
    let messages = ask(&subject, "").await;
    assert_eq!(bare(&messages), ["one", "__STREAM_ERROR__:比特流中断: 沒有了"]);
}

#[tokio::test]
async fn an_item_that_cannot_be_said_is_a_failure() {
    for item in ["", "__STREAM_END__", "__STREAM_ERROR__:x"] {
        let subject = unique_subject("interop.serve");
        let _serving = Serving::start(&subject, ["--", "printf", "one\\n%s\\nthree\\n", item]).await;
        let messages = ask(&subject, "").await;
        let payloads = bare(&messages);
        assert_eq!(payloads.len(), 2, "{payloads:?}");
        assert_eq!(payloads[0], "one");
        assert!(payloads[1].starts_with("__STREAM_ERROR__:"), "{payloads:?}");
        // Who knows more gets it.
        assert_eq!(
            run(["call", &subject]).await.exits_with(0).lines(),
            ["one", item, "three"]
        );
    }
}

#[tokio::test]
async fn a_caller_that_is_said_to_be_offline_has_left() {
    let subject = unique_subject("interop.serve");
    let serving = Serving::start(&subject, STAYS).await;
    let ids = [unique_name("client"), unique_name("client")];
    let mut pids = Vec::new();
    let mut callers = Vec::new();
    for id in &ids {
        let headers = format!(r#"{{"Connect-ID": "{id}"}}"#);
        let mut caller = Peer::start(Language::Python, "caller", &[&subject, "", &headers]);
        pids.push(first_line(&mut caller).await);
        callers.push(caller);
    }
    for (id, pid) in ids.iter().zip(&pids) {
        assert!(!is_gone(pid), "it was killed for another client");
        let mut publish = Peer::start(Language::Python, "publish", &["client.offline", id]);
        assert_eq!(publish.says().await["published"], true);
        within(SOON, until("the command has been killed", || is_gone(pid))).await;
    }
    serving.stop().await.exits_with(0);
}

#[tokio::test]
async fn a_caller_that_is_gone_is_noticed() {
    let subject = unique_subject("interop.serve");
    let script = "echo $$; while sleep 0.1; do echo more; done";
    let _serving = Serving::start(&subject, ["--", "sh", "-c", script]).await;
    let mut caller = Peer::start(Language::Python, "caller", &[&subject, ""]);
    let pid = first_line(&mut caller).await;
    drop(caller);
    // Nobody is there for five seconds (rule 64).
    until("the command has been killed", || is_gone(&pid)).await;
}

#[tokio::test]
async fn a_responder_that_leaves_fails_its_answers() {
    let subject = unique_subject("interop.serve");
    let serving = Serving::start(&subject, [&["--drain", "100ms"], &STAYS[..]].concat()).await;
    let mut caller = Peer::start(Language::Python, "caller", &[&subject, ""]);
    first_line(&mut caller).await;
    serving.stop().await;
    let messages = caller.messages().await;
    let payloads = bare(&messages);
    assert_eq!(payloads.len(), 1, "{payloads:?}");
    assert!(payloads[0].starts_with("__STREAM_ERROR__:"), "{payloads:?}");
}

#[tokio::test]
async fn plain_callers_may_be_refused() {
    let subject = unique_subject("interop.serve");
    let _serving = Serving::start(&subject, ["--count", "3", "--foreign-dialect", "refuse"]).await;
    for language in LANGUAGES {
        let messages = Peer::start(language, "caller", &[&subject, ""]).messages().await;
        let [refusal] = &messages[..] else {
            panic!("one message, not {messages:?}");
        };
        assert_eq!(refusal.data(), "");
        assert_eq!(refusal.header("Nats-Service-Error-Code"), Some("12"));
        let words = refusal.header("Nats-Service-Error").expect("the name of the code");
        assert!(words.starts_with("UNIMPLEMENTED"), "{words}");
    }
    for dialect in ["text", "sentinel"] {
        let call = run(["call", &subject, "--dialect", dialect, "--json"])
            .await
            .exits_with(1);
        assert_eq!(call.summary()["code"], "UNIMPLEMENTED", "{call:?}");
    }
    run(["call", &subject]).await.exits_with(0);
}
