//! `natstream serve SUBJECT --lines FILE`.

use std::fs;
use std::io::Write as _;

use testkit::{unique_subject, within};
use tokio::io::{AsyncBufReadExt as _, BufReader};

use crate::support::{LIMIT, Serving, end, natstream, run};

#[tokio::test]
async fn the_lines_of_a_file_are_items() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("lines");
    fs::write(&file, "one\n\nthree\nlast").unwrap();
    let subject = unique_subject("cli.file");
    let _serving = Serving::start(&subject, ["--lines", file.to_str().unwrap()]).await;
    assert_eq!(
        run(["call", &subject]).await.exits_with(0).lines(),
        ["one", "", "three", "last"]
    );

    fs::write(&file, "").unwrap();
    assert!(run(["call", &subject]).await.exits_with(0).stdout.is_empty());

    fs::remove_file(&file).unwrap();
    let call = run(["call", &subject, "--json"]).await.exits_with(1);
    assert_eq!(call.summary()["code"], "NOT_FOUND");
}

#[tokio::test]
async fn a_file_that_is_not_there_is_noticed_at_once() {
    for path in ["/no/such/file", "/"] {
        let serve = run(["serve", &unique_subject("cli.file"), "--lines", path])
            .await
            .exits_with(2);
        assert!(
            serve.stderr.starts_with(&format!("error: cannot read {path}\n")),
            "{serve:?}"
        );
    }
}

#[tokio::test]
async fn a_followed_file_may_grow_shrink_and_be_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("log");
    fs::write(&file, "before\n").unwrap();
    let subject = unique_subject("cli.file");
    let _serving = Serving::start(&subject, ["--lines", file.to_str().unwrap(), "--follow"]).await;
    let mut call = natstream(["call", &subject]).spawn().unwrap();
    let mut lines = BufReader::new(call.stdout.take().unwrap()).lines();
    let mut expect = async |expected: &str| {
        let line = within(LIMIT, lines.next_line()).await.unwrap();
        assert_eq!(line.as_deref(), Some(expected));
    };
    let append = |path, text: &str| {
        let mut file = fs::File::options().append(true).open(path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    };
    expect("before").await;

    append(&file, "added\nhal");
    expect("added").await;
    append(&file, "f\n");
    expect("half").await;

    // Truncated: it begins anew.
    fs::write(&file, "short\n").unwrap();
    expect("short").await;

    // Rotated: what still comes into the old file is read, then the new one from its beginning.
    let old = directory.path().join("log.1");
    fs::rename(&file, &old).unwrap();
    append(&old, "late\nunended");
    fs::write(&file, "new\n").unwrap();
    expect("late").await;
    expect("unended").await;
    expect("new").await;

    // Gone, and back.
    fs::remove_file(&file).unwrap();
    fs::write(&file, "back\n").unwrap();
    expect("back").await;

    drop(lines);
    end(call).await.exits_with(0);
}
