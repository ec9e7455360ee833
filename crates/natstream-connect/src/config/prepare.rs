//! From settings to a connect: everything is checked as a whole.

use std::sync::Arc;
use std::time::Duration;

use async_nats::{ConnectOptions, ServerAddr};
use tokio::sync::Semaphore;

use super::ConnectConfig;
use crate::credentials::Credentials;
use crate::end::Patience;
use crate::error::ConnectError;
use crate::observe::{Signals, callback};
use crate::reconnect::delay;
use crate::selector::Selector;
use crate::servers::ServerList;
use crate::tls::{self, Tls};

impl ConnectConfig {
    /// Checks everything, and builds what one connect needs.
    pub(crate) async fn prepare(self, signals: &Arc<Signals>) -> Result<Prepared, ConnectError> {
        let ServerList { addresses, login } = self
            .servers
            .clone()
            .map_err(|message| ConnectError::config("servers", message))?;
        let credentials = match (login, &self.credentials) {
            (None, given) => given.clone(),
            (Some(login), Credentials::None) => login,
            (Some(_), _) => {
                return Err(ConnectError::config(
                    "credentials",
                    "there are credentials in a server URL too; remove one of the two",
                ));
            }
        };
        self.check_numbers()?;
        check_inbox_prefix(&self.inbox_prefix).map_err(|message| ConnectError::config("inbox_prefix", message))?;
        credentials.check().await?;
        if let Some(tls) = &self.tls {
            tls.check().await?;
        }
        let (addresses, list) = match self.home.clone() {
            // async-nats is told of that one only, and of all once it is connected.
            Some(home) => (vec![home], addresses),
            None => (addresses.clone(), addresses),
        };
        let selector = Arc::new(Selector::new(
            &addresses,
            list,
            self.retain_servers_order,
            self.ignore_discovered_servers,
        ));
        Ok(Prepared {
            options: self.options(credentials, &addresses, signals, &selector),
            addresses,
            connect_timeout: self.connect_timeout,
            subscription_capacity: self.subscription_capacity,
            inbox_prefix: self.inbox_prefix,
            jetstream_domain: self.jetstream_domain,
            selector,
            tls_everywhere: self.tls.as_ref().is_some_and(Tls::is_required),
        })
    }

    fn check_numbers(&self) -> Result<(), ConnectError> {
        for (field, duration) in [
            ("connect_timeout", Some(self.connect_timeout)),
            ("ping_interval", Some(self.ping_interval)),
            ("reconnect_wait", self.reconnect_wait),
            ("request_timeout", self.request_timeout),
        ] {
            if duration.is_some_and(|duration| duration.is_zero()) {
                return Err(ConnectError::config(field, "it is zero"));
            }
        }
        for (field, capacity) in [
            ("client_capacity", self.client_capacity),
            ("subscription_capacity", self.subscription_capacity),
        ] {
            // async-nats panics outside these limits.
            if !(1..=Semaphore::MAX_PERMITS).contains(&capacity) {
                return Err(ConnectError::config(
                    field,
                    format!("it is not between 1 and {}", Semaphore::MAX_PERMITS),
                ));
            }
        }
        match self.max_refusals {
            Some(0) => Err(ConnectError::config("max_refusals", "it is 0; `None` goes on for ever")),
            _ => Ok(()),
        }
    }

    fn options(
        &self,
        credentials: Credentials,
        addresses: &[ServerAddr],
        signals: &Arc<Signals>,
        selector: &Arc<Selector>,
    ) -> ConnectOptions {
        let is_callback = matches!(credentials, Credentials::Callback(_));
        let patience = Arc::new(Patience::new(self.max_reconnects, self.max_refusals, !is_callback));
        let mut options = match credentials {
            Credentials::None => ConnectOptions::new(),
            // All forms go through the callback, which async-nats calls at every reconnect too:
            // renewed files are taken up.
            credentials => {
                let credentials = Arc::new(credentials);
                ConnectOptions::with_auth_callback(move |nonce| {
                    let credentials = credentials.clone();
                    async move { Ok(credentials.answer(nonce).await?) }
                })
            }
        };
        options = options
            .client_capacity(self.client_capacity)
            .connection_timeout(self.connect_timeout)
            .custom_inbox_prefix(&self.inbox_prefix)
            .event_callback(callback(signals.clone(), self.on_event.clone()))
            // `Patience` counts.
            .max_reconnects(None)
            .ping_interval(self.ping_interval)
            .request_timeout(self.request_timeout)
            .subscription_capacity(self.subscription_capacity);
        options = options.reconnect_delay_callback({
            let (signals, patience, wait) = (signals.clone(), patience.clone(), self.reconnect_wait);
            move |attempt| delay(&signals, &patience, wait, attempt)
        });
        options = options.reconnect_to_server_callback({
            let (signals, selector) = (signals.clone(), selector.clone());
            move |pool, _info| std::future::ready(selector.choose(&pool, &signals, &patience))
        });
        if let Some(name) = &self.name {
            options = options.name(name);
        }
        if self.tls.is_some() || addresses.iter().any(ServerAddr::tls_required) {
            tls::ensure_provider();
        }
        match &self.tls {
            Some(tls) => tls.apply(options),
            None => options,
        }
    }
}

