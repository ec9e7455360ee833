//! Features that nobody can know of.

use super::{Finding, Source, manifest::entries};

/// Every feature of a crate that others get is in its documentation or in its README.
pub(super) fn check(sources: &[Source]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for manifest in sources {
        let Some(dir) = manifest
            .path
            .strip_suffix("/Cargo.toml")
            .filter(|dir| dir.starts_with("crates/"))
        else {
            continue;
        };
        let entries = entries(manifest);
        if entries
            .iter()
            .any(|entry| entry.key == "publish" && entry.value == "false")
        {
            continue;
        }
        let pages = [format!("{dir}/README.md"), format!("{dir}/src/lib.rs")];
        let pages: Vec<&Source> = sources.iter().filter(|source| pages.contains(&source.path)).collect();
        let features = entries
            .iter()
            .filter(|entry| entry.section == "features" && entry.key != "default");
        for feature in features {
            let name = format!("`{}`", feature.key);
            if !pages.iter().any(|page| page.text.contains(&name)) {
                findings.push(manifest.finding(
                    feature.line,
                    format!("the feature {name} is neither in {dir}/src/lib.rs nor in {dir}/README.md"),
                ));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::tests::source;

    #[test]
    fn features_without_a_word_are_found() {
        let manifest = "[package]\nname = \"x\"\n\n[features]\ndefault = [\"a\"]\na = []\nb = []\nc = []\n";
        let sources = [
            source("crates/x/Cargo.toml", manifest),
            source("crates/x/README.md", "| `a` | on |\n"),
            source("crates/x/src/lib.rs", "//! - `b`: more\n"),
            source("crates/y/src/lib.rs", "//! - `c`: elsewhere\n"),
        ];
        let lines: Vec<_> = check(&sources).into_iter().map(|finding| finding.line).collect();
        assert_eq!(lines, [8]);
        let unpublished = manifest.replace("[features]", "publish = false\n[features]");
        assert!(check(&[source("crates/x/Cargo.toml", &unpublished)]).is_empty());
    }
}
