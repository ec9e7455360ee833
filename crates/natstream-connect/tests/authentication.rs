//! Every form of authentication, with the right and the wrong secret.

mod support;

use std::time::Duration;

use async_nats::{Auth, AuthError};
use natstream_connect::{ConnectConfig, ConnectErrorKind, Credentials, EndReason, Secret};
use nkeys::KeyPair;
use support::{LIMIT, SECRET, TIMEOUT, connected, everything, refused, server, state_where};
use testkit::{Operator, within};

/// Connects and talks.
async fn accepted(config: ConnectConfig) {
    let connection = connected(config).await;
    within(LIMIT, connection.fence(TIMEOUT)).await.unwrap();
    assert!(!format!("{connection:?}").contains(SECRET));
}

async fn rejected(config: ConnectConfig) {
    let debug = format!("{config:?}");
    assert!(!debug.contains(SECRET), "{debug}");
    let error = refused(config).await;
    assert_eq!(error.kind(), ConnectErrorKind::Authentication, "{error}");
    assert!(error.hint().is_some());
    assert!(!error.is_retryable());
}

#[tokio::test]
async fn user_and_password() {
    let server = server("authorization { user: app, password: s3cr3t }").await;
    let config = || ConnectConfig::new(server.url());
    accepted(config().credentials(Credentials::user_password("app", SECRET))).await;
    rejected(config().credentials(Credentials::user_password("app", "s3cr3t-not"))).await;
    rejected(config()).await;
}

#[tokio::test]
async fn user_info_in_the_url() {
    let server = server("authorization { user: app, password: \"s3cr3t,/@\" }").await;
    let address = format!("127.0.0.1:{}", server.port());
    accepted(ConnectConfig::new(format!("nats://app:s3cr3t%2C%2F%40@{address}"))).await;
    accepted(ConnectConfig::new(format!("app:s3cr3t%2C%2F%40@{address}"))).await;
    rejected(ConnectConfig::new(format!("nats://app:s3cr3t@{address}"))).await;

    let connection = connected(ConnectConfig::new(format!("app:s3cr3t%2C%2F%40@{address}"))).await;
    assert_eq!(connection.server_url().unwrap(), server.url());
}

#[tokio::test]
async fn token() {
    let server = server("authorization { token: s3cr3t }").await;
    let config = || ConnectConfig::new(server.url());
    accepted(config().credentials(Credentials::token(SECRET))).await;
    accepted(ConnectConfig::new(format!("s3cr3t@127.0.0.1:{}", server.port()))).await;
    rejected(config().credentials(Credentials::token("s3cr3t-not"))).await;
}

#[tokio::test]
async fn nkey() {
    let pair = KeyPair::new_user();
    let server = server(&format!(
        "authorization {{ users: [{{ nkey: {} }}] }}",
        pair.public_key()
    ))
    .await;
    let config = || ConnectConfig::new(server.url());
    accepted(config().credentials(Credentials::nkey_seed(pair.seed().unwrap()))).await;
    rejected(config().credentials(Credentials::nkey_seed(KeyPair::new_user().seed().unwrap()))).await;
}

#[tokio::test]
async fn jwt_in_all_forms() {
    let operator = Operator::new();
    let server = server(operator.config()).await;
    let config = || ConnectConfig::new(server.url());

    let user = operator.user(0);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), user.creds()).unwrap();
    accepted(config().credentials(Credentials::file(file.path()))).await;
    accepted(config().credentials(Credentials::text(user.creds()))).await;
    accepted(config().credentials(Credentials::jwt(user.jwt.as_str(), user.seed.as_str()))).await;

    // Of another operator, expired, and with the seed of somebody else.
    rejected(config().credentials(Credentials::text(Operator::new().user(0).creds()))).await;
    rejected(config().credentials(Credentials::text(operator.user(1_700_000_001).creds()))).await;
    rejected(config().credentials(Credentials::jwt(user.jwt, operator.user(0).seed))).await;
}

#[tokio::test]
async fn a_credentials_file_is_read_again_at_a_reconnect() {
    let operator = Operator::new();
    let server = server(operator.config()).await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), operator.user(0).creds()).unwrap();
    let connection = connected(ConnectConfig::new(server.url()).credentials(Credentials::file(file.path()))).await;

    // With a user of somebody else there is no way back in …
    std::fs::write(file.path(), Operator::new().user(0).creds()).unwrap();
    within(LIMIT, connection.nats().force_reconnect()).await.unwrap();
    state_where(&connection, |state| !state.is_connected()).await;
    // … until the file is right again.
    std::fs::write(file.path(), operator.user(0).creds()).unwrap();
    let state = state_where(&connection, |state| state.is_connected()).await;
    assert_eq!(state.epoch, 2);
}

