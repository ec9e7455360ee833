use super::*;
use crate::doctor::finding::Level;

fn message(json: &str) -> Reply {
    Reply::Message(Bytes::copy_from_slice(json.as_bytes()))
}

/// As nats-server 2.15.1 tells it of a cluster.
fn stream(name: &str, storage: &str, replicas: u32, extra: &str, cluster: &str) -> String {
    format!(
        r#"{{"config":{{"name":"{name}","subjects":["x"],"storage":"{storage}","num_replicas":{replicas}{extra}}},
            "created":"2026-11-20T13:09:17.836919575Z","state":{{"messages":0,"bytes":0}}{cluster},
            "ts":"2026-11-20T13:09:17.97635933Z"}}"#
    )
}

fn judged(streams: &[String]) -> Vec<Finding> {
    let json = format!(
        r#"{{"type":"io.nats.jetstream.api.v1.stream_list_response","total":3,"offset":0,"limit":256,"streams":[{}]}}"#,
        streams.join(",")
    );
    let page: Page = read(&message(&json), LIST).unwrap();
    assert_eq!((page.total, page.streams.len()), (3, streams.len()));
    judge(&page.streams)
}

#[test]
fn where_it_is_not_enabled_or_not_permitted_that_is_no_fault() {
    let account = r#"{"type":"io.nats.jetstream.api.v1.account_info_response",
        "error":{"code":503,"err_code":10039,"description":"JetStream not enabled for account"}}"#;
    let other = r#"{"error":{"code":500,"err_code":10023,"description":"insufficient resources"}}"#;
    for (reply, level) in [
        (message(account), Level::Info),
        (Reply::NoResponders, Level::Info),
        (Reply::Denied, Level::Info),
        (message(other), Level::Warning),
        (message("no JSON"), Level::Warning),
        (Reply::Silent, Level::Warning),
    ] {
        let finding = read::<Account>(&reply, INFO).unwrap_err();
        assert_eq!(finding.level, level, "{reply:?}");
    }
}

fn account(json: &str) -> Vec<Finding> {
    read::<Account>(&message(json), INFO).unwrap().findings()
}

#[test]
fn limits_that_are_near_are_told() {
    let open = account(
        r#"{"type":"io.nats.jetstream.api.v1.account_info_response","memory":0,"storage":2062,"reserved_memory":0,
            "reserved_storage":0,"streams":4,"consumers":1,"limits":{"max_memory":-1,"max_storage":-1,"max_streams":-1,
            "max_consumers":-1,"max_ack_pending":-1,"memory_max_stream_bytes":-1,"storage_max_stream_bytes":-1,
            "max_bytes_required":false},"api":{"level":5,"total":5,"errors":0}}"#,
    );
    assert_eq!(open.len(), 1, "{open:?}");
    assert_eq!(open[0].text, "streams 4, consumers 1, disk 2.0 KiB, memory 0 B");

    let near = account(
        r#"{"memory":0,"storage":2062,"reserved_memory":0,"reserved_storage":800000,"streams":1,"consumers":0,
            "limits":{"max_memory":0,"max_storage":1000000,"max_streams":1,"max_consumers":7}}"#,
    );
    let fixes: Vec<_> = near.iter().filter_map(|finding| finding.fix.as_deref()).collect();
    assert_eq!(
        fixes,
        [
            "accounts { NAME { jetstream: { max_streams: 2 } } }",
            "accounts { NAME { jetstream: { max_file: 2000000 } } }",
        ]
    );
}

#[test]
fn tiers_have_limits_of_their_own() {
    let tiers = account(
        r#"{"memory":0,"storage":0,"streams":2,"consumers":0,"limits":{"max_memory":0,"max_storage":0,"max_streams":0,
            "max_consumers":0},"tiers":{"R1":{"memory":0,"storage":10,"streams":1,"consumers":0,"limits":
            {"max_memory":0,"max_storage":1000,"max_streams":9,"max_consumers":9}},"R3":{"memory":0,"storage":950,
            "streams":1,"consumers":0,"limits":{"max_memory":0,"max_storage":1000,"max_streams":9,"max_consumers":9}}}}"#,
    );
    let texts: Vec<_> = tiers.iter().map(|finding| finding.text.as_str()).collect();
    assert_eq!(
        texts,
        [
            "R1: streams 1 of 9, consumers 0 of 9, disk 10 B of 1000 B, memory 0 B",
            "R3: streams 1 of 9, consumers 0 of 9, disk 950 B of 1000 B, memory 0 B",
            "R3: nearly used up: disk 950 B of 1000 B",
        ]
    );
}

#[test]
fn what_an_ack_is_worth_depends_on_the_stream() {
    let lone = r#","cluster":{"name":"c1","leader":"n0"}"#;
    let three = r#","cluster":{"name":"c1","raft_group":"S-R3F-3UiXcDJF","leader":"n1","replicas":[
        {"name":"n0","current":true,"active":112588,"peer":"6DVFpukC"},
        {"name":"n2","current":false,"active":0,"lag":1,"peer":"44jzkV9D"}]}"#;
    let broken = three.replace(r#""current":false"#, r#""current":false,"offline":true"#);
    let headless = three.replace(r#""leader":"n1","#, "");

    assert_eq!(judged(&[stream("THREE", "file", 3, "", three)]), []);
    // Not clustered: there is nothing to choose.
    assert_eq!(judged(&[stream("ONE", "file", 1, "", "")]), []);
    for (stream, check) in [
        (stream("ONE", "file", 1, "", lone), "replicas"),
        (stream("OFF", "file", 3, "", &broken), "replicas"),
        (stream("OFF", "file", 3, "", &headless), "replicas"),
        (stream("MEM", "memory", 3, "", three), "storage"),
        (stream("P", "file", 1, r#","persist_mode":"async""#, ""), "persist_mode"),
    ] {
        let findings = judged(std::slice::from_ref(&stream));
        assert_eq!(findings.len(), 1, "{findings:?}");
        assert_eq!((findings[0].check, findings[0].level), (check, Level::Warning));
        assert!(findings[0].fix.is_some());
    }
}

#[test]
fn many_names_are_counted() {
    let names: Vec<_> = (0..12).map(|number| format!("S{number}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    assert!(list(&names).ends_with("S9 and 2 more"));
    assert_eq!(list(&names[..2]), "S0, S1");
}
