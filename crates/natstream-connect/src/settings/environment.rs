//! The environment, as somebody hands it over.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use super::error::{Problem, SettingsErrorKind};
use super::given::{Gathered, Given, Raw};
use super::keys::{FILE_SUFFIX, Form, KEYS, Key, all_names, suggest};
use super::origin::{Origin, Rank};

/// Prefixes of variables that are named after the keys.
const PREFIXES: [(&str, Rank); 2] = [("NATSTREAM_", Rank::Own), ("ISA_CLOUD_NATS_", Rank::IsaCloud)];

/// Variables; an empty one counts as not set.
#[derive(Default)]
pub(crate) struct Environment(BTreeMap<String, OsString>);

impl Environment {
    pub(crate) fn new(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        // A name that is not UTF-8 is none of ours.
        let named = |(name, value): (OsString, OsString)| Some((name.into_string().ok()?, value));
        Self(
            variables
                .into_iter()
                .filter_map(named)
                .filter(|(_, value)| !value.is_empty())
                .collect(),
        )
    }

    pub(crate) fn get(&self, name: &str) -> Option<&OsStr> {
        self.0.get(name).map(OsString::as_os_str)
    }

    /// The first of these that is set, with its name.
    pub(crate) fn first<'a>(&self, names: &[&'a str]) -> Option<(&'a str, &OsStr)> {
        names.iter().find_map(|name| Some((*name, self.get(name)?)))
    }

    /// Where the `nats` CLI keeps its contexts.
    pub(crate) fn config_directory(&self) -> Option<PathBuf> {
        let own = self.get("XDG_CONFIG_HOME").map(PathBuf::from);
        own.or_else(|| Some(PathBuf::from(self.get("HOME")?).join(".config")))
    }

    pub(crate) fn gather(&self, gathered: &mut Gathered) {
        for (prefix, rank) in PREFIXES {
            for key in KEYS {
                for name in key.names() {
                    let name = format!("{prefix}{}", name.to_ascii_uppercase());
                    self.take(key, &name, rank, gathered);
                }
            }
            self.warn_of_mistakes(prefix, gathered);
        }
        for key in KEYS {
            if let Some(name) = key.variable {
                self.take(key, name, Rank::NatsCli, gathered);
            }
        }
    }

    fn take(&self, key: &'static Key, name: &str, rank: Rank, gathered: &mut Gathered) {
        let given = |name: &str, raw| Given {
            key,
            raw,
            origin: Origin::Variable(name.to_owned()),
            rank,
        };
        if let Some(value) = self.get(name) {
            match value.to_str() {
                Some(text) => gathered.add(given(name, Raw::text(text))),
                None => gathered.problems.push(
                    Problem::new(SettingsErrorKind::InvalidValue, "it is not UTF-8")
                        .of(key.name)
                        .at(Origin::Variable(name.to_owned())),
                ),
            }
        }
        let name = format!("{name}{}", FILE_SUFFIX.to_ascii_uppercase());
        if key.form == Form::Secret
            && let Some(path) = self.get(&name)
        {
            gathered.add(given(&name, Raw::SecretFile(path.into())));
        }
    }

    /// A variable that is nearly one of ours. Others may begin in the same way, so it is not an error.
    fn warn_of_mistakes(&self, prefix: &str, gathered: &mut Gathered) {
        let mut known = all_names();
        known.extend(["config".to_owned(), "context".to_owned()]);
        for name in self.0.keys().filter_map(|name| name.strip_prefix(prefix)) {
            if known.iter().any(|known| known.to_ascii_uppercase() == name) {
                continue;
            }
            if let Some(meant) = suggest(name, known.iter().map(String::as_str)) {
                gathered.warnings.push(format!(
                    "{prefix}{name} is not known; did you mean {prefix}{}?",
                    meant.to_ascii_uppercase()
                ));
            }
        }
    }
}