#[tokio::test]
async fn secrets_in_files_are_read_again_at_a_reconnect() {
    let file = tempfile::NamedTempFile::new().unwrap();
    for (authorization, credentials) in [
        (
            "user: app, password: s3cr3t",
            Credentials::user_password("app", Secret::file(file.path())),
        ),
        ("token: s3cr3t", Credentials::token(Secret::file(file.path()))),
    ] {
        let server = server(&format!("authorization {{ {authorization} }}")).await;
        std::fs::write(file.path(), "s3cr3t\n").unwrap();
        let connection = connected(ConnectConfig::new(server.url()).credentials(credentials)).await;
        std::fs::write(file.path(), "s3cr3t-not\n").unwrap();
        within(LIMIT, connection.nats().force_reconnect()).await.unwrap();
        state_where(&connection, |state| !state.is_connected()).await;
        assert_eq!(connection.end_reason(), None);
        std::fs::write(file.path(), "s3cr3t\n").unwrap();
        let state = state_where(&connection, |state| state.is_connected()).await;
        assert_eq!(state.epoch, 2);
    }
}

#[tokio::test]
async fn credentials_that_become_wrong_end_the_connection() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let server = server("authorization { token: s3cr3t }").await;
    for (content, words) in [
        (Some("s3cr3t-not"), "authorization violation"),
        (None, "cannot read the token file"),
    ] {
        std::fs::write(file.path(), "s3cr3t\n").unwrap();
        let config = ConnectConfig::new(server.url())
            .credentials(Credentials::token(Secret::file(file.path())))
            .max_refusals(Some(2));
        let connection = connected(config).await;
        let client = connection.nats().clone();
        match content {
            Some(content) => std::fs::write(file.path(), content).unwrap(),
            None => std::fs::remove_file(file.path()).unwrap(),
        }
        within(LIMIT, client.force_reconnect()).await.unwrap();
        state_where(&connection, |state| state.is_closed()).await;
        let reason = connection.end_reason().unwrap();
        assert!(
            matches!(reason, EndReason::CredentialsRefused { attempts: 2, .. }),
            "{reason:?}"
        );
        let text = everything(&reason);
        assert!(text.contains(words) && !text.contains(SECRET), "{text}");
        // async-nats' own task has ended too.
        within(LIMIT, async { while client.publish("x", "".into()).await.is_ok() {} }).await;
    }
}

#[tokio::test]
async fn a_user_that_expires_ends_the_connection() {
    let operator = Operator::new();
    let server = server(operator.config()).await;
    // nats-server compares with this clock.
    let now = std::time::UNIX_EPOCH.elapsed().unwrap();
    let user = operator.user(now.as_secs() + 4);
    let config = ConnectConfig::new(server.url()).credentials(Credentials::jwt(user.jwt, user.seed));
    let connection = connected(config.max_refusals(Some(2))).await;
    // nats-server cuts the connection, and then refuses to take it back.
    state_where(&connection, |state| state.is_closed()).await;
    let reason = connection.end_reason().unwrap();
    assert!(
        matches!(reason, EndReason::CredentialsRefused { attempts: 2, .. }),
        "{reason:?}"
    );
}

#[tokio::test]
async fn a_callback_answers_at_every_connect() {
    let server = server("authorization { token: s3cr3t }").await;
    let config = || ConnectConfig::new(server.url());
    let (calls, mut called) = tokio::sync::mpsc::unbounded_channel();
    let connection = connected(config().credentials(Credentials::callback(move |_nonce| {
        calls.send(()).unwrap();
        async {
            let mut auth = Auth::new();
            auth.token = Some(SECRET.to_owned());
            Ok(auth)
        }
    })))
    .await;
    within(LIMIT, called.recv()).await.unwrap();
    within(LIMIT, connection.nats().force_reconnect()).await.unwrap();
    within(LIMIT, called.recv()).await.unwrap();

    let error = refused(config().credentials(Credentials::callback(|_| async {
        Err(AuthError::new("the vault is shut"))
    })))
    .await;
    assert_eq!(error.kind(), ConnectErrorKind::Authentication);
    assert!(everything(&error).contains("the vault is shut"));
}

#[tokio::test]
async fn wrong_credentials_end_the_search() {
    let server = server("authorization { token: s3cr3t }").await;
    let silent = support::fake("").await;
    let error = refused(
        ConnectConfig::new([server.url(), silent])
            .retain_servers_order()
            .connect_timeout(Duration::from_secs(60))
            .credentials(Credentials::token("s3cr3t-not")),
    )
    .await;
    let tried: Vec<_> = error.servers_tried().collect();
    assert_eq!(tried, [(server.url().as_str(), ConnectErrorKind::Authentication)]);
}
