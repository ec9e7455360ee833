//! A peer: a script of `tests/interop` in a process of its own, which talks to the test in lines of JSON.

use std::path::Path;
use std::process::Stdio;

use integration::LIMIT;
use serde_json::Value;
use testkit::program::{Signal, signal};
use testkit::{peers_node_modules, peers_python, shared_url, within};
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

/// What a peer is written in, and with whose client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Language {
    /// nats.js, in node.
    JavaScript,
    /// nats-py.
    Python,
}

pub(crate) const LANGUAGES: [Language; 2] = [Language::JavaScript, Language::Python];

/// A running script; dropping it kills it.
pub(crate) struct Peer {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Language {
    fn command(self, script: &str) -> Command {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("interop");
        let mut command;
        match self {
            Self::JavaScript => {
                command = Command::new("node");
                command
                    .env("NODE_PATH", peers_node_modules())
                    .arg(directory.join("js").join(format!("{script}.cjs")));
            }
            Self::Python => {
                command = python();
                command.arg(directory.join("peers").join(format!("{script}.py")));
            }
        }
        command
    }
}

/// The Python that has nats-py.
pub(crate) fn python() -> Command {
    let mut command = Command::new(peers_python());
    // Nothing of it into the source tree.
    command.env("PYTHONDONTWRITEBYTECODE", "1").stdin(Stdio::null());
    command
}

impl Peer {
    /// Starts a script on the shared server.
    pub(crate) fn start(language: Language, script: &str, args: &[&str]) -> Self {
        Self::spawn(
            language
                .command(script)
                .arg(shared_url())
                .args(args)
                .stdin(Stdio::null()),
        )
    }

    /// Starts another program that talks so.
    pub(crate) fn spawn(command: &mut Command) -> Self {
        let mut child = command
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?} cannot be run: {error}"));
        let stdout = child.stdout.take().expect("standard output is a pipe");
        Self {
            child,
            lines: BufReader::new(stdout).lines(),
        }
    }

    /// Asks it to end.
    pub(crate) fn terminate(&self) {
        signal(&self.child, Signal::TERM);
    }

    /// A script that answers, once it can be reached.
    pub(crate) async fn ready(language: Language, script: &str, args: &[&str]) -> Self {
        let mut peer = Self::start(language, script, args);
        assert_eq!(peer.says().await["ready"], true);
        peer
    }

    /// A plain responder that answers each request with `steps`; see `responder.py`.
    pub(crate) async fn responder(language: Language, subject: &str, steps: &Value) -> Self {
        Self::ready(language, "responder", &[subject, &steps.to_string()]).await
    }

    /// The next that it says.
    ///
    /// # Panics
    /// When it ends instead.
    pub(crate) async fn says(&mut self) -> Value {
        let line = within(LIMIT, self.lines.next_line())
            .await
            .expect("the peer can be read");
        let line = line.expect("the peer says more; see its errors above");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("`{line}` is no JSON: {error}"))
    }

    /// The messages that a caller gets, to the end.
    pub(crate) async fn messages(mut self) -> Vec<Received> {
        let mut messages = Vec::new();
        loop {
            let said = self.says().await;
            if said["ended"] == true {
                return messages;
            }
            messages.push(Received(said));
        }
    }
}

/// A message as a peer has received it.
#[derive(Debug)]
pub(crate) struct Received(Value);

impl Received {
    pub(crate) fn data(&self) -> &str {
        self.0["data"].as_str().expect("a message has data")
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.0["headers"][name].as_str()
    }

    pub(crate) fn has_headers(&self) -> bool {
        self.0["headers"].as_object().is_some_and(|headers| !headers.is_empty())
    }
}

/// The payloads of messages that have nothing else.
#[track_caller]
pub(crate) fn bare(messages: &[Received]) -> Vec<&str> {
    assert!(!messages.iter().any(Received::has_headers), "{messages:?}");
    messages.iter().map(Received::data).collect()
}
