//! Reads as much of a `Cargo.toml` as the checks need, with line numbers.
//!
//! Not a TOML parser: no multi-line strings, and no comments inside values that span lines.
//! Our manifests have neither, and a parser would triple the time that xtask takes to compile.

use super::Source;

/// A line `key = value` under its `[section]`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry<'a> {
    pub(super) line: usize,
    pub(super) section: &'a str,
    pub(super) key: &'a str,
    /// Of a value that spans lines, the first.
    pub(super) value: &'a str,
    /// Whether a comment or an empty line stands before it.
    pub(super) starts_group: bool,
}

impl Entry<'_> {
    /// The name under which a dependency is declared, if this is one.
    pub(super) fn dependency(&self) -> Option<&str> {
        let (_, last) = self.section.rsplit_once('.').unwrap_or(("", self.section));
        if last.ends_with("dependencies") {
            // `name = …`, `name.workspace = true`
            return self.key.split('.').next();
        }
        // `[dependencies.name]`: the section is the dependency, its first key stands for it.
        let (list, name) = self.section.rsplit_once('.')?;
        (list.ends_with("dependencies") && self.starts_group).then_some(name)
    }

    /// The package behind a dependency, which `package = "…"` may name.
    pub(super) fn package(&self) -> Option<&str> {
        let name = self.dependency()?;
        let renamed = self
            .value
            .split_once("package = \"")
            .and_then(|(_, rest)| rest.split('"').next());
        Some(renamed.unwrap_or(name))
    }

    pub(super) fn is_dev(&self) -> bool {
        self.section.contains("dev-dependencies")
    }
}

/// Whether the file is the manifest of a member of the workspace.
pub(super) fn is_member(source: &Source) -> bool {
    matches!(
        source.path.split('/').collect::<Vec<_>>()[..],
        ["crates", _, "Cargo.toml"] | ["examples" | "tests" | "xtask", "Cargo.toml"]
    )
}

pub(super) fn entries(source: &Source) -> Vec<Entry<'_>> {
    let mut entries = Vec::new();
    let mut section = "";
    let mut starts_group = true;
    let mut depth = 0;
    for (line, text) in source.lines() {
        let text = text.trim();
        if depth > 0 {
            depth += nesting(text);
        } else if text.is_empty() || text.starts_with('#') {
            starts_group = true;
        } else if text.starts_with('[') {
            section = text.split('#').next().unwrap_or(text).trim().trim_matches(['[', ']']);
            starts_group = true;
        } else if let Some((key, value)) = text.split_once('=') {
            let (key, value) = (key.trim(), value.trim());
            entries.push(Entry {
                line,
                section,
                key,
                value,
                starts_group,
            });
            starts_group = false;
            depth += nesting(value);
        }
    }
    entries
}

/// By how much a line opens more brackets than it closes.
fn nesting(text: &str) -> i32 {
    text.chars()
        .map(|c| match c {
            '[' | '{' => 1,
            ']' | '}' => -1,
            _ => 0,
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::tests::source;

    #[test]
    fn entries_know_their_section_and_group() {
        let manifest = source(
            "crates/x/Cargo.toml",
            "[package]\nname = \"x\"\n\n[dependencies]\nb.workspace = true\nc = { features = [\n    \"d = e\",\n] }\n\
             # Why.\na = { package = \"z\", version = \"1\" }\n\n[target.'cfg(unix)'.dev-dependencies.y]\nversion = \"1\"\nfeatures = []\n",
        );
        let entries = entries(&manifest);
        let found: Vec<_> = entries
            .iter()
            .filter_map(|entry| Some((entry.line, entry.package()?, entry.is_dev(), entry.starts_group)))
            .collect();
        assert_eq!(
            found,
            [
                (5, "b", false, true),
                (6, "c", false, false),
                (10, "z", false, true),
                (13, "y", true, true)
            ]
        );
        assert_eq!(
            (entries[0].section, entries[0].key, entries[0].value),
            ("package", "name", "\"x\"")
        );
    }
}
