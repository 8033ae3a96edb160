//! From a configuration to a connection: hosts and addresses in turn, TLS as `sslmode` asks, the wanted kind of server.

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::time::{Duration, Instant};

use relay_core::Kind;

use crate::auth::Setting;
use crate::certificate;
use crate::channel::Channel;
use crate::config::{Config, Host, SslMode, TargetSessionAttrs};
use crate::copy_both::CopyBoth;
use crate::error::{Attempt, Error};
use crate::server_error::ServerError;
use crate::socket::Socket;
use crate::startup::{Session, request_tls, start_session, timed_out};
use crate::tls;
use crate::wire::Wire;

/// A session with a server: takes statements, and can become a replication stream. Dropping it closes the socket.
#[derive(Debug)]
pub struct Connection {
    pub(crate) wire: Wire,
    pub(crate) session: Session,
    pub(crate) query_timeout: Option<Duration>,
    pub(crate) max_message: usize,
    /// Nothing more can be asked: a time-out or an error left an answer half read.
    pub(crate) broken: bool,
    /// A notification came and nobody has asked for it yet.
    pub(crate) notified: bool,
    address: String,
    certificate_not_after: Option<i64>,
}

/// Where one attempt goes.
#[derive(Clone, Copy, Debug)]
enum Place {
    Tcp(SocketAddr),
    Unix,
}

/// What to do about TLS in one attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Encryption {
    Plain,
    /// TLS if the server agrees, else go on in plain.
    IfOffered,
    Required,
}

const QUERY_TIMEOUT: Duration = Duration::from_secs(60);

// === impl Connection ===

impl Connection {
    /// Connects to the first server that answers and fits, trying every address of every host in order. Names are resolved
    /// anew, so that a moved server is found.
    ///
    /// An address that is unreachable, starting up, too slow or not of the wanted kind is passed over for the next; a server
    /// that answered and refuses user, password or TLS ends the search, as in libpq.
    pub fn connect(config: &Config) -> Result<Self, Error> {
        let wanted = config.target_session_attrs;
        let passes: &[TargetSessionAttrs] = match wanted {
            TargetSessionAttrs::PreferStandby => &[TargetSessionAttrs::Standby, TargetSessionAttrs::Any],
            _ => &[wanted],
        };
        let mut attempts = Vec::new();
        for wanted in passes {
            attempts.clear();
            for host in &config.hosts {
                if let Some(connection) = connect_host(config, host, *wanted, &mut attempts)? {
                    return Ok(connection);
                }
            }
        }
        match attempts.len() {
            1 => Err(attempts.remove(0).error),
            _ => Err(Error::NoHost(attempts)),
        }
    }

