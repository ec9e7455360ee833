//! Secrets that are sent as they are: tokens and passwords.

use integration::LIMIT;
use testkit::{NatsServer, within};

use crate::identity::{Identity, REFUSED, USAGE, accepted, rejected};

const DENIED: &str = "did not accept the credentials";

async fn server(authorization: &str) -> NatsServer {
    let server = NatsServer::builder().config(format!("authorization {{ {authorization} }}"));
    within(LIMIT, server.start()).await
}

#[tokio::test]
async fn token() {
    let server = server("token: s3cr3t").await;
    let with = |token: &str| {
        Identity::at(server.url())
            .with("--token", "NATS_TOKEN", token)
            .secret("s3cr3t")
    };
    accepted(&with("s3cr3t")).await;
    rejected(&with("s3cr3t-not"), REFUSED, DENIED).await;
    rejected(&Identity::at(server.url()), REFUSED, DENIED).await;
}

#[tokio::test]
async fn user_and_password() {
    let server = server("user: app, password: s3cr3t").await;
    let with = |user: &str, password: &str| {
        Identity::at(server.url())
            .with("--user", "NATS_USER", user)
            .with("--password", "NATS_PASSWORD", password)
            .secret("s3cr3t")
    };
    accepted(&with("app", "s3cr3t")).await;
    rejected(&with("app", "s3cr3t-not"), REFUSED, DENIED).await;
    rejected(&with("somebody", "s3cr3t"), REFUSED, DENIED).await;
    let half = Identity::at(server.url())
        .with("--password", "NATS_PASSWORD", "s3cr3t")
        .secret("s3cr3t");
    rejected(&half, USAGE, "--password needs --user").await;
    let both = with("app", "s3cr3t").with("--token", "NATS_TOKEN", "s3cr3t");
    rejected(&both, USAGE, "exclude each other").await;
}

#[tokio::test]
async fn user_information_in_the_address() {
    let server = server("user: app, password: \"s3cr3t,/@\"").await;
    let with = |user: &str| {
        let url = format!("nats://{user}@127.0.0.1:{}", server.port());
        Identity::at(url).secret("s3cr3t")
    };
    accepted(&with("app:s3cr3t%2C%2F%40")).await;
    rejected(&with("app:s3cr3t"), REFUSED, DENIED).await;
    // Not encoded, it is no address; and what is wrong with it is not repeated.
    rejected(&with("app:s3cr3t,/@"), USAGE, "percent-encoded").await;
}
