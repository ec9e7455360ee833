//! JetStream: what is left of its limits, and what an ack is worth.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::ask::{Inbox, Reply};
use super::finding::Finding;
use super::user::allow;
use crate::size;

const INFO: &str = "$JS.API.INFO";
const LIST: &str = "$JS.API.STREAM.LIST";

/// Error codes of nats-server: JetStream is not enabled, at all or for the account.
const NOT_ENABLED: [u64; 2] = [10039, 10076];

/// A limit of which more than this part is used up is near.
const NEAR: f64 = 0.8;

/// So many streams are looked at, 256 with each question.
const MOST_STREAMS: usize = 10_000;

/// So many are named; the others are counted.
const MOST_NAMES: usize = 10;

/// Looks at JetStream.
pub(super) async fn check(inbox: &mut Inbox) -> Vec<Finding> {
    let account = match read::<Account>(&inbox.ask(INFO, Bytes::new()).await, INFO) {
        Ok(account) => account,
        Err(finding) => return vec![finding],
    };
    let mut findings = account.findings();
    match streams(inbox).await {
        Ok(streams) => findings.extend(judge(&streams)),
        Err(finding) => findings.push(finding),
    }
    findings.push(
        Finding::info(
            "durability",
            "an ack means that nats-server has the event, not that a disk has it: it syncs every 2 minutes, unless \
             `sync_interval` says otherwise, which clients cannot see",
        )
        .with_fix("jetstream { sync_interval: always }"),
    );
    findings
}

async fn streams(inbox: &mut Inbox) -> Result<Vec<Stream>, Finding> {
    let mut streams = Vec::new();
    loop {
        let question = json!({ "offset": streams.len() }).to_string();
        let page = read::<Page>(&inbox.ask(LIST, question).await, LIST)?;
        let is_last = page.streams.is_empty();
        streams.extend(page.streams);
        if is_last || streams.len() >= page.total.min(MOST_STREAMS) {
            return Ok(streams);
        }
    }
}

/// An answer of the API: what was asked for, or an error.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Api<T> {
    Failed { error: ApiError },
    Fine(T),
}

#[derive(Debug, Deserialize)]
struct ApiError {
    #[serde(default)]
    err_code: u64,
    #[serde(default)]
    description: String,
}

/// The answer, or what there is to say when it is none.
fn read<T: DeserializeOwned>(reply: &Reply, subject: &str) -> Result<T, Finding> {
    let check = "jetstream";
    Err(match reply {
        Reply::Message(json) => match serde_json::from_slice::<Api<T>>(json) {
            Ok(Api::Fine(answer)) => return Ok(answer),
            Ok(Api::Failed { error }) if NOT_ENABLED.contains(&error.err_code) => {
                Finding::info(check, "not enabled for this account; streams of answers do not need it")
                    .with_fix("accounts { NAME { jetstream: enabled } }")
            }
            Ok(Api::Failed { error }) => Finding::warning(check, format!("`{subject}` fails: {}", error.description)),
            Err(error) => Finding::warning(check, format!("the answer of `{subject}` is unreadable: {error}")),
        },
        Reply::NoResponders => Finding::info(check, "not enabled; streams of answers do not need it")
            .with_fix("jetstream { store_dir: \"/var/lib/nats\" }"),
        Reply::Denied => Finding::info(
            check,
            format!("this user may not ask (`{subject}`); streams of answers do not need it"),
        )
        .with_fix(allow("publish", &["$JS.API.>"])),
        Reply::Silent => Finding::warning(
            check,
            format!(
                "no answer from `{subject}`: in a cluster, too few of its servers may be running to elect a leader"
            ),
        ),
    })
}

/// The answer of `$JS.API.INFO`.
#[derive(Debug, Deserialize)]
struct Account {
    #[serde(flatten)]
    usage: Usage,
    /// Where limits depend on the number of replicas: for each of them, `R1` and so on.
    #[serde(default)]
    tiers: BTreeMap<String, Usage>,
}

#[derive(Debug, Deserialize)]
struct Usage {
    #[serde(default)]
    memory: u64,
    #[serde(default)]
    reserved_memory: u64,
    #[serde(default)]
    storage: u64,
    #[serde(default)]
    reserved_storage: u64,
    #[serde(default)]
    streams: u64,
    #[serde(default)]
    consumers: u64,
    #[serde(default)]
    limits: Limits,
}

/// Negative for none.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Limits {
    max_memory: i64,
    max_storage: i64,
    max_streams: i64,
    max_consumers: i64,
}

