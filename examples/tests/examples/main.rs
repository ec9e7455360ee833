//! Runs every example against a real nats-server, and looks for what it has to say.
//!
//! Examples run side by side: none shares a subject, a stream, a bucket or a file with another one.

mod events;
mod files;
mod messages;
mod operations;
mod streams;

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Far more than any example takes on a machine that has much else to do.
const PATIENCE: Duration = Duration::from_secs(120);

/// An example, which `cargo test` has built beside this test, to be run from the root of the workspace.
fn command(example: &str) -> Command {
    let test = std::env::current_exe().expect("the path of this test");
    let profile = test.ancestors().nth(2).expect("target/<profile>/deps/<test>");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let mut command = Command::new(profile.join("examples").join(example));
    command
        .env("NATS_URL", testkit::shared_url())
        .stdin(Stdio::null())
        .current_dir(root);
    command
}

/// What an example has printed.
struct Shown {
    example: String,
    text: String,
}

impl Shown {
    /// Each of these parts is in it, in whatever order.
    #[track_caller]
    fn has(&self, parts: &[&str]) {
        let Self { example, text } = self;
        for part in parts {
            assert!(
                text.contains(part),
                "`{part}` is missing in what {example} has shown:\n{text}"
            );
        }
    }
}

/// Runs an example to its end, which is success and leaves no file behind.
#[track_caller]
fn run(example: &str) -> Shown {
    run_with(example, &[])
}

#[track_caller]
fn run_with(example: &str, env: &[(&str, &str)]) -> Shown {
    let dir = tempfile::tempdir().expect("a directory");
    let (out, err) = (dir.path().join("out"), dir.path().join("err"));
    let temporary = dir.path().join("tmp");
    fs::create_dir(&temporary).expect("a directory for its files");
    let mut child = command(example)
        .envs(env.iter().copied())
        .env("TMPDIR", &temporary)
        .stdout(File::create(&out).expect("a file"))
        .stderr(File::create(&err).expect("a file"))
        .spawn()
        .unwrap_or_else(|error| panic!("the example {example} cannot be run: {error}"));
    let is_success = wait(&mut child);
    let text = fs::read_to_string(&out).expect("it prints text");
    let errors = fs::read_to_string(&err).expect("it prints text");
    assert!(is_success, "{example} has failed:\n{text}\n{errors}");
    let left: Vec<_> = fs::read_dir(&temporary).expect("its directory").collect();
    assert!(left.is_empty(), "{example} leaves files behind: {left:?}");
    Shown {
        example: example.to_owned(),
        text,
    }
}

/// Whether it ends well, and in time.
fn wait(child: &mut Child) -> bool {
    let began = Instant::now();
    loop {
        if let Some(status) = child.try_wait().expect("a child") {
            return status.success();
        }
        if began.elapsed() > PATIENCE {
            child.kill().expect("a child");
            child.wait().expect("a child");
            return false;
        }
        // sleep: the interval of the poll.
        thread::sleep(Duration::from_millis(10));
    }
}

/// The sources of the modules of this test.
const TESTS: [&str; 5] = [
    include_str!("events.rs"),
    include_str!("files.rs"),
    include_str!("messages.rs"),
    include_str!("operations.rs"),
    include_str!("streams.rs"),
];

#[test]
fn every_example_is_tested_and_in_the_table() {
    let (manifest, table) = (include_str!("../../Cargo.toml"), include_str!("../../README.md"));
    let paths = manifest
        .lines()
        .filter_map(|line| line.strip_prefix("path = \"")?.strip_suffix('"'));
    let mut count = 0;
    for path in paths {
        let name = path.trim_end_matches("/main.rs").trim_end_matches(".rs");
        assert!(
            table.contains(&format!("]({path})")),
            "{path} is not in examples/README.md"
        );
        let is_tested = TESTS.iter().any(|test| test.contains(&format!("fn {name}()")));
        assert!(is_tested, "{name} is not tested");
        count += 1;
    }
    assert_eq!(count, manifest.matches("[[example]]").count());
}
