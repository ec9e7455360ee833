//! Certificates of both sides.

use std::fs;
use std::path::Path;

use integration::LIMIT;
use testkit::{Authority, CertificateFiles, NatsServer, within};

use crate::identity::{Identity, NO_CONNECTION, USAGE, accepted, rejected};

fn trusting(server: &NatsServer, root: &Path) -> Identity {
    Identity::at(server.url()).with("--tls-ca", "NATS_CA", root)
}

fn showing(identity: Identity, files: &CertificateFiles) -> Identity {
    identity
        .with("--tls-cert", "NATS_CERT", &files.certificate)
        .with("--tls-key", "NATS_KEY", &files.key)
        .secret_file(&files.key)
}

#[tokio::test]
async fn a_private_authority() {
    let authority = Authority::new();
    let server = within(LIMIT, authority.server("")).await;
    accepted(&trusting(&server, &authority.root())).await;

    rejected(&Identity::at(server.url()), NO_CONNECTION, "--tls-ca").await;
    let stranger = Authority::new();
    rejected(&trusting(&server, &stranger.root()), NO_CONNECTION, "not trusted").await;
    rejected(&trusting(&server, Path::new("/no/such/file")), USAGE, "/no/such/file").await;

    // Who wants TLS does not do without.
    let plain = within(LIMIT, NatsServer::start()).await;
    rejected(&trusting(&plain, &authority.root()), NO_CONNECTION, "TLS").await;
}

#[tokio::test]
async fn a_certificate_that_is_not_right() {
    let authority = Authority::new();
    for (files, words) in [
        (authority.issue("nats.example"), "another host name"),
        (authority.issue_for_years("127.0.0.1", 2001, 2002), "has expired"),
    ] {
        let server = within(LIMIT, authority.server_with(&files, "")).await;
        rejected(&trusting(&server, &authority.root()), NO_CONNECTION, words).await;
    }
}

#[tokio::test]
async fn mutual_tls() {
    let authority = Authority::new();
    let server = within(LIMIT, authority.server("verify: true")).await;
    let trust = || trusting(&server, &authority.root());
    let client = authority.issue("client");
    accepted(&showing(trust(), &client)).await;

    rejected(&trust(), NO_CONNECTION, "--tls-cert").await;
    let strangers = Authority::new();
    let stranger = showing(trust(), &strangers.issue("client"));
    rejected(&stranger, NO_CONNECTION, "--tls-cert").await;

    let half = trust().with("--tls-cert", "NATS_CERT", &client.certificate);
    rejected(&half, USAGE, "--tls-key").await;
    let wrong = CertificateFiles {
        key: authority.issue("client").key,
        ..client.clone()
    };
    rejected(&showing(trust(), &wrong), NO_CONNECTION, "does not fit").await;
    fs::write(&wrong.key, "s3cr3t, and no key").expect("the file can be written to");
    rejected(&showing(trust(), &wrong).secret("s3cr3t"), USAGE, "no private key").await;
}
