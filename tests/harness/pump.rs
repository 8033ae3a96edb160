//! Carries the bytes of one direction of a proxied connection, as the rules in force have it.

use std::borrow::Cow;
use std::io::{ErrorKind, Read};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::lane::Line;
use crate::proxy::{Connection, Control, Direction};
use crate::requests::Frames;

/// How often a pump looks at the rules while nothing arrives.
pub(crate) const LOOK: Duration = Duration::from_millis(10);

/// Carries one direction of one connection until it ends.
pub(crate) fn pump(control: &Control, connection: &Arc<Connection>, direction: Direction) {
    let (mut from, to) = match direction {
        Direction::Up => (&connection.client, &connection.server),
        Direction::Down => (&connection.server, &connection.client),
    };
    let (mut line, mut frames) = (Line::new(), Frames::default());
    let mut buffer = vec![0; 64 * 1024];
    let (mut is_at_end, mut has_lost, mut seen_stall) = (false, false, 0);
    while !connection.is_dead.load(Ordering::SeqCst) {
        let lane = control.lane(direction);
        if lane.is_stalled {
            let stall = control.stall.load(Ordering::SeqCst);
            if seen_stall != stall {
                seen_stall = stall;
                control.count(|counts| counts.stalls += 1);
            }
            sleep(Duration::from_millis(2));
            continue;
        }
        if !lane.is_swallowing && !has_lost {
            // Between whole frames, as everything that a Kafka proxy forwards.
            if direction == Direction::Down
                && let Some(answers) = connection.unanswered.take_ready()
            {
                line.push(Instant::now(), &answers, &lane);
            }
            while let Some(piece) = line.due(Instant::now(), &lane) {
                if !forward(control, connection, direction, &piece) {
                    return;
                }
            }
            if is_at_end && line.is_empty() {
                let _ = to.shutdown(Shutdown::Write);
                return;
            }
        }
        let pause = line.pause(Instant::now(), LOOK);
        if is_at_end || line.is_full() {
            sleep(pause);
            continue;
        }
        if !is_readable(from, pause) {
            continue;
        }
        match from.read(&mut buffer) {
            Ok(0) => is_at_end = true,
            Ok(n) => {
                // The rules may have changed while we waited for these bytes.
                let lane = control.lane(direction);
                if lane.is_swallowing || has_lost {
                    let n = n as u64;
                    control.count(|counts| {
                        (counts.swallowed, counts.half_open) = (counts.swallowed + n, counts.half_open + u64::from(!has_lost))
                    });
                    has_lost = true;
                    connection.has_lost_bytes.store(true, Ordering::SeqCst);
                } else {
                    let Some(passed) = pass(control, connection, direction, &mut frames, &buffer[..n]) else { return };
                    let is_held = line.push(Instant::now(), &passed, &lane);
                    control.count(|counts| counts.delays += u64::from(is_held));
                }
            }
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            // Its end reset the connection: pass that on, except into a black hole.
            Err(_) if lane.is_swallowing || has_lost => is_at_end = true,
            Err(_) => connection.reset(),
        }
    }
}

/// What may go on of bytes that were read; `None` when a trap has cut the connection.
fn pass<'a>(
    control: &Control,
    connection: &Arc<Connection>,
    direction: Direction,
    frames: &mut Frames,
    bytes: &'a [u8],
) -> Option<Cow<'a, [u8]>> {
    let passed = match (&control.requests, direction) {
        (None, _) => return Some(Cow::Borrowed(bytes)),
        (Some(requests), Direction::Up) => requests.up(connection, frames, bytes),
        (Some(requests), Direction::Down) => requests.down(connection, frames, bytes),
    };
    if passed.is_none() {
        control.count(|counts| counts.cuts += 1);
    }
    passed.map(Cow::Owned)
}

/// Writes a piece, obeying an ordered cut; false when the connection is over.
fn forward(control: &Control, connection: &Connection, direction: Direction, piece: &[u8]) -> bool {
    let (allowed, is_cut) = control.take(direction, piece.len());
    let sent = connection.send(direction, &piece[..allowed]) as u64;
    control.count(|counts| match direction {
        Direction::Up => counts.bytes_up += sent,
        Direction::Down => counts.bytes_down += sent,
    });
    if is_cut {
        connection.reset();
        control.count(|counts| counts.cuts += 1);
    }
    !connection.is_dead.load(Ordering::SeqCst)
}

pub(crate) fn is_readable(socket: &impl AsFd, limit: Duration) -> bool {
    wait_for(socket, PollFlags::IN, limit)
}

pub(crate) fn wait_for(socket: &impl AsFd, flags: PollFlags, limit: Duration) -> bool {
    let limit = Timespec::try_from(limit).expect("a short wait");
    poll(&mut [PollFd::new(socket, flags)], Some(&limit)).is_ok_and(|n| n > 0)
}