/// A checked configuration, ready to connect.
pub(crate) struct Prepared {
    pub(crate) options: ConnectOptions,
    /// At least one.
    pub(crate) addresses: Vec<ServerAddr>,
    pub(crate) connect_timeout: Duration,
    pub(crate) inbox_prefix: String,
    pub(crate) jetstream_domain: Option<String>,
    pub(crate) subscription_capacity: usize,
    pub(crate) selector: Arc<Selector>,
    /// Every server must speak TLS.
    pub(crate) tls_everywhere: bool,
}

fn check_inbox_prefix(prefix: &str) -> Result<(), &'static str> {
    if prefix.is_empty() {
        return Err("it is empty");
    }
    if prefix.len() > 128 {
        return Err("it is longer than 128 bytes");
    }
    if !prefix.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("it holds something else than printable ASCII");
    }
    if prefix.contains(['*', '>']) {
        return Err("it holds a wildcard");
    }
    if prefix.split('.').any(str::is_empty) {
        return Err("it begins or ends with a dot, or has two in a row");
    }
    if prefix.starts_with('$') {
        return Err("it begins with `$`, which is the server's");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ConnectErrorKind;

    async fn rejected(config: ConnectConfig) -> ConnectError {
        let Err(error) = config.prepare(&Arc::new(Signals::default())).await else {
            panic!("the configuration was accepted");
        };
        error
    }

    #[tokio::test]
    async fn a_setting_that_cannot_work_is_named() {
        let config = || ConnectConfig::new("localhost");
        for (config, field) in [
            (ConnectConfig::new(""), "servers"),
            (ConnectConfig::new("ws://a"), "servers"),
            (config().client_capacity(0), "client_capacity"),
            (config().subscription_capacity(usize::MAX), "subscription_capacity"),
            (config().connect_timeout(Duration::ZERO), "connect_timeout"),
            (config().ping_interval(Duration::ZERO), "ping_interval"),
            (config().request_timeout(Some(Duration::ZERO)), "request_timeout"),
            (config().reconnect_wait(Duration::ZERO), "reconnect_wait"),
            (config().max_refusals(Some(0)), "max_refusals"),
            (config().credentials(Credentials::nkey_seed("SU")), "credentials"),
            (
                ConnectConfig::new("token@a").credentials(Credentials::token("token")),
                "credentials",
            ),
            (config().tls(Tls::new().root_certificates("/nowhere/ca.pem")), "tls"),
            (config().inbox_prefix(""), "inbox_prefix"),
            (config().inbox_prefix("a..b"), "inbox_prefix"),
            (config().inbox_prefix(".a"), "inbox_prefix"),
            (config().inbox_prefix("a."), "inbox_prefix"),
            (config().inbox_prefix("a.*"), "inbox_prefix"),
            (config().inbox_prefix("a.>"), "inbox_prefix"),
            (config().inbox_prefix("a b"), "inbox_prefix"),
            (config().inbox_prefix("é"), "inbox_prefix"),
            (config().inbox_prefix("$JS.x"), "inbox_prefix"),
            (config().inbox_prefix("a".repeat(129)), "inbox_prefix"),
        ] {
            let error = rejected(config).await;
            assert_eq!(error.kind(), ConnectErrorKind::InvalidConfig);
            assert_eq!(error.field(), Some(field), "{error}");
            assert!(!error.is_retryable());
        }
    }

    #[tokio::test]
    async fn neither_debug_nor_errors_show_secrets() {
        for config in [
            ConnectConfig::new("nats://user:s3cr3t@localhost"),
            ConnectConfig::new("nats://s3cr3t@localhost").credentials(Credentials::token("s3cr3t")),
            ConnectConfig::new("nats://user:s3cr3t@localhost:port"),
            ConnectConfig::new("localhost").credentials(Credentials::nkey_seed("s3cr3t")),
            ConnectConfig::new("localhost").credentials(Credentials::text("s3cr3t")),
        ] {
            let debug = format!("{config:?} {config:#?}");
            assert!(!debug.contains("s3cr3t"), "{debug}");
            if let Err(error) = config.prepare(&Arc::new(Signals::default())).await {
                let text = format!("{error} {error:?}");
                assert!(!text.contains("s3cr3t"), "{text}");
            }
        }
    }
}
