//! Directories below `target/tools`: each is made once, and nobody ever finds half of it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use crate::{process::run, workspace::Workspace};

/// Where the tool `name` is, or will be.
pub(crate) fn directory(workspace: &Workspace, name: &str) -> PathBuf {
    workspace.target().join("tools").join(name)
}

/// Whether `dir` is there and passes `check`. One that does not is removed.
pub(crate) fn is_cached(dir: &Path, check: impl Fn(&Path) -> Result<()>) -> Result<bool> {
    if !dir.exists() {
        return Ok(false);
    }
    let Err(error) = check(dir) else {
        return Ok(true);
    };
    // Copied from another machine, or damaged.
    eprintln!("{} is of no use here, installing it again: {error:#}", dir.display());
    fs::remove_dir_all(dir).with_context(|| format!("cannot remove {}", dir.display()))?;
    Ok(false)
}

/// Creates `dir`: `make` fills a directory beside it, which takes its place when it passes `check`.
pub(crate) fn install(
    dir: &Path,
    check: impl Fn(&Path) -> Result<()>,
    make: impl FnOnce(&Path) -> Result<()>,
) -> Result<()> {
    let tools = dir.parent().context("the target directory has a parent")?;
    let name = dir.file_name().context("a tool has a name")?.to_string_lossy();
    let part = tools.join(format!("{name}-{}.part", std::process::id()));
    fs::create_dir_all(tools).with_context(|| format!("cannot create {}", tools.display()))?;
    let _ = fs::remove_dir_all(&part);

    let installed = make(&part).and_then(|()| {
        check(&part)?;
        match fs::rename(&part, dir) {
            // Another xtask has just done the same.
            Err(_) if check(dir).is_ok() => Ok(()),
            renamed => renamed.with_context(|| format!("cannot create {}", dir.display())),
        }
    });
    let _ = fs::remove_dir_all(&part);
    installed
}

/// A program of crates.io in one version, built from source at its first use. Returns the directory that has it.
pub(crate) fn build(workspace: &Workspace, name: &str, version: &str) -> Result<PathBuf> {
    let root = directory(workspace, &format!("{name}-{version}"));
    let programs = root.join("bin");
    if !programs.join(name).exists() {
        let install = workspace
            .cargo(["install", name, "--version", version, "--locked", "--root"])
            .arg(&root)
            // They run for a second: to be built soon counts more.
            .envs([
                ("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16"),
                ("CARGO_PROFILE_RELEASE_DEBUG", "0"),
                ("CARGO_PROFILE_RELEASE_LTO", "off"),
                ("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1"),
            ]);
        run(workspace, install).with_context(|| format!("cannot install {name}"))?;
    }
    Ok(programs)
}

#[cfg(test)]
mod tests {
    use std::env;

    use anyhow::bail;

    use super::*;

    fn has_file(dir: &Path) -> Result<()> {
        fs::read(dir.join("file")).map(drop).context("it has no file")
    }

    fn make(dir: &Path) -> Result<()> {
        fs::create_dir(dir)?;
        Ok(fs::write(dir.join("file"), "")?)
    }

    #[test]
    fn a_tool_is_made_once_and_again_when_it_is_damaged() {
        let base = env::temp_dir().join(format!("xtask-tools-{}", std::process::id()));
        let dir = base.join("tool");
        let entries = || fs::read_dir(&base).unwrap().count();
        assert!(!is_cached(&dir, has_file).unwrap());
        install(&dir, has_file, make).unwrap();
        assert!(is_cached(&dir, has_file).unwrap());
        // Somebody else was faster.
        install(&dir, has_file, make).unwrap();

        fs::remove_file(dir.join("file")).unwrap();
        assert!(!is_cached(&dir, has_file).unwrap());
        assert_eq!(entries(), 0);

        // What fails, or makes something else, leaves nothing behind.
        let fails = |dir: &Path| {
            make(dir)?;
            bail!("no network")
        };
        install(&dir, has_file, fails).unwrap_err();
        install(&dir, has_file, |dir| Ok(fs::create_dir(dir)?)).unwrap_err();
        assert_eq!(entries(), 0);
        fs::remove_dir_all(&base).unwrap();
    }
}
