//! Turns the database's URL into its parts for the rules, and into a form without its password for people.

use std::fmt;
use std::ops::Range;

use super::schema::{Fault, Field, Form};
use super::secret::MASK;
use super::suggest::names_a_secret;
use super::tree::Value;

/// The libpq URL of the database. `Debug` and `Display` leave the password out; [`Dsn::reveal`] does not.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Dsn(String);

/// The parts of the URL that rules look at, still percent-encoded.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct DsnParts<'a> {
    pub(crate) scheme: &'a str,
    pub(crate) has_password: bool,
    pub(crate) hosts: Vec<&'a str>,
    pub(crate) parameters: Vec<(&'a str, &'a str)>,
}

// === impl Dsn ===

impl Dsn {
    /// The URL with its password.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }

    /// Whether a URL was given.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The URL without its password. What is no URL may be anything, so nothing of it is shown.
    fn shown(&self) -> String {
        if self.0.is_empty() || self.0.contains("://") { masked(&self.0) } else { MASK.to_owned() }
    }

    /// The URL's parts; `None` when it is no URL at all.
    pub(crate) fn parts(&self) -> Option<DsnParts<'_>> {
        let (scheme, rest) = self.0.split_once("://")?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, _database) = rest.split_once('/').unwrap_or((rest, ""));
        let (user, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
        let mut parameters: Vec<(&str, &str)> =
            query.split('&').filter(|pair| !pair.is_empty()).map(|pair| pair.split_once('=').unwrap_or((pair, ""))).collect();
        parameters.dedup();
        let mut hosts: Vec<&str> = hosts.split(',').map(host_of).filter(|host| !host.is_empty()).collect();
        hosts.extend(
            parameters.iter().filter(|(name, _)| *name == "host" || *name == "hostaddr").flat_map(|(_, value)| value.split(',')),
        );
        let has_password = user.contains(':') || parameters.iter().any(|(name, _)| *name == "password");
        Some(DsnParts { scheme, has_password, hosts, parameters })
    }
}

impl DsnParts<'_> {
    /// The value of a parameter; the last one wins, as in libpq.
    pub(crate) fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().rev().find(|(known, _)| *known == name).map(|(_, value)| *value)
    }

    /// Whether every host is this machine itself: loopback, a unix socket, or none at all.
    pub(crate) fn is_local(&self) -> bool {
        self.hosts.iter().all(|host| {
            *host == "localhost"
                || host.starts_with('/')
                || host.to_lowercase().starts_with("%2f")
                || host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
        })
    }
}

/// The host of `host:port`, where an IPv6 address stands in brackets.
fn host_of(host: &str) -> &str {
    match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => host.split_once(':').map_or(host, |(host, _)| host),
    }
}

/// The byte ranges of `text` that hold a password, if it is a URL, or may hold one.
///
/// Errs on the side of hiding: a password may hold characters that should have been encoded.
pub(crate) fn secret_ranges(text: &str) -> Vec<Range<usize>> {
    let mut ranges = Vec::new();
    let mut start = 0;
    while let Some(found) = text[start..].find("://") {
        let authority = start + found + 3;
        let end = text[authority..].find(char::is_whitespace).map_or(text.len(), |at| authority + at);
        let part = &text[authority..end];
        match (part.find(':'), part.rfind('@')) {
            (Some(colon), Some(at)) if colon < at => ranges.push(authority + colon + 1..authority + at),
            // Without a host a port must be a number; anything else may be a password whose `@host` was forgotten.
            (Some(colon), None) => {
                let rest = &part[colon + 1..];
                let port = rest.find(['/', '?', ',', ':']).map_or(rest, |at| &rest[..at]);
                if !port.bytes().all(|byte| byte.is_ascii_digit()) {
                    ranges.push(authority + colon + 1..end);
                }
            }
            _ => {}
        }
        start = end;
    }
    // Parameters of the query, and libpq's other form `host=… password=…`.
    let mut start = 0;
    for word in text.split(['?', '&', ' ', '\t', ';']) {
        if let Some((name, value)) = word.split_once('=')
            && names_a_secret(name)
            && !value.is_empty()
        {
            // In the other form a quoted value may hold spaces: hide the rest.
            let until = if value.starts_with('\'') { text.len() } else { start + word.len() };
            ranges.push(start + name.len() + 1..until);
        }
        start += word.len() + 1;
    }
    ranges
}

/// A text in which every password of a URL is replaced.
pub(crate) fn masked(text: &str) -> String {
    let mut ranges = secret_ranges(text);
    ranges.sort_by_key(|range| range.start);
    let mut shown = String::new();
    let mut from = 0;
    for range in ranges {
        if range.start >= from {
            shown.push_str(&text[from..range.start]);
            shown.push_str(MASK);
        }
        from = from.max(range.end);
    }
    shown.push_str(&text[from..]);
    shown
}

impl fmt::Display for Dsn {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.shown())
    }
}

impl fmt::Debug for Dsn {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:?}", self.shown())
    }
}

impl Field for Dsn {
    const FORM: Form = Form::Text("libpq URL");

    fn read(value: &Value) -> Result<Self, Fault> {
        match value {
            Value::Text(text) => Ok(Self(text.clone())),
            other => Err(Fault::expected("text", other)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_spelling_of_a_password_is_shown() {
        for (url, shown) in [
            ("postgres://relay@db:5432/shop", "postgres://relay@db:5432/shop"),
            ("postgres://relay:canary@db/shop", "postgres://relay:***@db/shop"),
            ("postgres://relay:can@ary@db/shop", "postgres://relay:***@db/shop"),
            ("postgres://relay:can/ary?x@db/shop", "postgres://relay:***@db/shop"),
            ("postgres://relay:canary", "postgres://relay:***"),
            ("postgres://db:5432,other:5433/shop", "postgres://db:5432,other:5433/shop"),
            (
                "postgres://relay@db/shop?sslmode=require&password=canary&x=1",
                "postgres://relay@db/shop?sslmode=require&password=***&x=1",
            ),
            ("postgres://db/shop?sslpassword=canary", "postgres://db/shop?sslpassword=***"),
            ("host=db password=canary user=relay", "host=db password=*** user=relay"),
            ("host=db password='can ary' user=relay", "host=db password=***"),
            ("", ""),
        ] {
            assert_eq!(masked(url), shown);
        }
    }

    #[test]
    fn parts_name_hosts_and_parameters() {
        let dsn = Dsn("postgres://relay:pw@a:1,[::1]:2/shop?sslmode=prefer&host=%2Frun&sslmode=require".to_owned());
        let parts = dsn.parts().unwrap();
        assert_eq!(parts.hosts, ["a", "::1", "%2Frun"]);
        assert_eq!(parts.parameter("sslmode"), Some("require"));
        assert!(parts.has_password && !parts.is_local());
        assert!(Dsn("postgres:///shop?host=/run".to_owned()).parts().unwrap().is_local());
        assert!(Dsn("postgres://[::1]:5432/shop".to_owned()).parts().unwrap().is_local());
        assert!(Dsn("host=db".to_owned()).parts().is_none());
    }
}
