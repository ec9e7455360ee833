//! Loading, with an environment, files and contexts made up for each test.

mod files;
mod precedence;
mod secrets;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::{Loader, Problem, Settings, SettingsError, SettingsErrorKind};

/// Stands for every secret: no text may hold it.
const SECRET: &str = "s3cr3t";

/// A directory for files and contexts.
struct World(tempfile::TempDir);

impl World {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    }

    fn context(&self, name: &str, json: &str) -> PathBuf {
        self.write(&format!("nats/context/{name}.json"), json)
    }

    /// A loader for which contexts lie here.
    fn loader(&self) -> Loader {
        Loader::new().config_directory(self.0.path())
    }
}

fn variables<'a>(of: &'a [(&str, &str)]) -> impl Iterator<Item = (OsString, OsString)> + use<'a> {
    of.iter().map(|(name, value)| (name.into(), value.into()))
}

#[track_caller]
fn load(loader: Loader) -> Settings {
    let settings = loader.load().unwrap_or_else(|error| panic!("{error}"));
    let text = format!("{settings:?} {:?} {:?}", settings.connect_config(), settings.warnings());
    assert!(!text.contains(SECRET), "{text}");
    settings
}

#[track_caller]
fn fail(loader: Loader) -> SettingsError {
    let error = loader.load().expect_err("the configuration is wrong");
    let text = format!("{error} {error:?} {error:#?}");
    assert!(!text.contains(SECRET), "{text}");
    error
}

#[track_caller]
fn load_file(text: &str) -> Settings {
    let world = World::new();
    load(Loader::new().config_file(world.write("nats.yaml", text)))
}

#[track_caller]
fn fail_file(text: impl AsRef<[u8]>) -> SettingsError {
    let world = World::new();
    fail(Loader::new().config_file(world.write("nats.yaml", text)))
}

/// Key, value and origin of every value, without the directory.
fn shown(settings: &Settings, directory: &Path) -> Vec<String> {
    let line = |setting: super::Setting<'_>| {
        let text = format!("{} = {} ({})", setting.key(), setting.value(), setting.origin());
        text.replace(&format!("{}/", directory.display()), "")
    };
    settings.iter().map(line).collect()
}

fn value(settings: &Settings, key: &str) -> Option<String> {
    let setting = settings.iter().find(|setting| setting.key() == key)?;
    Some(setting.value())
}

fn kinds(error: &SettingsError) -> Vec<SettingsErrorKind> {
    error.problems().map(Problem::kind).collect()
}
