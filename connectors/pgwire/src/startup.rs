//! The start-up packet, TLS negotiation and everything up to the first ReadyForQuery.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::time::Instant;

use crate::auth::{Auth, Reply, Setting};
use crate::channel::Channel;
use crate::config::{Config, Host};
use crate::error::Error;
use crate::message::{Message, STARTUP_MESSAGE_MAX};
use crate::server_error::ServerError;
use crate::wire::Wire;

/// Settings that make a row's text the same on every path, whatever the server's defaults are.
const PINNED: &[(&str, &str)] = &[
    ("DateStyle", "ISO, YMD"),
    ("IntervalStyle", "postgres"),
    ("TimeZone", "UTC"),
    ("lc_monetary", "C"),
    ("bytea_output", "hex"),
    ("extra_float_digits", "1"),
    // Names that are values (regclass and its like), and names in expressions of the catalog.
    ("quote_all_identifiers", "off"),
    // The same names, which carry their schema unless it is searched. What is the default everywhere, but for `$user`.
    ("search_path", "public"),
    // Backslashes in expressions of the catalog, such as a column's default.
    ("standard_conforming_strings", "on"),
];

/// Protocol 3.0.
const PROTOCOL: u32 = 196_608;

/// SSLRequest: a packet of the length of two words and this code.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// What the server told during start-up.
#[derive(Debug, Default)]
pub(crate) struct Session {
    pub(crate) parameters: BTreeMap<String, String>,
    pub(crate) notices: Vec<ServerError>,
    pub(crate) backend_pid: i32,
}

/// A server that reports without end is cut off here; PostgreSQL reports about fifteen.
const PARAMETERS_MAX: usize = 200;

/// Notices kept until somebody takes them.
const NOTICES_MAX: usize = 100;

/// The StartupMessage: protocol version, then name and value pairs. `replication` stands first, so that a pooler's refusal
/// names it and not an innocent setting.
pub(crate) fn startup_packet(config: &Config) -> Result<Vec<u8>, Error> {
    let mut pairs: Vec<(&str, &str)> = vec![("user", &config.user), ("database", &config.database)];
    if config.replication {
        pairs.insert(0, ("replication", "database"));
    }
    pairs.push(("client_encoding", "UTF8"));
    pairs.extend(config.application_name.as_deref().map(|name| ("application_name", name)));
    pairs.extend(config.options.as_deref().map(|options| ("options", options)));
    let own = |name: &str| config.startup_parameters.iter().any(|(known, _)| known.eq_ignore_ascii_case(name));
    pairs.extend(PINNED.iter().filter(|(name, _)| !own(name)));
    pairs.extend(config.startup_parameters.iter().map(|(name, value)| (name.as_str(), value.as_str())));

    let mut packet = vec![0; 4];
    packet.extend(PROTOCOL.to_be_bytes());
    for (name, value) in pairs {
        if name.is_empty() || name.contains('\0') || value.contains('\0') {
            return Err(Error::config(name, "a start-up parameter holds a NUL byte or has no name"));
        }
        for text in [name, value] {
            packet.extend_from_slice(text.as_bytes());
            packet.push(0);
        }
    }
    packet.push(0);
    let length = packet.len() as u32;
    packet.splice(..4, length.to_be_bytes());
    Ok(packet)
}

/// Asks for TLS; whether the server agrees.
///
/// Exactly one byte is read: what came with it in plain text would be somebody's injection, and fails the handshake.
pub(crate) fn request_tls(channel: &mut Channel, host: &Host, deadline: Instant) -> Result<bool, Error> {
    let socket = channel.socket();
    // Eight bytes always fit the empty send buffer of a fresh connection.
    socket.write_all(&SSL_REQUEST).map_err(Error::Lost)?;
    loop {
        let mut answer = [0];
        match socket.read(&mut answer) {
            Ok(0) => return Err(Error::Closed),
            Ok(_) if answer == *b"S" => return Ok(true),
            Ok(_) if answer == *b"N" => return Ok(false),
            // An ErrorResponse: nobody vouches for its text yet.
            Ok(_) if answer == *b"E" => {
                let reason = "the server answered the request for TLS with an error; its log tells why".to_owned();
                return Err(Error::Tls { host: host.name.clone(), reason });
            }
            Ok(_) => return Err(Error::protocol("the answer to the request for TLS is neither yes nor no")),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return Err(timed_out(host));
                }
                socket.wait(false, left).map_err(Error::Lost)?;
            }
            Err(error) => return Err(Error::Lost(error)),
        }
    }
}

