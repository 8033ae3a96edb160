//! Turns a server's port into another port whose connections can be cut, stalled, swallowed, slowed and counted.

use std::io::{ErrorKind, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::thread::{JoinHandle, spawn};
use std::time::Duration;

use rustix::event::PollFlags;
use rustix::net::sockopt::set_socket_linger;

use crate::lane::Lane;
use crate::ports::free_port;
use crate::pump::{LOOK, is_readable, pump, wait_for};
use crate::requests::{Requests, Unanswered};
use crate::wait::{secs, try_until};

/// Which way bytes travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the client that connected to us towards the server.
    Up,
    /// From the server back to the client.
    Down,
}

/// What was injected so far, counted where it took hold: an order that met no connection counts nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Connections forwarded.
    pub connections: u64,
    /// Connections reset on arrival.
    pub refused: u64,
    /// Connections reset on both sides.
    pub cuts: u64,
    /// Connections held still, once per connection, direction and stall.
    pub stalls: u64,
    /// Connections that lost bytes in a black hole, once per connection and direction.
    pub half_open: u64,
    /// Pieces held up by a delay or a bandwidth limit.
    pub delays: u64,
    /// Bytes forwarded to the server.
    pub bytes_up: u64,
    /// Bytes forwarded to the client.
    pub bytes_down: u64,
    /// Bytes taken and never forwarded.
    pub swallowed: u64,
}

/// A TCP proxy on loopback, healthy until told otherwise. Stops and resets its connections on drop.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    control: Arc<Control>,
    accept: Option<JoinHandle<()>>,
}

/// The faults in force and the connections they apply to; shared by all threads of a proxy.
#[derive(Debug)]
pub(crate) struct Control {
    target: AtomicU16,
    /// Of a Kafka listener.
    pub(crate) requests: Option<Requests>,
    rules: Mutex<Rules>,
    connections: Mutex<Vec<Weak<Connection>>>,
    counts: Mutex<Counts>,
    stopped: AtomicBool,
    /// Grows with each stall, so that a connection counts each one once.
    pub(crate) stall: AtomicU64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Rules {
    up: Lane,
    down: Lane,
    is_refusing: bool,
}

#[derive(Debug)]
pub(crate) struct Connection {
    /// Kafka requests whose answers must not pass.
    pub(crate) unanswered: Unanswered,
    pub(crate) client: TcpStream,
    pub(crate) server: TcpStream,
    pub(crate) is_dead: AtomicBool,
    /// Bytes of this connection were swallowed: its streams have a hole and must never go on.
    pub(crate) has_lost_bytes: AtomicBool,
}

// === impl Proxy ===

impl Proxy {
    /// Forwards a new loopback port to another one, which need not be open yet.
    pub fn start(target_port: u16) -> Proxy {
        Self::begin(target_port, None)
    }

    pub(crate) fn begin(target_port: u16, requests: Option<Requests>) -> Proxy {
        let port = free_port();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("listen on a free port");
        listener.set_nonblocking(true).expect("make the listener non-blocking");
        let control = Arc::new(Control {
            target: AtomicU16::new(target_port),
            requests,
            rules: Mutex::default(),
            connections: Mutex::default(),
            counts: Mutex::default(),
            stopped: AtomicBool::new(false),
            stall: AtomicU64::new(0),
        });
        let shared = Arc::clone(&control);
        let accept = Some(spawn(move || accept(&listener, &shared)));
        Proxy { port, control, accept }
    }

    /// The port to connect to.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `127.0.0.1:port`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Sends later connections to another port.
    pub fn set_target(&self, port: u16) {
        self.control.target.store(port, Ordering::SeqCst);
    }

    /// Resets every connection on both sides; new ones are welcome. Answers how many there were.
    pub fn cut(&self) -> u64 {
        self.control.cut()
    }

    /// Resets every connection and each new one on arrival, until healed.
    pub fn refuse(&self) {
        self.control.refuse();
    }

