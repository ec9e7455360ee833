//! Which server is tried next.

use async_nats::{ReconnectToServer, Server, ServerAddr};
use parking_lot::Mutex;

use crate::end::Patience;
use crate::observe::Signals;
use crate::reconnect::random;

/// Servers taken off the list that are remembered, so that the cluster's word does not bring them back: some 100 KiB.
const MOST_REMOVED: usize = 1024;

/// Chooses the server for the next attempt: the one that was tried longest ago.
///
/// async-nats' own choice (fewest failures first) does not say which server it took, and does not
/// count a name that cannot be resolved.
///
/// It chooses among async-nats' pool and nothing else: async-nats takes no other address, and falls back to a choice of its
/// own when it is given one. The pool begins with the configured servers and learns others from the cluster.
/// [`set_list`](Self::set_list) replaces the servers while the connection lives; the supervisor then brings the pool in line,
/// which async-nats does only while it is connected. Until then the choice is limited to what both have in common, and
/// where that is nothing, the way leads over the [signpost](crate::signpost).
#[derive(Debug)]
pub(crate) struct Selector {
    retain_order: bool,
    /// async-nats is not told: a server that the signpost names counts as discovered too.
    ignore_discovered: bool,
    tried: Mutex<Tried>,
}

#[derive(Debug)]
struct Tried {
    /// The servers tried so far, the latest last.
    order: Vec<ServerAddr>,
    known: usize,
    /// Where the connection may go.
    list: Vec<ServerAddr>,
    /// What was on the list once, the latest last.
    removed: Vec<ServerAddr>,
    /// Of what the pool should be.
    version: u64,
    /// The version that async-nats' pool was last brought in line with.
    in_pool: u64,
    replaced: bool,
    signpost: Option<ServerAddr>,
    /// The signpost was the last choice.
    asked: bool,
}

impl Selector {
    /// `pool` is what async-nats begins with, and `list` where the connection may go from then on.
    pub(crate) fn new(pool: &[ServerAddr], list: Vec<ServerAddr>, retain_order: bool, ignore_discovered: bool) -> Self {
        let version = u64::from(pool != list);
        Self {
            retain_order,
            ignore_discovered,
            tried: Mutex::new(Tried {
                order: Vec::new(),
                known: 0,
                list,
                removed: Vec::new(),
                version,
                in_pool: 0,
                replaced: false,
                signpost: None,
                asked: false,
            }),
        }
    }

    /// The callback for [`async_nats::ConnectOptions::reconnect_to_server_callback`]. Where there shall be no further attempt,
    /// it notes that; [`delay`](crate::reconnect::delay), which async-nats asks next, then ends the connection.
    pub(crate) fn choose(&self, pool: &[Server], signals: &Signals, patience: &Patience) -> Option<ReconnectToServer> {
        // The latest attempt: a visit to the signpost is none.
        let last = self.current();
        let addr = self.next(pool, random)?;
        if signals.is_attached() && !signals.is_closing() && !self.is_signpost(&addr) {
            // Events say it too, but may be lost.
            let last = pool.iter().find(|server| Some(&server.addr) == last.as_ref());
            let last_error = last.and_then(|server| server.last_error.as_deref());
            if let Err(reason) = patience.allows_attempt(signals.connects(), last_error) {
                tracing::error!(%reason, "the connection is given up");
                signals.close(reason);
            }
        }
        // No delay given: async-nats asks `delay`.
        Some(ReconnectToServer { addr, delay: None })
    }

    /// Is there more than one server to choose from? `told` is what the server that the connection is with has said about
    /// its cluster.
    pub(crate) fn others(&self, told: &[String]) -> bool {
        let told = if self.ignore_discovered { 0 } else { told.len() };
        let tried = self.tried.lock();
        // Counted at the last choice, which may have been one among the old ones.
        let known = if tried.replaced { 0 } else { tried.known };
        known.max(tried.list.len()).max(told) > 1
    }

    /// The server that was tried last; while connected, the one that the connection is with.
    pub(crate) fn current(&self) -> Option<ServerAddr> {
        self.tried.lock().order.last().cloned()
    }

