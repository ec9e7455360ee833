//! Configuration from flags, the environment, a file and contexts of the `nats` CLI. (Feature `config`.)
//!
//! ```
//! use natstream_connect::settings::Loader;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let environment = [("NATSTREAM_TIMEOUT".into(), "2s".into()), ("NATS_URL".into(), "nats://nats.example".into())];
//! let settings = Loader::new().environment(environment).set("username", "orders").set("password", "s3cr3t").load()?;
//! for setting in settings.iter() {
//!     println!("{}: {} ({})", setting.key(), setting.value(), setting.origin());
//! }
//! let config = settings.connect_config().name("orders");
//! # Ok(())
//! # }
//! ```
//!
//! The strongest place that gives a value wins:
//!
//! 1. code and flags: [`Loader::set`], [`Loader::flag`];
//! 2. the environment: `NATSTREAM_<KEY>`, then `ISA_CLOUD_NATS_<KEY>`, then the variables of the `nats` CLI (`NATS_URL`, …);
//! 3. the file of [`Loader::config_file`] or `NATSTREAM_CONFIG`;
//! 4. the context of [`Loader::context`], `NATSTREAM_CONTEXT` or `NATS_CONTEXT`;
//! 5. defaults.
//!
//! An empty value counts as none. Who we are is taken from one place as a whole, but for a user's name and password, which
//! may come from two. The manual, `docs/configuration.md` in the repository, has a table of all keys.
//!
//! Nothing here reads the environment of the process by itself, except for [`ConnectConfig::load`].

mod context;
mod duration;
mod environment;
mod error;
mod file;
mod given;
mod keys;
mod loaded;
mod origin;
mod resolve;
#[cfg(test)]
mod tests;
mod value;

use std::ffi::OsString;
use std::path::PathBuf;

use secrecy::SecretString;

pub use self::duration::parse_duration;
use self::environment::Environment;
pub use self::error::{Problem, SettingsError, SettingsErrorKind};
use self::given::{Gathered, Given, Raw};
pub use self::loaded::{Setting, Settings};
pub use self::origin::Origin;
use self::origin::Rank;
use crate::config::ConnectConfig;

/// Puts a configuration together; see the [module](self).
///
/// Files are read by [`load`](Self::load), which blocks as long as that takes.
#[derive(Default)]
#[must_use = "a loader does nothing until it loads"]
pub struct Loader {
    environment: Environment,
    set: Vec<(Origin, String, SecretString)>,
    config_file: Option<PathBuf>,
    context: Option<String>,
    config_directory: Option<PathBuf>,
}

impl Loader {
    /// Nothing but defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads these variables. `std::env::vars_os()` gives those of the process.
    pub fn environment(mut self, variables: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        self.environment = Environment::new(variables);
        self
    }

    /// Sets a key, as stronger than everything else.
    pub fn set(mut self, key: impl Into<String>, value: impl Into<SecretString>) -> Self {
        self.set.push((Origin::Code, key.into(), value.into()));
        self
    }

    /// Sets a key, as an option of a command line that is called `flag`: `--timeout`. An empty value counts as not given.
    pub fn flag(mut self, flag: impl Into<String>, key: impl Into<String>, value: impl Into<SecretString>) -> Self {
        self.set.push((Origin::Flag(flag.into()), key.into(), value.into()));
        self
    }

    /// Reads this file, in place of the one that `NATSTREAM_CONFIG` names. No context of the environment is read then.
    pub fn config_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.config_file = Some(path.into());
        self
    }

    /// Reads this context of the `nats` CLI, in place of the one that `NATSTREAM_CONTEXT` or `NATS_CONTEXT` names. No file of
    /// the environment is read then.
    pub fn context(mut self, name: impl Into<String>) -> Self {
        self.context = Some(name.into());
        self
    }

    /// Where the contexts lie, below `nats/context`, in place of `XDG_CONFIG_HOME` or `HOME/.config` of the environment.
    pub fn config_directory(mut self, path: impl Into<PathBuf>) -> Self {
        self.config_directory = Some(path.into());
        self
    }

    /// Reads everything.
    ///
    /// # Errors
    ///
    /// All that is wrong, and not only the first. A file and a context that were both [named](Self::config_file) exclude each
    /// other.
    pub fn load(self) -> Result<Settings, SettingsError> {
        let mut gathered = Gathered::default();
        self.gather_set(&mut gathered);
        self.environment.gather(&mut gathered);
        self.gather_files(&mut gathered);
        let resolved = resolve::resolve(&mut gathered);
        match gathered.problems.is_empty() {
            true => Ok(Settings::new(resolved, gathered.warnings)),
            false => Err(SettingsError::new(gathered.problems)),
        }
    }

    fn gather_set(&self, gathered: &mut Gathered) {
        for (origin, name, value) in &self.set {
            match keys::find(name) {
                Some(key) => gathered.add(Given {
                    key,
                    raw: Raw::Text(value.clone()),
                    origin: origin.clone(),
                    rank: Rank::Given,
                }),
                None => {
                    let problem = Problem::new(SettingsErrorKind::UnknownKey, format!("unknown key `{name}`"));
                    gathered.problems.push(problem.at(origin.clone()));
                }
            }
        }
    }

    fn gather_files(&self, gathered: &mut Gathered) {
        let environment = &self.environment;
        let (file, context) = match (&self.config_file, &self.context) {
            (Some(_), Some(_)) => {
                let message = "a configuration file and a context exclude each other";
                return gathered
                    .problems
                    .push(Problem::new(SettingsErrorKind::Conflict, message));
            }
            // Who names one of them does not want what happens to be in the environment.
            (Some(file), None) => (Some(file.clone()), None),
            (None, Some(context)) => (None, Some(context.clone())),
            (None, None) => (
                environment.get("NATSTREAM_CONFIG").map(PathBuf::from),
                environment
                    .first(&["NATSTREAM_CONTEXT", "NATS_CONTEXT"])
                    .map(|(_, name)| name.to_string_lossy().into_owned()),
            ),
        };
        if let Some(file) = file {
            file::gather(&file, gathered);
        }
        if let Some(name) = context {
            let config = self.config_directory.clone().or_else(|| environment.config_directory());
            let home = environment.get("HOME").map(PathBuf::from);
            context::gather(config.as_deref(), home.as_deref(), &name, gathered);
        }
    }
}

impl std::fmt::Debug for Loader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // No variable: any of them may be a secret.
        f.debug_struct("Loader")
            .field("config_file", &self.config_file)
            .field("context", &self.context)
            .finish_non_exhaustive()
    }
}

impl ConnectConfig {
    /// The configuration of this process: its environment, with the file and context that are named there. (Feature `config`.)
    ///
    /// Warnings are logged. A [`Loader`] takes other places, and says more.
    ///
    /// # Errors
    ///
    /// All that is wrong.
    pub fn load() -> Result<Self, SettingsError> {
        let settings = Loader::new().environment(std::env::vars_os()).load()?;
        for warning in settings.warnings() {
            tracing::warn!("{warning}");
        }
        Ok(settings.connect_config())
    }
}
