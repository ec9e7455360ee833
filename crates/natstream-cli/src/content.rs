//! What is sent: a payload from the command line, a file or standard input, and headers.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use bytes::Bytes;
use clap::Args;
use tokio::fs::File;
use tokio::io::{AsyncRead, AsyncReadExt as _};

use crate::exit::{Exit, Failure};

/// Larger ones fit no server: nats-server allows for a `max_payload` of 64 MiB at most.
const MAX: u64 = 64 << 20;

/// What is sent, as the command line has it.
#[derive(Args, Debug)]
pub(crate) struct Content {
    /// What to send: text, @FILE for a file's content, or - for standard input [default: nothing].
    #[arg(value_name = "DATA | @FILE | -")]
    data: Option<OsString>,
    /// Header to send along; may be given several times.
    #[arg(short = 'H', long = "header", value_name = "NAME:VALUE", value_parser = header)]
    headers: Vec<(String, String)>,
}

impl Content {
    /// The payload.
    pub(crate) async fn read(&self) -> Result<Bytes, Failure> {
        read(self.data.as_deref()).await
    }

    /// As it was given.
    pub(crate) fn data(&self) -> Option<&OsString> {
        self.data.as_ref()
    }

    pub(crate) fn headers(&self) -> &[(String, String)] {
        &self.headers
    }
}

fn header(text: &str) -> Result<(String, String), String> {
    match text.split_once(':') {
        Some((name, value)) => Ok((name.trim().to_owned(), value.trim().to_owned())),
        None => Err("a header is NAME:VALUE".to_owned()),
    }
}

/// Reads what `DATA | @FILE | -` means.
pub(crate) async fn read(data: Option<&OsStr>) -> Result<Bytes, Failure> {
    match data.map(OsStrExt::as_bytes) {
        None => Ok(Bytes::new()),
        Some(b"-") => read_all(tokio::io::stdin(), "standard input").await,
        Some([b'@', path @ ..]) => {
            let path = Path::new(OsStr::from_bytes(path));
            let name = path.display().to_string();
            let file = File::open(path).await.map_err(|error| unreadable(&name, error))?;
            read_all(file, &name).await
        }
        Some(text) => Ok(Bytes::copy_from_slice(text)),
    }
}

async fn read_all(from: impl AsyncRead + Unpin, name: &str) -> Result<Bytes, Failure> {
    let mut body = Vec::new();
    let read = from.take(MAX + 1).read_to_end(&mut body).await;
    read.map_err(|error| unreadable(name, error))?;
    if body.len() as u64 > MAX {
        return Err(Failure::usage(format!(
            "{name} has more than 64MiB, which no NATS server takes as one message"
        )));
    }
    Ok(body.into())
}

pub(crate) fn unreadable(name: &str, error: std::io::Error) -> Failure {
    let error = anyhow::Error::new(error).context(format!("cannot read {name}"));
    Failure::new(Exit::Usage, error)
}
