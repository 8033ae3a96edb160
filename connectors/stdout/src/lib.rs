//! A sink for a first look and for tests: one JSON line an event on standard output, durable once it is written and flushed.

use relay_core::checkpoint::{Checkpoint, ReadCheckpoint, ReadError, Reading, Record};
use relay_core::sink::PurgeScope;
use relay_core::window::{Failure, FailureKind};
use relay_core::{Acks, Enqueue, Event, Poison, PoisonReason, Sink, Ticket};
use std::io::{self, Write};
use std::sync::Arc;

/// Writes events as lines of JSON: topic, key, partition, headers, timestamp_ms, value, position.
///
/// Lines are gathered and written when nothing more is coming, or when the buffer is full; only then are they acknowledged. A value that
/// is not UTF-8 is written as `{"base64":"…"}`.
#[derive(Debug)]
pub struct StdoutSink<W: Write> {
    out: W,
    acks: Arc<Acks>,
    buffer: Vec<u8>,
    pending: Vec<Ticket>,
    failure: Option<String>,
}

/// Keeps no checkpoint: the slot's confirmed position is where a start begins. A store succeeds at once, so that what was written is
/// confirmed.
#[derive(Debug, Default)]
pub struct NoCheckpoint {
    is_stored: bool,
}

const BUFFER_BYTES: usize = 256 * 1024;

// === impl StdoutSink ===

impl<W: Write> StdoutSink<W> {
    /// Writes to `out`, reports to `acks`.
    pub fn new(out: W, acks: Arc<Acks>) -> Self {
        Self { out, acks, buffer: Vec::with_capacity(BUFFER_BYTES + 4096), pending: Vec::new(), failure: None }
    }

    fn flush(&mut self) {
        let result = self.out.write_all(&self.buffer).and_then(|()| self.out.flush());
        self.buffer.clear();
        match result {
            Ok(()) => self.pending.drain(..).for_each(|ticket| self.acks.done(ticket)),
            Err(error) => {
                let failure = Failure { kind: FailureKind::Fatal, message: format!("write to standard output: {error}") };
                self.failure = Some(failure.message.clone());
                self.pending.drain(..).for_each(|ticket| self.acks.failed(ticket, failure.clone()));
            }
        }
    }

    fn write_line(&mut self, event: &Event) {
        let out = &mut self.buffer;
        out.extend_from_slice(b"{\"topic\":");
        write_json(event.topic().as_bytes(), out);
        out.extend_from_slice(b",\"key\":");
        write_optional(event.key(), out);
        let partition = event.partition.map_or_else(|| "null".to_owned(), |partition| partition.to_string());
        out.extend_from_slice(format!(",\"partition\":{partition},\"headers\":[").as_bytes());
        let mut position: Option<&[u8]> = None;
        for (at, (name, value)) in event.headers().enumerate() {
            if at > 0 {
                out.push(b',');
            }
            out.push(b'[');
            write_json(name, out);
            out.push(b',');
            write_optional(value, out);
            out.push(b']');
            if name == b"relay-pos" {
                position = value;
            }
        }
        out.extend_from_slice(format!("],\"timestamp_ms\":{},\"value\":", event.timestamp_ms).as_bytes());
        write_optional(event.value(), out);
        out.extend_from_slice(b",\"position\":");
        write_optional(position, out);
        out.extend_from_slice(b"}\n");
    }
}

impl<W: Write> Sink for StdoutSink<W> {
    fn enqueue(&mut self, event: &Event, ticket: Ticket) -> Enqueue {
        if self.failure.is_some() {
            return Enqueue::Full;
        }
        if event.topic().is_empty() {
            return Enqueue::Poison(Poison::new(PoisonReason::Route, "the event has no topic"));
        }
        self.write_line(event);
        self.pending.push(ticket);
        if self.buffer.len() >= BUFFER_BYTES {
            self.flush();
        }
        Enqueue::Accepted
    }

    fn nudge(&mut self) {
        self.flush();
    }

    fn purge(&mut self, _scope: PurgeScope) {
        self.buffer.clear();
        let failure = Failure { kind: FailureKind::Purged, message: "purged before it was written".into() };
        self.pending.drain(..).for_each(|ticket| self.acks.failed(ticket, failure.clone()));
    }

    fn outstanding(&self) -> usize {
        self.pending.len()
    }

    fn renew(&mut self) -> Result<(), String> {
        self.out.flush().map_err(|error: io::Error| format!("write to standard output: {error}"))?;
        self.failure = None;
        Ok(())
    }

