//! Who somebody is, and what the program makes of it.

use std::ffi::OsString;
use std::path::Path;

use testkit::program::{Run, Serving, finish, natstream};
use testkit::unique_subject;
use tokio::process::Command;

/// The exit code of refused credentials.
pub(crate) const REFUSED: i32 = 7;

/// The exit code where there is no connection, or none that can be trusted.
pub(crate) const NO_CONNECTION: i32 = 6;

/// The exit code of what cannot be read or understood.
pub(crate) const USAGE: i32 = 2;

/// Everything that is told to the program about a server and its user.
#[derive(Clone)]
pub(crate) struct Identity {
    settings: Vec<Setting>,
    secrets: Vec<String>,
}

#[derive(Clone)]
struct Setting {
    option: &'static str,
    variable: &'static str,
    value: OsString,
}

/// Where settings stand.
#[derive(Clone, Copy, Debug)]
enum Given {
    Environment,
    Options,
}

impl Identity {
    /// Nobody, at this server.
    pub(crate) fn at(url: impl AsRef<str>) -> Self {
        let nobody = Self {
            settings: Vec::new(),
            secrets: Vec::new(),
        };
        nobody.with("--server", "NATS_URL", url.as_ref())
    }

    /// With a setting, by the names of its option and its variable.
    pub(crate) fn with(mut self, option: &'static str, variable: &'static str, value: impl Into<OsString>) -> Self {
        self.settings.push(Setting {
            option,
            variable,
            value: value.into(),
        });
        self
    }

    /// With a text that nobody may read.
    pub(crate) fn secret(mut self, text: impl Into<String>) -> Self {
        self.secrets.push(text.into());
        self
    }

    /// With the lines of a file that nobody may read.
    pub(crate) fn secret_file(self, file: &Path) -> Self {
        let text = std::fs::read_to_string(file).expect("the file can be read");
        let lines = text
            .lines()
            .filter(|line| line.len() > 20 && !line.starts_with("-----"));
        lines.fold(self, |identity, line| identity.secret(line))
    }

    /// The program, which says everything that it would ever say.
    fn command(&self, given: Given, args: &[&str]) -> Command {
        let mut command = natstream(args);
        command.arg("-vvv");
        for Setting {
            option,
            variable,
            value,
        } in &self.settings
        {
            match given {
                Given::Environment => command.env(variable, value),
                Given::Options => command.arg(option).arg(value),
            };
        }
        command
    }

    /// Runs the program, and checks what it says.
    async fn run(&self, given: Given, args: &[&str]) -> Run {
        let run = finish(&mut self.command(given, args)).await;
        self.without_logs(run)
    }

    /// Checks that no secret was said, and leaves out the logs, which make no failing test any clearer.
    #[track_caller]
    fn without_logs(&self, run: Run) -> Run {
        let stdout = String::from_utf8_lossy(&run.stdout);
        for secret in &self.secrets {
            assert!(
                !run.stderr.contains(secret) && !stdout.contains(secret),
                "`{secret}` is in {:?}",
                run.stderr
                    .lines()
                    .filter(|line| line.contains(secret))
                    .collect::<Vec<_>>()
            );
        }
        let is_log = |line: &&str| {
            [" TRACE ", " DEBUG ", " INFO ", " WARN ", " ERROR "]
                .iter()
                .any(|level| line.contains(level))
        };
        let said: Vec<_> = run.stderr.lines().filter(|line| !is_log(line)).collect();
        Run {
            stderr: said.join("\n"),
            ..run
        }
    }
}

/// Checks that `identity` can serve and call.
pub(crate) async fn accepted(identity: &Identity) {
    for (serve, call) in [
        (Given::Environment, Given::Options),
        (Given::Options, Given::Environment),
    ] {
        let subject = unique_subject("auth");
        let serving = Serving::spawn(&mut identity.command(serve, &["serve", &subject, "--count", "3"])).await;
        let call = identity.run(call, &["call", &subject]).await.exits_with(0);
        assert_eq!(call.lines(), ["0", "1", "2"]);
        let serve = serving.stop().await;
        // Where little is said, little is found.
        assert!(serve.stderr.contains(" DEBUG async_nats"), "{serve:?}");
        identity.without_logs(serve).exits_with(0);
    }
}

/// Checks that `identity` can do nothing, with this exit code and with what people are told.
pub(crate) async fn rejected(identity: &Identity, code: i32, words: &str) {
    let subject = unique_subject("auth");
    for given in [Given::Environment, Given::Options] {
        for args in [&["call", &subject][..], &["serve", &subject, "--count", "3"]] {
            let run = identity.run(given, args).await.exits_with(code);
            assert!(run.stdout.is_empty(), "{run:?}");
            assert_eq!(run.stderr.matches("error: ").count(), 1, "{run:?}");
            assert!(run.stderr.contains(words), "`{words}` is not in {run:?}");
        }
    }
}
