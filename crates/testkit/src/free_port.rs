//! Ports that stay free while nobody listens on them.

use std::{
    hash::{BuildHasher, RandomState},
    mem,
    net::{Ipv4Addr, TcpListener},
    sync::{Mutex, PoisonError},
};

/// Below the ports that systems give to outgoing connections (32768 and up on Linux, 49152 and
/// up elsewhere).
const FIRST: u16 = 20_000;

/// A process takes ports by the block, so that those that run side by side keep apart: it listens
/// on the first port of a block, and has the others for itself.
const BLOCK: u16 = 100;
const BLOCKS: u16 = 120;

/// A port of 127.0.0.1 on which nobody listens. Each call gives another one, in this process and in
/// all others that run tests with this crate.
///
/// For what must come back on its port after it was down. The system hands these ports to nobody
/// who asks for any port, nor to an outgoing connection; and a client that dials one in vain
/// cannot end up connected to itself, which happens with the others.
///
/// A process that has used up all 11 880 gets its first ones again.
///
/// # Panics
///
/// When no port is left.
#[must_use]
pub fn free_port() -> u16 {
    static POOL: Mutex<Pool> = Mutex::new(Pool::new());
    let mut pool = POOL.lock().unwrap_or_else(PoisonError::into_inner);
    let port = pool.next();
    drop(pool);
    port.unwrap_or_else(|| panic!("no port is left in {BLOCKS} blocks of {BLOCK} from {FIRST}"))
}

/// The ports of this process.
struct Pool {
    /// One for each block, which is ours as long as it listens.
    blocks: Vec<TcpListener>,
    fresh: Vec<u16>,
    given: Vec<u16>,
}

impl Pool {
    const fn new() -> Self {
        Self {
            blocks: Vec::new(),
            fresh: Vec::new(),
            given: Vec::new(),
        }
    }

    fn next(&mut self) -> Option<u16> {
        self.next_fresh().or_else(|| {
            self.fresh = mem::take(&mut self.given);
            self.fresh.reverse();
            self.next_fresh()
        })
    }

    fn next_fresh(&mut self) -> Option<u16> {
        loop {
            while let Some(port) = self.fresh.pop() {
                self.given.push(port);
                // Others may use it without asking us.
                if listen(port).is_some() {
                    return Some(port);
                }
            }
            self.claim()?;
        }
    }

    /// Takes a block that nobody has.
    fn claim(&mut self) -> Option<()> {
        let random = RandomState::new().hash_one(0) % u64::from(BLOCKS);
        let start = u16::try_from(random).unwrap_or(0);
        let (first, block) = (0..BLOCKS)
            .map(|i| FIRST + (start + i) % BLOCKS * BLOCK)
            .find_map(|first| Some((first, listen(first)?)))?;
        self.blocks.push(block);
        self.fresh.extend((first + 1..first + BLOCK).rev());
        Some(())
    }
}

fn listen(port: u16) -> Option<TcpListener> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn ports_are_free_and_differ() {
        let ports: Vec<u16> = (0..5).map(|_| free_port()).collect();
        let listeners: Vec<_> = ports.iter().map(|port| listen(*port).unwrap()).collect();
        assert_eq!(listeners.len(), ports.iter().collect::<HashSet<_>>().len());
    }

    /// Two pools stand for two processes.
    #[test]
    fn processes_keep_apart() {
        let (mut one, mut other) = (Pool::new(), Pool::new());
        let ports = |pool: &mut Pool| (0..150).map(|_| pool.next().unwrap()).collect::<HashSet<_>>();
        let (ports, others) = (ports(&mut one), ports(&mut other));
        assert_eq!((ports.len(), others.len()), (150, 150));
        assert!(ports.is_disjoint(&others));
    }

    #[test]
    fn a_port_that_is_listened_on_is_left_out() {
        let mut pool = Pool::new();
        pool.fresh = vec![free_port()];
        let port = pool.next_fresh().unwrap();
        let taken = listen(port).unwrap();
        pool.given.clear();
        pool.fresh = vec![port];
        assert_ne!(pool.next(), Some(port), "somebody listens on it");
        drop(taken);
        pool.fresh = vec![port];
        assert_eq!(pool.next(), Some(port));
    }
}
