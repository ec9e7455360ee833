//! Who we are: every form of authentication, read and answered for each connect.

use std::fmt;
use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use async_nats::{Auth, AuthError};
use nkeys::{KeyPair, KeyPairType};
use secrecy::{ExposeSecret, SecretString};

use crate::secret::Secret;

/// Who a connection says it is.
///
/// Secrets are kept in [`SecretString`]s: they are wiped from memory when dropped, and neither
/// `Debug` nor any error shows them. (async-nats keeps ordinary copies while it connects.) Where a
/// [`Secret`] is taken, [`Secret::file`] names a file that is read again at every reconnect.
///
/// The variants are easiest to make with the functions of the same name:
///
/// ```
/// use natstream_connect::Credentials;
///
/// let credentials = Credentials::user_password("orders", "s3cr3t");
/// assert!(!format!("{credentials:?}").contains("s3cr3t"));
/// ```
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub enum Credentials {
    /// A callback that answers the server's nonce at every connect and reconnect.
    Callback(AuthCallback),
    /// The text of a credentials file, as `nsc generate creds` prints it.
    Credentials(SecretString),
    /// A credentials file. It is read at connect, and read again at every reconnect.
    CredentialsFile(PathBuf),
    /// A user JWT and the seed of the nkey that it names.
    Jwt {
        /// The user JWT.
        jwt: Secret,
        /// The seed of the user nkey, `SU…`.
        seed: Secret,
    },
    /// The seed of a user nkey, `SU…`.
    NkeySeed(Secret),
    /// No credentials: the default. User info in a server URL counts as credentials.
    #[default]
    None,
    /// A token.
    Token(Secret),
    /// A user name and a password.
    UserPassword {
        /// The user name. It is not a secret: `Debug` shows it.
        user: String,
        /// The password.
        password: Secret,
    },
}

impl Credentials {
    /// A user name and a password.
    #[must_use]
    pub fn user_password(user: impl Into<String>, password: impl Into<Secret>) -> Self {
        Self::UserPassword {
            user: user.into(),
            password: password.into(),
        }
    }

    /// A token.
    #[must_use]
    pub fn token(token: impl Into<Secret>) -> Self {
        Self::Token(token.into())
    }

    /// The seed of a user nkey, `SU…`.
    ///
    /// Other lines may stand around it, as in the files that `nk` and `nsc` write.
    #[must_use]
    pub fn nkey_seed(seed: impl Into<Secret>) -> Self {
        Self::NkeySeed(seed.into())
    }

    /// A credentials file, as `nsc generate creds` writes it.
    ///
    /// It is read at connect, where a file that is missing or malformed is an
    /// [`InvalidConfig`](crate::ConnectErrorKind::InvalidConfig) error, and again at every
    /// reconnect, so that a renewed file is taken up without a restart.
    #[must_use]
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self::CredentialsFile(path.into())
    }

    /// The text of a credentials file.
    #[must_use]
    pub fn text(text: impl Into<SecretString>) -> Self {
        Self::Credentials(text.into())
    }

    /// A user JWT and the seed of the nkey that it names.
    #[must_use]
    pub fn jwt(jwt: impl Into<Secret>, seed: impl Into<Secret>) -> Self {
        Self::Jwt {
            jwt: jwt.into(),
            seed: seed.into(),
        }
    }

    /// A callback that answers the server's nonce at every connect and reconnect.
    ///
    /// It has the form of [`async_nats::ConnectOptions::with_auth_callback`], and runs inside
    /// [`connect_timeout`](crate::ConnectConfig::connect_timeout).
    ///
    /// ```
    /// use async_nats::Auth;
    /// use natstream_connect::Credentials;
    ///
    /// let credentials = Credentials::callback(|_nonce| async {
    ///     let mut auth = Auth::new();
    ///     auth.token = Some("from a vault".to_owned());
    ///     Ok(auth)
    /// });
    /// ```
    #[must_use]
    pub fn callback<F, Fut>(callback: F) -> Self
    where
        F: Fn(Vec<u8>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Auth, AuthError>> + Send + Sync + 'static,
    {
        Self::Callback(AuthCallback(Arc::new(move |nonce| Box::pin(callback(nonce)))))
    }

    /// Whether both would authenticate in the same way; for the user info of several URLs.
    pub(crate) fn same_login(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Token(a), Self::Token(b)) => a.same_text(b),
            (
                Self::UserPassword { user, password },
                Self::UserPassword {
                    user: other_user,
                    password: other_password,
                },
            ) => user == other_user && password.same_text(other_password),
            _ => false,
        }
    }

    /// Reads what has to be read and tries it out, so that a mistake has a name before a socket is
    /// opened.
    pub(crate) async fn check(&self) -> Result<(), CredentialsProblem> {
        match self {
            // Only a server can say whether these are right, and a callback may not be called in
            // vain.
            Self::Callback(_) | Self::None => Ok(()),
            _ => self
                .answer(b"a nonce to try the key".to_vec())
                .await
                .map(drop)
                .map_err(|answer| match answer {
                    AnswerError::Problem(problem) => problem,
                    AnswerError::Callback(error) => CredentialsProblem::new(error.to_string()),
                }),
        }
    }

    /// What to answer to the server's nonce; called at every connect and reconnect.
    pub(crate) async fn answer(&self, nonce: Vec<u8>) -> Result<Auth, AnswerError> {
        let mut auth = Auth::new();
        match self {
            Self::Callback(callback) => {
                return (callback.0)(nonce).await.map_err(AnswerError::Callback);
            }
            Self::Credentials(text) => sign_credentials(&mut auth, text.expose_secret(), &nonce)?,
            Self::CredentialsFile(path) => {
                let text = tokio::fs::read_to_string(path)
                    .await
                    .map_err(|error| CredentialsProblem {
                        message: format!("cannot read the credentials file {}", path.display()),
                        source: Some(error),
                    })?;
                let text = SecretString::from(text);
                sign_credentials(&mut auth, text.expose_secret(), &nonce)
                    .map_err(|problem| CredentialsProblem::new(format!("{}: {}", path.display(), problem.message)))?;
            }
            Self::Jwt { jwt, seed } => {
                let (jwt, seed) = (jwt.read("JWT").await?, seed.read("seed").await?);
                sign_jwt(&mut auth, jwt.expose_secret(), seed.expose_secret(), &nonce)?;
            }
            Self::NkeySeed(seed) => {
                let pair = user_key(seed.read("nkey").await?.expose_secret())?;
                auth.nkey = Some(pair.public_key());
                auth.signature = Some(sign(&pair, &nonce)?);
            }
            Self::None => {}
            Self::Token(token) => auth.token = Some(token.read("token").await?.expose_secret().to_owned()),
            Self::UserPassword { user, password } => {
                auth.username = Some(user.clone());
                auth.password = Some(password.read("password").await?.expose_secret().to_owned());
            }
        }
        Ok(auth)
    }
}

