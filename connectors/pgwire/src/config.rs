//! What a connection needs to know: hosts, user, TLS, authentication and session settings.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use zeroize::Zeroizing;

use crate::error::Error;

/// Everything about a connection, made from a libpq URL and a few setters.
///
/// `Debug` and [`Config::redacted`] never show the password, and its memory is wiped when it is dropped or replaced.
#[derive(Clone)]
pub struct Config {
    pub(crate) hosts: Vec<Host>,
    pub(crate) user: String,
    pub(crate) password: Option<Zeroizing<String>>,
    pub(crate) database: String,
    pub(crate) ssl_mode: Option<SslMode>,
    pub(crate) ssl_root_cert: Option<RootCert>,
    pub(crate) ssl_cert: Option<PathBuf>,
    pub(crate) ssl_key: Option<PathBuf>,
    pub(crate) channel_binding: ChannelBinding,
    pub(crate) require_auth: Option<RequireAuth>,
    pub(crate) target_session_attrs: TargetSessionAttrs,
    pub(crate) connect_timeout: Duration,
    pub(crate) application_name: Option<String>,
    pub(crate) options: Option<String>,
    pub(crate) keepalive: Keepalive,
    pub(crate) replication: bool,
    pub(crate) allow_plaintext_password: bool,
    pub(crate) startup_parameters: Vec<(String, String)>,
    pub(crate) max_message: usize,
    /// The URL's parameters as given, without the password, for [`Config::redacted`].
    pub(crate) shown: Vec<(String, String)>,
}

/// A place where a server may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// A name, an address, or the directory of a unix socket (`/…`, or `@…` in the abstract name space).
    pub name: String,
    /// The port; of a unix socket the end of its file name.
    pub port: u16,
}

/// How far TLS is wanted, as libpq means it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SslMode {
    /// Never.
    Disable,
    /// Plain first; TLS if the server refuses that.
    Allow,
    /// TLS first; plain if that fails.
    Prefer,
    /// TLS, whoever answers; as `VerifyCa` when `sslrootcert` is given.
    Require,
    /// TLS, and the certificate comes from a trusted authority.
    VerifyCa,
    /// As `VerifyCa`, and the certificate names the host.
    VerifyFull,
}

/// Whether SCRAM is tied to the server's certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ChannelBinding {
    /// Never.
    Disable,
    /// Where the server offers it.
    #[default]
    Prefer,
    /// Or no connection.
    Require,
}

/// Which of several servers will do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TargetSessionAttrs {
    /// The first that answers.
    #[default]
    Any,
    /// One that takes writes.
    ReadWrite,
    /// One that does not.
    ReadOnly,
    /// One that is not in recovery.
    Primary,
    /// One that is in recovery.
    Standby,
    /// A standby if there is one, else any.
    PreferStandby,
}

/// Where the trusted authorities stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RootCert {
    System,
    File(PathBuf),
}

/// TCP keepalive settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Keepalive {
    pub(crate) enabled: bool,
    pub(crate) idle: Duration,
    pub(crate) interval: Duration,
    pub(crate) count: u32,
    pub(crate) user_timeout_ms: u32,
}

/// `require_auth`: methods named, and whether they are the only ones or the forbidden ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RequireAuth {
    pub(crate) negated: bool,
    pub(crate) methods: Vec<AuthMethod>,
}

/// How a server may ask who we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AuthMethod {
    Password,
    Md5,
    Gss,
    Sspi,
    Scram,
    OAuth,
    None,
}

/// Default of `connect_timeout`.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Default of [`Config::set_max_message`]: 256 MiB.
const MAX_MESSAGE: usize = 256 << 20;

// === impl Config ===

impl Config {
    /// Reads a libpq URL: `postgres://user:password@host1:5432,host2/database?parameter=value`.
    pub fn parse(url: &str) -> Result<Self, Error> {
        crate::url::parse(url)
    }

