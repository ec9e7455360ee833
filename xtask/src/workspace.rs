//! Where things are, and how cargo is called.

use std::{
    env,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use xshell::{Cmd, Shell};

/// The checkout that this xtask belongs to.
pub(crate) struct Workspace {
    /// Runs everything in the root, wherever the command was typed.
    pub(crate) shell: Shell,
    root: PathBuf,
    target: PathBuf,
    cargo: String,
}

impl Workspace {
    pub(crate) fn open() -> Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .context("xtask lies in the workspace")?
            .to_owned();
        let target = match env::var_os("CARGO_TARGET_DIR").filter(|dir| !dir.is_empty()) {
            // Cargo counts it from where the command was typed; everything below runs in the root.
            Some(dir) => env::current_dir()?.join(dir),
            None => root.join("target"),
        };
        let shell = Shell::new()?;
        shell.change_dir(&root);
        if env::var_os("CARGO_TARGET_DIR").is_some() {
            shell.set_var("CARGO_TARGET_DIR", &target);
        }
        // Cargo tells us which cargo it is, so that the same toolchain serves the steps.
        let cargo = env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
        Ok(Self {
            shell,
            root,
            target,
            cargo,
        })
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn target(&self) -> &Path {
        &self.target
    }

    /// `PROGRAM ARGS`, in the root.
    pub(crate) fn command(&self, program: &str, args: &[&str]) -> Cmd<'_> {
        self.shell.cmd(program).args(args)
    }

    /// `cargo ARGS`, in the root.
    pub(crate) fn cargo<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Cmd<'_> {
        let mut command = self.shell.cmd(&self.cargo).args(args);
        // `cargo run` describes xtask to xtask in these. Some build scripts (ring's) depend on
        // them, and would run again after each change between `cargo` and `cargo xtask`.
        for (name, _) in env::vars_os() {
            let leaked = name
                .to_str()
                .is_some_and(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_"));
            if leaked {
                command = command.env_remove(name);
            }
        }
        command
    }

    /// A command as a person would type it.
    pub(crate) fn show(&self, command: &Cmd<'_>) -> String {
        let text = command.to_string();
        match text.strip_prefix(&self.cargo) {
            Some(rest) => format!("cargo{rest}"),
            None => text,
        }
    }

    /// A path as a person would type it: from the root where possible.
    pub(crate) fn relative<'a>(&self, path: &'a Path) -> std::path::Display<'a> {
        path.strip_prefix(&self.root).unwrap_or(path).display()
    }
}
