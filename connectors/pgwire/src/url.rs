//! A libpq URL becomes a `Config`.

use std::time::Duration;

use zeroize::Zeroizing;

use crate::config::{AuthMethod, ChannelBinding, Config, Host, RequireAuth, RootCert, SslMode, TargetSessionAttrs};
use crate::error::Error;

/// Parameters that relay reads.
const KNOWN: &[&str] = &[
    "application_name",
    "channel_binding",
    "connect_timeout",
    "dbname",
    "gssencmode",
    "host",
    "keepalives",
    "keepalives_count",
    "keepalives_idle",
    "keepalives_interval",
    "options",
    "password",
    "port",
    "require_auth",
    "ssl",
    "sslcert",
    "sslkey",
    "sslmode",
    "sslrootcert",
    "target_session_attrs",
    "tcp_user_timeout",
    "user",
];

/// Parameters of libpq that have no effect here, by decision or for now: named in the error, so that nobody thinks they act.
const UNSUPPORTED: &[&str] = &[
    "client_encoding",
    "fallback_application_name",
    "gssdelegation",
    "gsslib",
    "hostaddr",
    "krbsrvname",
    "load_balance_hosts",
    "max_protocol_version",
    "min_protocol_version",
    "oauth_client_id",
    "oauth_client_secret",
    "oauth_issuer",
    "oauth_scope",
    "passfile",
    "replication",
    "requirepeer",
    "requiressl",
    "scram_client_key",
    "scram_server_key",
    "service",
    "servicefile",
    "sslcertmode",
    "sslcompression",
    "sslcrl",
    "sslcrldir",
    "sslkeylogfile",
    "ssl_max_protocol_version",
    "ssl_min_protocol_version",
    "sslnegotiation",
    "sslpassword",
    "sslsni",
];

const DEFAULT_PORT: u16 = 5432;

/// What the URL says, before hosts and ports are paired and defaults filled in.
struct Parts {
    hosts: Vec<String>,
    ports: Vec<String>,
    user: Option<String>,
    password: Option<Zeroizing<String>>,
    database: Option<String>,
    parameters: Vec<(String, String)>,
}

pub(crate) fn parse(url: &str) -> Result<Config, Error> {
    let parts = split(url)?;
    let hosts = pair_hosts(&parts.hosts, &parts.ports)?;
    let user = match parts.user.filter(|user| !user.is_empty()) {
        Some(user) => user,
        None => system_user().ok_or_else(|| Error::config("user", "the URL names no user"))?,
    };
    let database = parts.database.filter(|name| !name.is_empty()).unwrap_or_else(|| user.clone());
    for (name, text) in [("user", &user), ("dbname", &database)] {
        if text.contains('\0') {
            return Err(Error::config(name, "holds a NUL byte"));
        }
    }
    let mut config = Config::new(hosts, user, database);
    config.password = parts.password;
    for (name, value) in parts.parameters {
        apply(&mut config, &name, &value)?;
        config.shown.push((name, value));
    }
    check(&config)?;
    Ok(config)
}