    fn is_reachable(&self) -> bool {
        self.failure.is_none()
    }
}

// === impl NoCheckpoint ===

impl Checkpoint for NoCheckpoint {
    fn begin_store(&mut self, _record: &Record) {
        self.is_stored = true;
    }

    fn outcome(&mut self) -> Option<Result<(), Failure>> {
        std::mem::take(&mut self.is_stored).then_some(Ok(()))
    }

    fn retire(&mut self, _keys: &[String]) {}
}

impl ReadCheckpoint for NoCheckpoint {
    fn read(&mut self) -> Result<Reading, ReadError> {
        Ok(Reading::default())
    }
}

fn write_optional(value: Option<&[u8]>, out: &mut Vec<u8>) {
    match value {
        None => out.extend_from_slice(b"null"),
        Some(bytes) => write_json(bytes, out),
    }
}

/// Writes bytes as a JSON string, or as `{"base64":"…"}` when they are not UTF-8.
fn write_json(bytes: &[u8], out: &mut Vec<u8>) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        out.extend_from_slice(b"{\"base64\":\"");
        write_base64(bytes, out);
        return out.extend_from_slice(b"\"}");
    };
    out.push(b'"');
    let mut plain = 0;
    for (at, byte) in text.bytes().enumerate() {
        if byte >= 0x20 && byte != b'"' && byte != b'\\' {
            continue;
        }
        out.extend_from_slice(&bytes[plain..at]);
        plain = at + 1;
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            _ => out.extend_from_slice(format!("\\u{byte:04X}").as_bytes()),
        }
    }
    out.extend_from_slice(&bytes[plain..]);
    out.push(b'"');
}

fn write_base64(bytes: &[u8], out: &mut Vec<u8>) {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().fold(0_u32, |word, &byte| word << 8 | u32::from(byte)) << (8 * (3 - chunk.len()));
        for at in 0..4 {
            let digit = ALPHABET[(word >> (18 - 6 * at) & 63) as usize];
            out.push(if at <= chunk.len() { digit } else { b'=' });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(value: Option<&[u8]>) -> Event {
        let mut event = Event::default();
        event.out().extend_from_slice(b"orders");
        event.end_topic();
        if let Some(value) = value {
            event.out().extend_from_slice(value);
            event.end_value();
        }
        event.header("id", Some(b"a\"b\n\x01"));
        event.header("relay-pos", Some(b"1A.0"));
        event
    }

    #[test]
    fn a_line_is_json_and_is_acknowledged_when_written() {
        let acks = Acks::new(64);
        let mut out = Vec::new();
        let mut sink = StdoutSink::new(&mut out, acks);
        assert_eq!(sink.enqueue(&event(Some(b"{\"a\":1}")), Ticket(0)), Enqueue::Accepted);
        assert_eq!(sink.enqueue(&event(None), Ticket(1)), Enqueue::Accepted);
        assert_eq!(sink.enqueue(&event(Some(&[0xFF, 0x00, 0x01, 0x02])), Ticket(2)), Enqueue::Accepted);
        assert_eq!(sink.outstanding(), 3);
        sink.nudge();
        assert_eq!(sink.outstanding(), 0);
        let headers = r#""headers":[["id","a\"b\n\u0001"],["relay-pos","1A.0"]]"#;
        let head = format!(r#"{{"topic":"orders","key":null,"partition":null,{headers},"timestamp_ms":0,"#);
        let expected = [r#""value":"{\"a\":1}""#, r#""value":null"#, r#""value":{"base64":"/wABAg=="}"#]
            .map(|value| format!("{head}{value},\"position\":\"1A.0\"}}\n"))
            .concat();
        assert_eq!(String::from_utf8(out).expect("UTF-8"), expected);
    }

    #[test]
    fn a_broken_pipe_fails_the_events_and_renew_tries_again() {
        #[derive(Debug)]
        struct Broken;
        impl Write for Broken {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let acks = Acks::new(64);
        let mut sink = StdoutSink::new(Broken, Arc::clone(&acks));
        assert_eq!(sink.enqueue(&event(None), Ticket(7)), Enqueue::Accepted);
        sink.nudge();
        assert_eq!(sink.outstanding(), 0);
        let failures = acks.take_failures();
        assert_eq!((failures.len(), failures[0].0, failures[0].1.kind), (1, Ticket(7), FailureKind::Fatal));
        assert_eq!(sink.enqueue(&event(None), Ticket(8)), Enqueue::Full);
        assert_eq!(sink.renew(), Ok(()));
        assert!(sink.is_reachable());
    }
}