    /// A configuration for these hosts with every default.
    pub(crate) fn new(hosts: Vec<Host>, user: String, database: String) -> Self {
        Config {
            hosts,
            user,
            password: None,
            database,
            ssl_mode: None,
            ssl_root_cert: None,
            ssl_cert: None,
            ssl_key: None,
            channel_binding: ChannelBinding::default(),
            require_auth: None,
            target_session_attrs: TargetSessionAttrs::default(),
            connect_timeout: CONNECT_TIMEOUT,
            application_name: None,
            options: None,
            keepalive: Keepalive {
                enabled: true,
                idle: Duration::from_secs(30),
                interval: Duration::from_secs(10),
                count: 3,
                user_timeout_ms: 0,
            },
            replication: false,
            allow_plaintext_password: false,
            startup_parameters: Vec::new(),
            max_message: MAX_MESSAGE,
            shown: Vec::new(),
        }
    }

    /// Replaces the password; the old one is wiped. Callers read password files again before each reconnect.
    pub fn set_password(&mut self, password: impl Into<String>) -> &mut Self {
        self.password = Some(Zeroizing::new(password.into()));
        self
    }

    /// The `application_name` to use when the URL names none.
    pub fn set_default_application_name(&mut self, name: impl Into<String>) -> &mut Self {
        self.application_name.get_or_insert_with(|| name.into());
        self
    }

    /// Allows clear and md5 passwords without TLS beyond this machine.
    pub fn set_allow_plaintext_password(&mut self, allow: bool) -> &mut Self {
        self.allow_plaintext_password = allow;
        self
    }

    /// Adds a session setting to the startup packet, such as `wal_sender_timeout`; the last of a name counts, and it goes
    /// before the pinned one of that name.
    pub fn set_startup_parameter(&mut self, name: impl Into<String>, value: impl Into<String>) -> &mut Self {
        let name = name.into();
        self.startup_parameters.retain(|(known, _)| !known.eq_ignore_ascii_case(&name));
        self.startup_parameters.push((name, value.into()));
        self
    }

    /// Makes it a connection to a walsender of the database (`replication=database`), which also takes simple queries.
    pub fn set_replication(&mut self, replication: bool) -> &mut Self {
        self.replication = replication;
        self
    }

    /// Sets the longest message that is held in memory; longer replication frames are drained in pieces, other messages
    /// are an error.
    pub fn set_max_message(&mut self, bytes: usize) -> &mut Self {
        self.max_message = bytes;
        self
    }

    /// Replaces `target_session_attrs`.
    pub fn set_target_session_attrs(&mut self, wanted: TargetSessionAttrs) -> &mut Self {
        self.target_session_attrs = wanted;
        self
    }

    /// Replaces `connect_timeout`: the limit for the TCP connection to each address, and once more for TLS and
    /// authentication on it.
    pub fn set_connect_timeout(&mut self, limit: Duration) -> &mut Self {
        self.connect_timeout = limit;
        self
    }

    /// Hosts, in the order in which they are tried.
    #[must_use]
    pub fn hosts(&self) -> &[Host] {
        &self.hosts
    }

    /// User name.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.user
    }

    /// Database name.
    #[must_use]
    pub fn database(&self) -> &str {
        &self.database
    }

    /// Whether a password is known.
    #[must_use]
    pub fn has_password(&self) -> bool {
        self.password.is_some()
    }

    /// `application_name`, if one is set.
    #[must_use]
    pub fn application_name(&self) -> Option<&str> {
        self.application_name.as_deref()
    }

    /// `sslmode` as the URL has it.
    #[must_use]
    pub fn ssl_mode(&self) -> Option<SslMode> {
        self.ssl_mode
    }

    /// `sslmode` that counts for a host: none for unix sockets; as the URL has it; else verify-full, and none for loopback
    /// hosts (unless TLS is configured otherwise, by `sslrootcert=system` or `channel_binding=require`).
    #[must_use]
    pub fn ssl_mode_for(&self, host: &Host) -> SslMode {
        if host.is_unix() {
            return SslMode::Disable;
        }
        let wants_tls = self.ssl_root_cert.is_some() || self.channel_binding == ChannelBinding::Require;
        match self.ssl_mode {
            Some(mode) => mode,
            None if host.is_loopback() && !wants_tls => SslMode::Disable,
            None => SslMode::VerifyFull,
        }
    }

    /// `target_session_attrs`.
    #[must_use]
    pub fn target_session_attrs(&self) -> TargetSessionAttrs {
        self.target_session_attrs
    }

    /// The URL for people: password masked, parameters as given.
    #[must_use]
    pub fn redacted(&self) -> String {
        let mut url = String::from("postgres://");
        url.push_str(&self.user);
        if self.password.is_some() {
            url.push_str(":***");
        }
        url.push('@');
        for (index, host) in self.hosts.iter().enumerate() {
            if index > 0 {
                url.push(',');
            }
            url.push_str(&host.to_string());
        }
        url.push('/');
        url.push_str(&self.database);
        for (index, (name, value)) in self.shown.iter().enumerate() {
            url.push(if index == 0 { '?' } else { '&' });
            url.push_str(name);
            url.push('=');
            url.push_str(value);
        }
        url
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("url", &self.redacted())
            .field("application_name", &self.application_name)
            .field("replication", &self.replication)
            .field("startup_parameters", &self.startup_parameters)
            .field("max_message", &self.max_message)
            .finish_non_exhaustive()
    }
}

