//! `natstream object put` and `get`: bytes on their way, and how far they are.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use natstream::eventbus::object::{ObjectError, ObjectInfo, ObjectReader};
use natstream::{Connection, Objects};
use serde_json::json;
use tokio::fs::{self, File};
use tokio::io::AsyncWriteExt as _;

use super::open;
use crate::console::{self, Console};
use crate::content::unreadable;
use crate::exit::{Exit, Failure};
use crate::interrupt::Interrupts;
use crate::{clock, output, session, size};

/// How long a put that was told to end waits until its chunks are removed.
const REMOVAL: Duration = Duration::from_secs(5);

/// Put an object in place of what has its name.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  natstream object put releases app-1.0.tar @app-1.0.tar\n  tar c . | natstream object put backups today -"
)]
pub(super) struct PutArgs {
    /// The bucket.
    bucket: String,
    /// The object.
    name: String,
    /// Its bytes: text, @FILE for a file's content, or - for standard input.
    #[arg(value_name = "DATA | @FILE | -")]
    data: OsString,
    /// Bytes of a chunk.
    #[arg(long, value_name = "SIZE", default_value = "128KiB", value_parser = size::parse_positive)]
    chunk_size: u64,
    /// Something for people to read.
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
}

/// Write an object to a file, or to standard output.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  natstream object get releases app-1.0.tar app.tar\n  natstream object get backups today | tar x"
)]
pub(super) struct GetArgs {
    /// The bucket.
    bucket: String,
    /// The object.
    name: String,
    /// The file, which is there only when all of the object is in it; - for standard output, which may have a part of it when
    /// the command fails.
    #[arg(value_name = "FILE | -", default_value = "-")]
    file: PathBuf,
}

pub(super) async fn put(
    connection: &Connection,
    args: PutArgs,
    console: Console,
    interrupts: &mut Interrupts,
) -> Result<String, Failure> {
    let objects = tokio::select! {
        objects = open(connection, &args.bucket) => objects?,
        signal = interrupts.next() => return Err(session::interrupted(signal)),
    };
    let told = tokio::select! {
        put = upload(&objects, args, console) => return put,
        signal = interrupts.next() => signal,
    };
    tokio::select! {
        // In time or not: the connection is closed then.
        _ = tokio::time::timeout(REMOVAL, objects.removed()) => {}
        signal = interrupts.next() => tracing::debug!(signal, "chunks may be left behind"),
    }
    Err(session::interrupted(told))
}

async fn upload(objects: &Objects, args: PutArgs, console: Console) -> Result<String, Failure> {
    let began = clock::now();
    let chunk_size = usize::try_from(args.chunk_size).unwrap_or(usize::MAX);
    let bar = |len| Bar::new(console, len);
    let put = objects.put(&args.name).chunk_size(chunk_size);
    let put = match args.description {
        Some(text) => put.description(text),
        None => put,
    };
    let info = match args.data.as_bytes() {
        b"-" => {
            let bar = bar(None);
            put.on_progress(bar.position()).read(tokio::io::stdin()).await
        }
        [b'@', path @ ..] => {
            let path = Path::new(std::ffi::OsStr::from_bytes(path));
            let name = path.display().to_string();
            let file = File::open(path).await.map_err(|error| unreadable(&name, error))?;
            let len = file.metadata().await.map_err(|error| unreadable(&name, error))?.len();
            let bar = bar(Some(len));
            put.on_progress(bar.position()).read(file).await
        }
        text => {
            let bar = bar(Some(text.len() as u64));
            put.on_progress(bar.position()).read(text).await
        }
    }?;
    summarize(console, "put", &info, began);
    Ok(String::new())
}

pub(super) async fn get(connection: &Connection, args: GetArgs, console: Console) -> Result<String, Failure> {
    let objects = open(connection, &args.bucket).await?;
    let began = clock::now();
    let mut reader = objects.get(&args.name).await?;
    let info = reader.info().clone();
    let bar = Bar::new(console, Some(info.size));
    if args.file.as_os_str() == "-" {
        let mut stdout = tokio::io::stdout();
        let copied = copy(&mut reader, &mut stdout, &bar).await;
        let copied = match copied {
            Ok(()) => stdout.flush().await.map_err(Stopped::Writing),
            failed => failed,
        };
        match copied {
            Ok(()) => {}
            Err(Stopped::Reading(error)) => return Err(error.into()),
            Err(Stopped::Writing(error)) => match output::failure(error) {
                Some(failure) => return Err(failure),
                None => return Ok(String::new()),
            },
        }
    } else {
        write_file(&mut reader, &args.file, &bar).await?;
    }
    drop(bar);
    summarize(console, "got", &info, began);
    Ok(String::new())
}