/// Takes the URL apart: `scheme://[user[:password]@][host[:port],…][/database][?name=value&…]`.
fn split(url: &str) -> Result<Parts, Error> {
    let rest = url
        .strip_prefix("postgres://")
        .or_else(|| url.strip_prefix("postgresql://"))
        .ok_or_else(|| Error::config("url", "expected `postgres://user@host:port/database?…`"))?;
    // As libpq: user and password end at the first `@` that stands before any `/`.
    let mut parts = Parts { hosts: vec![], ports: vec![], user: None, password: None, database: None, parameters: vec![] };
    let rest = match rest.find(['@', '/']) {
        Some(at) if rest[at..].starts_with('@') => {
            let (user, password) = match rest[..at].split_once(':') {
                Some((user, password)) => (user, Some(password)),
                None => (&rest[..at], None),
            };
            parts.user = Some(decode("user", user)?);
            parts.password = password.map(|text| decode("password", text).map(Zeroizing::new)).transpose()?;
            &rest[at + 1..]
        }
        _ => rest,
    };
    let (authority, rest) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    if authority.contains('@') {
        return Err(Error::config("url", "a host cannot contain `@`; write `@` in a password as %40"));
    }
    for host in authority.split(',') {
        let (name, port) = split_host(host)?;
        parts.hosts.push(decode("host", name)?);
        parts.ports.push(port.to_owned());
    }
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    let path = path.strip_prefix('/').unwrap_or(path);
    if path.contains(['@', '/']) {
        // Most likely the rest of a password with a `/` in it: not to be shown.
        return Err(Error::config("url", "unexpected `/` or `@`; write them as %2F and %40 in user, password and database"));
    }
    parts.database = Some(decode("dbname", path)?);
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').ok_or_else(|| Error::config("url", "a parameter has no `=`"))?;
        let name = decode("url", name)?;
        let value = Zeroizing::new(decode(&name, value)?);
        let list = || value.split(',').map(str::to_owned).collect::<Vec<_>>();
        match name.as_str() {
            "host" => {
                parts.hosts = list();
                // Ports given with the hosts before belong to those.
                if parts.ports.len() != parts.hosts.len() {
                    parts.ports.retain(|port| !port.is_empty());
                }
            }
            "port" => parts.ports = list(),
            "user" => parts.user = Some(value.to_string()),
            "password" => parts.password = Some(value),
            "dbname" => parts.database = Some(value.to_string()),
            _ => parts.parameters.push((name, value.to_string())),
        }
    }
    Ok(parts)
}

/// `name`, `name:port`, `[v6]`, `[v6]:port`.
fn split_host(text: &str) -> Result<(&str, &str), Error> {
    if let Some(rest) = text.strip_prefix('[') {
        let (name, rest) = rest.split_once(']').ok_or_else(|| Error::config("host", "`[` without `]`"))?;
        return match (rest, rest.strip_prefix(':')) {
            ("", _) => Ok((name, "")),
            (_, Some(port)) => Ok((name, port)),
            _ => Err(Error::config("host", "expected `:port` after `]`")),
        };
    }
    match text.split_once(':') {
        Some((_, port)) if port.contains(':') => Err(Error::config("host", "an IPv6 address stands in brackets: `[::1]:5432`")),
        Some((name, port)) => Ok((name, port)),
        None => Ok((text, "")),
    }
}

/// One port for all hosts, or one each; libpq's rule.
fn pair_hosts(names: &[String], ports: &[String]) -> Result<Vec<Host>, Error> {
    if ports.len() > 1 && ports.len() != names.len() {
        return Err(Error::config("port", format!("{} ports for {} hosts", ports.len(), names.len())));
    }
    let mut hosts = Vec::with_capacity(names.len());
    for (index, name) in names.iter().enumerate() {
        let port = match ports.get(if ports.len() == 1 { 0 } else { index }).map(String::as_str) {
            None | Some("") => DEFAULT_PORT,
            // Never shown: in a URL whose password holds an unescaped `/` this is the password's beginning.
            Some(text) => text
                .parse()
                .ok()
                .filter(|port| *port != 0)
                .ok_or_else(|| Error::config("port", "not a number from 1 to 65535 (write `/` in a password as %2F)"))?,
        };
        let name = if name.is_empty() { "localhost".to_owned() } else { name.clone() };
        if name.contains('\0') {
            return Err(Error::config("host", "holds a NUL byte"));
        }
        hosts.push(Host { name, port });
    }
    Ok(hosts)
}

