//! Exactly-once: reads what is kept of the stream again, by the path that frames from the socket take.

use super::Stream;
use super::read::{Flow, TURN_BYTES};
use super::ring::Ring;
use relay_core::session::Input;
use std::ops::ControlFlow;

impl Stream {
    /// What was read since the last commit is to be read again.
    pub(super) fn begin_replay(&mut self) {
        self.unblock();
        let Some(ring) = &mut self.ring else { return };
        if let Some(open) = ring.replay() {
            self.open = open;
        }
    }

    /// Reads on in what is kept. `None`: all of it was read, and the socket is next; `Some`: leave the loop with this.
    pub(super) fn replay(&mut self, handled: &mut usize) -> Option<Option<Input>> {
        // Out of its place while it is borrowed from; no order is carried out meanwhile.
        let mut ring = self.ring.take()?;
        self.now_ns = crate::status::unix_ns();
        let result = self.replay_from(&mut ring, handled);
        self.ring = Some(ring);
        result
    }

    fn replay_from(&mut self, ring: &mut Ring, handled: &mut usize) -> Option<Option<Input>> {
        while let Some((place, payload)) = ring.next() {
            let size = payload.len();
            let flow = self.message(place, payload);
            let is_done = matches!(flow, Flow::Done);
            if let ControlFlow::Break(result) = self.settle(flow) {
                return Some(result);
            }
            if is_done {
                match ring.begun() {
                    Some(open) => self.open = open,
                    None => ring.passed(self.session.kept(size + Ring::FRAME_BYTES)),
                }
            }
            if self.blocked.is_some() {
                self.unblock();
            }
            *handled += size;
            if *handled >= TURN_BYTES {
                return Some(None);
            }
        }
        None
    }
}