/// A mark that the caller turns into [`Error::StartupTimeout`] with the address in it.
pub(crate) fn timed_out(host: &Host) -> Error {
    Error::StartupTimeout { address: host.to_string(), seconds: 0 }
}

/// Sends the start-up packet, authenticates and reads until the server is ready for a query.
pub(crate) fn start_session(
    wire: &mut Wire,
    config: &Config,
    setting: Setting,
    host: &Host,
    deadline: Instant,
) -> Result<Session, Error> {
    let mut opening = Opening::new(config, setting);
    let mut outgoing = zeroize::Zeroizing::new(startup_packet(config)?);
    loop {
        if !wire.send(&outgoing, Some(deadline))? {
            return Err(timed_out(host));
        }
        loop {
            // Looked at for each message: a server that never stops talking is late too.
            if Instant::now() >= deadline {
                return Err(timed_out(host));
            }
            let message = wire.message(STARTUP_MESSAGE_MAX, Some(deadline))?.ok_or_else(|| timed_out(host))?;
            match opening.step(message)? {
                Step::Wait => {}
                Step::Send(bytes) => {
                    outgoing = bytes;
                    break;
                }
                Step::Ready => {
                    wire.release();
                    return Ok(opening.session);
                }
            }
        }
    }
}

/// The state between start-up packet and ReadyForQuery; takes messages, does no I/O.
pub(crate) struct Opening<'a> {
    auth: Auth<'a>,
    authenticated: bool,
    pub(crate) session: Session,
}

/// What a message of the opening asks for.
pub(crate) enum Step {
    Wait,
    Send(zeroize::Zeroizing<Vec<u8>>),
    Ready,
}

// === impl Opening ===

impl<'a> Opening<'a> {
    pub(crate) fn new(config: &'a Config, setting: Setting) -> Self {
        Opening { auth: Auth::new(config, setting), authenticated: false, session: Session::default() }
    }

    pub(crate) fn step(&mut self, message: Message<'_>) -> Result<Step, Error> {
        match (message.tag, self.authenticated) {
            (b'E', _) => return Err(Error::from_response(message.body)),
            (b'N', _) => self.session.notice(message),
            (b'R', false) => match self.auth.step(message.body)? {
                Reply::Send(bytes) => return Ok(Step::Send(bytes)),
                Reply::Nothing => {}
                Reply::Done => self.authenticated = true,
            },
            (b'S', true) => self.session.parameter(message)?,
            (b'K', true) => self.session.backend_pid = message.backend_key()?,
            (b'Z', true) => return Ok(Step::Ready),
            (tag, _) => return Err(Error::UnexpectedMessage { tag, during: "starting up" }),
        }
        Ok(Step::Wait)
    }
}

// === impl Session ===

impl Session {
    /// Keeps a ParameterStatus.
    pub(crate) fn parameter(&mut self, message: Message<'_>) -> Result<(), Error> {
        let (name, value) = message.parameter_status()?;
        if self.parameters.len() < PARAMETERS_MAX || self.parameters.contains_key(name) {
            self.parameters.insert(name.to_owned(), value.to_owned());
        }
        Ok(())
    }

    /// Keeps a NoticeResponse.
    pub(crate) fn notice(&mut self, message: Message<'_>) {
        if self.notices.len() < NOTICES_MAX {
            self.notices.push(ServerError::parse(message.body));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_packet_pins_the_session() {
        let mut config = Config::parse("postgres://u:geheim@h/d?application_name=a&options=-c%20x%3D1").expect("legal");
        config.set_replication(true).set_startup_parameter("wal_sender_timeout", "30s");
        config.set_startup_parameter("timezone", "PST8PDT");
        let packet = startup_packet(&config).expect("legal");
        assert_eq!(packet[..8], [0, 0, (packet.len() >> 8) as u8, packet.len() as u8, 0, 3, 0, 0]);
        let text = String::from_utf8(packet[8..].to_vec()).expect("text");
        assert_eq!(
            text.split('\0').collect::<Vec<_>>().join("|"),
            "replication|database|user|u|database|d|client_encoding|UTF8|application_name|a|options|-c x=1|\
             DateStyle|ISO, YMD|IntervalStyle|postgres|lc_monetary|C|bytea_output|hex|extra_float_digits|1|quote_all_identifiers|off|\
             search_path|public|standard_conforming_strings|on|wal_sender_timeout|30s|timezone|PST8PDT||"
        );
    }
}
