//! Turns "a free port" into one that stays ours while the server behind it is down.

use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::ops::RangeInclusive;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

/// Below Linux' range for outgoing connections: a client that keeps dialling a dead port inside that range ends up
/// connected to itself, and a restarted server could find its port taken.
const RANGE: RangeInclusive<u16> = 15_000..=31_999;

/// The claims of this process. A bound UDP socket of the same number keeps other test processes off; the system drops
/// it with the process, however that ends.
static CLAIMS: Mutex<Vec<UdpSocket>> = Mutex::new(Vec::new());

/// A loopback TCP port that no other test process will pick until this one ends.
pub fn free_port() -> u16 {
    static STEP: AtomicU32 = AtomicU32::new(0);
    let span = u32::from(RANGE.end() - RANGE.start()) + 1;
    for _ in 0..span {
        let step = STEP.fetch_add(1, Ordering::Relaxed);
        let at = std::process::id().wrapping_mul(7919).wrapping_add(step) % span;
        let port = RANGE.start() + u16::try_from(at).expect("the range fits a port");
        let Ok(claim) = UdpSocket::bind((Ipv4Addr::LOCALHOST, port)) else { continue };
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            CLAIMS.lock().expect("ports are not poisoned").push(claim);
            return port;
        }
    }
    panic!("no free loopback port in {RANGE:?}");
}

#[cfg(test)]
mod tests {
    #[test]
    fn ports_are_never_given_twice() {
        let mut ports: Vec<u16> = (0..50).map(|_| super::free_port()).collect();
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 50);
    }
}