    /// The value of a setting that the server reports, such as `server_version`.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.session.parameters.get(name).map(String::as_str)
    }

    /// All settings that the server reports.
    #[must_use]
    pub fn parameters(&self) -> &BTreeMap<String, String> {
        &self.session.parameters
    }

    /// Process id of the server process.
    #[must_use]
    pub fn backend_pid(&self) -> i32 {
        self.session.backend_pid
    }

    /// Host, port and address of the server.
    #[must_use]
    pub fn server_address(&self) -> &str {
        &self.address
    }

    /// Whether TLS is on.
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        self.wire.channel.session().is_some()
    }

    /// When the first certificate of the server's chain runs out, in seconds since 1970.
    #[must_use]
    pub fn peer_certificate_not_after(&self) -> Option<i64> {
        self.certificate_not_after
    }

    /// Notices and warnings since the last call; at most 100 are kept.
    pub fn take_notices(&mut self) -> Vec<ServerError> {
        std::mem::take(&mut self.session.notices)
    }

    /// Whether an earlier error left the connection unusable.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.broken
    }

    /// Says goodbye and closes.
    pub fn close(mut self) {
        self.wire.channel.queue(b"X\0\0\0\x04");
        self.wire.channel.flush();
    }

    pub(crate) fn into_copy_both(self) -> CopyBoth {
        let Wire { channel, input, .. } = self.wire;
        CopyBoth::new(channel, input, self.max_message, self.session.backend_pid)
    }

    /// Whether the server is of the wanted kind. 14 and newer report it unasked; where a stand-in does not, ask.
    fn fits(&mut self, wanted: TargetSessionAttrs) -> Result<bool, Error> {
        let reported = |connection: &Self, name: &str| connection.parameter(name).map(|value| value == "on");
        let standby = match reported(self, "in_hot_standby") {
            Some(standby) => standby,
            None => self.ask("SELECT pg_catalog.pg_is_in_recovery()", "t")?,
        };
        let read_only = match reported(self, "default_transaction_read_only") {
            Some(read_only) => read_only || standby,
            None => self.ask("SHOW transaction_read_only", "on")?,
        };
        Ok(match wanted {
            TargetSessionAttrs::Any | TargetSessionAttrs::PreferStandby => true,
            TargetSessionAttrs::ReadWrite => !read_only,
            TargetSessionAttrs::ReadOnly => read_only,
            TargetSessionAttrs::Primary => !standby,
            TargetSessionAttrs::Standby => standby,
        })
    }

    /// A SQL_ASCII database knows no encoding and holds any bytes: asked for UTF-8 it fails at each text that is none, for ever. So its
    /// text comes as it is stored, and whoever reads it looks whether it is UTF-8. Other databases convert.
    fn take_stored_text(&mut self) -> Result<(), Error> {
        if self.parameter("server_encoding") == Some("SQL_ASCII") {
            self.query("SET client_encoding = 'SQL_ASCII'")?;
        }
        Ok(())
    }

    fn ask(&mut self, sql: &str, yes: &str) -> Result<bool, Error> {
        let rows = self.query(sql)?;
        Ok(rows.first().and_then(|row| row.get(0)) == Some(yes))
    }
}

