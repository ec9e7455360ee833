//! A process for each message.

use std::ffi::{OsStr, OsString};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use bytes::Bytes;
use natstream::eventbus::{HandlerError, Message};
use tokio::io::AsyncWriteExt as _;
use tokio::process::ChildStdin;

use super::ConsumeArgs;
use super::tail::Tail;
use crate::children::{Children, is_program};
use crate::exit::Failure;
use crate::format;

/// Longest value of a variable: Linux has room for 128 KiB in one.
const MAX_VARIABLE: usize = 64 * 1024;

/// What all headers together may take of the environment, which has room for 2 MiB at least: a message must not be one that no
/// process can be started for.
const MAX_HEADERS: usize = 512 * 1024;

/// Exit code of a message that will never be handled: `EX_DATAERR` of sysexits.h.
const REJECT: i32 = 65;

/// What a process wrote to standard error before its end is in the pipe; what its children hold open is not waited for.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// Hands messages to processes.
#[derive(Debug)]
pub(super) struct Command {
    program: OsString,
    args: Vec<OsString>,
    stream: String,
    consumer: String,
    children: Children,
}

impl Command {
    /// Checks that the program exists.
    pub(super) fn new(
        program: &OsStr,
        rest: &[OsString],
        args: &ConsumeArgs,
        children: &Children,
    ) -> Result<Self, Failure> {
        if !is_program(program) {
            return Err(Failure::usage(format!("{} is not a program", program.display()))
                .with_hint("a command of several words stands behind `--` as `sh -c '…'`"));
        }
        Ok(Self {
            program: program.to_owned(),
            args: rest.to_vec(),
            stream: args.stream.clone(),
            consumer: args.durable.clone(),
            children: children.clone(),
        })
    }

    /// Runs a process. Dropped early, it is killed with all that it has started.
    pub(super) async fn handle(&self, message: &Message) -> Result<(), HandlerError> {
        let mut command = tokio::process::Command::new(&self.program);
        command
            .args(&self.args)
            .stdin(Stdio::piped())
            .stdout(Stdio::inherit())
            .stderr(Stdio::piped());
        self.describe(message, &mut command);
        let (mut process, stdin, stderr) = self.children.spawn_sink(&mut command).map_err(|error| {
            tracing::warn!(program = %self.program.display(), %error, "a process cannot be started");
            HandlerError::retry(format!("{} cannot be started: {error}", self.program.display()))
        })?;
        let mut errors = Tail::new(stderr);
        let status = tokio::select! {
            biased;
            status = process.wait() => status?,
            () = alongside(feed(stdin, message.payload().clone()), errors.read()) => {
                return Err(HandlerError::retry("the process was abandoned"));
            }
        };
        let _ = tokio::time::timeout(LAST_WORDS, errors.read()).await;
        verdict(&self.program, status, &errors.take())
    }

    /// Tells the process what it handles.
    fn describe(&self, message: &Message, command: &mut tokio::process::Command) {
        // Those of a message that this program itself was started for.
        for (name, _) in std::env::vars_os() {
            if name.as_encoded_bytes().starts_with(b"NATSTREAM_HEADER") {
                command.env_remove(name);
            }
        }
        for (name, value) in [
            ("NATSTREAM_SUBJECT", message.subject().to_owned()),
            ("NATSTREAM_STREAM", self.stream.clone()),
            ("NATSTREAM_CONSUMER", self.consumer.clone()),
            ("NATSTREAM_SEQUENCE", message.sequence().to_string()),
            ("NATSTREAM_ATTEMPT", message.attempt().to_string()),
            ("NATSTREAM_STORED", message.stored_at().to_string()),
            ("NATSTREAM_PENDING", message.pending().to_string()),
        ] {
            if can_be_variable(&value) {
                command.env(name, value);
            }
        }
        let Some(headers) = message.headers() else { return };
        let mut left = MAX_HEADERS;
        for (name, values) in headers.iter() {
            let (name, value) = (
                variable_name(name.as_ref()),
                values.first().map_or("", |value| value.as_str()),
            );
            let length = name.len() + value.len();
            if can_be_variable(value) && length <= left {
                left -= length;
                command.env(name, value);
            }
        }
        let all = format::header_values(headers).to_string();
        if can_be_variable(&all) {
            command.env("NATSTREAM_HEADERS", all);
        }
    }
}

fn can_be_variable(value: &str) -> bool {
    value.len() <= MAX_VARIABLE && !value.contains('\0')
}

/// `Order-Id`: `NATSTREAM_HEADER_ORDER_ID`.
fn variable_name(header: &str) -> String {
    let letter = |c: char| {
        if c.is_ascii_alphanumeric() {
            c.to_ascii_uppercase()
        } else {
            '_'
        }
    };
    format!("NATSTREAM_HEADER_{}", header.chars().map(letter).collect::<String>())
}

/// Both, and never an end: only the process ends.
async fn alongside(feed: impl Future<Output = ()>, read: impl Future<Output = ()>) {
    tokio::join!(feed, read);
    std::future::pending().await
}

/// Writes the payload to the process. One that does not read it to the end is right, too.
async fn feed(mut stdin: ChildStdin, payload: Bytes) {
    if let Err(error) = stdin.write_all(&payload).await {
        tracing::debug!(%error, "a process did not take the whole payload");
    }
}

fn verdict(program: &OsStr, status: ExitStatus, words: &str) -> Result<(), HandlerError> {
    if status.success() {
        return Ok(());
    }
    let mut reason = format!("{} ended with {status}", program.display());
    if !words.is_empty() {
        reason.push_str(": ");
        reason.push_str(words);
    }
    match status.code() {
        Some(REJECT) => Err(HandlerError::reject(reason)),
        _ => Err(HandlerError::retry(reason)),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;

    use super::*;

    #[test]
    fn headers_are_variables() {
        assert_eq!(variable_name("Order-Id"), "NATSTREAM_HEADER_ORDER_ID");
        assert_eq!(variable_name("ce-ü=x"), "NATSTREAM_HEADER_CE___X");
        assert!(can_be_variable(""));
        assert!(!can_be_variable("a\0"));
        assert!(!can_be_variable(&"x".repeat(MAX_VARIABLE + 1)));
    }

    #[test]
    fn exit_codes_say_what_becomes_of_a_message() {
        // As wait(2) has them: the code in the second byte, a signal in the first.
        let outcome = |raw| verdict(OsStr::new("x"), ExitStatus::from_raw(raw), "words");
        assert!(outcome(0).is_ok());
        for (raw, is_final) in [(1 << 8, false), (REJECT << 8, true), (9, false)] {
            let error = outcome(raw).expect_err("a failure");
            assert_eq!(error.is_final(), is_final, "{raw}");
            assert!(error.reason().ends_with(": words"), "{error:?}");
        }
    }
}
