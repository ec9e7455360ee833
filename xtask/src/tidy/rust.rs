//! Rules for Rust files that clippy has not, or not everywhere.

use super::{Finding, Source};

/// In pieces, since this file is checked too.
const LEFTOVERS: &[&str] = &[
    concat!("to", "do!("),
    concat!("unimple", "mented!("),
    concat!("db", "g!("),
];
const IGNORED: &[&str] = &[concat!("#[ig", "nore]"), concat!(", ig", "nore)]")];

/// What was left in while writing. Clippy reports two of these, but not below `cfg`s that are off.
pub(super) fn check_leftovers(sources: &[Source]) -> Vec<Finding> {
    find(sources, is_rust, |_, line| {
        let leftover = LEFTOVERS.iter().find(|leftover| has_word(line, leftover))?;
        Some(format!("`{leftover}…)` is for while you write; finish or remove it"))
    })
}

/// Tests that do not run, without a word why.
pub(super) fn check_ignored_tests(sources: &[Source]) -> Vec<Finding> {
    find(sources, is_rust, |_, line| {
        IGNORED.iter().find(|ignored| line.contains(**ignored))?;
        Some("an ignored test without a reason; write `ignore = \"why, and how to run it\"`".to_owned())
    })
}

/// Tests that wait for time instead of an event.
pub(super) fn check_sleeps(sources: &[Source]) -> Vec<Finding> {
    find(sources, is_test, |previous, line| {
        let code = line.split("// ").next().unwrap_or_default();
        let calls = ["sleep(", "sleep_until("].iter().any(|call| has_word(code, call)) && !code.contains("fn sleep");
        let excused = [previous, line].iter().any(|line| {
            line.split_once("// sleep:")
                .is_some_and(|(_, reason)| !reason.trim().is_empty())
        });
        (calls && !excused).then(|| {
            "a test that sleeps is slow or fails by chance; wait for the event, \
             or say `// sleep: why` on this line or the one before"
                .to_owned()
        })
    })
}

fn is_rust(source: &Source) -> bool {
    source.path.ends_with(".rs")
}

/// Whether the file lies in a directory of tests, or in the package of that name.
fn is_test(source: &Source) -> bool {
    is_rust(source) && source.path.split('/').rev().skip(1).any(|part| part == "tests")
}

/// Shows `rule` each line of the files that are `wanted`, with the line before it.
fn find(sources: &[Source], wanted: fn(&Source) -> bool, rule: impl Fn(&str, &str) -> Option<String>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in sources.iter().filter(|source| wanted(source)) {
        let mut previous = "";
        for (number, line) in source.lines() {
            findings.extend(rule(previous, line).map(|what| source.finding(number, what)));
            previous = line;
        }
    }
    findings
}

/// Whether `word` occurs, and not as the end of a longer name.
fn has_word(line: &str, word: &str) -> bool {
    line.match_indices(word)
        .any(|(at, _)| !line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::tests::lines;

    #[test]
    fn leftovers_are_found() {
        for leftover in LEFTOVERS {
            let text = format!("fn a() {{\n    {leftover})\n}}\nfn b() {{ my_{leftover}) }}\n");
            assert_eq!(lines(check_leftovers, "src/a.rs", &text), [2], "{leftover}");
            assert!(lines(check_leftovers, "a.md", &text).is_empty());
        }
    }

    #[test]
    fn ignored_tests_need_a_reason() {
        let text = format!(
            "{}\nfn a() {{}}\n#[ignore = \"soak\"]\n#[cfg_attr(x{}\n",
            IGNORED[0], IGNORED[1]
        );
        assert_eq!(lines(check_ignored_tests, "src/a.rs", &text), [1, 4]);
    }

    #[test]
    fn sleeping_tests_need_a_reason() {
        let text = "\
            thread::sleep(d);\n\
            tokio::time::sleep(d).await;\n\
            sleep_until(t).await;\n\
            // sleep: the interval of the poll.\n\
            sleep(d);\n\
            sleep(d); // sleep: nothing tells us.\n\
            // sleep:\n\
            sleep(d);\n\
            asleep(d); // sleep(d)\n";
        for path in ["tests/suites/a.rs", "crates/x/tests/a.rs", "crates/x/src/tests/mod.rs"] {
            assert_eq!(lines(check_sleeps, path, text), [1, 2, 3, 8], "{path}");
        }
        assert!(lines(check_sleeps, "crates/x/src/tests.rs", text).is_empty());
    }
}