impl Account {
    fn findings(&self) -> Vec<Finding> {
        let tiers: Vec<_> = match self.tiers.is_empty() {
            true => vec![("", &self.usage)],
            false => self.tiers.iter().map(|(name, tier)| (name.as_str(), tier)).collect(),
        };
        let mut findings = Vec::new();
        for (name, tier) in tiers {
            let name = if name.is_empty() {
                String::new()
            } else {
                format!("{name}: ")
            };
            let text = tier.resources().map(|resource| resource.to_string()).join(", ");
            findings.push(Finding::ok("jetstream", format!("{name}{text}")));
            let near = tier.resources().into_iter().filter(Resource::is_near);
            findings.extend(near.map(|resource| {
                Finding::warning("jetstream_limits", format!("{name}nearly used up: {resource}"))
                    .with_fix(resource.more())
            }));
        }
        findings
    }
}

impl Usage {
    fn resources(&self) -> [Resource; 4] {
        let Limits {
            max_memory,
            max_storage,
            max_streams,
            max_consumers,
        } = self.limits;
        let resource = |what, setting, used, limit: i64| Resource {
            what,
            setting,
            used,
            // Negative is no limit, and 0 forbids what nobody misses then.
            limit: u64::try_from(limit).ok().filter(|limit| *limit > 0),
        };
        [
            resource("streams", "max_streams", self.streams, max_streams),
            resource("consumers", "max_consumers", self.consumers, max_consumers),
            resource("disk", "max_file", self.storage.max(self.reserved_storage), max_storage),
            resource("memory", "max_mem", self.memory.max(self.reserved_memory), max_memory),
        ]
    }
}

/// Something that JetStream has, or an account may use, only so much of.
#[derive(Clone, Copy, Debug)]
struct Resource {
    what: &'static str,
    /// The limit's name in the configuration.
    setting: &'static str,
    used: u64,
    limit: Option<u64>,
}

impl Resource {
    fn is_near(&self) -> bool {
        self.limit.is_some_and(|limit| self.used as f64 >= limit as f64 * NEAR)
    }

    /// The configuration that allows for twice as much.
    fn more(&self) -> String {
        let limit = self.limit.unwrap_or_default().saturating_mul(2);
        format!("accounts {{ NAME {{ jetstream: {{ {}: {limit} }} }} }}", self.setting)
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let show = |number: u64| match self.setting {
            "max_file" | "max_mem" => size::display(number as f64),
            _ => number.to_string(),
        };
        write!(f, "{} {}", self.what, show(self.used))?;
        match self.limit {
            Some(limit) => write!(f, " of {}", show(limit)),
            None => Ok(()),
        }
    }
}

/// A page of the answer of `$JS.API.STREAM.LIST`.
#[derive(Debug, Deserialize)]
struct Page {
    #[serde(default)]
    total: usize,
    #[serde(default)]
    streams: Vec<Stream>,
}

#[derive(Debug, Deserialize)]
struct Stream {
    config: Config,
    /// Where JetStream is clustered.
    cluster: Option<Cluster>,
}

#[derive(Debug, Deserialize)]
struct Config {
    name: String,
    #[serde(default)]
    storage: String,
    #[serde(default)]
    num_replicas: u32,
    /// `async`: acks come before anything is written.
    #[serde(default)]
    persist_mode: String,
}

#[derive(Debug, Deserialize)]
struct Cluster {
    #[serde(default)]
    leader: String,
    #[serde(default)]
    replicas: Vec<Replica>,
}

#[derive(Debug, Deserialize)]
struct Replica {
    #[serde(default)]
    offline: bool,
}

impl Stream {
    fn lacks_servers(&self) -> bool {
        self.cluster
            .as_ref()
            .is_some_and(|cluster| cluster.leader.is_empty() || cluster.replicas.iter().any(|replica| replica.offline))
    }
}

/// What an ack of these streams is worth.
fn judge(streams: &[Stream]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut tell = |check, is_so: fn(&Stream) -> bool, what: &str, fix: &str| {
        let names: Vec<_> = streams
            .iter()
            .filter(|stream| is_so(stream))
            .map(|stream| stream.config.name.as_str())
            .collect();
        if !names.is_empty() {
            findings.push(Finding::warning(check, format!("{what}: {}", list(&names))).with_fix(fix));
        }
    };
    tell(
        "replicas",
        |stream| stream.cluster.is_some() && stream.config.num_replicas <= 1,
        "on one server of the cluster only, and gone with its disk",
        "num_replicas: 3  # nats stream edit NAME --replicas 3",
    );
    tell(
        "replicas",
        Stream::lacks_servers,
        "some of their servers are not running",
        "start the servers: nats server report jetstream",
    );
    tell(
        "storage",
        |stream| stream.config.storage == "memory",
        "in memory, and gone when its servers stop",
        "storage: file  # only for a new stream",
    );
    tell(
        "persist_mode",
        |stream| stream.config.persist_mode == "async",
        "acks come before anything is written",
        "persist_mode: default  # only for a new stream",
    );
    findings
}

/// These names, or the first of them.
fn list(names: &[&str]) -> String {
    let shown = names.iter().take(MOST_NAMES).copied().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(MOST_NAMES) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

#[cfg(test)]
mod tests;
