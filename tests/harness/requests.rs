//! Tells the Kafka requests that pass a proxy apart, and drops, holds, refuses or fails chosen ones.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::produce::refusal;
use crate::proxy::{Connection, Direction, Proxy};
use crate::wait::secs;

/// A kind of Kafka request, by its `api_key`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Api {
    /// Records on their way into partitions.
    Produce = 0,
    /// Who leads what.
    Metadata = 3,
    /// Topics are to be created.
    CreateTopics = 19,
    /// A producer asks for its id and epoch, and fences those before it.
    InitProducerId = 22,
    /// A transaction is about to touch partitions.
    AddPartitionsToTxn = 24,
    /// A transaction is to be committed or aborted.
    EndTxn = 26,
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Trap {
    /// It never reaches the broker; nobody says so.
    DropRequest,
    /// It never reaches the broker, and the connection is reset.
    CutBefore,
    /// The broker does it; its answer never comes.
    DropResponse,
    /// The broker does it; in place of its answer comes a reset.
    CutAfter,
    /// It waits in the network until [`Proxy::release`].
    Hold,
    /// It never reaches the broker; the answer is that Kafka error code. Of Produce alone.
    Refuse(i16),
    /// The broker does it; the answer is that Kafka error code all the same. Of Produce alone.
    Disown(i16),
}

/// A request that was kept, with the connection it came by.
#[derive(Debug)]
struct Held {
    connection: Arc<Connection>,
    frame: Vec<u8>,
}

/// What a proxy does with Kafka's requests.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    traps: Mutex<Vec<(Api, Trap, u64)>>,
    held: Mutex<Vec<Held>>,
    counts: Mutex<HashMap<(Api, Option<Trap>), u64>>,
}

/// What a connection's client is not told, or told in place of the broker.
#[derive(Debug, Default)]
pub(crate) struct Unanswered {
    /// Requests whose answers must not pass, by their correlation ids.
    requests: Mutex<HashMap<i32, Instead>>,
    /// Whole answers to what never reached the broker.
    ready: Mutex<Vec<u8>>,
}

#[derive(Debug)]
struct Instead {
    api: Api,
    trap: Trap,
    /// What passes in place of the answer.
    answer: Vec<u8>,
}

/// The whole frames of one direction.
#[derive(Debug, Default)]
pub(crate) struct Frames(Vec<u8>);

/// Length, then the head of a request: api_key, api_version, correlation_id. A response has its correlation_id first.
const LENGTH: usize = 4;
const REQUEST_HEAD: usize = LENGTH + 8;

// === impl Proxy ===

impl Proxy {
    /// As [`Proxy::start`], for a Kafka listener without TLS: its requests can be told apart.
    pub fn for_kafka(target_port: u16) -> Proxy {
        Self::begin(target_port, Some(Requests::default()))
    }

    /// Does that with the next `times` requests of a kind.
    pub fn trap(&self, api: Api, trap: Trap, times: u64) {
        lock(&self.requests().traps).push((api, trap, times));
    }

    /// Lets requests pass again; those held stay so.
    pub fn disarm(&self) {
        lock(&self.requests().traps).clear();
    }

    /// How many requests of a kind met a trap.
    pub fn trapped(&self, api: Api, trap: Trap) -> u64 {
        lock(&self.requests().counts).get(&(api, Some(trap))).copied().unwrap_or(0)
    }

    /// How many requests of a kind came by, trapped or not.
    pub fn seen(&self, api: Api) -> u64 {
        lock(&self.requests().counts).get(&(api, None)).copied().unwrap_or(0)
    }

    /// How many requests are held.
    pub fn held(&self) -> usize {
        lock(&self.requests().held).len()
    }

    /// Sends the request that has been held the longest on its way: it reaches the broker late, and its answer the client, if that still
    /// listens.
    pub fn release(&self) {
        let Held { connection, frame } = self.take_held();
        connection.send(Direction::Up, &frame);
    }

    /// As a network does that gives a request up for lost and then delivers it: the one held the longest reaches the broker by a connection
    /// of its own. Answers the broker's response, from behind the correlation id on.
    #[track_caller]
    pub fn release_alone(&self) -> Vec<u8> {
        let Held { frame, .. } = self.take_held();
        let mut broker = TcpStream::connect((Ipv4Addr::LOCALHOST, self.control().target_port())).expect("reach the broker");
        broker.set_read_timeout(Some(secs(20))).expect("a limit for the answer");
        broker.write_all(&frame).expect("send the late request");
        let mut length = [0; LENGTH];
        broker.read_exact(&mut length).expect("the length of the answer");
        let mut answer = vec![0; usize::try_from(u32::from_be_bytes(length)).expect("a length")];
        broker.read_exact(&mut answer).expect("the answer");
        answer.split_off(LENGTH)
    }

