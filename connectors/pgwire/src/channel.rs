//! A socket with or without TLS on it: plaintext in, plaintext out, never blocking.

use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

use rustls::ClientConnection;

use crate::error::Error;
use crate::socket::{Ready, Socket};

/// Plaintext both ways over a non-blocking socket.
#[derive(Debug)]
pub(crate) struct Channel {
    socket: Socket,
    tls: Option<Box<TlsStream>>,
    /// Plaintext queued and not yet handed to the socket or to TLS.
    outgoing: Vec<u8>,
    sent: usize,
    /// Why nothing can be written any more. What the server said before it closed is still read.
    write_failed: bool,
}

/// A TLS session and the ciphertext read ahead for it: large reads, for rustls itself takes no more than 4 KiB at a time.
#[derive(Debug)]
struct TlsStream {
    session: ClientConnection,
    host: String,
    cipher: Vec<u8>,
    start: usize,
    end: usize,
    ended: bool,
    /// Plaintext that rustls holds.
    held: usize,
}

/// The outcome of one non-blocking read.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Received {
    pub(crate) bytes: usize,
    /// Nothing was left on the socket.
    pub(crate) drained: bool,
    /// The server has closed and everything before that has been read.
    pub(crate) closed: bool,
}

const CIPHERTEXT_BYTES: usize = 128 * 1024;

// === impl Channel ===

impl Channel {
    pub(crate) fn new(socket: Socket) -> Self {
        Channel { socket, tls: None, outgoing: Vec::new(), sent: 0, write_failed: false }
    }

    pub(crate) fn socket(&mut self) -> &mut Socket {
        &mut self.socket
    }

    pub(crate) fn is_local(&self) -> bool {
        self.socket.is_local()
    }

    pub(crate) fn session(&self) -> Option<&ClientConnection> {
        self.tls.as_deref().map(|tls| &tls.session)
    }

    /// Puts TLS on the socket and completes the handshake.
    pub(crate) fn start_tls(&mut self, session: ClientConnection, host: &str, deadline: Instant) -> Result<(), Error> {
        let mut tls = Box::new(TlsStream {
            session,
            host: host.to_owned(),
            cipher: vec![0; CIPHERTEXT_BYTES],
            start: 0,
            end: 0,
            ended: false,
            held: 0,
        });
        while tls.session.is_handshaking() || tls.session.wants_write() {
            let blocked = !tls.write(&mut self.socket).map_err(Error::Lost)?;
            if !tls.session.is_handshaking() && !blocked {
                break;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Error::Tls { host: tls.host, reason: "the handshake took too long".to_owned() });
            }
            if !self.socket.wait(blocked, left).map_err(Error::Lost)?.read {
                continue;
            }
            tls.receive(&mut self.socket)?;
            while tls.session.is_handshaking() && tls.start < tls.end {
                if let Err(error) = tls.feed() {
                    // The alert tells the server why.
                    let _ = tls.write(&mut self.socket);
                    return Err(error);
                }
            }
            if tls.ended && tls.session.is_handshaking() {
                return Err(Error::Tls { host: tls.host, reason: "the server closed during the handshake".to_owned() });
            }
        }
        self.tls = Some(tls);
        Ok(())
    }

    /// Reads what is there into `into`, at most one system call.
    pub(crate) fn read(&mut self, into: &mut [u8]) -> Result<Received, Error> {
        match &mut self.tls {
            Some(tls) => tls.read(&mut self.socket, into),
            None => match self.socket.read(into) {
                Ok(0) if !into.is_empty() => Ok(Received { bytes: 0, drained: true, closed: true }),
                Ok(bytes) => Ok(Received { bytes, drained: bytes < into.len(), closed: false }),
                Err(error) if is_transient(&error) => Ok(Received { drained: true, ..Received::default() }),
                Err(error) => Err(Error::Lost(error)),
            },
        }
    }

    /// Whether a read gives something although the socket may be silent: TLS decrypts more than was asked for.
    pub(crate) fn has_read_ahead(&self) -> bool {
        self.tls.as_deref().is_some_and(|tls| tls.start < tls.end || tls.held > 0)
    }

    /// Adds plaintext to what is to be sent.
    pub(crate) fn queue(&mut self, bytes: &[u8]) {
        if !self.write_failed {
            self.outgoing.extend_from_slice(bytes);
        }
    }

    /// Whether earlier bytes still wait for the server to read.
    pub(crate) fn is_blocked(&self) -> bool {
        self.sent < self.outgoing.len() || self.tls.as_deref().is_some_and(|tls| tls.session.wants_write())
    }

    /// Whether a write failed; from then on everything queued is dropped.
    pub(crate) fn write_failed(&self) -> bool {
        self.write_failed
    }

    /// Writes as much as the socket takes. A failure is only remembered: the reason may still be there to be read.
    pub(crate) fn flush(&mut self) {
        if self.write_failed || !self.is_blocked() {
            return;
        }
        if self.try_flush().is_err() {
            self.write_failed = true;
            self.outgoing.clear();
            self.sent = 0;
        }
    }

    fn try_flush(&mut self) -> io::Result<()> {
        if let Some(tls) = &mut self.tls {
            // Records already made go first; only then is more turned into records, so that little waits inside TLS.
            while tls.write(&mut self.socket)? && self.sent < self.outgoing.len() {
                let piece = self.outgoing.get(self.sent..).unwrap_or_default();
                self.sent += tls.session.writer().write(piece)?;
            }
        } else {
            while let Some(piece) = self.outgoing.get(self.sent..).filter(|piece| !piece.is_empty()) {
                match self.socket.write(piece) {
                    Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                    Ok(count) => self.sent += count,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                    Err(error) => return Err(error),
                }
            }
        }
        if self.sent == self.outgoing.len() {
            self.outgoing.clear();
            self.sent = 0;
        }
        Ok(())
    }

    /// Waits for something to read, and also for room to write while bytes are waiting.
    pub(crate) fn wait(&self, limit: Duration) -> Result<Ready, Error> {
        self.socket.wait(self.is_blocked() && !self.write_failed, limit).map_err(Error::Lost)
    }
}

