//! What the machine does, step by step.

use super::*;

const S: Duration = Duration::from_secs(1);

fn limits() -> Limits {
    Limits {
        min: 1,
        max: 3,
        grow_above: 10,
        idle: 60 * S,
        max_life: None,
    }
}

fn plan(limits: Limits, servers: &[&str]) -> Plan {
    Plan::new(limits, servers.iter().map(|server| (*server).to_owned()))
}

/// What is done now; every dial succeeds, but for those to `down`.
fn run(plan: &mut Plan, now: Duration, down: &[&str]) -> Vec<Action> {
    let mut done = Vec::new();
    loop {
        let actions = plan.poll(now, || 1.0);
        if actions.is_empty() {
            return done;
        }
        for action in actions {
            if let Action::Dial { id, server } = &action {
                done.extend(plan.dialled(*id, now, !down.contains(&&**server), 1.0));
            }
            done.push(action);
        }
    }
}

fn dials(actions: &[Action]) -> Vec<&str> {
    let mut servers = Vec::new();
    for action in actions {
        if let Action::Dial { server, .. } = action {
            servers.push(server.as_str());
        }
    }
    servers
}

fn retired(actions: &[Action]) -> Vec<Id> {
    let id = |action: &Action| match action {
        Action::Retire { id } => Some(*id),
        Action::Dial { .. } => None,
    };
    actions.iter().filter_map(id).collect()
}

fn seen(is_up: bool, is_home: bool, load: usize) -> Seen {
    Seen {
        is_up,
        is_home,
        load,
        leases: 0,
    }
}

#[test]
fn each_server_gets_its_fewest_at_once() {
    let mut plan = plan(Limits { min: 2, ..limits() }, &["a", "b"]);
    assert_eq!(dials(&run(&mut plan, S, &[])), ["a", "a", "b", "b"]);
    assert_eq!(run(&mut plan, 2 * S, &[]), []);
    assert_eq!(plan.dials(), (4, 0));
}

#[test]
fn it_grows_one_by_one_while_the_least_loaded_is_too_loaded() {
    let mut plan = plan(limits(), &["a", "b"]);
    run(&mut plan, S, &[]);
    plan.seen(0, S, seen(true, true, 11));
    plan.seen(1, S, seen(true, true, 10));
    assert_eq!(run(&mut plan, S, &[]), [], "one has room");
    plan.seen(1, S, seen(true, true, 11));
    let actions = plan.poll(S, || 1.0);
    assert_eq!(dials(&actions), ["a"]);
    assert_eq!(plan.poll(S, || 1.0), [], "one is on its way");
    plan.dialled(2, S, true, 1.0);
    for load in 0..4 {
        for id in 0..6 {
            plan.seen(id, S, seen(true, true, 11 + load));
        }
        run(&mut plan, S, &[]);
    }
    assert_eq!(plan.slots.len(), 6, "not beyond the most");
}

#[test]
fn what_is_idle_and_more_than_the_fewest_goes() {
    let mut plan = plan(Limits { min: 1, ..limits() }, &["a"]);
    run(&mut plan, S, &[]);
    plan.seen(0, S, seen(true, true, 11));
    run(&mut plan, S, &[]);
    plan.seen(1, 2 * S, seen(true, true, 3));
    plan.seen(0, 2 * S, seen(true, true, 0));
    plan.seen(1, 30 * S, seen(true, true, 0));
    assert_eq!(plan.next_wake(30 * S), 62 * S);
    assert_eq!(run(&mut plan, 61 * S, &[]), []);
    assert_eq!(retired(&run(&mut plan, 62 * S, &[])), [0]);
    assert_eq!(run(&mut plan, 1000 * S, &[]), [], "the last one stays");
}

#[test]
fn a_server_that_is_down_is_dialled_less_and_less_often() {
    let mut plan = plan(limits(), &["a"]);
    let mut dialled = Vec::new();
    let mut now = Duration::ZERO;
    while now < 100 * S {
        if !dials(&run(&mut plan, now, &["a"])).is_empty() {
            dialled.push(now.as_millis());
        }
        now = plan.next_wake(now);
    }
    assert_eq!(dialled[..5], [0, 100, 300, 700, 1500]);
    assert!(dialled.len() < 12, "{dialled:?}");
    assert_eq!(dials(&run(&mut plan, now, &[])), ["a"]);
    assert_eq!(plan.dials().0, 1);
}

#[test]
fn several_dials_that_fail_together_are_one_failure() {
    let mut plan = plan(
        Limits {
            min: 4,
            max: 4,
            ..limits()
        },
        &["a"],
    );
    let mut rounds = Vec::new();
    let mut now = Duration::ZERO;
    while rounds.len() < 4 {
        let actions = run(&mut plan, now, &["a"]);
        if !actions.is_empty() {
            rounds.push((now.as_millis(), actions.len()));
        }
        now = plan.next_wake(now);
    }
    assert_eq!(rounds, [(0, 4), (100, 1), (300, 1), (700, 1)]);
    assert_eq!(dials(&run(&mut plan, 2 * S, &[])).len(), 4, "it is back");
}