impl FromStr for Config {
    type Err = Error;

    fn from_str(url: &str) -> Result<Self, Error> {
        Config::parse(url)
    }
}

// === impl Host ===

impl Host {
    /// Whether it is the directory of a unix socket.
    #[must_use]
    pub fn is_unix(&self) -> bool {
        self.name.starts_with(['/', '@'])
    }

    /// Whether it is this machine by its name: `localhost`, 127.0.0.0/8 or `::1`.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        match self.name.parse::<std::net::IpAddr>() {
            Ok(address) => address.to_canonical().is_loopback(),
            Err(_) => self.name.eq_ignore_ascii_case("localhost"),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.name.contains(':') && !self.is_unix() {
            write!(f, "[{}]:{}", self.name, self.port)
        } else {
            write!(f, "{}:{}", self.name, self.port)
        }
    }
}

// === impl SslMode, ChannelBinding, TargetSessionAttrs, AuthMethod ===

impl SslMode {
    pub(crate) const NAMES: &[(&str, SslMode)] = &[
        ("disable", SslMode::Disable),
        ("allow", SslMode::Allow),
        ("prefer", SslMode::Prefer),
        ("require", SslMode::Require),
        ("verify-ca", SslMode::VerifyCa),
        ("verify-full", SslMode::VerifyFull),
    ];
}

impl ChannelBinding {
    pub(crate) const NAMES: &[(&str, ChannelBinding)] =
        &[("disable", ChannelBinding::Disable), ("prefer", ChannelBinding::Prefer), ("require", ChannelBinding::Require)];
}

impl TargetSessionAttrs {
    pub(crate) const NAMES: &[(&str, TargetSessionAttrs)] = &[
        ("any", TargetSessionAttrs::Any),
        ("read-write", TargetSessionAttrs::ReadWrite),
        ("read-only", TargetSessionAttrs::ReadOnly),
        ("primary", TargetSessionAttrs::Primary),
        ("standby", TargetSessionAttrs::Standby),
        ("prefer-standby", TargetSessionAttrs::PreferStandby),
    ];
}

impl AuthMethod {
    pub(crate) const NAMES: &[(&str, AuthMethod)] = &[
        ("password", AuthMethod::Password),
        ("md5", AuthMethod::Md5),
        ("gss", AuthMethod::Gss),
        ("sspi", AuthMethod::Sspi),
        ("scram-sha-256", AuthMethod::Scram),
        ("oauth", AuthMethod::OAuth),
        ("none", AuthMethod::None),
    ];
}

fn name_of<T: PartialEq>(names: &[(&'static str, T)], value: &T) -> &'static str {
    names.iter().find(|(_, known)| known == value).map_or("?", |(name, _)| name)
}

impl fmt::Display for SslMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(name_of(Self::NAMES, self))
    }
}

impl fmt::Display for TargetSessionAttrs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(name_of(Self::NAMES, self))
    }
}

impl fmt::Display for AuthMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(name_of(Self::NAMES, self))
    }
}

// === impl RequireAuth ===

impl RequireAuth {
    pub(crate) fn allows(&self, method: AuthMethod) -> bool {
        self.methods.contains(&method) != self.negated
    }
}

impl fmt::Display for RequireAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, method) in self.methods.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            let not = if self.negated { "!" } else { "" };
            write!(f, "{comma}{not}{method}")?;
        }
        Ok(())
    }
}
