//! A handler that fails midway: the caller gets what came before, and the reason.

use anyhow::{Context as _, ensure};
use natstream::{Code, HandlerError, Pool, Request, RequestErrorKind, ResponseSender, ServeError, Server};

use super::Summary;

const SUBJECT: &str = "demo.failing";

pub(super) async fn serve(server: &Server) -> Result<(), ServeError> {
    server.on(SUBJECT, fail).await?;
    Ok(())
}

async fn fail(_request: Request, mut out: ResponseSender) -> Result<(), HandlerError> {
    for page in 1..=3 {
        out.send(format!("page {page}")).await?;
    }
    Err(HandlerError::new(Code::DataLoss, "page 4 cannot be read"))
}

pub(super) async fn call(pool: &Pool) -> anyhow::Result<Summary> {
    println!("failing handler: three pages, then an error");
    let mut pages = pool.request_stream(SUBJECT, "").await?;
    let mut bytes = 0;
    let error = loop {
        match pages.try_next().await {
            Ok(Some(page)) => {
                bytes += page.len() as u64;
                println!("  {}", String::from_utf8_lossy(&page));
            }
            Ok(None) => anyhow::bail!("a failed answer looked complete"),
            Err(error) => break error,
        }
    };
    println!("  verdict: {error}");
    ensure!(error.kind() == RequestErrorKind::Failed, "an unexpected verdict");
    let status = error.status().context("the handler's words")?;
    Ok(Summary {
        items: pages.received(),
        bytes,
        verdict: format!("failed with {}, as meant", status.code),
    })
}