#[test]
fn growth_does_not_wait_for_a_server_that_hangs() {
    let mut plan = plan(limits(), &["a", "b"]);
    plan.poll(S, || 1.0);
    plan.dialled(0, S, true, 1.0);
    plan.seen(0, S, seen(true, true, 11));
    assert_eq!(dials(&plan.poll(5 * S, || 1.0)), ["a"]);
    assert_eq!(plan.poll(5 * S, || 1.0), [], "one at a time");
}

#[test]
fn only_what_works_counts_as_more_than_the_fewest() {
    let mut plan = plan(limits(), &["a"]);
    run(&mut plan, S, &[]);
    plan.seen(0, S, seen(true, true, 11));
    plan.poll(S, || 1.0);
    plan.seen(0, 2 * S, seen(true, true, 0));
    assert_eq!(plan.poll(100 * S, || 1.0), [], "the other one is only dialled");
    plan.dialled(1, 100 * S, true, 1.0);
    plan.seen(1, 100 * S, seen(false, true, 0));
    assert_eq!(plan.poll(200 * S, || 1.0), [], "the other one is down");
    plan.seen(1, 200 * S, seen(true, false, 0));
    assert!(
        retired(&plan.poll(200 * S, || 1.0)).is_empty(),
        "the other one is elsewhere"
    );
}

#[test]
fn short_use_is_use() {
    let mut plan = plan(limits(), &["a"]);
    run(&mut plan, S, &[]);
    plan.seen(0, S, seen(true, true, 11));
    run(&mut plan, S, &[]);
    for second in 2..100 {
        for id in 0..2 {
            let leases = u64::from(second);
            plan.seen(
                id,
                second * S,
                Seen {
                    leases,
                    ..seen(true, true, 0)
                },
            );
        }
        assert_eq!(run(&mut plan, second * S, &[]), []);
    }
    assert_eq!(retired(&run(&mut plan, 159 * S, &[])).len(), 1);
}

#[test]
fn times_without_end_do_no_harm() {
    let endless = Limits {
        idle: Duration::MAX,
        max_life: Some(Duration::MAX),
        ..limits()
    };
    let mut plan = plan(endless, &["a"]);
    run(&mut plan, S, &[]);
    plan.seen(0, S, seen(true, true, 11));
    run(&mut plan, S, &[]);
    plan.seen(0, S, seen(true, true, 0));
    plan.seen(1, S, seen(true, true, 0));
    assert_eq!(run(&mut plan, 1_000_000 * S, &[]), []);
}

#[test]
fn a_dial_to_a_server_that_has_left_the_list_is_in_vain() {
    let mut plan = plan(limits(), &["a"]);
    plan.poll(S, || 1.0);
    assert_eq!(retired(&plan.set_servers(["b".to_owned()])), [0]);
    assert_eq!(plan.dialled(0, 2 * S, true, 1.0), Some(Action::Retire { id: 0 }));
    assert_eq!(plan.dialled(7, 2 * S, false, 1.0), None);
}

#[test]
fn an_old_one_goes_when_its_replacement_is_there() {
    let mut plan = plan(
        Limits {
            max_life: Some(100 * S),
            ..limits()
        },
        &["a"],
    );
    run(&mut plan, Duration::ZERO, &[]);
    plan.seen(0, S, seen(true, true, 5));
    assert_eq!(run(&mut plan, 99 * S, &[]), []);
    let actions = plan.poll(100 * S, || 1.0);
    assert_eq!(dials(&actions), ["a"]);
    assert_eq!(plan.poll(100 * S, || 1.0), [], "once");
    assert_eq!(plan.dialled(1, 101 * S, true, 1.0), Some(Action::Retire { id: 0 }));
    // Where the server cannot be reached, the old one is better than none.
    let actions = plan.poll(202 * S, || 1.0);
    assert_eq!(dials(&actions), ["a"]);
    assert_eq!(plan.dialled(2, 202 * S, false, 1.0), None);
    assert_eq!(plan.slots.keys().copied().collect::<Vec<_>>(), [1]);
}

#[test]
fn one_that_had_to_go_elsewhere_is_replaced_when_its_server_is_back() {
    let mut plan = plan(limits(), &["a", "b"]);
    run(&mut plan, Duration::ZERO, &[]);
    plan.seen(0, S, seen(false, true, 5));
    assert_eq!(run(&mut plan, S, &["a"]), [], "async-nats looks for another server");
    plan.seen(0, 2 * S, seen(true, false, 5));
    assert_eq!(dials(&run(&mut plan, 2 * S, &["a"])), ["a"]);
    assert_eq!(run(&mut plan, 2 * S, &["a"]), [], "it has to wait");
    let later = plan.next_wake(2 * S);
    let actions = run(&mut plan, later, &[]);
    assert_eq!((dials(&actions), retired(&actions)), (vec!["a"], vec![0]));
    let scores: Vec<_> = plan.servers(later).map(|server| server.score < 1.0).collect();
    assert_eq!(scores, [true, false]);
}

#[test]
fn other_servers_take_the_place_of_those_that_are_gone() {
    let mut plan = plan(limits(), &["a", "b"]);
    run(&mut plan, Duration::ZERO, &[]);
    let retire = plan.set_servers(["b".to_owned(), "c".to_owned()]);
    assert_eq!(retired(&retire), [0]);
    assert_eq!(dials(&run(&mut plan, S, &[])), ["c"]);
    assert_eq!(plan.set_servers([]), [], "no server at all is no news");
    assert_eq!(run(&mut plan, 2 * S, &[]), []);
}
