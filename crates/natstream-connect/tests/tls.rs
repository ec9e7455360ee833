//! TLS in every form, and every way in which it goes wrong.

mod support;

use std::sync::Arc;
use std::time::Duration;

use async_nats::rustls::crypto::ring::default_provider;
use async_nats::rustls::pki_types::CertificateDer;
use async_nats::rustls::pki_types::pem::PemObject;
use async_nats::rustls::{ClientConfig, RootCertStore};
use natstream_connect::{ConnectConfig, ConnectError, ConnectErrorKind, Tls};
use support::{LIMIT, TIMEOUT, connected, everything, refused, server};
use testkit::{Authority, CertificateFiles, within};

async fn accepted(config: ConnectConfig) {
    let connection = connected(config).await;
    within(LIMIT, connection.fence(TIMEOUT)).await.unwrap();
}

async fn rejected(config: ConnectConfig) -> ConnectError {
    let error = refused(config).await;
    assert_eq!(error.kind(), ConnectErrorKind::Tls, "{}", everything(&error));
    assert!(!error.is_retryable());
    error
}

#[tokio::test]
async fn tls_with_a_private_authority() {
    let authority = Authority::new();
    let server = authority.server("").await;
    let trust = || Tls::new().root_certificates(authority.root());
    accepted(ConnectConfig::new(server.url()).tls(trust())).await;
    accepted(ConnectConfig::new(server.url().replace("nats:", "tls:")).tls(trust())).await;
    accepted(ConnectConfig::new(server.url()).tls(Tls::optional().root_certificates(authority.root()))).await;
}

#[tokio::test]
async fn optional_tls_does_without() {
    let server = server("").await;
    accepted(ConnectConfig::new(server.url()).tls(Tls::optional())).await;
}

#[tokio::test]
async fn tls_before_the_server_speaks() {
    let authority = Authority::new();
    let server = authority.server("handshake_first: auto").await;
    accepted(ConnectConfig::new(server.url()).tls(Tls::new().root_certificates(authority.root()).handshake_first()))
        .await;
}

#[tokio::test]
async fn a_ready_configuration() {
    let authority = Authority::new();
    let server = authority.server("").await;
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_file(authority.root()).unwrap())
        .unwrap();
    let rustls = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    accepted(ConnectConfig::new(server.url()).tls(Tls::new().client_config(rustls.clone()))).await;

    let both = Tls::new().client_config(rustls).root_certificates(authority.root());
    let error = refused(ConnectConfig::new(server.url()).tls(both)).await;
    assert_eq!(error.field(), Some("tls"));
}

#[tokio::test]
async fn mutual_tls() {
    let authority = Authority::new();
    let server = authority.server("verify: true").await;
    let trust = || Tls::new().root_certificates(authority.root());
    let CertificateFiles { certificate, key } = authority.issue("client");
    accepted(ConnectConfig::new(server.url()).tls(trust().client_certificate(certificate, key))).await;

    let strangers = Authority::new();
    let stranger = strangers.issue("client");
    for tls in [trust(), trust().client_certificate(stranger.certificate, stranger.key)] {
        let error = refused(ConnectConfig::new(server.url()).tls(tls)).await;
        // The end of the connection may overtake the server's reason.
        let (tls, cut_off) = (ConnectErrorKind::Tls, ConnectErrorKind::Io);
        assert!([tls, cut_off].contains(&error.kind()), "{}", everything(&error));
        assert!(error.hint().unwrap().contains("client_certificate"));
    }
}

#[tokio::test]
async fn the_certificate_must_come_from_a_trusted_authority() {
    let authority = Authority::new();
    let server = authority.server("").await;
    let other = Authority::new();
    let error = rejected(ConnectConfig::new(server.url()).tls(Tls::new().root_certificates(other.root()))).await;
    assert!(error.to_string().contains("not trusted"), "{error}");
    // And so it is with the platform's authorities, where the server asks for TLS.
    let error = rejected(ConnectConfig::new(server.url())).await;
    assert!(error.to_string().contains("not trusted"), "{error}");
}

#[tokio::test]
async fn the_certificate_must_be_valid_now() {
    let authority = Authority::new();
    for (from, until, words) in [(2001, 2002, "has expired"), (2199, 2200, "not valid yet")] {
        let files = authority.issue_for_years("127.0.0.1", from, until);
        let server = authority.server_with(&files, "").await;
        let error =
            rejected(ConnectConfig::new(server.url()).tls(Tls::new().root_certificates(authority.root()))).await;
        assert!(error.to_string().contains(words), "{error}");
    }
}

#[tokio::test]
async fn the_certificate_must_be_for_the_host() {
    let authority = Authority::new();
    let server = authority.server_with(&authority.issue("nats.example"), "").await;
    let error = rejected(ConnectConfig::new(server.url()).tls(Tls::new().root_certificates(authority.root()))).await;
    assert!(error.to_string().contains("another host name"), "{error}");
}

#[tokio::test]
async fn required_tls_is_required() {
    let server = server("").await;
    for tls in [Tls::new(), Tls::new().handshake_first()] {
        let error = rejected(ConnectConfig::new(server.url()).tls(tls)).await;
        assert!(
            error.to_string().contains("does not answer with TLS"),
            "{}",
            everything(&error)
        );
    }
    rejected(ConnectConfig::new(server.url().replace("nats:", "tls:"))).await;
}

#[tokio::test]
async fn a_server_that_expects_tls_first_times_out_with_a_hint() {
    // The real one does not speak before either, but testkit could not tell when it is ready.
    let error = refused(ConnectConfig::new(support::fake("").await).connect_timeout(Duration::from_millis(200))).await;
    assert_eq!(error.kind(), ConnectErrorKind::Timeout);
    assert!(error.hint().unwrap().contains("handshake_first"));
}
