//! Buckets and entries, for people and for programs.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use natstream::eventbus::kv::{Entry, KvInfo, Operation};
use serde_json::{Value, json};

use crate::size;

pub(super) fn buckets(infos: &[KvInfo], is_json: bool) -> String {
    if is_json {
        return infos.iter().map(|info| bucket(info, true)).collect();
    }
    let width = infos.iter().map(|info| info.bucket.len()).max().unwrap_or(0).max(6);
    let mut text = format!(
        "{:width$}  {:>10}  {:>10}  {:>8}  {:>8}\n",
        "BUCKET", "VALUES", "SIZE", "HISTORY", "REPLICAS"
    );
    for info in infos {
        let size = size::display(info.bytes as f64);
        text.push_str(&format!(
            "{:width$}  {:>10}  {size:>10}  {:>8}  {:>8}\n",
            info.bucket, info.values, info.history, info.stream.replicas
        ));
    }
    text
}

pub(super) fn bucket(info: &KvInfo, is_json: bool) -> String {
    if is_json {
        let info = json!({
            "bucket": info.bucket,
            "values": info.values,
            "bytes": info.bytes,
            "history": info.history,
            "max_age_seconds": info.max_age.map(|age| age.as_secs_f64()),
            "storage": info.stream.storage,
            "replicas": info.stream.replicas,
        });
        return format!("{info}\n");
    }
    let age = info
        .max_age
        .map_or_else(String::new, |age| format!(", for {}", humantime::format_duration(age)));
    format!(
        "{}: {} values, {}\n  {} revisions of a key{age}\n  {:?}, {} replicas\n",
        info.bucket,
        info.values,
        size::display(info.bytes as f64),
        info.history,
        info.stream.storage,
        info.stream.replicas,
    )
}

/// One line: the revision, what was done, the key, and the value as it is.
pub(super) fn entry(entry: &Entry<Bytes>, is_json: bool) -> Vec<u8> {
    let operation = match entry.operation {
        Operation::Delete => "DEL",
        Operation::Expire => "EXPIRE",
        Operation::Purge => "PURGE",
        _ => "PUT",
    };
    if is_json {
        let mut object = json!({
            "key": entry.key,
            "operation": operation,
            "revision": entry.revision,
            "created": entry.created.to_string(),
        });
        if let Some(value) = &entry.value {
            match std::str::from_utf8(value) {
                Ok(text) => object["value"] = Value::from(text),
                Err(_) => object["value_base64"] = Value::from(STANDARD.encode(value)),
            }
        }
        return format!("{object}\n").into_bytes();
    }
    let mut line = format!("{} {operation} {}", entry.revision, entry.key).into_bytes();
    if let Some(value) = &entry.value {
        line.push(b' ');
        line.extend_from_slice(value);
    }
    line.push(b'\n');
    line
}