fn is_transient(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

// === impl TlsStream ===

impl TlsStream {
    fn read(&mut self, socket: &mut Socket, into: &mut [u8]) -> Result<Received, Error> {
        let mut received = Received::default();
        let mut asked_socket = false;
        loop {
            let room = into.get_mut(received.bytes..).unwrap_or_default();
            if room.is_empty() {
                return Ok(received);
            }
            match self.session.reader().read(room) {
                Ok(0) => received.closed = true,
                Ok(count) => {
                    received.bytes += count;
                    self.held = self.held.saturating_sub(count);
                    continue;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.held = 0,
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => received.closed = true,
                Err(error) => return Err(Error::Lost(error)),
            }
            if received.closed || (self.ended && self.start == self.end) {
                // A close without TLS's own notice is told like any other: the protocol above has its own end marks.
                received.drained = true;
                received.closed = received.bytes == 0;
                return Ok(received);
            }
            if self.start < self.end {
                self.feed()?;
            } else if asked_socket {
                return Ok(received);
            } else {
                asked_socket = true;
                received.drained = self.receive(socket)?;
                if self.start == self.end && !self.ended {
                    return Ok(received);
                }
            }
        }
    }

    /// One read of ciphertext; says whether the socket was emptied by it.
    fn receive(&mut self, socket: &mut Socket) -> Result<bool, Error> {
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
        }
        let room = self.cipher.get_mut(self.end..).unwrap_or_default();
        let size = room.len();
        match socket.read(room) {
            Ok(0) if size > 0 => {
                self.ended = true;
                Ok(true)
            }
            Ok(count) => {
                self.end += count;
                Ok(count < size)
            }
            Err(error) if is_transient(&error) => Ok(true),
            Err(error) => Err(Error::Lost(error)),
        }
    }

    /// Hands rustls some ciphertext and has it decrypted.
    fn feed(&mut self) -> Result<(), Error> {
        let mut piece = self.cipher.get(self.start..self.end).unwrap_or_default();
        let count = self.session.read_tls(&mut piece).map_err(Error::Lost)?;
        if count == 0 {
            return Err(Error::Tls { host: self.host.clone(), reason: "a record is too long".to_owned() });
        }
        self.start += count;
        let state = self.session.process_new_packets().map_err(|error| crate::tls::explain(&self.host, &self.session, error))?;
        self.held = state.plaintext_bytes_to_read();
        Ok(())
    }

    /// Writes records to the socket; says whether all are written.
    fn write(&mut self, socket: &mut Socket) -> io::Result<bool> {
        while self.session.wants_write() {
            match self.session.write_tls(socket) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }
}