/// Why a copy is not whole.
enum Stopped {
    Reading(ObjectError),
    Writing(io::Error),
}

async fn copy(
    reader: &mut ObjectReader,
    to: &mut (impl tokio::io::AsyncWrite + Unpin),
    bar: &Bar,
) -> Result<(), Stopped> {
    while let Some(chunk) = reader.chunk().await.map_err(Stopped::Reading)? {
        to.write_all(&chunk).await.map_err(Stopped::Writing)?;
        bar.advance(chunk.len() as u64);
    }
    Ok(())
}

/// Writes beside the file, and puts it in place when it is whole.
async fn write_file(reader: &mut ObjectReader, path: &Path, bar: &Bar) -> Result<(), Failure> {
    let unwritable = |error| {
        let error = anyhow::Error::new(error).context(format!("cannot write {}", path.display()));
        Failure::new(Exit::Lost, error)
    };
    let mut part = path.as_os_str().to_owned();
    part.push(".part");
    let part = Part(PathBuf::from(part));
    let mut file = File::create(&part.0).await.map_err(unwritable)?;
    match copy(reader, &mut file, bar).await {
        Ok(()) => {}
        Err(Stopped::Reading(error)) => return Err(error.into()),
        Err(Stopped::Writing(error)) => return Err(unwritable(error)),
    }
    file.sync_all().await.map_err(unwritable)?;
    fs::rename(&part.0, path).await.map_err(unwritable)
}

/// A file that is gone unless it was put in its place.
struct Part(PathBuf);

impl Drop for Part {
    fn drop(&mut self) {
        // It is not there when all went well.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// A bar on a terminal, and nothing elsewhere.
struct Bar(ProgressBar);

impl Bar {
    fn new(console: Console, len: Option<u64>) -> Self {
        if !console.is_chatty() || !console::is_terminal() {
            return Self(ProgressBar::hidden());
        }
        let colour = if console::has_colours() { ".green" } else { "" };
        let template = match len {
            Some(_) => format!(
                "{{bar:40{colour}}} {{percent:>3}} % {{bytes}} of {{total_bytes}}, {{binary_bytes_per_sec}}, {{eta}} left"
            ),
            None => "{spinner} {bytes}, {binary_bytes_per_sec}".to_owned(),
        };
        let bar = match len {
            Some(len) => ProgressBar::new(len),
            None => ProgressBar::new_spinner(),
        };
        // The templates are right, as a test shows; the plain bar would do.
        match ProgressStyle::with_template(&template) {
            Ok(style) => bar.set_style(style),
            Err(error) => tracing::debug!(%error, "a bar without its form"),
        }
        Self(bar)
    }

    fn position(&self) -> impl FnMut(u64) + Send + 'static {
        let bar = self.0.clone();
        move |bytes| bar.set_position(bytes)
    }

    fn advance(&self, bytes: u64) {
        self.0.inc(bytes);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

fn summarize(console: Console, what: &str, info: &ObjectInfo, began: std::time::Instant) {
    let seconds = began.elapsed().as_secs_f64();
    let rate = info.size as f64 / seconds.max(1e-9);
    console.summary(
        || {
            format!(
                "{what} {} in {} chunks, {seconds:.2} s, {}/s",
                size::display(info.size as f64),
                info.chunks,
                size::display(rate)
            )
        },
        || {
            json!({
                "name": info.name, "bytes": info.size, "chunks": info.chunks, "digest": info.digest,
                "seconds": seconds, "bytes_per_second": rate,
            })
        },
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_hidden_where_nobody_sees_it() {
        assert!(Bar::new(Console::new(true, false), Some(1)).0.is_hidden());
        assert!(Bar::new(Console::new(false, true), Some(1)).0.is_hidden());
    }
}