    /// Stops forwarding one way without closing: the sender's window fills up. Healing goes on without a loss.
    pub fn stall(&self, direction: Direction) {
        self.control.stall(direction);
    }

    /// A peer that vanished: takes bytes both ways and on new connections too, forwards none, passes no end on.
    /// Connections that lost bytes are reset by [`Proxy::heal`], as by a router that forgot them.
    pub fn half_open(&self) {
        self.control.swallow();
    }

    /// Holds every byte for so long, each way, without limiting throughput.
    pub fn delay(&self, delay: Duration) {
        self.control.set_delay(delay);
    }

    /// Limits each connection, each way.
    pub fn bandwidth(&self, bytes_per_second: u64) {
        self.control.set_bandwidth(bytes_per_second);
    }

    /// Forwards exactly `bytes` more in a direction, counted over all connections, and then resets the connection that
    /// carried the last of them. Fires once.
    pub fn cut_after(&self, direction: Direction, bytes: u64) {
        self.control.set_cut_after(direction, bytes);
    }

    /// Ends every fault.
    pub fn heal(&self) {
        self.control.heal();
    }

    /// What was injected so far.
    pub fn counts(&self) -> Counts {
        self.control.counts()
    }

    /// How many connections are open.
    pub fn open_connections(&self) -> usize {
        self.control.live().len()
    }

    pub(crate) fn control(&self) -> Arc<Control> {
        Arc::clone(&self.control)
    }

    pub(crate) fn requests(&self) -> &Requests {
        self.control.requests.as_ref().expect("the proxy was made for Kafka")
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.control.stopped.store(true, Ordering::SeqCst);
        self.control.reset_all();
        if let Some(thread) = self.accept.take() {
            let _ = thread.join();
        }
    }
}

// === impl Control ===

impl Control {
    pub(crate) fn counts(&self) -> Counts {
        *self.counts.lock().expect("counts are not poisoned")
    }

    pub(crate) fn target_port(&self) -> u16 {
        self.target.load(Ordering::SeqCst)
    }

    pub(crate) fn cut(&self) -> u64 {
        let n = self.reset_all();
        self.count(|counts| counts.cuts += n);
        n
    }

    pub(crate) fn refuse(&self) {
        self.change(|rules| rules.is_refusing = true);
        self.cut();
    }

    pub(crate) fn stall(&self, direction: Direction) {
        self.stall.fetch_add(1, Ordering::SeqCst);
        self.change(|rules| rules.lane(direction).is_stalled = true);
    }

    fn change(&self, f: impl FnOnce(&mut Rules)) {
        f(&mut self.rules.lock().expect("rules are not poisoned"));
    }

    pub(crate) fn set_delay(&self, delay: Duration) {
        self.change(|rules| (rules.up.delay, rules.down.delay) = (delay, delay));
    }

    pub(crate) fn set_bandwidth(&self, bytes_per_second: u64) {
        let rate = Some(bytes_per_second.max(1));
        self.change(|rules| (rules.up.bytes_per_second, rules.down.bytes_per_second) = (rate, rate));
    }

    pub(crate) fn set_cut_after(&self, direction: Direction, bytes: u64) {
        self.change(|rules| rules.lane(direction).cut_after = Some(bytes));
    }

    pub(crate) fn swallow(&self) {
        self.change(|rules| (rules.up.is_swallowing, rules.down.is_swallowing) = (true, true));
    }

    pub(crate) fn heal(&self) {
        self.change(|rules| *rules = Rules::default());
        for connection in self.live().iter().filter(|c| c.has_lost_bytes.load(Ordering::SeqCst)) {
            connection.reset();
        }
    }

    pub(crate) fn lane(&self, direction: Direction) -> Lane {
        *self.rules.lock().expect("rules are not poisoned").lane(direction)
    }

    pub(crate) fn count(&self, f: impl FnOnce(&mut Counts)) {
        f(&mut self.counts.lock().expect("counts are not poisoned"));
    }

