//! What async-nats' connect errors mean: it says "IO error" to most of them.

use std::borrow::Cow;
use std::error::Error;
use std::io;
use std::time::Duration;

use async_nats::rustls::{AlertDescription, CertificateError, Error as TlsError};
use async_nats::{ConnectErrorKind as NatsKind, ServerError};

use crate::error::ConnectErrorKind as Kind;

/// What became of the attempt to use one server.
#[derive(Debug)]
pub(crate) struct Verdict {
    pub(crate) kind: Kind,
    /// What failed, to stand behind "cannot connect to …: ". It repeats nothing of the source.
    pub(crate) reason: Cow<'static, str>,
    pub(crate) hint: Option<&'static str>,
}

impl Verdict {
    fn new(kind: Kind, reason: impl Into<Cow<'static, str>>) -> Self {
        Self {
            kind,
            reason: reason.into(),
            hint: None,
        }
    }

    fn hint(mut self, hint: &'static str) -> Self {
        self.hint = Some(hint);
        self
    }

    pub(crate) fn timeout(after: Duration) -> Self {
        Self::new(Kind::Timeout, format!("no answer within {after:?}")).hint(SILENCE)
    }

    /// async-nats panicked over what the server sent.
    pub(crate) fn nonsense() -> Self {
        Self::new(Kind::Protocol, "what answers there does not speak NATS")
    }
}

/// Reads an error of async-nats' `connect`; `timeout` is its own limit for one address.
pub(crate) fn classify(error: &async_nats::ConnectError, timeout: Duration) -> Verdict {
    match error.kind() {
        NatsKind::AuthorizationViolation => refused_credentials(),
        NatsKind::Authentication => Verdict::new(Kind::Authentication, "the credentials could not be produced"),
        NatsKind::Dns => Verdict::new(Kind::Dns, "the host name cannot be resolved")
            .hint("check the host name, and /etc/resolv.conf or /etc/hosts"),
        NatsKind::TimedOut => Verdict::timeout(timeout),
        NatsKind::ServerParse => Verdict::new(Kind::Protocol, "its list of cluster members cannot be read"),
        NatsKind::MaxReconnects => Verdict::new(Kind::Io, "no attempt is left"),
        NatsKind::Io | NatsKind::Tls => {
            let mut source = error.source();
            while let Some(inner) = source {
                if let Some(verdict) = classify_source(inner) {
                    return verdict;
                }
                source = inner.source();
            }
            match error.kind() {
                NatsKind::Tls => Verdict::new(Kind::Tls, "TLS cannot be set up").hint(TLS_FILES),
                _ => Verdict::new(Kind::Io, "the connection broke"),
            }
        }
    }
}

fn refused_credentials() -> Verdict {
    Verdict::new(Kind::Authentication, "the server did not accept the credentials").hint(CREDENTIALS)
}

fn classify_source(error: &(dyn Error + 'static)) -> Option<Verdict> {
    if let Some(error) = error.downcast_ref::<TlsError>() {
        return Some(classify_tls(error));
    }
    if let Some(error) = error.downcast_ref::<ServerError>() {
        return Some(classify_server(error));
    }
    if let Some(error) = error.downcast_ref::<io::Error>() {
        return classify_io(error);
    }
    classify_text(&error.to_string())
}

fn classify_tls(error: &TlsError) -> Verdict {
    let verdict = Verdict::new(Kind::Tls, "TLS cannot be established");
    match error {
        TlsError::InvalidCertificate(problem) => {
            let (reason, hint) = match problem {
                // A bad signature is what another authority of the same name leads to.
                CertificateError::UnknownIssuer | CertificateError::BadSignature => (
                    "its certificate is from an authority that is not trusted",
                    Some("give the authority's certificate with `Tls::root_certificates`"),
                ),
                CertificateError::Expired | CertificateError::ExpiredContext { .. } => (
                    "its certificate has expired",
                    Some("or the clock of this machine is wrong"),
                ),
                CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => (
                    "its certificate is not valid yet",
                    Some("or the clock of this machine is wrong"),
                ),
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => (
                    "its certificate is for another host name",
                    Some("connect by a name or address that the certificate holds"),
                ),
                _ => ("its certificate is not valid", None),
            };
            Verdict {
                kind: Kind::Tls,
                reason: reason.into(),
                hint,
            }
        }
        TlsError::InvalidMessage(_) => Verdict::new(Kind::Tls, "it does not answer with TLS")
            .hint("this server has TLS turned off, or `Tls::handshake_first` does not fit it"),
        TlsError::AlertReceived(
            AlertDescription::CertificateRequired
            | AlertDescription::BadCertificate
            | AlertDescription::UnknownCA
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown,
        ) => Verdict::new(
            Kind::Tls,
            "it does not accept the client certificate, or the lack of one",
        )
        .hint("give a certificate that the server trusts with `Tls::client_certificate`"),
        _ => verdict,
    }
}

fn classify_server(error: &ServerError) -> Verdict {
    match error {
        ServerError::AuthorizationViolation => refused_credentials(),
        ServerError::Other(text) if is_about_credentials(text) => refused_credentials(),
        _ => Verdict::new(Kind::Rejected, "the server turned the connection away"),
    }
}

fn is_about_credentials(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    // "user authentication expired", "user authentication revoked", "account authentication
    // expired", "authentication timeout", …
    text.contains("authentication") || text.contains("authorization")
}

fn classify_io(error: &io::Error) -> Option<Verdict> {
    if let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<TlsError>()) {
        return Some(classify_tls(tls));
    }
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Some(
            Verdict::new(Kind::Refused, "nobody listens there")
                .hint("the server is not running, or listens at another address or port"),
        ),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => {
            Some(cut_off())
        }
        io::ErrorKind::UnexpectedEof if error.to_string().contains("tls") => Some(
            Verdict::new(Kind::Tls, "it ended the TLS handshake")
                .hint("this server has TLS turned off, or wants another form of it"),
        ),
        io::ErrorKind::UnexpectedEof => Some(cut_off()),
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable | io::ErrorKind::AddrNotAvailable => {
            Some(Verdict::new(Kind::Io, "the network cannot reach it"))
        }
        io::ErrorKind::TimedOut => Some(Verdict::new(Kind::Timeout, "no answer")),
        // So says async-nats' parser.
        io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData => Some(Verdict::nonsense()),
        _ => None,
    }
}

