//! The size of files.

use super::{Finding, Source};

const MOST_LINES: usize = 600;

/// Kinds of files that people write. Data and lock files may be long.
const KINDS: &[&str] = &["cjs", "md", "py", "rs", "sh", "toml", "yaml", "yml"];

/// Files that may be longer, each with the reason.
const EXCEPTIONS: &[(&str, &str)] = &[("docs/protocol.md", "an implementer needs nothing but this page")];

pub(super) fn check(sources: &[Source]) -> Vec<Finding> {
    check_except(EXCEPTIONS, sources)
}

fn check_except(exceptions: &[(&str, &str)], sources: &[Source]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in sources {
        let kind = source.name().rsplit_once('.').map_or("", |(_, kind)| kind);
        let excepted = exceptions.iter().any(|(path, _)| *path == source.path);
        let count = source.text.lines().count();
        if KINDS.contains(&kind) && count > MOST_LINES && !excepted {
            findings.push(source.finding(
                MOST_LINES + 1,
                format!(
                    "{count} lines, more than {MOST_LINES}; split the file by responsibility, \
                     or add it with the reason to EXCEPTIONS in xtask/src/tidy/size.rs"
                ),
            ));
        } else if excepted && count <= MOST_LINES {
            findings.push(source.finding(
                1,
                "short enough again; remove it from EXCEPTIONS in xtask/src/tidy/size.rs",
            ));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::tests::{lines, source};

    #[test]
    fn long_files_are_found() {
        let long = "line\n".repeat(601);
        assert_eq!(lines(check, "src/lib.rs", &long), [601]);
        assert!(lines(check, "src/lib.rs", &long[5..]).is_empty());
        assert!(lines(check, "vectors.json", &long).is_empty());
    }

    #[test]
    fn exceptions_hold_only_while_they_are_needed() {
        let exceptions = [("src/lib.rs", "one table")];
        let long = source("src/lib.rs", &"line\n".repeat(601));
        assert!(check_except(&exceptions, &[long]).is_empty());
        let short = source("src/lib.rs", "line\n");
        assert_eq!(check_except(&exceptions, &[short]).len(), 1);
    }
}