    #[track_caller]
    fn take_held(&self) -> Held {
        let mut held = lock(&self.requests().held);
        assert!(!held.is_empty(), "a request is held");
        held.remove(0)
    }
}

// === impl Requests ===

impl Requests {
    /// What is to be forwarded of a client's bytes; `None` when the connection was cut instead.
    pub(crate) fn up(&self, connection: &Arc<Connection>, frames: &mut Frames, bytes: &[u8]) -> Option<Vec<u8>> {
        let mut on = Vec::with_capacity(bytes.len());
        frames.0.extend_from_slice(bytes);
        while let Some(frame) = frames.next() {
            let Some((api, correlation)) = Api::of(&frame) else {
                on.extend_from_slice(&frame);
                continue;
            };
            match self.meet(api) {
                None => on.extend_from_slice(&frame),
                Some(Trap::DropRequest) => {}
                Some(Trap::CutBefore) => {
                    connection.reset();
                    return None;
                }
                Some(trap @ (Trap::DropResponse | Trap::CutAfter)) => {
                    connection.unanswered.expect(correlation, Instead { api, trap, answer: Vec::new() });
                    on.extend_from_slice(&frame);
                }
                Some(trap @ Trap::Disown(code)) => {
                    connection.unanswered.expect(correlation, Instead { api, trap, answer: refusal(&frame, code) });
                    on.extend_from_slice(&frame);
                }
                Some(Trap::Refuse(code)) => lock(&connection.unanswered.ready).extend(refusal(&frame, code)),
                Some(Trap::Hold) => lock(&self.held).push(Held { connection: Arc::clone(connection), frame }),
            }
        }
        Some(on)
    }

    /// The same for the broker's bytes. A response counts as trapped when it is: the broker has done what it was asked.
    pub(crate) fn down(&self, connection: &Connection, frames: &mut Frames, bytes: &[u8]) -> Option<Vec<u8>> {
        let mut on = Vec::with_capacity(bytes.len());
        frames.0.extend_from_slice(bytes);
        while let Some(frame) = frames.next() {
            let correlation = number(&frame, LENGTH).unwrap_or(-1);
            match lock(&connection.unanswered.requests).remove(&correlation) {
                None => on.extend_from_slice(&frame),
                Some(Instead { api, trap, answer }) => {
                    self.count(api, Some(trap));
                    on.extend_from_slice(&answer);
                    if trap == Trap::CutAfter {
                        connection.reset();
                        return None;
                    }
                }
            }
        }
        Some(on)
    }

    /// Counts a request, and the trap that it meets.
    fn meet(&self, api: Api) -> Option<Trap> {
        self.count(api, None);
        let mut traps = lock(&self.traps);
        let at = traps.iter().position(|(its, ..)| *its == api)?;
        let trap = traps[at].1;
        traps[at].2 = traps[at].2.saturating_sub(1);
        if traps[at].2 == 0 {
            traps.remove(at);
        }
        if !matches!(trap, Trap::DropResponse | Trap::CutAfter | Trap::Disown(_)) {
            self.count(api, Some(trap));
        }
        Some(trap)
    }

    fn count(&self, api: Api, trap: Option<Trap>) {
        *lock(&self.counts).entry((api, trap)).or_default() += 1;
    }
}

// === impl Unanswered ===

impl Unanswered {
    fn expect(&self, correlation: i32, instead: Instead) {
        lock(&self.requests).insert(correlation, instead);
    }

    /// Takes the answers that the proxy gives by itself, if there are any.
    pub(crate) fn take_ready(&self) -> Option<Vec<u8>> {
        Some(std::mem::take(&mut *lock(&self.ready))).filter(|answers| !answers.is_empty())
    }
}

// === impl Api ===

impl Api {
    fn of(frame: &[u8]) -> Option<(Api, i32)> {
        let key = i16::from_be_bytes([*frame.get(LENGTH)?, *frame.get(LENGTH + 1)?]);
        let all = [Api::Produce, Api::Metadata, Api::CreateTopics, Api::InitProducerId, Api::AddPartitionsToTxn, Api::EndTxn];
        let api = all.into_iter().find(|api| *api as i16 == key)?;
        Some((api, number(frame, REQUEST_HEAD - 4)?))
    }
}

// === impl Frames ===

impl Frames {
    /// The next whole frame, with its length.
    fn next(&mut self) -> Option<Vec<u8>> {
        let length = usize::try_from(number(&self.0, 0)?).ok()? + LENGTH;
        (self.0.len() >= length).then(|| self.0.drain(..length).collect())
    }
}

fn number(bytes: &[u8], at: usize) -> Option<i32> {
    Some(i32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("a proxy's books are not poisoned")
}

#[cfg(test)]
#[path = "requests_tests.rs"]
mod tests;