/// The callback of [`Credentials::callback`].
#[derive(Clone)]
pub struct AuthCallback(Arc<dyn Fn(Vec<u8>) -> AuthFuture + Send + Sync>);

// `Sync` because async-nats asks for it.
type AuthFuture = Pin<Box<dyn Future<Output = Result<Auth, AuthError>> + Send + Sync>>;

impl fmt::Debug for AuthCallback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AuthCallback")
    }
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum AnswerError {
    Callback(AuthError),
    Problem(CredentialsProblem),
}

impl From<CredentialsProblem> for AnswerError {
    fn from(problem: CredentialsProblem) -> Self {
        Self::Problem(problem)
    }
}

impl From<AnswerError> for AuthError {
    fn from(error: AnswerError) -> Self {
        match error {
            AnswerError::Callback(error) => error,
            // This is the end of the chain (async-nats takes a text), so it has to hold the source.
            AnswerError::Problem(CredentialsProblem {
                message,
                source: Some(source),
            }) => Self::new(format!("{message}: {source}")),
            AnswerError::Problem(CredentialsProblem { message, source: None }) => Self::new(message),
        }
    }
}

/// Credentials that cannot work, in words that hold no secret.
#[derive(Debug)]
pub(crate) struct CredentialsProblem {
    pub(crate) message: String,
    pub(crate) source: Option<io::Error>,
}

impl CredentialsProblem {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            source: None,
        }
    }
}

fn sign_credentials(auth: &mut Auth, text: &str, nonce: &[u8]) -> Result<(), CredentialsProblem> {
    let jwt = section(text, "JWT")
        .ok_or_else(|| CredentialsProblem::new("no user JWT between `-----BEGIN NATS USER JWT-----` and its end"))?;
    let seed = section(text, "SEED")
        .ok_or_else(|| CredentialsProblem::new("no seed between `-----BEGIN USER NKEY SEED-----` and its end"))?;
    sign_jwt(auth, jwt, seed, nonce)
}

fn sign_jwt(auth: &mut Auth, jwt: &str, seed: &str, nonce: &[u8]) -> Result<(), CredentialsProblem> {
    let jwt = jwt.trim();
    // The server would answer with a parse error and cut the connection.
    let is_jwt = |part: &str| {
        !part.is_empty()
            && part
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    if jwt.split('.').count() != 3 || !jwt.split('.').all(is_jwt) {
        return Err(CredentialsProblem::new(
            "the user JWT is not three base64url parts with dots between them",
        ));
    }
    auth.signature = Some(sign(&user_key(seed)?, nonce)?);
    auth.jwt = Some(jwt.to_owned());
    Ok(())
}

/// The line between `-----BEGIN … <what>-----` and the next line of dashes.
fn section<'a>(text: &'a str, what: &str) -> Option<&'a str> {
    let mut lines = text.lines().map(str::trim);
    lines.find(|line| line.starts_with("---") && line.contains("BEGIN") && line.contains(what))?;
    lines
        .find(|line| !line.is_empty())
        .filter(|line| !line.starts_with("---"))
}

