//! Runs the program, and waits for what it does.

use rustix::process::Signal;
pub(crate) use testkit::program::{LIMIT, Run, Serving, end, finish, is_gone, natstream, run, signal, until};
use testkit::within;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::process::{Child, ChildStderr};

/// A command that runs until it is told to end, and has said that nats-server knows its subscription.
pub(crate) struct Listening {
    pub(crate) child: Child,
    stderr: BufReader<ChildStderr>,
}

impl Listening {
    pub(crate) async fn start(args: &[&str], says: &str) -> Self {
        let mut child = natstream(args).spawn().unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut said = String::new();
        while !said.lines().any(|line| line.starts_with(says)) {
            let read = within(LIMIT, stderr.read_line(&mut said)).await.unwrap();
            assert_ne!(read, 0, "it has ended: {said}");
        }
        Self { child, stderr }
    }

    pub(crate) async fn end(mut self) -> Run {
        let mut stderr = String::new();
        let (run, _) = tokio::join!(end(self.child), self.stderr.read_to_string(&mut stderr));
        Run { stderr, ..run }
    }

    pub(crate) async fn stop(self) -> Run {
        signal(&self.child, Signal::TERM);
        self.end().await
    }
}
