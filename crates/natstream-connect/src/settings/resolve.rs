//! Which of the values that were given counts.

use std::collections::BTreeMap;

use super::error::{Problem, SettingsErrorKind};
use super::given::{Gathered, Given, Raw};
use super::keys::{Form, Id, KEYS, name};
use super::loaded::{Entry, Identity};
use super::origin::{Origin, Rank};
use super::value::Value;
use crate::credentials::Credentials;

/// What says who we are: each form, with the keys that it is made of.
const IDENTITIES: [(Identity, &[Id]); 5] = [
    (Identity::UserPassword, &[Id::Username, Id::Password]),
    (Identity::Token, &[Id::Token]),
    (Identity::Creds, &[Id::Creds]),
    (Identity::Nkey, &[Id::Nkey]),
    (Identity::Jwt, &[Id::Jwt, Id::Seed]),
];

/// The values that count.
pub(crate) struct Resolved {
    pub(crate) entries: BTreeMap<Id, Entry>,
    pub(crate) identity: Option<Identity>,
}

/// Takes the strongest value of each key, and one identity.
pub(crate) fn resolve(gathered: &mut Gathered) -> Resolved {
    gathered.given.sort_by_key(|given| given.rank);
    warn_of_ignored(gathered);
    let mut entries = BTreeMap::new();
    for key in KEYS.iter().filter(|key| key.form != Form::Ignored) {
        let default = key.default.map(|text| Given {
            key,
            raw: Raw::text(text),
            origin: Origin::Default,
            rank: Rank::Default,
        });
        let strongest = gathered.given.iter().find(|given| given.key.id == key.id);
        let Some(given) = strongest.or(default.as_ref()) else {
            continue;
        };
        match Value::parse(given) {
            Ok(value) => {
                let (origin, rank) = (given.origin.clone(), given.rank);
                entries.insert(key.id, Entry { value, origin, rank });
            }
            Err(message) => {
                let problem = Problem::new(SettingsErrorKind::InvalidValue, message);
                gathered.problems.push(problem.of(key.name).at(given.origin.clone()));
            }
        }
    }
    if cfg!(not(feature = "consul"))
        && let Some(Entry {
            value: Value::Flag(true),
            origin,
            ..
        }) = entries.get(&Id::UseConsul)
    {
        let message = format!("`use_consul` ({origin}) has no effect: this program was built without Consul");
        gathered.warnings.push(message);
    }
    let identity = identity(&mut entries, gathered);
    // Where a place could not be read, the other half may be in there.
    let is_readable = |problem: &Problem| {
        matches!(
            problem.kind(),
            SettingsErrorKind::Conflict | SettingsErrorKind::InvalidValue | SettingsErrorKind::Unsupported
        )
    };
    if gathered.problems.iter().all(is_readable) {
        pairs(&entries, identity, gathered);
    }
    Resolved { entries, identity }
}

/// The identity of the strongest place that names one, as a whole: a token in the environment takes the place of a user in the
/// file. Only a user's name and password may come from two places.
fn identity(entries: &mut BTreeMap<Id, Entry>, gathered: &mut Gathered) -> Option<Identity> {
    let mut found: Vec<(Rank, Identity, String)> = Vec::new();
    if let Some(Entry {
        value: Value::Servers(list),
        origin,
        rank,
    }) = entries.get(&Id::Urls)
        && list.login.is_some()
    {
        found.push((
            *rank,
            Identity::Url,
            format!("the user info in the server URL ({origin})"),
        ));
    }
    for (identity, ids) in IDENTITIES {
        let mut given = gathered.given.iter().filter(|given| ids.contains(&given.key.id));
        if let Some(given) = given.next() {
            let what = match &given.origin {
                origin @ Origin::Flag(_) => origin.to_string(),
                origin => format!("`{}` ({origin})", given.key.name),
            };
            found.push((given.rank, identity, what));
        }
    }
    let strongest = found.iter().map(|(rank, ..)| *rank).min()?;
    let mut equals = found.into_iter().filter(|(rank, ..)| *rank == strongest);
    let chosen = equals.next()?;
    let others: Vec<_> = equals.map(|(.., what)| what).collect();
    if !others.is_empty() {
        let message = format!("{} and {} exclude each other", chosen.2, others.join(" and "));
        gathered
            .problems
            .push(Problem::new(SettingsErrorKind::Conflict, message));
    }
    let chosen = chosen.1;
    for (identity, ids) in IDENTITIES {
        if identity != chosen {
            entries.retain(|id, _| !ids.contains(id));
        }
    }
    if let Some(Entry {
        value: Value::Servers(list),
        origin,
        rank,
    }) = entries.get_mut(&Id::Urls)
    {
        let login = list.login.take().filter(|_| chosen == Identity::Url);
        let (origin, rank) = (origin.clone(), *rank);
        let mut add = |id, value| {
            let origin = origin.clone();
            entries.insert(id, Entry { value, origin, rank });
        };
        match login {
            Some(Credentials::UserPassword { user, password }) => {
                add(Id::Username, Value::Text(user));
                add(Id::Password, Value::Secret(password));
                return Some(Identity::UserPassword);
            }
            Some(Credentials::Token(token)) => {
                add(Id::Token, Value::Secret(token));
                return Some(Identity::Token);
            }
            _ => {}
        }
    }
    Some(chosen)
}

/// Values that need each other.
fn pairs(entries: &BTreeMap<Id, Entry>, identity: Option<Identity>, gathered: &mut Gathered) {
    let mut needs = |id: Id, other: Id| {
        if let Some(entry) = entries.get(&id)
            && !entries.contains_key(&other)
            // What is wrong has been said already.
            && !gathered.given.iter().any(|given| given.key.id == other)
        {
            let message = format!("needs `{}`", name(other));
            let problem = Problem::new(SettingsErrorKind::Incomplete, message);
            gathered.problems.push(problem.of(name(id)).at(entry.origin.clone()));
        }
    };
    match identity {
        Some(Identity::UserPassword) => {
            needs(Id::Username, Id::Password);
            needs(Id::Password, Id::Username);
        }
        Some(Identity::Jwt) => {
            needs(Id::Jwt, Id::Seed);
            needs(Id::Seed, Id::Jwt);
        }
        _ => {}
    }
    needs(Id::TlsCert, Id::TlsKey);
    needs(Id::TlsKey, Id::TlsCert);
    needs(Id::ConsulCert, Id::ConsulKey);
    needs(Id::ConsulKey, Id::ConsulCert);
}

/// One warning for all of them.
fn warn_of_ignored(gathered: &mut Gathered) {
    let ignored = gathered.given.iter().filter(|given| given.key.form == Form::Ignored);
    let ignored: Vec<_> = ignored
        .map(|given| format!("`{}` ({})", given.key.name, given.origin))
        .collect();
    if !ignored.is_empty() {
        let message = format!("without meaning here, and ignored: {}", ignored.join(", "));
        gathered.warnings.push(message);
    }
}
