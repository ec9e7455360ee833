//! The copies of the crate.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

use super::list::Mutation;
use crate::workspace::Workspace;

/// From the root.
const CRATE: &str = "crates/stream-proto";

/// What the simulation is built from, from the crate's directory. Its manifest is taken as well.
const SOURCES: &[&str] = &["src", "tests/sim"];

/// A workspace with the one crate, in memory.
#[derive(Clone, Debug)]
pub(super) struct Tree {
    /// By path from the root.
    files: Vec<(PathBuf, String)>,
}

impl Tree {
    /// The crate as it is in the repository.
    pub(super) fn read(workspace: &Workspace) -> Result<Self> {
        let root = workspace.root();
        let mut tree = Self { files: Vec::new() };
        for path in ["Cargo.toml", "Cargo.lock"] {
            tree.add(root, Path::new(path))?;
        }
        tree.files[0].1 = manifest(&tree.files[0].1)?;
        let directory = Path::new(CRATE);
        tree.add(root, &directory.join("Cargo.toml"))?;
        for path in SOURCES {
            tree.add(root, &directory.join(path))?;
        }
        Ok(tree)
    }

    /// Adds a file, or all Rust files of a directory.
    fn add(&mut self, root: &Path, path: &Path) -> Result<()> {
        let full = root.join(path);
        let failed = || format!("cannot read {}", path.display());
        if !full.is_dir() {
            self.files
                .push((path.to_owned(), fs::read_to_string(&full).with_context(failed)?));
            return Ok(());
        }
        for entry in fs::read_dir(&full).with_context(failed)? {
            let inner = path.join(entry.with_context(failed)?.file_name());
            if root.join(&inner).is_dir() || inner.extension().is_some_and(|kind| kind == "rs") {
                self.add(root, &inner)?;
            }
        }
        Ok(())
    }

    /// The tree with a mutation.
    pub(super) fn mutant(&self, mutation: &Mutation) -> Result<Self> {
        let mut mutant = self.clone();
        for edit in mutation.edits {
            let path = Path::new(CRATE).join(edit.file);
            let stale = || {
                format!(
                    "the mutation `{}` does not fit the code; adapt it in xtask/src/mutate/list.rs",
                    mutation.name
                )
            };
            let file = mutant.files.iter_mut().find(|(known, _)| *known == path);
            let (_, text) = file
                .with_context(|| format!("there is no {}", path.display()))
                .with_context(stale)?;
            *text = replace(text, edit.from, edit.to)
                .with_context(|| path.display().to_string())
                .with_context(stale)?;
        }
        Ok(mutant)
    }

    /// Writes the workspace in place of the one that is there.
    pub(super) fn write(&self, root: &Path) -> Result<()> {
        // A file that is not in this tree must not stay.
        match fs::remove_dir_all(root) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("cannot remove {}", root.display()));
            }
            _ => {}
        }
        for (path, text) in &self.files {
            let path = root.join(path);
            let written = path.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| {
                // Not a copy of the file: some systems copy its time too, and cargo would take the build of the
                // mutation before for up to date.
                fs::write(&path, text)
            });
            written.with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(())
    }
}

/// The root's manifest for the one crate: it inherits the same, and nobody looks for the other members.
fn manifest(root: &str) -> Result<String> {
    let resolver = root
        .lines()
        .find(|line| line.starts_with("resolver"))
        .context("the workspace's Cargo.toml names no resolver")?;
    let inherited = root
        .find("[workspace.package]")
        .context("the workspace's Cargo.toml has no [workspace.package]")?;
    Ok(format!(
        "[workspace]\n{resolver}\nmembers = [\"{CRATE}\"]\n\n{}",
        &root[inherited..]
    ))
}

/// Replaces a text that occurs once.
fn replace(text: &str, from: &str, to: &str) -> Result<String> {
    match text.matches(from).count() {
        1 => Ok(text.replacen(from, to, 1)),
        0 => bail!("this text does not occur:\n{from}"),
        count => bail!("this text occurs {count} times, where one is meant:\n{from}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mutate::list::{Edit, MUTATIONS};

    #[test]
    fn every_mutation_fits_the_code() {
        let tree = Tree::read(&Workspace::open().unwrap()).unwrap();
        for mutation in MUTATIONS {
            let mutant = tree.mutant(mutation).unwrap();
            assert_ne!(tree.files, mutant.files, "{}", mutation.name);
        }
    }

    #[test]
    fn a_mutation_that_does_not_fit_is_named() {
        let tree = Tree {
            files: vec![(Path::new(CRATE).join("src/lib.rs"), "one, two, two\n".to_owned())],
        };
        let mutant = |file, from| {
            let mutation = Mutation {
                name: "stale",
                rules: &[1],
                what: "",
                // For a moment of a test: the list lives as long as the program.
                edits: vec![Edit {
                    file,
                    from,
                    to: "three",
                }]
                .leak(),
                uncaught: None,
            };
            tree.mutant(&mutation)
        };
        assert_eq!(mutant("src/lib.rs", "one").unwrap().files[0].1, "three, two, two\n");
        for (file, from, why) in [
            ("src/lib.rs", "four", "does not occur"),
            ("src/lib.rs", "two", "occurs 2 times"),
            ("src/main.rs", "one", "there is no"),
        ] {
            let error = format!("{:#}", mutant(file, from).unwrap_err());
            assert!(error.contains("`stale`") && error.contains(why), "{error}");
        }
    }

    #[test]
    fn the_manifest_has_one_member_and_what_it_inherits() {
        let root = "[workspace]\nresolver = \"3\"\nmembers = [\"x\"]\n\n[workspace.package]\nversion = \"1\"\n";
        let one = "[workspace]\nresolver = \"3\"\nmembers = [\"crates/stream-proto\"]\n\n[workspace.package]\nversion = \"1\"\n";
        assert_eq!(manifest(root).unwrap(), one);
        manifest("[workspace]\n").unwrap_err();
    }
}
