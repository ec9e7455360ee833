//! Pages lead somewhere, are found, and their examples are compiled.

use std::collections::{BTreeMap, BTreeSet};

use super::{Finding, Source};

/// Where a reader finds every page of `docs`.
const INDEX: &str = "docs/README.md";

/// Links to files and headings that are not there.
pub(super) fn check_links(sources: &[Source]) -> Vec<Finding> {
    let paths: BTreeSet<&str> = sources.iter().flat_map(|source| with_parents(&source.path)).collect();
    let headings: BTreeMap<&str, BTreeSet<String>> = pages(sources)
        .map(|page| (page.path.as_str(), headings(page).collect()))
        .collect();
    let mut findings = Vec::new();
    for page in pages(sources) {
        for (line, link) in links(page) {
            let (path, heading) = link.split_once('#').unwrap_or((link, ""));
            let path = resolve(&page.path, path);
            if !paths.contains(path.as_str()) {
                findings.push(page.finding(line, format!("`{link}` leads nowhere")));
            } else if headings
                .get(path.as_str())
                .is_some_and(|headings| !heading.is_empty() && !headings.contains(heading))
            {
                findings.push(page.finding(line, format!("`{path}` has no heading `#{heading}`")));
            }
        }
    }
    findings
}

/// Pages of `docs` that its index leaves out.
pub(super) fn check_index(sources: &[Source]) -> Vec<Finding> {
    let Some(index) = sources.iter().find(|source| source.path == INDEX) else {
        return Vec::new();
    };
    let listed: BTreeSet<String> = links(index)
        .map(|(_, link)| resolve(INDEX, link.split('#').next().unwrap_or_default()))
        .collect();
    pages(sources)
        .filter(|page| page.path.starts_with("docs/") && page.path != INDEX && !listed.contains(&page.path))
        .map(|page| page.finding(1, format!("is not in {INDEX}; add a line there")))
        .collect()
}

/// Examples in Rust that no compiler sees.
pub(super) fn check_examples(sources: &[Source]) -> Vec<Finding> {
    let included: Vec<&str> = sources
        .iter()
        .filter(|source| source.path.ends_with(".rs"))
        .flat_map(|source| source.text.split("include_str!(\"").skip(1))
        .filter_map(|rest| rest.split('"').next())
        .collect();
    let mut findings = Vec::new();
    for page in pages(sources) {
        // Its examples are those of the page that it translates.
        let is_checked = original(&page.path).is_some()
            || included.iter().any(|path| {
                let path = path.trim_start_matches("../");
                page.path == path || path.contains('/') && page.path.ends_with(&format!("/{path}"))
            });
        for (line, language, _) in blocks(page) {
            let words: Vec<&str> = language.split(',').map(str::trim).collect();
            if !words.contains(&"rust") {
                continue;
            }
            if words.contains(&"ignore") {
                findings.push(page.finding(line, "an example that is not compiled; write `no_run` if it cannot run"));
            } else if !is_checked {
                findings.push(page.finding(
                    line,
                    "an example that is not compiled; include the page in crates/natstream/src/guide.rs",
                ));
            }
        }
    }
    findings
}

/// Translations whose examples are not those of the original.
pub(super) fn check_translations(sources: &[Source]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for page in pages(sources) {
        let Some(original) = original(&page.path) else {
            continue;
        };
        let Some(original) = sources.iter().find(|source| source.path == original) else {
            findings.push(page.finding(1, format!("translates `{original}`, which is not there")));
            continue;
        };
        let (mut ours, mut theirs) = (blocks(page), blocks(original));
        loop {
            match (ours.next(), theirs.next()) {
                (None, None) => break,
                (Some((_, a, ours)), Some((_, b, theirs))) if a == b && ours == theirs => {}
                (ours, _) => {
                    let line = ours.map_or(1, |(line, ..)| line);
                    findings.push(page.finding(line, format!("an example that is not the one of `{}`", original.path)));
                    break;
                }
            }
        }
    }
    findings
}

/// What `x.zh.md` translates: `x.md`.
fn original(path: &str) -> Option<String> {
    Some(format!("{}.md", path.strip_suffix(".zh.md")?))
}

/// What people read; what lies beside code is a part of that.
fn pages(sources: &[Source]) -> impl Iterator<Item = &Source> {
    sources
        .iter()
        .filter(|source| source.path.ends_with(".md") && !source.path.contains("/src/"))
}

/// A path, and all directories that it lies in.
fn with_parents(path: &str) -> impl Iterator<Item = &str> {
    let parents = path.match_indices('/').map(|(at, _)| &path[..at]);
    parents.chain([path])
}

