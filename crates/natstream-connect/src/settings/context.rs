//! A context of the `nats` CLI: a JSON file with connection settings.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::error::{Problem, SettingsErrorKind};
use super::given::{Gathered, Given, Raw, read_limited};
use super::keys::{Form, KEYS, Key, suggest};
use super::origin::{Origin, Rank};

/// The largest file; real ones have less than 1 KiB.
const LARGEST: u64 = 1024 * 1024;

/// Fields that mean nothing to a connection.
const IGNORED: [&str; 6] = [
    "color_scheme",
    "description",
    "jetstream_api_prefix",
    "jetstream_event_prefix",
    "name",
    "windows_cert_match_by",
];

/// Fields that decide where or as whom the `nats` CLI connects, in ways that are not supported here. Connecting without them
/// would be wrong.
const UNSUPPORTED: [&str; 5] = [
    "nsc",
    "socks_proxy",
    "windows_ca_certs_match",
    "windows_cert_match",
    "windows_cert_store",
];

/// The `nats` CLI resolves these itself.
const REFERENCES: [&str; 4] = ["op://", "nsc://", "env://", "data:"];

/// Reads the context `name` below `config`, the directory of configurations.
pub(crate) fn gather(config: Option<&Path>, home: Option<&Path>, name: &str, gathered: &mut Gathered) {
    let unknown = |message: String| Problem::new(SettingsErrorKind::UnknownContext, message);
    let Some(config) = config else {
        let message = format!("there is no place for the context `{name}`: neither XDG_CONFIG_HOME nor HOME is set");
        return gathered.problems.push(unknown(message));
    };
    let directory = config.join("nats").join("context");
    if name.contains("..") || name.contains(['/', '\\']) {
        return gathered
            .problems
            .push(unknown(format!("`{name}` is not the name of a context")));
    }
    let path = directory.join(format!("{name}.json"));
    if !path.exists() {
        let known = names(&directory);
        let meant = suggest(name, known.iter().map(String::as_str));
        let meant = meant.map_or_else(String::new, |meant| format!("; did you mean `{meant}`?"));
        let message = format!("there is no context `{name}` in {}{meant}", directory.display());
        return gathered.problems.push(unknown(message));
    }
    match read(&path) {
        Ok(fields) => take(&path, home, fields, gathered),
        Err(problem) => gathered.problems.push(problem),
    }
}

fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let name = |entry: std::fs::DirEntry| Some(entry.file_name().to_str()?.strip_suffix(".json")?.to_owned());
    entries.filter_map(name).collect()
}

fn read(path: &Path) -> Result<Map<String, Value>, Problem> {
    let syntax = |message: String| Problem::new(SettingsErrorKind::Syntax, format!("{}: {message}", path.display()));
    let text = read_limited(path, LARGEST)?;
    if text.len() as u64 > LARGEST {
        return Err(syntax("it is larger than 1 MiB".to_owned()));
    }
    match serde_json::from_str(&text) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(_) => Err(syntax("it is not a JSON object".to_owned())),
        // The parser's own words might quote the file.
        Err(error) => Err(syntax(format!(
            "it is not JSON, line {} column {}",
            error.line(),
            error.column()
        ))),
    }
}

fn take(path: &Path, home: Option<&Path>, fields: Map<String, Value>, gathered: &mut Gathered) {
    let origin = Origin::Context { path: path.to_owned() };
    for (field, value) in fields {
        let text = match value {
            Value::String(text) => text,
            // What the `nats` CLI writes for every flag that nobody has set.
            Value::Null | Value::Bool(false) => continue,
            Value::Bool(true) => "true".to_owned(),
            Value::Array(list) if list.is_empty() => continue,
            _ => "something else".to_owned(),
        };
        if text.is_empty() || IGNORED.contains(&field.as_str()) {
            continue;
        }
        if UNSUPPORTED.contains(&field.as_str()) {
            let message = format!("the field `{field}` is not supported");
            let problem = Problem::new(SettingsErrorKind::Unsupported, message);
            gathered.problems.push(problem.at(origin.clone()));
            continue;
        }
        let Some(key) = KEYS.iter().find(|key| key.context == Some(field.as_str())) else {
            // Its format is not ours: there may be more fields one day.
            let message = format!("{}: the field `{field}` is not known and is ignored", path.display());
            gathered.warnings.push(message);
            continue;
        };
        match resolve(key, text, home) {
            Ok(raw) => gathered.add(Given {
                key,
                raw,
                origin: origin.clone(),
                rank: Rank::Context,
            }),
            Err(problem) => gathered.problems.push(problem.of(key.name).at(origin.clone())),
        }
    }
}

/// Paths may begin with `~`; other references are the `nats` CLI's own.
fn resolve(key: &Key, text: String, home: Option<&Path>) -> Result<Raw, Problem> {
    if let (Form::Path | Form::Secret, Some(scheme)) =
        (key.form, REFERENCES.iter().find(|scheme| text.starts_with(**scheme)))
    {
        let message = format!("references with `{scheme}` are not supported");
        return Err(Problem::new(SettingsErrorKind::Unsupported, message));
    }
    if key.form != Form::Path {
        return Ok(Raw::text(text));
    }
    let path = text.strip_prefix("file://").unwrap_or(&text);
    let path = match (path.strip_prefix('~'), home) {
        (Some(rest), Some(home)) => home.join(rest.trim_start_matches('/')),
        _ => PathBuf::from(path),
    };
    match path.to_str() {
        Some(path) => Ok(Raw::text(path)),
        None => Err(Problem::new(SettingsErrorKind::InvalidValue, "the path is not UTF-8")),
    }
}