fn user_key(text: &str) -> Result<KeyPair, CredentialsProblem> {
    let seed = text.lines().map(str::trim).find(|line| line.starts_with("SU"));
    let seed = seed.unwrap_or(text);
    // The error of nkeys is dropped: it says no more, and might one day quote the seed.
    let pair = KeyPair::from_seed(seed.trim()).map_err(|_| CredentialsProblem::new("the nkey seed is not valid"))?;
    match pair.key_pair_type() {
        KeyPairType::User => Ok(pair),
        _ => Err(CredentialsProblem::new("the nkey seed is not that of a user (`SU…`)")),
    }
}

fn sign(pair: &KeyPair, nonce: &[u8]) -> Result<Vec<u8>, CredentialsProblem> {
    pair.sign(nonce)
        .map_err(|_| CredentialsProblem::new("the nkey cannot sign"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const JWT: &str = "eyJ0.eyJqdGk.c2ln-_";

    fn creds(jwt: &str, seed: &str) -> String {
        format!(
            "-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n\
             *** IMPORTANT ***\n\n-----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
        )
    }

    fn seed() -> String {
        KeyPair::new_user().seed().unwrap()
    }

    #[tokio::test]
    async fn every_form_becomes_an_answer() {
        let seed = seed();
        let pair = KeyPair::from_seed(&seed).unwrap();
        let nonce = b"nonce".to_vec();

        let auth = Credentials::nkey_seed(format!(" {seed}\n"))
            .answer(nonce.clone())
            .await
            .unwrap();
        assert_eq!(auth.nkey.unwrap(), pair.public_key());
        pair.verify(&nonce, &auth.signature.unwrap()).unwrap();

        let path = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(path.path(), creds(JWT, &seed).replace('\n', "\r\n")).unwrap();
        for credentials in [
            Credentials::text(creds(JWT, &seed)),
            Credentials::jwt(JWT, seed.as_str()),
            Credentials::jwt(JWT, format!("-----\n{seed}\n-----\n")),
            Credentials::file(path.path()),
        ] {
            credentials.check().await.unwrap();
            let auth = credentials.answer(nonce.clone()).await.unwrap();
            assert_eq!(auth.jwt.unwrap(), JWT);
            pair.verify(&nonce, &auth.signature.unwrap()).unwrap();
        }

        let auth = Credentials::user_password("u", "p")
            .answer(nonce.clone())
            .await
            .unwrap();
        assert_eq!(
            (auth.username.as_deref(), auth.password.as_deref()),
            (Some("u"), Some("p"))
        );
        let auth = Credentials::token("t").answer(nonce).await.unwrap();
        assert_eq!(auth.token.as_deref(), Some("t"));
    }

    #[tokio::test]
    async fn a_file_is_read_again_for_every_answer() {
        let path = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(path.path(), creds(JWT, &seed())).unwrap();
        let credentials = Credentials::file(path.path());
        assert_eq!(credentials.answer(Vec::new()).await.unwrap().jwt.as_deref(), Some(JWT));
        std::fs::write(path.path(), creds("bmV3.bmV3.bmV3", &seed())).unwrap();
        assert_eq!(
            credentials.answer(Vec::new()).await.unwrap().jwt.as_deref(),
            Some("bmV3.bmV3.bmV3")
        );
    }

    #[tokio::test]
    async fn mistakes_are_named_and_show_no_secret() {
        let seed = seed();
        let account = KeyPair::new_account().seed().unwrap();
        for (credentials, expected) in [
            (Credentials::nkey_seed("s3cr3t"), "seed is not valid"),
            (Credentials::nkey_seed(account.as_str()), "not that of a user"),
            (Credentials::jwt("s3cr3t", seed.as_str()), "three base64url parts"),
            (Credentials::jwt("s3cr3t.a b.c", seed.as_str()), "three base64url parts"),
            (Credentials::jwt(JWT, "s3cr3t"), "seed is not valid"),
            (Credentials::text("s3cr3t"), "no user JWT"),
            (Credentials::text(creds("", &seed)), "no user JWT"),
            (
                Credentials::text(format!("-----BEGIN NATS USER JWT-----\n{JWT}\n---\n")),
                "no seed",
            ),
            (Credentials::text(creds(JWT, "s3cr3t")), "seed is not valid"),
            (
                Credentials::file("/nowhere/at-all.creds"),
                "cannot read the credentials file /nowhere/at-all.creds",
            ),
        ] {
            let problem = credentials.check().await.unwrap_err();
            assert!(problem.message.contains(expected), "{problem:?}");
            let mut text = format!("{problem:?} {credentials:?}");
            text += &AuthError::from(AnswerError::from(problem)).to_string();
            for secret in ["s3cr3t", &seed, &account, JWT] {
                assert!(!text.contains(secret), "{text}");
            }
        }
    }

    #[tokio::test]
    async fn debug_shows_no_secret() {
        let secret = "s3cr3t";
        for credentials in [
            Credentials::user_password("u", secret),
            Credentials::token(secret),
            Credentials::nkey_seed(secret),
            Credentials::text(secret),
            Credentials::jwt(secret, secret),
            Credentials::callback(move |_| async move { Err(AuthError::new(secret)) }),
        ] {
            assert!(!format!("{credentials:?} {credentials:#?}").contains(secret));
        }
    }
}
