//! Arbitrary bytes as if a server had sent them: the body of the fuzz target and of a time-boxed test.

use crate::auth::Setting;
use crate::config::Config;
use crate::frame::{Body, Frame};
use crate::message::{HEADER, Message, STARTUP_MESSAGE_MAX, announced};
use crate::query::fuzz_answer;
use crate::rows::cells;
use crate::startup::{Opening, Step};

/// Reads `bytes` as a replication stream, as a start-up dialogue and as the answer to a query. Panics only on a defect.
pub fn fuzz_body(bytes: &[u8]) {
    let Some((&mode, bytes)) = bytes.split_first() else { return };
    stream(bytes, if mode & 1 == 0 { 64 } else { 1 << 16 });
    opening(bytes, mode);
    fuzz_answer(Messages(bytes));
    row(bytes);
}

/// Every value of a row lies within its bytes.
fn row(bytes: &[u8]) {
    let mut found = Vec::new();
    if cells(bytes, &mut found).is_ok() {
        assert!(found.len() * 4 <= bytes.len());
        let row = relay_core::Row::new(bytes, &found);
        assert!((0..row.len()).all(|at| row.get(at).is_some()));
    }
}

/// Every frame lies within the bytes, and what is needed for the next is never less than what is there.
fn stream(bytes: &[u8], max_message: usize) {
    let mut rest = bytes;
    loop {
        let needed = Frame::needed(rest, max_message);
        match Frame::parse(rest, max_message) {
            Ok(None) => {
                assert!(needed > rest.len(), "incomplete, but nothing more is asked for");
                assert!(needed <= HEADER + max_message.max(1 << 20), "more is asked for than may be held");
                return;
            }
            Ok(Some(Frame { size, body })) => {
                assert!(size >= HEADER);
                if let Body::XLogData { payload, .. } | Body::Oversize { head: payload, .. } = body {
                    assert!(payload.len() <= size.min(rest.len()));
                }
                rest = rest.get(size..).unwrap_or_default();
            }
            Err(error) => {
                let _ = (error.to_string(), error.kind());
                return;
            }
        }
    }
}

fn opening(bytes: &[u8], mode: u8) {
    let mut url = String::from("postgres://u:password@h/d?channel_binding=");
    url.push_str(["disable", "prefer", "require", "prefer"][usize::from(mode >> 1 & 3)]);
    let Ok(config) = Config::parse(&url) else { return };
    let setting = Setting { tls: mode & 8 != 0, local: mode & 16 != 0, end_point: (mode & 32 != 0).then(|| vec![7; 32]) };
    let mut opening = Opening::new(&config, setting);
    for message in Messages(bytes) {
        // The rounds of hashing are the server's choice, up to a limit that is too slow for a fuzzer.
        if message.body.starts_with(&[0, 0, 0, 11]) && message.body.windows(6).any(|w| w.iter().all(u8::is_ascii_digit)) {
            return;
        }
        match opening.step(message) {
            Ok(Step::Ready) => return,
            Ok(Step::Wait) => {}
            Ok(Step::Send(answer)) => assert!(answer.first() == Some(&b'p')),
            Err(error) => {
                assert!(!error.to_string().contains("password@"));
                return;
            }
        }
    }
}

/// Whole messages of at most the start-up's length.
struct Messages<'a>(&'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = Message<'a>;

    fn next(&mut self) -> Option<Message<'a>> {
        let (tag, length) = announced(self.0).ok()??;
        if length > STARTUP_MESSAGE_MAX {
            return None;
        }
        let body = self.0.get(HEADER..HEADER + length)?;
        self.0 = self.0.get(HEADER + length..)?;
        Some(Message { tag, body })
    }
}
