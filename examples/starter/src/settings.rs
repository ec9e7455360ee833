//! What can be set from outside.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use natstream::ConnectConfig;
use natstream::connect::settings::{Loader, parse_duration};

/// The settings of the service.
pub struct Settings {
    /// How to connect: natstream's own variables, file and contexts.
    pub connect: ConnectConfig,
    /// What subjects begin with.
    pub prefix: String,
    /// Most searches at a time.
    pub max_concurrent: usize,
    /// How long running searches may take to end at a stop.
    pub drain: Duration,
    /// Where health is asked for.
    pub health: Option<SocketAddr>,
}

impl Settings {
    /// Reads these variables: those of the process, or those of a test.
    pub fn load(variables: impl IntoIterator<Item = (OsString, OsString)>) -> anyhow::Result<Self> {
        let variables: Vec<_> = variables.into_iter().collect();
        let loaded = Loader::new().environment(variables.clone()).load()?;
        for warning in loaded.warnings() {
            tracing::warn!("{warning}");
        }
        // As in natstream, an empty value counts as none.
        let given = |name: &str| {
            let found = variables.iter().find(|(known, _)| known == name);
            found
                .and_then(|(_, value)| value.to_str())
                .filter(|value| !value.is_empty())
        };
        let drain = |text| parse_duration(text).map_err(|error| anyhow!("ORDERS_DRAIN: {error}"));
        Ok(Self {
            connect: loaded.connect_config().name("orders"),
            prefix: given("ORDERS_PREFIX").unwrap_or("orders").to_owned(),
            max_concurrent: parse("ORDERS_MAX_CONCURRENT", given)?.unwrap_or(100),
            drain: given("ORDERS_DRAIN")
                .map(drain)
                .transpose()?
                .unwrap_or(Duration::from_secs(10)),
            health: parse("ORDERS_HEALTH", given)?,
        })
    }
}

fn parse<'a, T: FromStr>(
    name: &str,
    given: impl Fn(&str) -> Option<&'a str>,
) -> anyhow::Result<Option<T>>
where
    T::Err: std::error::Error + Send + Sync + 'static,
{
    let value = given(name).map(str::parse).transpose();
    value.with_context(|| name.to_owned())
}
