//! How numbers of the command line are read.

use std::fmt::Display;
use std::str::FromStr;

use clap::ValueEnum;
use serde::Serialize;

/// A number above 0.
pub(crate) fn positive<T: FromStr<Err: Display> + Default + PartialEq>(text: &str) -> Result<T, String> {
    match text.parse() {
        Ok(number) if number == T::default() => Err("at least 1".to_owned()),
        Ok(number) => Ok(number),
        Err(error) => Err(format!("{error}")),
    }
}

/// Where JetStream keeps messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Storage {
    Memory,
    File,
}

impl Storage {
    pub(crate) const ALL: [Self; 2] = [Self::Memory, Self::File];
}