    /// Where the connection may go from now on; `list` is not empty. Whether that is anything new.
    pub(crate) fn set_list(&self, list: Vec<ServerAddr>) -> bool {
        let mut tried = self.tried.lock();
        if tried.list == list {
            return false;
        }
        let old = std::mem::replace(&mut tried.list, list);
        tried.removed.extend(old);
        let Tried { removed, list, .. } = &mut *tried;
        removed.retain(|addr| !holds(list, addr));
        let surplus = removed.len().saturating_sub(MOST_REMOVED);
        removed.drain(..surplus);
        tried.version += 1;
        tried.replaced = true;
        true
    }

    /// The address of the signpost, which the next pool holds.
    pub(crate) fn set_signpost(&self, addr: ServerAddr) {
        let mut tried = self.tried.lock();
        tried.signpost = Some(addr);
        tried.version += 1;
    }

    fn is_signpost(&self, addr: &ServerAddr) -> bool {
        self.tried.lock().signpost.as_ref() == Some(addr)
    }

    /// Where the connection may go.
    pub(crate) fn list(&self) -> Vec<ServerAddr> {
        self.tried.lock().list.clone()
    }

    /// What async-nats' pool should hold and does not yet, with its version. `told` is what the server that the connection is
    /// with has said about its cluster.
    pub(crate) fn wanted_pool(&self, told: &[String]) -> Option<(u64, Vec<ServerAddr>)> {
        let tried = self.tried.lock();
        if tried.in_pool == tried.version {
            return None;
        }
        let mut pool = tried.list.clone();
        pool.extend(tried.signpost.clone());
        // Otherwise the cluster would be known again after the next connect only. A server that is off the list says nothing
        // about those that are on it.
        if !self.ignore_discovered && tried.is_good(tried.order.last(), told) {
            for addr in parse(told) {
                if !holds(&pool, &addr) && !holds(&tried.removed, &addr) {
                    pool.push(addr);
                }
            }
        }
        Some((tried.version, pool))
    }

    /// The pool is in line with this version.
    pub(crate) fn pool_is(&self, version: u64) {
        self.tried.lock().in_pool = version;
    }

    /// Should the connection leave the server that it is with?
    pub(crate) fn is_off_list(&self, told: &[String]) -> bool {
        let tried = self.tried.lock();
        let good = match self.ignore_discovered {
            true => tried.is_good(tried.order.last(), &[]),
            false => tried.is_good(tried.order.last(), told),
        };
        // Nobody has changed anything, or async-nats does not know yet where to go.
        tried.replaced && tried.in_pool == tried.version && !good
    }

    fn next(&self, pool: &[Server], mut random: impl FnMut() -> u64) -> Option<ServerAddr> {
        let mut tried = self.tried.lock();
        let Tried {
            order,
            known,
            list,
            removed,
            version,
            in_pool,
            signpost,
            asked,
            ..
        } = &mut *tried;
        let (list, removed) = (&*list, &*removed);
        let usable = |server: &Server| Some(&server.addr) != signpost.as_ref();
        let on_list = |server: &Server| usable(server) && list.contains(&server.addr);
        let found = pool.iter().any(on_list);
        let has_signpost = pool.iter().any(|server| !usable(server));
        if !found && has_signpost && !*asked {
            *asked = true;
            return signpost.clone();
        }
        *asked = false;
        let in_line = in_pool == version;
        let candidates: Vec<&ServerAddr> = pool
            .iter()
            .filter(|server| match (found, in_line) {
                // The others were told by servers of the list, or by those that these told about.
                (true, true) => {
                    // A server of the list counts with the scheme that it has there: the cluster tells none.
                    let other = !holds(list, &server.addr) && !holds(removed, &server.addr);
                    on_list(server) || (usable(server) && other && !self.ignore_discovered)
                }
                (true, false) => on_list(server),
                // The old ones may come back; in turns with the signpost, if there is one.
                (false, _) => usable(server),
            })
            .map(|server| &server.addr)
            .collect();
        *known = candidates.len();
        // The pool bounds what is kept.
        order.retain(|known| pool.iter().any(|server| server.addr == *known));
        let chosen = candidates
            .into_iter()
            .enumerate()
            .min_by_key(|(index, addr)| {
                let age = order
                    .iter()
                    .position(|known| known == *addr)
                    .map_or(0, |position| position + 1);
                (age, if self.retain_order { *index as u64 } else { random() })
            })
            .map(|(_, addr)| addr.clone())?;
        order.retain(|known| *known != chosen);
        order.push(chosen.clone());
        Some(chosen)
    }
}

