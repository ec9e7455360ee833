//! What every manifest of the workspace has in common.

use super::{
    Finding, Source,
    manifest::{entries, is_member},
};

/// What members take from the root: section, key.
const INHERITED: &[(&str, &str)] = &[
    ("package", "version"),
    ("package", "edition"),
    ("package", "rust-version"),
    ("package", "license"),
    ("lints", "workspace"),
];

pub(super) fn check(sources: &[Source]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in sources {
        if is_member(source) {
            findings.extend(not_inherited(source));
        }
        if is_member(source) || source.path == "Cargo.toml" {
            findings.extend(unsorted(source));
        }
    }
    findings
}

fn not_inherited(manifest: &Source) -> Vec<Finding> {
    let entries = entries(manifest);
    let mut findings = Vec::new();
    for (section, key) in INHERITED {
        let own = if *section == "lints" {
            (*key).to_owned()
        } else {
            format!("{key}.workspace")
        };
        let inherits = entries.iter().any(|entry| {
            let short = entry.key == own && entry.value.starts_with("true");
            let long = entry.key == *key && entry.value.replace(' ', "").starts_with("{workspace=true");
            entry.section == *section && (short || long)
        });
        if !inherits {
            // Where it stands with a value of its own, or else the top.
            let line = entries
                .iter()
                .find(|entry| entry.section == *section && entry.key == *key);
            findings.push(manifest.finding(
                line.map_or(1, |entry| entry.line),
                format!("does not inherit from the root; write `{own} = true` in [{section}]"),
            ));
        }
    }
    findings
}

/// Dependencies are sorted by name, in each group that an empty line or a comment begins.
fn unsorted(manifest: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut previous = None;
    for entry in &entries(manifest) {
        let Some(name) = entry.dependency() else {
            previous = None;
            continue;
        };
        if let Some(before) = previous.filter(|before| !entry.starts_group && *before > name) {
            findings.push(manifest.finding(
                entry.line,
                format!("`{name}` stands after `{before}`; sort the dependencies"),
            ));
        }
        previous = Some(name);
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::tests::lines;

    const GOOD: &str = "\
[package]
name = \"x\"
version.workspace = true
edition = { workspace = true }
rust-version.workspace = true
license.workspace = true

[dependencies]
bytes.workspace = true
tokio = { workspace = true, features = [
    \"rt\",
] }
tokio-util.workspace = true

[lints]
workspace = true
";

    #[test]
    fn a_good_manifest_passes() {
        assert!(lines(check, "crates/x/Cargo.toml", GOOD).is_empty());
    }

    #[test]
    fn what_is_not_inherited_is_found() {
        let own_version = GOOD.replace("version.workspace = true\nedition", "version = \"1.0.0\"\nedition");
        assert_eq!(lines(check, "crates/x/Cargo.toml", &own_version), [3]);
        let own_edition = GOOD.replace("{ workspace = true }", "\"2021\"");
        assert_eq!(lines(check, "examples/Cargo.toml", &own_edition), [4]);
        let no_lints = GOOD.replace("[lints]\nworkspace = true\n", "");
        assert_eq!(lines(check, "crates/x/Cargo.toml", &no_lints), [1]);
        // A package outside the workspace stands for itself.
        assert!(lines(check, "examples/starter/Cargo.toml", &no_lints).is_empty());
    }

    #[test]
    fn unsorted_dependencies_are_found() {
        let unsorted = GOOD.replace("bytes", "url");
        assert_eq!(lines(check, "crates/x/Cargo.toml", &unsorted), [10]);
        let root = "[workspace.dependencies]\n# Ours.\nb = \"1\"\n# Others.\na = \"1\"\nc = \"1\"\nb2 = \"1\"\n";
        assert_eq!(lines(check, "Cargo.toml", root), [7]);
    }
}
