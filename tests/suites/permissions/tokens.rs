//! Subjects that nobody can guess.

use std::collections::HashSet;
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use integration::numbers::{complete, count, item, sent};
use integration::{LIMIT, Peers, connection};
use natstream::async_nats::HeaderMap;
use natstream::{Dialect, ResponseSender};
use testkit::{settles_where, shared_url, unique_subject, within};

/// How many subjects are looked at.
const MANY: usize = 2000;

/// 16 of 62 letters would be 95 bits.
const LETTERS: usize = 17;

/// Tokens of which one says nothing about another.
fn assert_random(subjects: &[String]) {
    let tokens: Vec<&str> = subjects
        .iter()
        .map(|subject| subject.rsplit('.').next().expect("a token"))
        .collect();
    let length = tokens[0].len();
    assert!(length >= LETTERS, "{}", tokens[0]);
    for token in &tokens {
        assert!(
            token.len() == length && token.bytes().all(|byte| byte.is_ascii_alphanumeric()),
            "{token}"
        );
    }
    assert_eq!(tokens.iter().collect::<HashSet<_>>().len(), tokens.len());
    // Four equal letters at the beginning of one pair in 15 million; a NUID shares 12 with the next.
    for pair in tokens.windows(2) {
        let common = pair[0].bytes().zip(pair[1].bytes()).take_while(|(a, b)| a == b).count();
        assert!(common < 6, "{pair:?}");
    }
    // In each place each letter is expected 32 times: one of them is missing once in 10^11 runs.
    for place in 0..length {
        let letters: HashSet<u8> = tokens.iter().map(|token| token.as_bytes()[place]).collect();
        assert_eq!(letters.len(), 62, "in place {place}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn neither_side_uses_a_subject_that_follows_from_others() {
    let Peers { pool, server } = Peers::connect().await;
    // A responder of our own making sees the reply subjects.
    let asked = unique_subject("tokens");
    let stranger = connection(shared_url()).await;
    let mut requests = within(LIMIT, stranger.nats().subscribe(asked.clone()))
        .await
        .expect("subscribed");
    within(LIMIT, stranger.fence(LIMIT)).await.expect("subscribed");
    let mut replies = Vec::new();
    let mut prefixes = HashSet::new();
    for _ in 0..MANY {
        drop(sent(pool.request_stream(&asked, "")).await);
        let request = within(LIMIT, requests.next()).await.expect("a request");
        let reply = request.reply.expect("a reply subject").to_string();
        prefixes.insert(reply.rsplit_once('.').expect("tokens").0.to_owned());
        replies.push(reply);
    }
    assert_random(&replies);
    assert_eq!(prefixes.len(), 1, "one subscription for all");
    // A call in a plain dialect has a subscription of its own.
    let mut plain = HashSet::new();
    for _ in 0..20 {
        drop(sent(pool.request_stream(&asked, "").dialect(Dialect::Text)).await);
        let request = within(LIMIT, requests.next()).await.expect("a request");
        let reply = request.reply.expect("a reply subject").to_string();
        plain.insert(reply.rsplit_once('.').expect("tokens").0.to_owned());
    }
    assert!(plain.len() == 20 && plain.is_disjoint(&prefixes));

    // And a caller of our own making the control subjects.
    let held = unique_subject("tokens");
    let hold = |_request, mut out: ResponseSender| async move {
        out.send(item(0)).await?;
        out.closed().await;
        Ok(())
    };
    within(LIMIT, server.on(&held, hold)).await.expect("served");
    let ask = || async {
        let nats = stranger.nats();
        let inbox = nats.new_inbox();
        let mut answers = within(LIMIT, nats.subscribe(inbox.clone())).await.expect("subscribed");
        let mut headers = HeaderMap::new();
        headers.insert("Natstream", "1;w=65536");
        let sent = nats.publish_with_reply_and_headers(held.clone(), inbox, headers, "".into());
        sent.await.expect("sent");
        let first = within(LIMIT, answers.next()).await.expect("a first message");
        first.reply.expect("a control subject").to_string()
    };
    let controls: Vec<String> = stream::iter(0..MANY).then(|_| ask()).collect().await;
    assert_random(&controls);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guess_reaches_nobody_and_is_counted() {
    let Peers { pool, server } = Peers::connect().await;
    let (asked, served) = (unique_subject("guess"), unique_subject("guess"));
    within(LIMIT, server.on(&served, count)).await.expect("served");
    let stranger = connection(shared_url()).await;
    let nats = stranger.nats();
    let mut requests = within(LIMIT, nats.subscribe(asked.clone())).await.expect("subscribed");
    within(LIMIT, stranger.fence(LIMIT)).await.expect("subscribed");
    let mut call = sent(pool.request_stream(&asked, "")).await;
    let request = within(LIMIT, requests.next()).await.expect("a request");
    let reply = request.reply.expect("a reply subject");
    let (prefix, token) = reply.rsplit_once('.').expect("tokens");
    let swapped: String = token.chars().rev().collect();
    let guesses = [
        format!("{prefix}.{swapped}"),
        format!("{prefix}.{}", token.to_lowercase()),
        format!("{prefix}.{}", &token[1..]),
        format!("{prefix}.{token}x"),
        format!("{prefix}.x.{token}"),
    ];
    // A whole answer of no item, with everything that a first message has, and what other dialects end with.
    let whole = [&[0xfe, 0x41, 0, 0, 0, 9, 0, 0][..], &[0, 0, 0, 0, 0, 0, 0, 0]].concat();
    for guess in &guesses {
        for payload in [whole.clone(), b"__STREAM_END__".to_vec(), Vec::new()] {
            let mut headers = HeaderMap::new();
            headers.insert("Natstream", "1;r=65536;h=1000");
            let sent = nats.publish_with_headers(guess.clone(), headers, payload.into());
            sent.await.expect("sent");
        }
    }
    let expected = 3 * guesses.len() as u64;
    let stats = settles_where(LIMIT, async || pool.stats(), |stats| stats.strays >= expected).await;
    assert_eq!((stats.strays, stats.malformed, stats.attempts), (expected, 0, 0));
    // The call is as it was: nothing has answered it.
    let short = tokio::time::timeout(Duration::from_millis(50), call.try_next());
    assert!(short.await.is_err(), "a guess was taken for the answer");
    drop(call);
    complete(pool.request_stream(&served, "2000"), 2000).await;
}