impl Tried {
    /// Is `addr` on the list, or in one cluster with a server that is? One that was taken off the list is neither.
    fn is_good(&self, addr: Option<&ServerAddr>, told: &[String]) -> bool {
        let Some(addr) = addr else { return true };
        let related = || parse(told).any(|addr| holds(&self.list, &addr));
        holds(&self.list, addr) || (!holds(&self.removed, addr) && related())
    }
}

/// Is this place on the list, with whatever scheme?
fn holds(list: &[ServerAddr], addr: &ServerAddr) -> bool {
    list.iter()
        .any(|known| known.host() == addr.host() && known.port() == addr.port())
}

fn parse(told: &[String]) -> impl Iterator<Item = ServerAddr> {
    told.iter().filter_map(|addr| addr.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(names: &[&str]) -> Vec<ServerAddr> {
        names.iter().map(|name| name.parse().unwrap()).collect()
    }

    fn servers(names: &[&str]) -> Vec<Server> {
        let server = |addr| Server {
            addr,
            failed_attempts: 0,
            did_connect: false,
            is_discovered: false,
            last_error: None,
        };
        addresses(names).into_iter().map(server).collect()
    }

    fn selector(list: &[&str]) -> Selector {
        Selector::new(&addresses(list), addresses(list), true, false)
    }

    fn hosts(selector: &Selector, pool: &[&str], times: usize) -> Vec<String> {
        let pool = servers(pool);
        let next = || selector.next(&pool, || 7).unwrap().host().to_owned();
        std::iter::repeat_with(next).take(times).collect()
    }

    /// async-nats takes over what is wanted.
    fn sync(selector: &Selector, told: &[&str]) -> Vec<String> {
        let told: Vec<String> = told.iter().map(|&addr| addr.to_owned()).collect();
        let (version, pool) = selector.wanted_pool(&told).expect("something has changed");
        selector.pool_is(version);
        assert!(selector.wanted_pool(&told).is_none());
        pool.iter().map(|addr| addr.host().to_owned()).collect()
    }

    #[test]
    fn every_server_is_tried_before_one_is_tried_again() {
        let selector = selector(&["a", "b", "c"]);
        assert_eq!(hosts(&selector, &["a", "b", "c"], 5), ["a", "b", "c", "a", "b"]);
        assert_eq!(selector.current().unwrap().host(), "b");
        assert_eq!(
            hosts(&selector, &["d", "b", "a"], 4),
            ["d", "a", "b", "d"],
            "one that never was tried comes first"
        );
        assert!(selector.next(&[], || 0).is_none());
    }

    #[test]
    fn without_an_order_chance_decides_among_equals() {
        let mut falling = [2, 1].into_iter();
        let selector = Selector::new(&addresses(&["a", "b"]), addresses(&["a", "b"]), false, false);
        let chosen = selector.next(&servers(&["a", "b"]), || falling.next().unwrap());
        assert_eq!(chosen.unwrap().host(), "b");
    }

    #[test]
    fn what_the_cluster_tells_counts_unless_it_is_ignored() {
        let pool = ["a", "told"];
        assert_eq!(hosts(&selector(&["a"]), &pool, 2), ["a", "told"]);
        let deaf = Selector::new(&addresses(&["a"]), addresses(&["a"]), true, true);
        assert_eq!(hosts(&deaf, &pool, 2), ["a", "a"]);
        assert!(!deaf.others(&["a".to_owned(), "told".to_owned()]));
        deaf.set_list(addresses(&["b"]));
        assert_eq!(sync(&deaf, &["told"]), ["b"]);
    }

    #[test]
    fn one_of_the_servers_may_come_first_and_alone() {
        let selector = Selector::new(&addresses(&["b"]), addresses(&["a", "b"]), true, false);
        assert_eq!(hosts(&selector, &["b"], 2), ["b", "b"]);
        assert_eq!(sync(&selector, &["told"]), ["a", "b", "told"]);
        assert_eq!(hosts(&selector, &["a", "b", "told"], 2), ["a", "told"]);
    }

    #[test]
    fn a_server_that_is_taken_off_the_list_is_left_for_one_that_is_on_it() {
        let selector = selector(&["a", "b"]);
        assert_eq!(hosts(&selector, &["a", "b"], 1), ["a"]);
        assert!(!selector.set_list(addresses(&["a", "b"])), "nothing new");
        assert!(selector.set_list(addresses(&["b", "c"])));
        assert!(!selector.is_off_list(&[]), "async-nats does not know `c` yet");
        assert_eq!(sync(&selector, &["a", "b"]), ["b", "c"], "`a` says nothing about them");
        assert!(selector.is_off_list(&[]));
        assert!(
            selector.is_off_list(&["a".to_owned(), "b".to_owned()]),
            "it was taken off, whatever its cluster says"
        );
        assert_eq!(
            hosts(&selector, &["b", "c", "a"], 3),
            ["b", "c", "b"],
            "also if it is told of"
        );
        assert!(!selector.is_off_list(&[]));
    }

    #[test]
    fn a_server_that_the_cluster_told_about_is_kept_as_long_as_its_cluster_is_on_the_list() {
        let selector = selector(&["a"]);
        assert_eq!(hosts(&selector, &["a", "told"], 2), ["a", "told"]);
        let told = ["told".to_owned(), "a".to_owned(), "b".to_owned()];
        selector.set_list(addresses(&["b"]));
        assert_eq!(sync(&selector, &["told", "a", "b"]), ["b", "told"]);
        assert!(!selector.is_off_list(&told));
        selector.set_list(addresses(&["x"]));
        assert_eq!(sync(&selector, &["told", "a", "b"]), ["x"]);
        assert!(selector.is_off_list(&told));
    }

    #[test]
    fn until_the_pool_is_in_line_only_what_both_know_is_chosen() {
        let selector = selector(&["a", "b"]);
        selector.set_list(addresses(&["b", "c"]));
        assert_eq!(hosts(&selector, &["a", "b", "told"], 2), ["b", "b"]);
    }

    #[test]
    fn without_a_common_server_the_way_leads_over_the_signpost() {
        let selector = selector(&["a"]);
        selector.set_list(addresses(&["b"]));
        assert_eq!(hosts(&selector, &["a"], 2), ["a", "a"], "there is none");
        selector.set_signpost("post".parse().unwrap());
        assert_eq!(hosts(&selector, &["a"], 2), ["a", "a"], "async-nats does not know it");
        assert_eq!(
            hosts(&selector, &["a", "post"], 4),
            ["post", "a", "post", "a"],
            "the old one may come back"
        );
        assert_eq!(hosts(&selector, &["a", "post", "b"], 2), ["b", "b"]);
        assert_eq!(
            selector.current().unwrap().host(),
            "b",
            "nobody is ever with the signpost"
        );
        assert_eq!(sync(&selector, &[]), ["b", "post"]);
        assert_eq!(hosts(&selector, &["post", "b"], 2), ["b", "b"]);
    }

    #[test]
    fn a_server_of_the_list_is_used_with_its_scheme_only() {
        let selector = selector(&["tls://a"]);
        assert_eq!(hosts(&selector, &["tls://a", "nats://a"], 1), ["a"]);
        assert!(selector.current().unwrap().tls_required());
        selector.set_list(addresses(&["tls://b"]));
        assert_eq!(sync(&selector, &["a", "b"]), ["b"]);
        let pool = servers(&["tls://b", "nats://b", "nats://a"]);
        for _ in 0..3 {
            assert!(selector.next(&pool, || 7).unwrap().tls_required());
        }
    }

    #[test]
    fn a_signpost_alone_moves_nobody() {
        let selector = selector(&["a"]);
        assert_eq!(hosts(&selector, &["a", "told"], 2), ["a", "told"]);
        selector.set_signpost("post".parse().unwrap());
        assert_eq!(sync(&selector, &["told"]), ["a", "post"]);
        assert!(!selector.is_off_list(&["told".to_owned()]));
    }

    #[test]
    fn the_servers_taken_off_are_forgotten_in_the_end() {
        let selector = selector(&["first"]);
        for index in 0..2 * MOST_REMOVED {
            selector.set_list(addresses(&[&format!("server-{index}")]));
        }
        assert_eq!(selector.tried.lock().removed.len(), MOST_REMOVED);
    }
}
