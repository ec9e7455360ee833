//! Users of a nats-server that believes JWTs.

use nkeys::KeyPair;

/// An operator with one account, made for a test.
///
/// Its `Debug` is for failing tests; nothing here is worth a secret.
#[derive(Debug)]
pub struct Operator {
    account: KeyPair,
    config: String,
}

/// A user: who it is, and the seed that proves it.
#[derive(Clone, Debug)]
pub struct UserJwt {
    /// What the account has signed.
    pub jwt: String,
    /// The seed of the user's key.
    pub seed: String,
}

impl Operator {
    /// An operator that no other test has.
    ///
    /// # Panics
    ///
    /// When the system gives no random numbers.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "no two of them are alike")]
    pub fn new() -> Self {
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

    /// The configuration of a server that believes it.
    #[must_use]
    pub fn config(&self) -> &str {
        &self.config
    }

    /// A new user of the account. `expires` in seconds since 1970, 0 for never.
    ///
    /// # Panics
    ///
    /// When the system gives no random numbers.
    #[must_use]
    pub fn user(&self, expires: u64) -> UserJwt {
        let user = KeyPair::new_user();
        let claims = format!(
            r#""exp":{expires},"nats":{{"pub":{{}},"sub":{{}},"subs":-1,"data":-1,
                "payload":-1,"type":"user","version":2}}"#
        );
        UserJwt {
            jwt: mint(&self.account, &user, &claims),
            seed: user.seed().expect("a new key has its seed"),
        }
    }
}

impl UserJwt {
    /// The text of a credentials file.
    #[must_use]
    pub fn creds(&self) -> String {
        let Self { jwt, seed } = self;
        format!(
            "-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n\
             -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
        )
    }
}

/// The public key and the seed of a new user.
///
/// # Panics
///
/// When the system gives no random numbers.
#[must_use]
pub fn user_nkey() -> (String, String) {
    let user = KeyPair::new_user();
    (user.public_key(), user.seed().expect("a new key has its seed"))
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
    let signature = base64url(&issuer.sign(signed.as_bytes()).expect("a new key can sign"));
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
