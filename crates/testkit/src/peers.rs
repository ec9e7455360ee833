//! Where the clients of others are, which `cargo xtask setup` installs.

use std::{
    env,
    ffi::OsString,
    hash::{DefaultHasher, Hasher},
    path::PathBuf,
};

use crate::target;

/// Clients of one language; xtask's `peers.rs` names their directories in the same way.
struct Kind {
    variable: &'static str,
    name: &'static str,
    pins: &'static [&'static str],
    part: &'static str,
}

const PYTHON: Kind = Kind {
    variable: "NATSTREAM_PYTHON",
    name: "python-peers",
    pins: &[include_str!("../../../tests/interop/requirements.txt")],
    part: "bin/python",
};

const NODE: Kind = Kind {
    variable: "NATSTREAM_NODE_MODULES",
    name: "node-peers",
    pins: &[
        include_str!("../../../tests/interop/js/package.json"),
        include_str!("../../../tests/interop/js/package-lock.json"),
    ],
    part: "node_modules",
};

/// A Python interpreter that has nats-py.
///
/// # Panics
///
/// When there is none, with the command that provides it.
#[must_use]
pub fn peers_python() -> PathBuf {
    PYTHON.find()
}

/// A `node_modules` that has nats.js: `NODE_PATH` for node.
///
/// # Panics
///
/// When there is none, with the command that provides it.
#[must_use]
pub fn peers_node_modules() -> PathBuf {
    NODE.find()
}

impl Kind {
    fn find(&self) -> PathBuf {
        let found = self.locate(env::var_os(self.variable), env::var_os("CARGO_TARGET_DIR"));
        found.unwrap_or_else(|error| panic!("{error}"))
    }

    /// [`find`](Self::find) with the environment as arguments.
    fn locate(&self, given: Option<OsString>, target: Option<OsString>) -> Result<PathBuf, String> {
        if let Some(path) = given.filter(|path| !path.is_empty()) {
            return Ok(path.into());
        }
        let mut hasher = DefaultHasher::new();
        for text in self.pins {
            hasher.write(text.as_bytes());
        }
        let directory = format!("tools/{}-{:016x}", self.name, hasher.finish());
        let path = target::directory(target).join(directory).join(self.part);
        if path.exists() {
            return Ok(path);
        }
        Err(format!("there is no {}: run `cargo xtask setup`", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_names_them() {
        let path = PYTHON.locate(Some("/python".into()), None);
        assert_eq!(path, Ok("/python".into()));
    }

    #[test]
    fn without_them_the_error_names_the_command() {
        let empty = tempfile::tempdir().unwrap();
        let error = NODE.locate(Some("".into()), Some(empty.path().into())).unwrap_err();
        assert!(error.contains("cargo xtask setup"), "{error}");
    }
}
