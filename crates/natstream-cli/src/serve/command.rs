//! Answers from a command: a process for each request, an item for each line that it prints.

use std::ffi::{OsStr, OsString};
use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use bytes::Bytes;
use natstream::{Code, Handler, HandlerError, Request, ResponseSender};
use tokio::io::AsyncWriteExt as _;
use tokio::process::ChildStdin;

use super::last_line::LastLine;
use super::lines::{Lines, send_all};
use crate::children::{Children, Pipes, Process, is_program};
use crate::exit::Failure;

/// Longest body that is put into the environment, where Linux has room for 128 KiB in one variable.
const MAX_VARIABLE: usize = 64 * 1024;

/// What a process wrote to standard error before its end is in the pipe; what its children hold open is not waited for.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// Answers with what a command prints.
#[derive(Debug)]
pub(crate) struct Command {
    program: OsString,
    args: Vec<OsString>,
    children: Children,
}

impl Command {
    /// Checks that the program exists: who finds out with the first request has no terminal to say so.
    pub(crate) fn new(program: &OsStr, args: &[OsString], children: &Children) -> Result<Self, Failure> {
        if !is_program(program) {
            return Err(Failure::usage(format!("{} is not a program", program.display()))
                .with_hint("a command of several words stands behind `--` as `sh -c '…'`"));
        }
        Ok(Self {
            program: program.to_owned(),
            args: args.to_vec(),
            children: children.clone(),
        })
    }

    fn spawn(&self, request: &Request) -> io::Result<(Process, Pipes)> {
        let mut command = tokio::process::Command::new(&self.program);
        command
            .args(&self.args)
            .env("NATS_REQUEST_SUBJECT", request.subject())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        match variable(request.payload()) {
            Some(body) => command.env("NATS_REQUEST_BODY", body),
            None => command.env_remove("NATS_REQUEST_BODY"),
        };
        self.children.spawn(&mut command)
    }
}

impl Handler for Command {
    async fn handle(&self, request: Request, mut out: ResponseSender) -> Result<(), HandlerError> {
        let (mut process, pipes) = self.spawn(&request).map_err(|error| {
            tracing::warn!(program = %self.program.display(), %error, "a process cannot be started");
            HandlerError::unavailable(format!("{} cannot be started: {error}", self.program.display()))
        })?;
        let closed = out.closed();
        let mut errors = LastLine::new(pipes.stderr);
        let answer = async {
            // First the output: as long as it is not over, the number of the process group stays taken.
            let mut lines = Lines::new(pipes.stdout, out.max_item());
            send_all(&mut lines, &mut out).await?;
            process.wait().await.map_err(HandlerError::internal)
        };
        let outcome = tokio::select! {
            biased;
            reason = closed => {
                tracing::debug!(subject = request.subject(), ?reason, "the call is over; its process is killed");
                Err(HandlerError::new(Code::Cancelled, "the call is over"))
            }
            outcome = answer => outcome,
            () = alongside(feed(pipes.stdin, request.payload().clone()), errors.read()) => {
                Err(HandlerError::internal("the process was abandoned"))
            }
        };
        match outcome {
            Ok(status) if status.success() => Ok(()),
            Ok(_) if self.children.were_killed() => Err(HandlerError::unavailable("the server was shut down")),
            Ok(status) => {
                let _ = tokio::time::timeout(LAST_WORDS, errors.read()).await;
                Err(failed(&self.program, status, errors.take()))
            }
            Err(error) => {
                process.kill().await;
                Err(error)
            }
        }
    }
}

/// Both, and never an end: only the answer ends.
async fn alongside(feed: impl Future<Output = ()>, read: impl Future<Output = ()>) {
    tokio::join!(feed, read);
    std::future::pending().await
}

/// Writes the body to the process. One that does not read it to the end is right, too.
async fn feed(mut stdin: ChildStdin, body: Bytes) {
    if let Err(error) = stdin.write_all(&body).await {
        tracing::debug!(%error, "a process did not take the whole request");
    }
}

fn failed(program: &OsStr, status: ExitStatus, last_line: Option<String>) -> HandlerError {
    let message = last_line.unwrap_or_else(|| format!("{} ended with {status}", program.display()));
    HandlerError::new(Code::Unknown, message).with_details(status.to_string())
}

/// The body as the value of a variable, if it can be one.
fn variable(body: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(body).ok()?;
    (body.len() <= MAX_VARIABLE && !body.contains(&0)).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_that_can_be_variables() {
        assert_eq!(variable("比特".as_bytes()), Some("比特"));
        assert_eq!(variable(b""), Some(""));
        assert!(variable(b"a\0b").is_none());
        assert!(variable(b"\xff").is_none());
        assert!(variable(&[b'a'; MAX_VARIABLE]).is_some());
        assert!(variable(&[b'a'; MAX_VARIABLE + 1]).is_none());
    }
}