/// Tries the addresses of one host. `Ok(None)`: go on with the next host; what happened is in `attempts`.
fn connect_host(
    config: &Config,
    host: &Host,
    wanted: TargetSessionAttrs,
    attempts: &mut Vec<Attempt>,
) -> Result<Option<Connection>, Error> {
    let places = match places(host) {
        Ok(places) => places,
        Err(source) => {
            let error = Error::Resolve { host: host.name.clone(), source };
            attempts.push(Attempt { address: host.to_string(), error });
            return Ok(None);
        }
    };
    for place in places {
        let address = place.describe(host);
        let tried = connect_place(config, host, place, &address).and_then(|mut connection| {
            if wanted == TargetSessionAttrs::Any || connection.fits(wanted)? {
                return Ok(connection);
            }
            Err(Error::WrongSession { address: address.clone(), wanted })
        });
        match tried {
            Ok(mut connection) => {
                connection.query_timeout = Some(QUERY_TIMEOUT);
                connection.take_stored_text()?;
                return Ok(Some(connection));
            }
            Err(error) if goes_on(&error) => attempts.push(Attempt { address, error }),
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// Whether another address may do better.
fn goes_on(error: &Error) -> bool {
    matches!(
        error.kind(),
        Kind::SourceUnreachable | Kind::SourceUnavailable | Kind::SourceLost | Kind::SourceSilent | Kind::SourceLimit
    )
}

fn places(host: &Host) -> io::Result<Vec<Place>> {
    if host.is_unix() {
        return Ok(vec![Place::Unix]);
    }
    let mut places: Vec<SocketAddr> = Vec::new();
    for address in (host.name.as_str(), host.port).to_socket_addrs()? {
        if !places.contains(&address) {
            places.push(address);
        }
    }
    match places.is_empty() {
        true => Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address")),
        false => Ok(places.into_iter().map(Place::Tcp).collect()),
    }
}

impl Place {
    fn describe(self, host: &Host) -> String {
        match self {
            Place::Tcp(address) if address.ip().to_string() != host.name => format!("{host} ({})", address.ip()),
            _ => host.to_string(),
        }
    }
}

/// One address, with libpq's ways around a refusal: `allow` tries TLS after plain, `prefer` plain after TLS.
fn connect_place(config: &Config, host: &Host, place: Place, address: &str) -> Result<Connection, Error> {
    let mode = config.ssl_mode_for(host);
    let (first, second) = match mode {
        SslMode::Disable => (Encryption::Plain, None),
        SslMode::Allow => (Encryption::Plain, Some(Encryption::Required)),
        SslMode::Prefer => (Encryption::IfOffered, Some(Encryption::Plain)),
        SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => (Encryption::Required, None),
    };
    let refused = match attempt(config, host, place, address, mode, first) {
        Ok(connection) => return Ok(connection),
        Err((error, encrypted)) => {
            let other_way = match &error {
                Error::Server(_) | Error::Tls { .. } => !goes_on(&error) && (encrypted || first == Encryption::Plain),
                _ => false,
            };
            match second {
                Some(second) if other_way => (error, second),
                _ => return Err(error),
            }
        }
    };
    let (error, second) = refused;
    match attempt(config, host, place, address, mode, second) {
        Ok(connection) => Ok(connection),
        // A server without TLS has nothing to add to its first refusal.
        Err((Error::Tls { .. }, false)) => Err(error),
        Err((error, _)) => Err(error),
    }
}

/// One connection, one start-up; with an error comes whether the server had agreed to TLS.
fn attempt(
    config: &Config,
    host: &Host,
    place: Place,
    address: &str,
    mode: SslMode,
    encryption: Encryption,
) -> Result<Connection, (Error, bool)> {
    let mut encrypted = false;
    start(config, host, place, address, mode, encryption, &mut encrypted).map_err(|error| match error {
        Error::StartupTimeout { .. } => {
            let seconds = config.connect_timeout.as_secs();
            (Error::StartupTimeout { address: address.to_owned(), seconds }, encrypted)
        }
        error => (error, encrypted),
    })
}

fn start(
    config: &Config,
    host: &Host,
    place: Place,
    address: &str,
    mode: SslMode,
    encryption: Encryption,
    encrypted: &mut bool,
) -> Result<Connection, Error> {
    let unreachable = |source| Error::Unreachable { address: address.to_owned(), source };
    // Read before connecting: a missing file must not look like the server's fault.
    let client = match encryption {
        Encryption::Plain => None,
        _ => Some(tls::client_config(config, mode)?),
    };
    let socket = match place {
        Place::Tcp(to) => Socket::tcp(to, config.connect_timeout, &config.keepalive),
        Place::Unix => Socket::unix(host, config.connect_timeout),
    }
    .map_err(unreachable)?;
    let deadline = Instant::now() + config.connect_timeout;
    let mut channel = Channel::new(socket);
    if let Some(client) = client {
        *encrypted = request_tls(&mut channel, host, deadline)?;
        if *encrypted {
            let session = tls::session(client, host)?;
            channel.start_tls(session, &host.name, deadline).map_err(|error| late(error, host, deadline))?;
        } else if encryption == Encryption::Required {
            let reason = format!("the server does not offer TLS, which sslmode={mode} demands");
            return Err(Error::Tls { host: host.name.clone(), reason });
        }
    }
    let chain = channel.session().and_then(|session| session.peer_certificates()).unwrap_or_default();
    let certificate_not_after = chain.iter().filter_map(|certificate| certificate::not_after(certificate)).min();
    let setting = Setting {
        tls: *encrypted,
        local: channel.is_local(),
        end_point: chain.first().and_then(|certificate| certificate::end_point(certificate)),
    };
    let mut wire = Wire::new(channel);
    let session = start_session(&mut wire, config, setting, host, deadline)?;
    Ok(Connection {
        wire,
        session,
        query_timeout: Some(config.connect_timeout),
        max_message: config.max_message,
        broken: false,
        notified: false,
        address: address.to_owned(),
        certificate_not_after,
    })
}

/// A handshake that fails past the deadline is slow, not wrong.
fn late(error: Error, host: &Host, deadline: Instant) -> Error {
    if Instant::now() >= deadline { timed_out(host) } else { error }
}