/// A relative link of a page, as a path from the root.
fn resolve(page: &str, link: &str) -> String {
    if link.is_empty() {
        return page.to_owned();
    }
    let mut parts: Vec<&str> = page.split('/').collect();
    parts.pop();
    for part in link.trim_end_matches('/').split('/') {
        match part {
            "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// The relative links of a page.
fn links(page: &Source) -> impl Iterator<Item = (usize, &str)> {
    prose(page).flat_map(|(number, line)| {
        let inline = line.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        let is_definition = line.starts_with('[');
        let definition = line
            .split_once("]: ")
            .filter(|_| is_definition)
            .map(|(_, target)| target);
        inline
            .chain(definition)
            .filter(|target| !target.contains(':') && !target.is_empty())
            .map(move |target| (number, target))
            .collect::<Vec<_>>()
    })
}

/// The anchors of a page's headings, as forges make them.
fn headings(page: &Source) -> impl Iterator<Item = String> {
    prose(page).filter_map(|(_, line)| {
        let text = line
            .trim_start_matches('#')
            .strip_prefix(' ')
            .filter(|_| line.starts_with('#'))?;
        let kept = text
            .trim()
            .chars()
            .filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        Some(kept.collect::<String>().to_lowercase().replace(' ', "-"))
    })
}

/// The lines outside of blocks of code.
fn prose(page: &Source) -> impl Iterator<Item = (usize, &str)> {
    let mut is_code = false;
    page.lines().filter(move |(_, line)| {
        let is_fence = line.starts_with("```");
        is_code ^= is_fence;
        !is_code && !is_fence
    })
}

/// The blocks of code, each with its first line's number, what stands behind the fence, and its lines.
fn blocks(page: &Source) -> impl Iterator<Item = (usize, &str, Vec<&str>)> {
    let mut lines = page.lines();
    std::iter::from_fn(move || {
        let (number, fence) = lines.find(|(_, line)| line.starts_with("```"))?;
        let code = lines
            .by_ref()
            .map(|(_, line)| line)
            .take_while(|line| !line.starts_with("```"));
        Some((number, fence.trim_start_matches('`').trim(), code.collect()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::tests::source;

    fn lines(check: fn(&[Source]) -> Vec<Finding>, sources: &[(&str, &str)]) -> Vec<(String, usize)> {
        let sources: Vec<Source> = sources.iter().map(|(path, text)| source(path, text)).collect();
        check(&sources)
            .into_iter()
            .map(|finding| (finding.path, finding.line))
            .collect()
    }

    #[test]
    fn links_that_lead_nowhere_are_found() {
        let page = "# A: b_c\n[x](../README.md) [y](gone.md#a)\n\n[z]: sub/\n[w]: #a-b_c\n[v](#a)\n[u](https://a.b)\n";
        let sources = [("docs/a.md", page), ("README.md", ""), ("docs/sub/b.md", "")];
        let found = |line| ("docs/a.md".to_owned(), line);
        assert_eq!(lines(check_links, &sources), [found(2), found(6)]);
        assert_eq!(lines(check_links, &[("a.md", "```text\n[x](gone.md)\n```\n")]), []);
    }

    #[test]
    fn pages_that_nobody_finds_are_found() {
        let index = ("docs/README.md", "[a](a.md#b) [b](guide/b.md)");
        let sources = [
            index,
            ("docs/a.md", ""),
            ("docs/guide/b.md", ""),
            ("docs/c.md", ""),
            ("d.md", ""),
        ];
        assert_eq!(lines(check_index, &sources), [("docs/c.md".to_owned(), 1)]);
    }

    #[test]
    fn examples_that_are_not_compiled_are_found() {
        let page = "```rust,no_run\nx\n```\n\n```rust,ignore\ny\n```\n```console\n$ z\n```\n";
        let found = |line| ("docs/a.md".to_owned(), line);
        assert_eq!(lines(check_examples, &[("docs/a.md", page)]), [found(1), found(5)]);
        let included = ("src/lib.rs", "#[doc = include_str!(\"../docs/a.md\")]");
        assert_eq!(lines(check_examples, &[("docs/a.md", page), included]), [found(5)]);
    }

    #[test]
    fn translations_have_the_same_examples() {
        let (original, same) = (("a.md", "one\n```\nx\n```\n"), ("a.zh.md", "一\n```\nx\n```\n"));
        assert_eq!(lines(check_translations, &[original, same]), []);
        let other = ("a.zh.md", "一\n\n```\ny\n```\n");
        assert_eq!(
            lines(check_translations, &[original, other]),
            [("a.zh.md".to_owned(), 3)]
        );
        assert_eq!(lines(check_translations, &[same]), [("a.zh.md".to_owned(), 1)]);
        assert_eq!(
            lines(check_translations, &[original, ("a.zh.md", "")]),
            [("a.zh.md".to_owned(), 1)]
        );
    }
}
