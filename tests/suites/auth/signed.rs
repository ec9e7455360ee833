//! Secrets that stay at home and sign: nkeys and JWTs.

use std::fs;

use integration::LIMIT;
use tempfile::NamedTempFile;
use testkit::{NatsServer, Operator, UserJwt, user_nkey, within};

use crate::identity::{Identity, REFUSED, USAGE, accepted, rejected};

const DENIED: &str = "did not accept the credentials";

async fn server(config: &str) -> NatsServer {
    within(LIMIT, NatsServer::builder().config(config).start()).await
}

fn file(text: &str) -> NamedTempFile {
    let file = NamedTempFile::new().expect("a file");
    fs::write(file.path(), text).expect("the file can be written to");
    file
}

#[tokio::test]
async fn nkey() {
    let (public, seed) = user_nkey();
    let server = server(&format!("authorization {{ users: [{{ nkey: {public} }}] }}")).await;
    let with = |text: &str| {
        let file = file(text);
        let identity = Identity::at(server.url())
            .with("--nkey", "NATS_NKEY", file.path())
            .secret(&text[text.find("SU").expect("a seed")..][..20]);
        (file, identity)
    };
    let (_file, alone) = with(&seed);
    accepted(&alone).await;
    let (_file, among_others) = with(&format!("# of a test\n{seed}\n{public}\n"));
    accepted(&among_others).await;

    let (_file, stranger) = with(&user_nkey().1);
    rejected(&stranger, REFUSED, DENIED).await;
    let (_file, broken) = with(&format!("{}AAAA", &seed[..seed.len() - 4]));
    rejected(&broken, USAGE, "nkey").await;
    let nowhere = Identity::at(server.url()).with("--nkey", "NATS_NKEY", "/no/such/file");
    rejected(&nowhere, USAGE, "cannot read the nkey file").await;
}

#[tokio::test]
async fn credentials_file() {
    let operator = Operator::new();
    let server = server(operator.config()).await;
    let with = |user: &UserJwt| {
        let file = file(&user.creds());
        let identity = Identity::at(server.url())
            .with("--creds", "NATS_CREDS", file.path())
            .secret_file(file.path());
        (file, identity)
    };
    let user = operator.user(0);
    let (_file, right) = with(&user);
    accepted(&right).await;

    let expired = operator.user(1_700_000_001);
    let stranger = Operator::new().user(0);
    let mixed = UserJwt {
        seed: operator.user(0).seed,
        ..user.clone()
    };
    for wrong in [expired, stranger, mixed] {
        let (_file, wrong) = with(&wrong);
        rejected(&wrong, REFUSED, DENIED).await;
    }
    let file = file(&user.seed);
    let half = Identity::at(server.url())
        .with("--creds", "NATS_CREDS", file.path())
        .secret(&user.seed);
    rejected(&half, USAGE, "no user JWT").await;
}
