//! The next frame of a copy-both stream, parsed in place from the read buffer.

use relay_core::Lsn;

use crate::error::Error;
use crate::message::{HEADER, Message, announced};
use crate::server_error::ServerError;

/// One complete message of the stream, and how many bytes of the buffer it takes.
#[derive(Debug)]
pub struct Frame<'a> {
    /// What to give to `consume`.
    pub size: usize,
    /// What it says.
    pub body: Body<'a>,
}

/// What a frame says.
#[derive(Debug)]
#[non_exhaustive]
pub enum Body<'a> {
    /// Part of the log: one message of the output plugin.
    ///
    /// For a logical slot both positions hold the same value, `0/0` for most messages: positions are taken from Begin and
    /// Commit and from keepalives, never from here.
    XLogData {
        /// Start of the data.
        wal_start: Lsn,
        /// End of the log on the server.
        wal_end: Lsn,
        /// The server's clock, microseconds since 2000-01-01.
        send_time_us: i64,
        /// The plugin's message.
        payload: &'a [u8],
    },
    /// The server is alive, and has decoded and sent everything up to `wal_end`.
    Keepalive {
        /// Position decoded and sent.
        wal_end: Lsn,
        /// The server's clock, microseconds since 2000-01-01.
        send_time_us: i64,
        /// The server wants a status update at once.
        reply_requested: bool,
    },
    /// A warning or notice; to be logged and counted.
    Notice {
        /// Its fields.
        fields: Box<ServerError>,
    },
    /// A setting of the session changed on the server.
    ParameterStatus {
        /// Setting.
        name: &'a str,
        /// Its value now.
        value: &'a str,
    },
    /// The server ends the stream.
    CopyDone,
    /// The command has ended.
    CommandComplete,
    /// The server takes commands again.
    ReadyForQuery,
    /// XLogData longer than `max_message`: `consume` drains it in pieces without ever holding it.
    Oversize {
        /// The plugin message's first bytes: all of the first [`Frame::HEAD`] that there are, or more.
        head: &'a [u8],
        /// Length of the plugin message.
        len: usize,
    },
}

/// Bytes of the XLogData header: tag, start, end, time.
const XLOG_HEADER: usize = 25;

/// Messages other than CopyData may be this long whatever `max_message` is.
const OTHER_MAX: usize = 1 << 20;

// === impl Frame ===

impl<'a> Frame<'a> {
    /// Bytes of an oversize plugin message that are certain to be shown.
    pub const HEAD: usize = 4096;

    /// The frame at the front of `bytes`, if it is complete. An ErrorResponse is an error here.
    #[inline]
    pub(crate) fn parse(bytes: &'a [u8], max_message: usize) -> Result<Option<Self>, Error> {
        // The case of every row first, without the detours of the others.
        if let Some((&[b'd', a, b, c, d], rest)) = bytes.split_first_chunk::<HEADER>() {
            let length = u32::from_be_bytes([a, b, c, d]) as usize;
            if length >= 4 && length - 4 <= max_message {
                let Some(body) = rest.get(..length - 4) else { return Ok(None) };
                return copy_data(body).map(|body| Some(Frame { size: length + 1, body }));
            }
        }
        Frame::parse_other(bytes, max_message)
    }

    #[cold]
    fn parse_other(bytes: &'a [u8], max_message: usize) -> Result<Option<Self>, Error> {
        let Some((tag, length)) = announced(bytes)? else { return Ok(None) };
        let size = HEADER + length;
        if tag == b'd' {
            return oversize(bytes.get(HEADER..).unwrap_or_default(), length, max_message);
        }
        let limit = max_message.max(OTHER_MAX);
        if length > limit {
            return Err(Error::MessageTooLong { tag, length, limit });
        }
        let Some(body) = bytes.get(HEADER..size) else { return Ok(None) };
        let message = Message { tag, body };
        let body = match tag {
            b'E' => return Err(Error::from_response(message.body)),
            b'N' => Body::Notice { fields: Box::new(ServerError::parse(message.body)) },
            b'S' => {
                let (name, value) = message.parameter_status()?;
                Body::ParameterStatus { name, value }
            }
            b'c' => Body::CopyDone,
            b'C' => Body::CommandComplete,
            b'Z' => Body::ReadyForQuery,
            tag => return Err(Error::UnexpectedMessage { tag, during: "streaming" }),
        };
        Ok(Some(Frame { size, body }))
    }

    /// Bytes that must be buffered before the frame at the front of `bytes` can be parsed.
    pub(crate) fn needed(bytes: &[u8], max_message: usize) -> usize {
        match announced(bytes) {
            Ok(Some((b'd', length))) if length > max_message => HEADER + length.min(XLOG_HEADER + Frame::HEAD),
            Ok(Some((b'd', length))) => HEADER + length,
            // A longer one is an error when it is parsed; until then it gets no memory.
            Ok(Some((_, length))) => HEADER + length.min(max_message.max(OTHER_MAX)),
            _ => HEADER,
        }
    }
}

fn oversize(bytes: &[u8], length: usize, max_message: usize) -> Result<Option<Frame<'_>>, Error> {
    let Some(head) = bytes.get(..length.min(XLOG_HEADER + Frame::HEAD)) else { return Ok(None) };
    // Only a row or message of the log may be skipped; anything else of that length is nonsense.
    let (Some(b'w'), Some(_)) = (head.first(), head.get(XLOG_HEADER..)) else {
        return Err(Error::MessageTooLong { tag: b'd', length, limit: max_message });
    };
    let buffered = bytes.get(..length).unwrap_or(bytes);
    let head = buffered.get(XLOG_HEADER..).unwrap_or_default();
    Ok(Some(Frame { size: HEADER + length, body: Body::Oversize { head, len: length - XLOG_HEADER } }))
}