fn apply(config: &mut Config, name: &str, value: &str) -> Result<(), Error> {
    let seconds = || number(name, value).map(|n| Duration::from_secs(u64::from(n)));
    if value.contains('\0') {
        return Err(Error::config(name, "holds a NUL byte"));
    }
    match name {
        "sslmode" => config.ssl_mode = Some(choice(name, value, SslMode::NAMES)?),
        // The form of JDBC URLs, which libpq takes too.
        "ssl" if value == "true" => config.ssl_mode = Some(SslMode::Require),
        "ssl" => return Err(Error::config(name, "only `true` is known; use sslmode")),
        "sslrootcert" => config.ssl_root_cert = root_cert(value),
        "sslcert" => config.ssl_cert = (!value.is_empty()).then(|| value.into()),
        "sslkey" => config.ssl_key = (!value.is_empty()).then(|| value.into()),
        "channel_binding" => config.channel_binding = choice(name, value, ChannelBinding::NAMES)?,
        "require_auth" => config.require_auth = require_auth(value)?,
        "target_session_attrs" => config.target_session_attrs = choice(name, value, TargetSessionAttrs::NAMES)?,
        "connect_timeout" => {
            // libpq's 0 waits for ever, which a daemon must not: the default.
            config.connect_timeout = Some(seconds()?).filter(|limit| !limit.is_zero()).unwrap_or(crate::config::CONNECT_TIMEOUT);
        }
        "application_name" => config.application_name = Some(value.to_owned()),
        "options" => config.options = Some(value.to_owned()),
        "keepalives" => config.keepalive.enabled = number(name, value)? != 0,
        "keepalives_idle" => config.keepalive.idle = seconds()?,
        "keepalives_interval" => config.keepalive.interval = seconds()?,
        "keepalives_count" => config.keepalive.count = number(name, value)?,
        "tcp_user_timeout" => config.keepalive.user_timeout_ms = number(name, value)?,
        // Kerberos encryption is never used, so everything but "or nothing" is as wished.
        "gssencmode" if matches!(value, "disable" | "prefer") => {}
        "gssencmode" => return Err(Error::config(name, "Kerberos encryption is not supported; use TLS")),
        _ if UNSUPPORTED.contains(&name) => return Err(Error::config(name, "this libpq parameter is not supported")),
        _ => return Err(unknown(name)),
    }
    Ok(())
}

/// What holds between parameters.
fn check(config: &Config) -> Result<(), Error> {
    if config.ssl_cert.is_some() != config.ssl_key.is_some() {
        let (given, missing) = if config.ssl_cert.is_some() { ("sslcert", "sslkey") } else { ("sslkey", "sslcert") };
        return Err(Error::config(given, format!("needs {missing} too")));
    }
    // libpq's rule: any public authority vouches for any host name, so without that name the check is worth nothing.
    if config.ssl_root_cert == Some(RootCert::System) && config.ssl_mode.is_some_and(|mode| mode < SslMode::VerifyFull) {
        return Err(Error::config("sslrootcert", "`system` needs sslmode=verify-full"));
    }
    Ok(())
}

fn root_cert(value: &str) -> Option<RootCert> {
    match value {
        "" => None,
        "system" => Some(RootCert::System),
        path => Some(RootCert::File(path.into())),
    }
}

fn require_auth(value: &str) -> Result<Option<RequireAuth>, Error> {
    if value.is_empty() {
        return Ok(None);
    }
    let negated = value.starts_with('!');
    let mut methods = Vec::new();
    for item in value.split(',') {
        let bare = item.strip_prefix('!');
        if bare.is_some() != negated {
            return Err(Error::config("require_auth", "either all methods have a `!` or none"));
        }
        methods.push(choice("require_auth", bare.unwrap_or(item), AuthMethod::NAMES)?);
    }
    Ok(Some(RequireAuth { negated, methods }))
}

fn number(name: &str, value: &str) -> Result<u32, Error> {
    value.trim().parse().map_err(|_| Error::config(name, format!("`{value}` is not a whole number")))
}

fn choice<T: Copy>(name: &str, value: &str, names: &[(&str, T)]) -> Result<T, Error> {
    names.iter().find(|(known, _)| *known == value).map(|(_, choice)| *choice).ok_or_else(|| {
        let known: Vec<&str> = names.iter().map(|(known, _)| *known).collect();
        Error::config(name, format!("`{value}` is none of {}", known.join(", ")))
    })
}

