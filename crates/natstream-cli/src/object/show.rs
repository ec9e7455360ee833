//! Buckets and objects, for people and for programs.

use natstream::eventbus::object::{BucketInfo, ObjectInfo};
use serde_json::json;

use crate::exit::printable;
use crate::size;

pub(super) fn buckets(infos: &[BucketInfo], is_json: bool) -> String {
    if is_json {
        let lines = infos.iter().map(|info| {
            let info = json!({
                "bucket": info.bucket,
                "bytes": info.bytes,
                "storage": info.stream.storage,
                "replicas": info.stream.replicas,
            });
            format!("{info}\n")
        });
        return lines.collect();
    }
    let width = infos.iter().map(|info| info.bucket.len()).max().unwrap_or(0).max(6);
    let mut text = format!("{:width$}  {:>10}  {:>8}\n", "BUCKET", "SIZE", "REPLICAS");
    for info in infos {
        let size = size::display(info.bytes as f64);
        text.push_str(&format!(
            "{:width$}  {size:>10}  {:>8}\n",
            info.bucket, info.stream.replicas
        ));
    }
    text
}

pub(super) fn objects(infos: &[ObjectInfo], is_json: bool) -> String {
    if is_json {
        return infos.iter().map(|info| object(info, true)).collect();
    }
    let mut text = format!("{:>10}  {:30}  NAME\n", "SIZE", "PUT");
    for info in infos {
        let size = size::display(info.size as f64);
        let modified = info.modified.to_string();
        text.push_str(&format!("{size:>10}  {modified:30}  {}\n", printable(&info.name)));
    }
    text
}

pub(super) fn object(info: &ObjectInfo, is_json: bool) -> String {
    if is_json {
        return format!("{}\n", json!(info));
    }
    let mut text = format!(
        "{}: {} bytes in {} chunks\n  put {}\n",
        printable(&info.name),
        info.size,
        info.chunks,
        info.modified
    );
    if let Some(digest) = &info.digest {
        text.push_str(&format!("  {}\n", printable(digest)));
    }
    if let Some(link) = info.link() {
        let name = link.name.as_deref().unwrap_or("*");
        text.push_str(&format!(
            "  a link to {} in {}\n",
            printable(name),
            printable(&link.bucket)
        ));
    }
    if !info.description.is_empty() {
        text.push_str(&format!("  {}\n", printable(&info.description)));
    }
    for (name, value) in &info.metadata {
        text.push_str(&format!("  {}: {}\n", printable(name), printable(value)));
    }
    text
}
