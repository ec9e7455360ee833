//! A secret, or the file that holds it.

use std::path::PathBuf;

use secrecy::{ExposeSecret, SecretString};
use tokio::io::AsyncReadExt;

use crate::credentials::CredentialsProblem;

/// The largest secret in a file. A JWT with many permissions has some 10 KiB.
pub(crate) const LARGEST_SECRET: u64 = 64 * 1024;

/// A password, token or key: itself, or the name of a file that holds it.
///
/// A file is read at connect and read again at every reconnect, so that a renewed secret is taken up without a restart. Line
/// breaks at its end do not count. `Debug` shows the file's name, and never the secret.
///
/// ```
/// use natstream_connect::{Credentials, Secret};
///
/// let credentials = Credentials::user_password("orders", Secret::file("/run/secrets/nats"));
/// let secret = Secret::from("s3cr3t");
/// assert!(!format!("{secret:?}").contains("s3cr3t"));
/// ```
#[derive(Clone, Debug)]
pub struct Secret(Repr);

#[derive(Clone, Debug)]
enum Repr {
    File(PathBuf),
    Text(SecretString),
}

impl Secret {
    /// What this file holds, whenever it is needed.
    #[must_use]
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self(Repr::File(path.into()))
    }

    /// The file that holds it, if one does.
    #[must_use]
    pub fn path(&self) -> Option<&std::path::Path> {
        match &self.0 {
            Repr::File(path) => Some(path),
            Repr::Text(_) => None,
        }
    }

    /// The text, where it is in no file.
    #[cfg(feature = "consul")]
    pub(crate) fn text(&self) -> Option<&SecretString> {
        match &self.0 {
            Repr::Text(text) => Some(text),
            Repr::File(_) => None,
        }
    }

    /// Whether both are the same text. What a file holds is not compared.
    pub(crate) fn same_text(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Repr::Text(a), Repr::Text(b)) => a.expose_secret() == b.expose_secret(),
            _ => false,
        }
    }

    /// The secret as it is now. `what` names it: `password`.
    pub(crate) async fn read(&self, what: &str) -> Result<SecretString, CredentialsProblem> {
        let path = match &self.0 {
            Repr::Text(text) => return Ok(text.clone()),
            Repr::File(path) => path,
        };
        let read = async {
            let mut text = String::new();
            let file = tokio::fs::File::open(path).await?;
            file.take(LARGEST_SECRET + 1).read_to_string(&mut text).await?;
            Ok(text)
        };
        let text = read.await.map(SecretString::from).map_err(|error| CredentialsProblem {
            message: format!("cannot read the {what} file {}", path.display()),
            source: Some(error),
        })?;
        trimmed(text.expose_secret())
            .map(SecretString::from)
            .map_err(|problem| CredentialsProblem::new(format!("the {what} file {} {problem}", path.display())))
    }
}

/// What a file holds, without the line breaks at its end; or what is wrong with it.
pub(crate) fn trimmed(text: &str) -> Result<&str, &'static str> {
    if text.len() as u64 > LARGEST_SECRET {
        return Err("is larger than 64 KiB");
    }
    match text.trim_end_matches(['\n', '\r']) {
        "" => Err("is empty"),
        text => Ok(text),
    }
}

impl From<SecretString> for Secret {
    fn from(text: SecretString) -> Self {
        Self(Repr::Text(text))
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(Repr::Text(text.into()))
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self(Repr::Text(text.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_is_read_whenever_it_is_needed() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let secret = Secret::file(file.path());
        for (content, expected) in [("one\n", "one"), (" two \r\n\n", " two "), ("three", "three")] {
            std::fs::write(file.path(), content).unwrap();
            assert_eq!(secret.read("token").await.unwrap().expose_secret(), expected);
        }
    }

    #[tokio::test]
    async fn files_that_hold_no_secret_are_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for (content, expected) in [
            ("\n".to_owned(), "is empty"),
            ("s3cr3t".repeat(20_000), "is larger than 64 KiB"),
        ] {
            std::fs::write(file.path(), content).unwrap();
            let problem = Secret::file(file.path()).read("password").await.unwrap_err();
            assert!(problem.message.contains("the password file /"), "{problem:?}");
            assert!(problem.message.ends_with(expected), "{problem:?}");
            assert!(!format!("{problem:?}").contains("s3cr3t"));
        }
        let problem = Secret::file("/nowhere").read("token").await.unwrap_err();
        assert_eq!(problem.message, "cannot read the token file /nowhere");
        assert!(problem.source.is_some());
    }
}