fn cut_off() -> Verdict {
    // The server's reason is lost when the end of the connection overtakes it.
    Verdict::new(Kind::Io, "the connection was cut off during the handshake").hint(CUT_OFF)
}

/// async-nats has texts where it has no types.
fn classify_text(text: &str) -> Option<Verdict> {
    if text == "expected INFO, got nothing" || text == "broken pipe" {
        return Some(cut_off());
    }
    let instead = text.strip_prefix("expected INFO, got ")?;
    match instead.strip_prefix("Error(") {
        Some(error) if is_about_credentials(error) => Some(refused_credentials()),
        Some(_) => Some(Verdict::new(Kind::Rejected, "the server turned the connection away")),
        None => Some(Verdict::nonsense()),
    }
}

const CREDENTIALS: &str = "wrong or expired credentials, none where the server wants some, \
    or a user that may not connect in this way";

const CUT_OFF: &str = "so does a server that is full or is stopping, or one that wants a client \
    certificate (`Tls::client_certificate`)";

const SILENCE: &str = "a firewall that drops packets, another program at that port, \
    or a server that expects TLS first (`Tls::handshake_first`)";

const TLS_FILES: &str = "the platform's root certificates cannot be read \
    (`Tls::root_certificates` replaces them), or the client's key does not fit its certificate";

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(kind: NatsKind, source: impl Into<async_nats::Error>) -> Kind {
        classify(
            &async_nats::ConnectError::with_source(kind, source),
            Duration::from_secs(5),
        )
        .kind
    }

    #[test]
    fn kinds_follow_the_cause() {
        let io = |kind: io::ErrorKind| io::Error::from(kind);
        let tls = |error: TlsError| io::Error::new(io::ErrorKind::InvalidData, error);
        let server = |text: &str| ServerError::Other(text.to_owned());
        for (found, expected) in [
            (
                kind(NatsKind::AuthorizationViolation, ServerError::AuthorizationViolation),
                Kind::Authentication,
            ),
            (kind(NatsKind::Authentication, "vault is shut"), Kind::Authentication),
            (
                kind(NatsKind::Io, server("User Authentication Expired")),
                Kind::Authentication,
            ),
            (
                kind(NatsKind::Io, server("Account Authentication Expired")),
                Kind::Authentication,
            ),
            (
                kind(NatsKind::Io, server("maximum connections exceeded")),
                Kind::Rejected,
            ),
            (
                kind(
                    NatsKind::Io,
                    "expected INFO, got Error(Other(\"maximum connections exceeded\"))",
                ),
                Kind::Rejected,
            ),
            (
                kind(
                    NatsKind::Io,
                    "expected INFO, got Error(Other(\"Authentication Timeout\"))",
                ),
                Kind::Authentication,
            ),
            (kind(NatsKind::Io, "expected INFO, got Ping"), Kind::Protocol),
            (kind(NatsKind::Io, "expected INFO, got nothing"), Kind::Io),
            (kind(NatsKind::Io, "broken pipe"), Kind::Io),
            (kind(NatsKind::Io, io(io::ErrorKind::ConnectionRefused)), Kind::Refused),
            (kind(NatsKind::Io, io(io::ErrorKind::ConnectionReset)), Kind::Io),
            (kind(NatsKind::Io, io(io::ErrorKind::InvalidInput)), Kind::Protocol),
            (kind(NatsKind::Io, io(io::ErrorKind::PermissionDenied)), Kind::Io),
            (
                kind(
                    NatsKind::Io,
                    io::Error::new(io::ErrorKind::UnexpectedEof, "tls handshake eof"),
                ),
                Kind::Tls,
            ),
            (
                kind(
                    NatsKind::Io,
                    tls(TlsError::InvalidCertificate(CertificateError::Expired)),
                ),
                Kind::Tls,
            ),
            (
                kind(
                    NatsKind::Io,
                    tls(TlsError::AlertReceived(AlertDescription::CertificateRequired)),
                ),
                Kind::Tls,
            ),
            (kind(NatsKind::Tls, "could not load platform certs"), Kind::Tls),
            (kind(NatsKind::Dns, io(io::ErrorKind::NotFound)), Kind::Dns),
        ] {
            assert_eq!(found, expected);
        }
        assert_eq!(
            classify(&async_nats::ConnectError::new(NatsKind::TimedOut), Duration::ZERO).kind,
            Kind::Timeout
        );
    }
}