/// The body of a CopyData message.
#[inline]
fn copy_data(body: &[u8]) -> Result<Body<'_>, Error> {
    match body.split_first() {
        Some((b'w', rest)) => {
            let Some((header, payload)) = rest.split_first_chunk::<{ XLOG_HEADER - 1 }>() else {
                return Err(Error::protocol("XLogData is shorter than its header"));
            };
            let [start, end, time] = words(header);
            Ok(Body::XLogData { wal_start: Lsn(start), wal_end: Lsn(end), send_time_us: time as i64, payload })
        }
        Some((b'k', rest)) => match rest.split_first_chunk::<16>() {
            Some((header, [reply])) => {
                let [wal_end, time] = words(header);
                Ok(Body::Keepalive { wal_end: Lsn(wal_end), send_time_us: time as i64, reply_requested: *reply != 0 })
            }
            _ => Err(Error::protocol("a keepalive is not 18 bytes long")),
        },
        Some((tag, _)) => Err(Error::protocol(format!("CopyData of unknown kind {}", crate::message::tag_text(*tag)))),
        None => Err(Error::protocol("CopyData is empty")),
    }
}

/// `N` 64-bit words out of their bytes.
#[inline]
fn words<const N: usize, const BYTES: usize>(bytes: &[u8; BYTES]) -> [u64; N] {
    let (chunks, _) = bytes.as_chunks::<8>();
    std::array::from_fn(|index| chunks.get(index).map_or(0, |chunk| u64::from_be_bytes(*chunk)))
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn message(tag: u8, body: &[u8]) -> Vec<u8> {
        let mut bytes = vec![tag];
        bytes.extend((body.len() as u32 + 4).to_be_bytes());
        bytes.extend_from_slice(body);
        bytes
    }

    fn xlog(payload: &[u8]) -> Vec<u8> {
        let mut body = b"w".to_vec();
        for word in [1_u64, 2, 3] {
            body.extend(word.to_be_bytes());
        }
        body.extend_from_slice(payload);
        message(b'd', &body)
    }

    #[test]
    fn frames_are_read_in_place() {
        let mut bytes = xlog(b"row");
        let size = bytes.len();
        bytes.push(b'd');
        let frame = Frame::parse(&bytes, 100).expect("legal").expect("complete");
        assert_eq!(frame.size, size);
        let Body::XLogData { wal_start: Lsn(1), wal_end: Lsn(2), send_time_us: 3, payload: b"row" } = frame.body else {
            panic!("{frame:?}")
        };
        let keepalive = [b"k".as_slice(), &7_u64.to_be_bytes(), &8_u64.to_be_bytes(), &[1]].concat();
        let bytes = message(b'd', &keepalive);
        let frame = Frame::parse(&bytes, 100).expect("legal").expect("complete");
        assert!(matches!(frame.body, Body::Keepalive { wal_end: Lsn(7), send_time_us: 8, reply_requested: true }));
    }

    #[test]
    fn every_prefix_is_incomplete() {
        for bytes in [xlog(b"row"), message(b'c', b""), message(b'S', b"a\0b\0"), message(b'N', b"SWARNING\0C01000\0\0")] {
            for end in 0..bytes.len() {
                assert!(Frame::parse(&bytes[..end], 100).expect("no error yet").is_none());
                assert!(Frame::needed(&bytes[..end], 100) > end);
            }
            assert!(Frame::parse(&bytes, 100).expect("legal").is_some());
            assert_eq!(Frame::needed(&bytes, 100), bytes.len());
        }
    }

    #[test]
    fn an_oversize_row_shows_its_head() {
        let payload: Vec<u8> = (0..9000_u32).map(|n| n as u8).collect();
        let bytes = xlog(&payload);
        let needed = Frame::needed(&bytes[..5], 8000);
        assert_eq!(needed, 5 + 25 + Frame::HEAD);
        assert!(Frame::parse(&bytes[..needed - 1], 8000).expect("legal").is_none());
        let frame = Frame::parse(&bytes[..needed], 8000).expect("legal").expect("enough");
        assert_eq!(frame.size, bytes.len());
        let Body::Oversize { head, len: 9000 } = frame.body else { panic!("{frame:?}") };
        assert_eq!(head, &payload[..Frame::HEAD]);
        let small = xlog(b"0123456789");
        let frame = Frame::parse(&small, 30).expect("legal").expect("enough");
        assert!(matches!(frame.body, Body::Oversize { head: b"0123456789", len: 10 }));
    }

    #[test]
    fn what_is_not_the_protocol_is_an_error() {
        for bytes in [
            message(b'd', b""),
            message(b'd', b"x"),
            message(b'd', b"w123"),
            message(b'd', b"k"),
            message(b'd', &[b'k'; 19]),
            message(b'd', &[b'k'; 200]),
            message(b'd', &[b'w'; 20]),
            message(b'S', b"a"),
            message(b'T', b""),
            b"d\0\0\0\x03".to_vec(),
            b"c\xff\xff\xff\xff".to_vec(),
            b"N\x7f\0\0\0".to_vec(),
        ] {
            let limit = if bytes.len() == 25 { 10 } else { 100 };
            assert!(Frame::parse(&bytes, limit).is_err(), "{bytes:?}");
        }
        let error = Frame::parse(&message(b'E', b"SFATAL\0VFATAL\0C57P01\0Mbye\0\0"), 100).expect_err("an error");
        assert_eq!(error.sqlstate(), Some("57P01"));
    }
}
