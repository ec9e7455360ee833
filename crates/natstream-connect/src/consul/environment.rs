//! The variables that Consul's own tools read.

use super::config::ConsulConfig;
use super::error::ConsulError;
use crate::secret::Secret;

impl ConsulConfig {
    /// The defaults, and what the environment says: [`new`](Self::new) and [`with_env`](Self::with_env).
    ///
    /// # Errors
    ///
    /// As [`with_env`](Self::with_env).
    pub fn from_env<K: AsRef<str>, V: Into<String>>(
        service: impl Into<String>,
        variables: impl IntoIterator<Item = (K, V)>,
    ) -> Result<Self, ConsulError> {
        Self::new(service).with_env(variables)
    }

    /// Takes over what the environment says, in place of what was set before. Empty variables and others do not count.
    ///
    /// | variable | |
    /// |---|---|
    /// | `CONSUL_CACERT` | [`ca_file`](Self::ca_file) |
    /// | `CONSUL_CLIENT_CERT`, `CONSUL_CLIENT_KEY` | [`client_certificate`](Self::client_certificate) |
    /// | `CONSUL_HTTP_ADDR` | [`address`](Self::address) |
    /// | `CONSUL_HTTP_SSL` | `true`: an address without a scheme is `https` |
    /// | `CONSUL_HTTP_SSL_VERIFY` | `false` is refused: certificates are always verified |
    /// | `CONSUL_HTTP_TOKEN` | [`token`](Self::token) |
    /// | `CONSUL_HTTP_TOKEN_FILE` | [`token`](Self::token), in a file; it wins over `CONSUL_HTTP_TOKEN`, as with Consul's tools |
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`](super::ConsulErrorKind::InvalidConfig): a variable is no truth value, `CONSUL_HTTP_SSL_VERIFY` is
    /// false, or only one half of a client certificate is there.
    ///
    /// # Examples
    ///
    /// ```
    /// use natstream_connect::consul::ConsulConfig;
    ///
    /// # fn main() -> Result<(), natstream_connect::consul::ConsulError> {
    /// let config = ConsulConfig::new("nats").with_env(std::env::vars())?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn with_env<K: AsRef<str>, V: Into<String>>(
        mut self,
        variables: impl IntoIterator<Item = (K, V)>,
    ) -> Result<Self, ConsulError> {
        let (mut certificate, mut key) = (None, None);
        let (mut token, mut token_file) = (None, None);
        let (mut ssl, mut verify) = (false, true);
        for (name, value) in variables {
            let value: String = value.into();
            if value.is_empty() {
                continue;
            }
            match name.as_ref() {
                "CONSUL_CACERT" => self = self.ca_file(value),
                "CONSUL_CLIENT_CERT" => certificate = Some(value),
                "CONSUL_CLIENT_KEY" => key = Some(value),
                "CONSUL_HTTP_ADDR" => self = self.address(value),
                "CONSUL_HTTP_SSL" => ssl = truth("CONSUL_HTTP_SSL", &value)?,
                "CONSUL_HTTP_SSL_VERIFY" => verify = truth("CONSUL_HTTP_SSL_VERIFY", &value)?,
                "CONSUL_HTTP_TOKEN" => token = Some(value),
                "CONSUL_HTTP_TOKEN_FILE" => token_file = Some(value),
                _ => {}
            }
        }
        if !verify {
            return Err(ConsulError::config(
                "CONSUL_HTTP_SSL_VERIFY is false, but certificates are always verified; name their authority in CONSUL_CACERT",
            ));
        }
        match (certificate, key) {
            (Some(certificate), Some(key)) => self = self.client_certificate(certificate, key),
            (None, None) => {}
            _ => {
                return Err(ConsulError::config(
                    "CONSUL_CLIENT_CERT and CONSUL_CLIENT_KEY belong together, and one is missing",
                ));
            }
        }
        match (token_file, token) {
            (Some(file), _) => self = self.token(Secret::file(file)),
            (None, Some(token)) => self = self.token(token),
            (None, None) => {}
        }
        if ssl {
            // Consul's tools do the same to `http://`.
            let rest = self.address.strip_prefix("http://").unwrap_or(&self.address);
            if !rest.contains("://") {
                self.address = format!("https://{rest}");
            }
        }
        Ok(self)
    }
}

/// What Go takes for a truth value.
fn truth(name: &str, value: &str) -> Result<bool, ConsulError> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(ConsulError::config(format!("{name} is neither true nor false"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(variables: &[(&str, &str)]) -> Result<ConsulConfig, ConsulError> {
        ConsulConfig::from_env("nats", variables.iter().copied())
    }

    #[test]
    fn the_variables_of_consuls_tools_are_taken() {
        let shown = format!(
            "{:?}",
            from(&[
                ("CONSUL_HTTP_ADDR", "consul.example:8501"),
                ("CONSUL_HTTP_SSL", "true"),
                ("CONSUL_HTTP_SSL_VERIFY", "1"),
                ("CONSUL_CACERT", "/ca.pem"),
                ("CONSUL_CLIENT_CERT", "/c.pem"),
                ("CONSUL_CLIENT_KEY", "/k.pem"),
                ("CONSUL_HTTP_TOKEN", "s3cr3t"),
                ("PATH", "/bin"),
            ])
            .unwrap()
        );
        for part in [
            "https://consul.example:8501",
            "/ca.pem",
            "/c.pem",
            "/k.pem",
            "token: Some",
        ] {
            assert!(shown.contains(part), "{part}: {shown}");
        }
        assert!(!shown.contains("s3cr3t"), "{shown}");
    }

    #[test]
    fn what_was_set_stays_where_a_variable_is_empty_or_missing() {
        let config = ConsulConfig::new("nats").address("a:1").token("x");
        let config = config.with_env([("CONSUL_HTTP_ADDR", "")]).unwrap();
        assert_eq!(config.address, "a:1");
        assert!(format!("{config:?}").contains("token: Some"));
    }

    #[test]
    fn a_file_wins_over_a_token_and_a_scheme_over_ssl() {
        for variables in [
            [("CONSUL_HTTP_TOKEN", "x"), ("CONSUL_HTTP_TOKEN_FILE", "/t")],
            [("CONSUL_HTTP_TOKEN_FILE", "/t"), ("CONSUL_HTTP_TOKEN", "x")],
        ] {
            assert!(format!("{:?}", from(&variables).unwrap()).contains("File(\"/t\")"));
        }
        for (address, expected) in [
            ("http://a", "https://a"),
            ("a:1", "https://a:1"),
            ("https://a", "https://a"),
            ("unix:///x", "unix:///x"),
        ] {
            let config = from(&[("CONSUL_HTTP_SSL", "1"), ("CONSUL_HTTP_ADDR", address)]).unwrap();
            assert_eq!(config.address, expected);
        }
    }

    #[test]
    fn what_would_weaken_or_mislead_is_refused() {
        for (variables, name) in [
            ([("CONSUL_HTTP_SSL_VERIFY", "false")], "CONSUL_CACERT"),
            ([("CONSUL_HTTP_SSL", "yes")], "CONSUL_HTTP_SSL"),
            ([("CONSUL_CLIENT_CERT", "/c.pem")], "CONSUL_CLIENT_KEY"),
        ] {
            let error = from(&variables).unwrap_err();
            assert!(error.to_string().contains(name), "{error}");
        }
    }
}