    fn live(&self) -> Vec<Arc<Connection>> {
        let mut connections = self.connections.lock().expect("connections are not poisoned");
        connections.retain(|c| c.strong_count() > 0);
        connections.iter().filter_map(Weak::upgrade).filter(|c| !c.is_dead.load(Ordering::SeqCst)).collect()
    }

    /// Resets all connections and returns when both sides have been told.
    fn reset_all(&self) -> u64 {
        let live = self.live();
        let weak: Vec<Weak<Connection>> = live.iter().map(Arc::downgrade).collect();
        live.iter().for_each(|connection| connection.reset());
        drop(live);
        try_until(secs(2), || weak.iter().all(|c| c.strong_count() == 0).then_some(()));
        weak.len() as u64
    }

    /// How many of `n` bytes may pass before a cut that was ordered, and whether this is the cut.
    pub(crate) fn take(&self, direction: Direction, n: usize) -> (usize, bool) {
        let mut rules = self.rules.lock().expect("rules are not poisoned");
        let lane = rules.lane(direction);
        match lane.cut_after {
            Some(left) if left <= n as u64 => {
                lane.cut_after = None;
                (usize::try_from(left).unwrap_or(n), true)
            }
            Some(left) => {
                lane.cut_after = Some(left - n as u64);
                (n, false)
            }
            None => (n, false),
        }
    }
}

impl Rules {
    fn lane(&mut self, direction: Direction) -> &mut Lane {
        match direction {
            Direction::Up => &mut self.up,
            Direction::Down => &mut self.down,
        }
    }
}

// === impl Connection ===

impl Connection {
    /// Makes the close that follows a reset (no FIN, unsent bytes dropped) and wakes both pumps.
    pub(crate) fn reset(&self) {
        self.is_dead.store(true, Ordering::SeqCst);
        for socket in [&self.client, &self.server] {
            let _ = set_socket_linger(socket, Some(Duration::ZERO));
            let _ = socket.shutdown(Shutdown::Read);
        }
    }

    /// Writes all of it, or as much as goes before the connection ends; answers how much that was.
    pub(crate) fn send(&self, direction: Direction, bytes: &[u8]) -> usize {
        let mut to = match direction {
            Direction::Up => &self.server,
            Direction::Down => &self.client,
        };
        let mut rest = bytes;
        while !rest.is_empty() && !self.is_dead.load(Ordering::SeqCst) {
            match to.write(rest) {
                Ok(n) => rest = &rest[n..],
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                    wait_for(to, PollFlags::OUT, LOOK);
                }
                Err(_) => self.reset(),
            }
        }
        bytes.len() - rest.len()
    }
}

fn accept(listener: &TcpListener, control: &Arc<Control>) {
    while !control.stopped.load(Ordering::SeqCst) {
        if !is_readable(listener, LOOK) {
            continue;
        }
        let Ok((client, _)) = listener.accept() else { continue };
        let target = (Ipv4Addr::LOCALHOST, control.target_port());
        let is_refusing = control.rules.lock().expect("rules are not poisoned").is_refusing;
        let server = if is_refusing { None } else { TcpStream::connect(target).ok() };
        let Some(server) = server else {
            if is_refusing {
                control.count(|counts| counts.refused += 1);
            }
            let _ = set_socket_linger(&client, Some(Duration::ZERO));
            continue;
        };
        for socket in [&client, &server] {
            socket.set_nonblocking(true).expect("make a socket non-blocking");
            let _ = socket.set_nodelay(true);
        }
        let connection = Arc::new(Connection {
            unanswered: Unanswered::default(),
            client,
            server,
            is_dead: AtomicBool::new(false),
            has_lost_bytes: AtomicBool::new(false),
        });
        control.connections.lock().expect("connections are not poisoned").push(Arc::downgrade(&connection));
        control.count(|counts| counts.connections += 1);
        for direction in [Direction::Up, Direction::Down] {
            let (control, connection) = (Arc::clone(control), Arc::clone(&connection));
            spawn(move || pump(&control, &connection, direction));
        }
    }
}

#[cfg(test)]
#[path = "proxy_tests.rs"]
mod tests;
