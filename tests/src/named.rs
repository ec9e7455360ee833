//! That the tests are there which `docs/guarantees.md` names for publishing.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

/// The functions of a suite, which is a file or a folder.
fn functions(suites: &Path, suite: &str) -> HashSet<String> {
    let folder = suites.join(suite);
    let files = match fs::read_dir(&folder) {
        Ok(entries) => entries.map(|entry| entry.expect("an entry").path()).collect(),
        Err(_) => vec![folder.with_extension("rs")],
    };
    let mut names = HashSet::new();
    for file in files {
        let text = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        // A macro makes tests of the words that it is given.
        let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        names.extend(text.split(|c| !is_word(c)).map(str::to_owned));
    }
    names
}

#[test]
fn the_tests_of_the_publishing_modes_are_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let text = fs::read_to_string(root.join("docs/guarantees.md")).expect("the page");
    let (_, section) = text.split_once("## Publishing to JetStream").expect("the section");
    let (section, _) = section.split_once("\n## ").expect("another one behind it");
    let named = section.split('`').filter_map(|code| code.split_once("::"));
    let named: Vec<(&str, &str)> = named.filter(|(suite, _)| suite.starts_with("bus")).collect();
    assert!(named.len() > 50, "{} are named", named.len());
    for (suite, test) in named {
        let there = functions(&root.join("tests/suites"), suite);
        assert!(there.contains(test), "there is no `{suite}::{test}`");
    }
}
