//! The body of a request, from the command line, a file or standard input.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use bytes::Bytes;
use tokio::fs::File;
use tokio::io::{AsyncRead, AsyncReadExt as _};

use crate::exit::{Exit, Failure};

/// Larger ones fit no server: nats-server allows for a `max_payload` of 64 MiB at most.
const MAX: u64 = 64 << 20;

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
            "{name} has more than 64MiB, which no NATS server takes as one request"
        )));
    }
    Ok(body.into())
}

fn unreadable(name: &str, error: std::io::Error) -> Failure {
    let error = anyhow::Error::new(error).context(format!("cannot read {name}"));
    Failure::new(Exit::Usage, error)
}
