//! What the suites of this crate share.
#![allow(dead_code, reason = "each suite uses its part")]

use std::error::Error;
use std::fmt::Write;
use std::future::Future;
use std::time::Duration;

use natstream_connect::{ConnectConfig, ConnectError, Connection, ConnectionState};
use nkeys::KeyPair;
use testkit::{NatsServer, within};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

/// The limit of every await: far above what anything here takes.
pub(crate) const LIMIT: Duration = Duration::from_secs(15);

/// The longest time a test gives a server to answer.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(5);

/// Stands for every secret: no text may hold it.
pub(crate) const SECRET: &str = "s3cr3t";

pub(crate) async fn server(config: &str) -> NatsServer {
    within(LIMIT, NatsServer::builder().config(config).start()).await
}

#[track_caller]
pub(crate) fn connected(config: ConnectConfig) -> impl Future<Output = Connection> {
    let connect = within(LIMIT, Connection::connect(config));
    async { connect.await.expect("the connection is established") }
}

#[track_caller]
pub(crate) fn refused(config: ConnectConfig) -> impl Future<Output = ConnectError> {
    let connect = within(LIMIT, Connection::connect(config));
    async {
        let error = connect.await.expect_err("the connection is not established");
        assert!(!everything(&error).contains(SECRET), "{}", everything(&error));
        error
    }
}

#[track_caller]
pub(crate) fn state_where(
    connection: &Connection,
    condition: impl FnMut(&ConnectionState) -> bool,
) -> impl Future<Output = ConnectionState> {
    let mut state = connection.state();
    within(LIMIT, async move {
        *state.wait_for(condition).await.expect("the connection has a state")
    })
}

/// All that a log could show of an error.
pub(crate) fn everything(error: &dyn Error) -> String {
    let mut text = format!("{error:?} {error}");
    let mut source = error.source();
    while let Some(error) = source {
        write!(text, ": {error}").unwrap();
        source = error.source();
    }
    text
}

/// An address that nobody listens at.
pub(crate) async fn deserted() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    format!("nats://{}", listener.local_addr().unwrap())
}

/// A server that says `greeting` to everybody and then nothing.
#[expect(clippy::disallowed_methods, reason = "tests may spawn")]
pub(crate) async fn fake(greeting: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("nats://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let mut open = Vec::new();
        while let Ok((mut socket, _)) = listener.accept().await {
            socket.write_all(greeting.as_bytes()).await.unwrap();
            open.push(socket);
        }
    });
    url
}

/// An operator with one account, and the configuration of a server that believes it.
pub(crate) struct Operator {
    account: KeyPair,
    pub(crate) config: String,
}

impl Operator {
    pub(crate) fn new() -> Self {
        let operator = KeyPair::new_operator();
        let account = KeyPair::new_account();
        let operator_jwt = mint(&operator, &operator, r#""nats":{"type":"operator","version":2}"#);
        let limits = r#"{"subs":-1,"data":-1,"payload":-1,"imports":-1,"exports":-1,
            "wildcards":true,"conn":-1,"leaf":-1}"#;
        let account_jwt = mint(
            &operator,
            &account,
            &format!(r#""nats":{{"limits":{limits},"type":"account","version":2}}"#),
        );
        let config = format!(
            "operator: {operator_jwt}\nresolver: MEMORY\nresolver_preload: {{ {}: {account_jwt} }}\n",
            account.public_key()
        );
        Self { account, config }
    }

    /// A user's JWT and seed. `expires` in seconds since 1970, 0 for never.
    pub(crate) fn user(&self, expires: u64) -> (String, String) {
        let user = KeyPair::new_user();
        let claims = format!(
            r#""exp":{expires},"nats":{{"pub":{{}},"sub":{{}},"subs":-1,"data":-1,
                "payload":-1,"type":"user","version":2}}"#
        );
        (mint(&self.account, &user, &claims), user.seed().unwrap())
    }
}

/// The text of a credentials file.
pub(crate) fn creds((jwt, seed): &(String, String)) -> String {
    format!(
        "-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n\
         -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
    )
}

fn mint(issuer: &KeyPair, subject: &KeyPair, claims: &str) -> String {
    let (issuer_key, subject_key) = (issuer.public_key(), subject.public_key());
    let header = base64url(br#"{"typ":"JWT","alg":"ed25519-nkey"}"#);
    let body = format!(
        r#"{{"jti":"{subject_key}","iat":1700000000,"iss":"{issuer_key}","name":"test",
            "sub":"{subject_key}",{claims}}}"#
    );
    let body = base64url(body.as_bytes());
    let signed = format!("{header}.{body}");
    let signature = base64url(&issuer.sign(signed.as_bytes()).unwrap());
    format!("{signed}.{signature}")
}

fn base64url(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let group = chunk.iter().fold(0_u32, |group, &byte| group << 8 | u32::from(byte)) << (8 * (3 - chunk.len()));
        for index in 0..=chunk.len() {
            text.push(char::from(ALPHABET[(group >> (18 - 6 * index) & 63) as usize]));
        }
    }
    text
}