fn unknown(name: &str) -> Error {
    let score = |known: &&&str| (strsim::jaro_winkler(name, known) * 1000.0) as u32;
    match KNOWN.iter().max_by_key(score) {
        Some(known) => Error::config(name, format!("unknown parameter of the URL; did you mean `{known}`?")),
        None => Error::config(name, "unknown parameter of the URL"),
    }
}

/// Percent-decoding; `+` is itself, as libpq has it.
fn decode(name: &str, text: &str) -> Result<String, Error> {
    let broken = || Error::config(name, "`%` must be followed by two hexadecimal digits");
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || rest.next().and_then(|byte| (byte as char).to_digit(16)).ok_or_else(broken);
        let (high, low) = (digit()?, digit()?);
        bytes.push((high * 16 + low) as u8);
    }
    String::from_utf8(bytes).map_err(|_| Error::config(name, "not UTF-8 after percent-decoding"))
}

/// The name of the operating system's user, from the system's own list.
fn system_user() -> Option<String> {
    let uid = rustix::process::geteuid().as_raw().to_string();
    let list = std::fs::read_to_string("/etc/passwd").ok()?;
    list.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == uid).then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(url: &str) -> Config {
        parse(url).expect(url)
    }

    fn refused(url: &str) -> String {
        parse(url).expect_err(url).to_string()
    }

    fn places(url: &str) -> Vec<String> {
        config(url).hosts().iter().map(Host::to_string).collect()
    }

    #[test]
    fn hosts_and_ports() {
        assert_eq!(places("postgres://u@h/d"), ["h:5432"]);
        assert_eq!(places("postgresql://u@h1:1,h2,h3:3/d"), ["h1:1", "h2:5432", "h3:3"]);
        assert_eq!(places("postgres://u@[::1]:7,[fe80::1]/d"), ["[::1]:7", "[fe80::1]:5432"]);
        assert_eq!(places("postgres://u@/d"), ["localhost:5432"]);
        assert_eq!(places("postgres:///d?user=u"), ["localhost:5432"]);
        assert_eq!(places("postgres://u@/d?host=/run/postgresql"), ["/run/postgresql:5432"]);
        assert_eq!(places("postgres://u@/d?host=/run/postgresql&port=6"), ["/run/postgresql:6"]);
        assert_eq!(places("postgres://u@:9/d?host=/run/postgresql"), ["/run/postgresql:9"]);
        assert_eq!(places("postgres://u@%2Frun%2Fpg:9/d"), ["/run/pg:9"]);
        assert_eq!(places("postgres://u@/d?host=a,b&port=1,2"), ["a:1", "b:2"]);
        assert_eq!(places("postgres://u@/d?host=a,b&port=5"), ["a:5", "b:5"]);
        assert!(refused("postgres://u@/d?host=a,b&port=1,2,3").contains("3 ports for 2 hosts"));
        assert!(refused("postgres://u@::1/d").contains("brackets"));
        assert!(refused("mysql://u@h/d").contains("postgres://"));
        assert!(refused("postgres://u@h:0/d").contains("port"));
    }

    #[test]
    fn users_passwords_and_databases() {
        let all = config("postgres://re%20lay:p%40s%3As@h/sh%2Fop");
        assert_eq!((all.user(), all.database()), ("re lay", "sh/op"));
        assert_eq!(all.password.as_deref().map(String::as_str), Some("p@s:s"));
        assert_eq!(config("postgres://u@h").database(), "u");
        assert_eq!(config("postgres://u:@h").password.as_deref().map(String::as_str), Some(""));
        assert_eq!(config("postgres://h/d?user=x&password=y&dbname=z").redacted(), "postgres://x:***@h:5432/z");
        assert_eq!(config("postgres://u:a?b@h").password.as_deref().map(String::as_str), Some("a?b"));
    }

    #[test]
    fn a_password_never_shows() {
        let config = config("postgres://u:geheim@h1,h2:3/d?sslmode=require&password=geheim");
        assert_eq!(config.redacted(), "postgres://u:***@h1:5432,h2:3/d?sslmode=require");
        assert!(!format!("{config:?}").contains("geheim"));
        for url in [
            "postgres://u:geheim/x@h/d",
            "postgres://u:gehe/im@h/d",
            "postgres://u:12/geheim@h/d",
            "postgres://u:x@geheim@h/d",
            "postgres://u:geheim%zz@h/d",
            "postgres://u:geheim@h/d?password=geheim%f",
            "postgres://u:geheim@h/d?sslmod=x",
            "postgres://u:geheim@h:x/d",
            "postgres:/u:geheim@h/d",
        ] {
            assert!(!refused(url).contains("geheim"), "{}", refused(url));
        }
    }

    #[test]
    fn parameters() {
        let all = config(
            "postgres://u@h/d?sslmode=verify-ca&sslrootcert=/ca.pem&sslcert=/c&sslkey=/k&channel_binding=require\
             &require_auth=!password,!md5&target_session_attrs=prefer-standby&connect_timeout=3&application_name=a%20b\
             &options=-c%20x%3D1&keepalives=0&keepalives_idle=7&keepalives_interval=8&keepalives_count=9&tcp_user_timeout=10",
        );
        assert_eq!(all.ssl_mode, Some(SslMode::VerifyCa));
        assert_eq!(all.ssl_root_cert, Some(RootCert::File("/ca.pem".into())));
        assert_eq!(all.channel_binding, ChannelBinding::Require);
        assert_eq!(all.target_session_attrs, TargetSessionAttrs::PreferStandby);
        assert_eq!(all.connect_timeout, Duration::from_secs(3));
        assert_eq!(all.options.as_deref(), Some("-c x=1"));
        assert!(!all.keepalive.enabled && all.keepalive.count == 9 && all.keepalive.user_timeout_ms == 10);
        let methods = all.require_auth.expect("set");
        assert!(methods.allows(AuthMethod::Scram) && !methods.allows(AuthMethod::Md5));
        assert_eq!(methods.to_string(), "!password,!md5");
        assert!(refused("postgres://u@h/d?sslmode=on").contains("verify-full"));
        assert!(refused("postgres://u@h/d?ssl_mode=require").contains("did you mean `sslmode`"));
        assert!(refused("postgres://u@h/d?applicaton_name=x").contains("did you mean `application_name`"));
        assert!(refused("postgres://u@h/d?sslcrl=x").contains("not supported"));
        assert!(refused("postgres://u@h/d?sslcert=x").contains("sslkey"));
        assert!(refused("postgres://u@h/d?require_auth=md5,!none").contains('!'));
        assert!(refused("postgres://u@h/d?sslrootcert=system&sslmode=require").contains("verify-full"));
        assert!(refused("postgres://u@h/d?connect_timeout=soon").contains("`soon`"));
    }

    #[test]
    fn tls_is_the_default_except_at_home() {
        let mode = |url: &str| {
            let config = config(url);
            config.ssl_mode_for(&config.hosts()[0])
        };
        assert_eq!(mode("postgres://u@db/d"), SslMode::VerifyFull);
        assert_eq!(mode("postgres://u@10.0.0.1/d"), SslMode::VerifyFull);
        for home in ["localhost", "LocalHost", "127.0.0.1", "127.8.8.8", "[::1]", "[::ffff:127.0.0.1]", "%2Frun"] {
            assert_eq!(mode(&format!("postgres://u@{home}/d")), SslMode::Disable, "{home}");
        }
        assert_eq!(mode("postgres://u@localhost/d?sslmode=require"), SslMode::Require);
        assert_eq!(mode("postgres://u@localhost/d?sslrootcert=/ca"), SslMode::VerifyFull);
        assert_eq!(mode("postgres://u@/d?host=/run&sslmode=require"), SslMode::Disable);
    }
}
