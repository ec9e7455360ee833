//! Search in the files of this repository: the request is a regular expression, each matching line an item.

use std::path::{Path, PathBuf};
use std::time::Instant;

use natstream::{HandlerError, Pool, Request, ResponseSender, ServeError, Server};
use regex::bytes::Regex;

use super::Summary;

const SUBJECT: &str = "demo.search";

/// What the demo looks for: the public functions of this repository.
const PATTERN: &str = r"^\s*pub (async )?fn \w+";

pub(super) async fn serve(server: &Server) -> Result<(), ServeError> {
    server.on(SUBJECT, search).max_concurrent(16).await?;
    Ok(())
}

async fn search(request: Request, mut out: ResponseSender) -> Result<(), HandlerError> {
    let pattern = std::str::from_utf8(request.payload()).map_err(HandlerError::invalid)?;
    let pattern = Regex::new(pattern).map_err(HandlerError::invalid)?;
    let mut folders = vec![PathBuf::from(".")];
    while let Some(folder) = folders.pop() {
        let mut entries = tokio::fs::read_dir(&folder).await.map_err(HandlerError::internal)?;
        while let Some(entry) = entries.next_entry().await.map_err(HandlerError::internal)? {
            let path = entry.path();
            let kind = entry.file_type().await.map_err(HandlerError::internal)?;
            if kind.is_dir() {
                let is_ours = !matches!(entry.file_name().to_str(), Some("target" | ".git"));
                folders.extend(is_ours.then_some(path));
            } else if kind.is_file() {
                search_file(&pattern, &path, &mut out).await?;
            }
        }
    }
    Ok(())
}

/// Sends the matching lines of one file. The files are read while the answer streams.
async fn search_file(pattern: &Regex, path: &Path, out: &mut ResponseSender) -> Result<(), HandlerError> {
    let text = tokio::fs::read(path).await.map_err(HandlerError::internal)?;
    for (number, line) in text.split(|byte| *byte == b'\n').enumerate() {
        if pattern.is_match(line) {
            let line = String::from_utf8_lossy(line);
            out.send(format!("{}:{}: {}", path.display(), number + 1, line.trim()))
                .await?;
        }
    }
    Ok(())
}

pub(super) async fn call(pool: &Pool) -> anyhow::Result<Summary> {
    println!("search: lines that match {PATTERN} in this repository");
    let started = Instant::now();
    let mut lines = pool.request_stream(SUBJECT, PATTERN).await?;
    let mut bytes = 0;
    while let Some(line) = lines.try_next().await? {
        bytes += line.len() as u64;
        if lines.received() == 1 {
            println!("  first item after {:.1?}", started.elapsed());
        }
        if lines.received() <= 3 {
            println!("  {}", String::from_utf8_lossy(&line));
        }
    }
    println!("  … {} lines", lines.received());
    Ok(Summary {
        items: lines.received(),
        bytes,
        verdict: "complete, and the count matches".to_owned(),
    })
}
