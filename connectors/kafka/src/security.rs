//! Turns `[sink.kafka.security]` into librdkafka's settings, and a token into what OAUTHBEARER asks for.

use crate::config::Finding;
use crate::error::Error;
use rdkafka::ClientConfig;
use rdkafka::client::OAuthToken;
use std::fmt;
use std::path::{Path, PathBuf};

/// A text that is never printed.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

/// Where a secret comes from. A file is read again whenever a client is made, and a token's at each refresh.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretSource {
    /// The secret itself.
    Text(Secret),
    /// A file that holds it; one line break at its end does not belong to it.
    File(PathBuf),
}

/// How relay proves to the brokers who it is, and they to relay who they are. Empty texts stand for "not set".
#[derive(Clone, Debug, Default)]
pub struct Security {
    /// `plaintext`, `ssl`, `sasl_plaintext` or `sasl_ssl`; empty is `plaintext`.
    pub protocol: String,
    /// `PLAIN`, `SCRAM-SHA-256`, `SCRAM-SHA-512` or `OAUTHBEARER`.
    pub mechanism: String,
    /// For PLAIN and SCRAM.
    pub username: String,
    /// For PLAIN and SCRAM.
    pub password: Option<SecretSource>,
    /// PEM file with the certificate authorities to trust; the system's when `None`.
    pub ca_file: Option<PathBuf>,
    /// PEM file with relay's own certificate.
    pub certificate_file: Option<PathBuf>,
    /// PEM file with its key.
    pub key_file: Option<PathBuf>,
    /// For an encrypted `key_file`.
    pub key_password: Option<SecretSource>,
    /// For OAUTHBEARER: a JWT.
    pub token: Option<SecretSource>,
    /// Lets PLAIN send a password without TLS.
    pub allow_plaintext_password: bool,
}

const PROTOCOLS: [&str; 4] = ["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"];
const MECHANISMS: [&str; 4] = ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"];

// === impl Secret ===

impl Secret {
    /// The text itself, for the one place that must send it.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

// === impl SecretSource ===

impl SecretSource {
    pub(crate) fn read(&self) -> Result<Secret, Error> {
        match self {
            SecretSource::Text(secret) => Ok(secret.clone()),
            SecretSource::File(path) => {
                let mut text = read_file(path)?;
                if text.ends_with('\n') {
                    text.pop();
                    if text.ends_with('\r') {
                        text.pop();
                    }
                }
                Ok(Secret(text))
            }
        }
    }
}

fn read_file(path: &Path) -> Result<String, Error> {
    std::fs::read_to_string(path).map_err(|error| Error::File { path: path.to_owned(), message: error.to_string() })
}

// === impl Security ===

impl Security {
    fn protocol(&self) -> &str {
        if self.protocol.is_empty() { "plaintext" } else { &self.protocol }
    }

    fn has_tls(&self) -> bool {
        self.protocol().ends_with("ssl")
    }

    fn has_sasl(&self) -> bool {
        self.protocol().starts_with("sasl")
    }

    /// What configuration alone proves wrong.
    pub(crate) fn check(&self, findings: &mut Vec<Finding>) {
        let mut add =
            |key: &str, text: String, hint: &str| findings.push(Finding::new(format!("sink.kafka.security.{key}"), text, hint));
        if !PROTOCOLS.contains(&self.protocol()) {
            add("protocol", format!("`{}` is not a protocol", self.protocol), "use plaintext, ssl, sasl_plaintext or sasl_ssl");
            return;
        }
        if !self.has_sasl() {
            if !self.mechanism.is_empty() {
                let text = format!("a mechanism is set, but protocol `{}` has no authentication", self.protocol());
                add("mechanism", text, "set security.protocol to sasl_ssl, or leave the mechanism out");
            }
        } else if self.mechanism.is_empty() {
            add(
                "mechanism",
                format!("protocol `{}` needs a mechanism", self.protocol()),
                "name one of the four, such as SCRAM-SHA-512",
            );
        } else if !MECHANISMS.contains(&self.mechanism.as_str()) {
            let text = format!("`{}` is not a mechanism that relay knows", self.mechanism);
            add("mechanism", text, "use PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER");
        } else if self.mechanism == "OAUTHBEARER" {
            if self.token.is_none() {
                add("token", "OAUTHBEARER needs a token".to_owned(), "set security.token_file to a file that holds the JWT");
            }
        } else {
            if self.username.is_empty() {
                add("username", format!("{} needs a user name", self.mechanism), "set security.username");
            }
            if self.password.is_none() {
                add("password", format!("{} needs a password", self.mechanism), "set security.password_file");
            }
            if self.mechanism == "PLAIN" && !self.has_tls() && !self.allow_plaintext_password {
                let text = "PLAIN without TLS sends the password readable to everyone on the way".to_owned();
                add(
                    "mechanism",
                    text,
                    "set security.protocol to sasl_ssl, or use SCRAM; security.allow_plaintext_password allows it",
                );
            }
        }
        if !self.has_tls() && (self.ca_file.is_some() || self.certificate_file.is_some() || self.key_file.is_some()) {
            let text = format!("certificates are set, but protocol `{}` does not use TLS", self.protocol());
            add("protocol", text, "set security.protocol to ssl or sasl_ssl");
        }
        if self.certificate_file.is_some() != self.key_file.is_some() {
            let key = if self.key_file.is_some() { "certificate_file" } else { "key_file" };
            add(key, "a certificate and its key go together".to_owned(), "set both certificate_file and key_file");
        }
    }

    /// Adds these settings to a client's.
    pub(crate) fn apply(&self, client: &mut ClientConfig) -> Result<(), Error> {
        client.set("security.protocol", self.protocol());
        if self.has_tls() {
            // The host name check stays what librdkafka makes it, on, unless a property says otherwise.
            let files = [
                ("ssl.ca.location", &self.ca_file),
                ("ssl.certificate.location", &self.certificate_file),
                ("ssl.key.location", &self.key_file),
            ];
            for (property, file) in files {
                if let Some(path) = file {
                    read_file(path)?; // librdkafka's own message names no file
                    client.set(property, path.to_string_lossy());
                }
            }
            if let Some(password) = &self.key_password {
                client.set("ssl.key.password", password.read()?.reveal());
            }
        }
        if self.has_sasl() {
            client.set("sasl.mechanism", &self.mechanism);
            if self.mechanism != "OAUTHBEARER" {
                client.set("sasl.username", &self.username);
                if let Some(password) = &self.password {
                    client.set("sasl.password", password.read()?.reveal());
                }
            }
        }
        Ok(())
    }

    /// The token, read anew.
    pub(crate) fn oauth_token(&self) -> Result<OAuthToken, Error> {
        let source = self.token.as_ref().ok_or_else(|| Error::Auth("no token is configured".to_owned()))?;
        let token = source.read()?.reveal().trim().to_owned();
        let claims = Claims::of(&token).ok_or_else(|| Error::Auth("security.token is not a JWT with an `exp`".to_owned()))?;
        Ok(OAuthToken { token, principal_name: claims.subject, lifetime_ms: claims.expires_ms })
    }
}

/// What OAUTHBEARER needs to know of a JWT. It is not verified: that is the broker's part.
#[derive(Debug, PartialEq, Eq)]
struct Claims {
    subject: String,
    expires_ms: i64,
}

impl Claims {
    fn of(token: &str) -> Option<Self> {
        let payload = base64url(token.split('.').nth(1)?)?;
        let claims: serde_json::Value = serde_json::from_slice(&payload).ok()?;
        let exp = claims.get("exp")?;
        let seconds = exp.as_i64().or_else(|| exp.as_f64().map(|seconds| seconds as i64))?;
        let subject = claims.get("sub").and_then(|sub| sub.as_str()).unwrap_or("relay").to_owned();
        Some(Self { subject, expires_ms: seconds.checked_mul(1000)? })
    }
}

fn base64url(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() * 3 / 4);
    let (mut bits, mut count) = (0u32, 0);
    for digit in text.trim_end_matches('=').bytes() {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'-' | b'+' => 62,
            b'_' | b'/' => 63,
            _ => return None,
        };
        bits = (bits << 6) | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(secret: &str) -> Option<SecretSource> {
        Some(SecretSource::Text(Secret::from(secret.to_owned())))
    }

    fn keys(security: &Security) -> Vec<String> {
        let mut findings = Vec::new();
        security.check(&mut findings);
        findings.into_iter().map(|finding| finding.key.replace("sink.kafka.security.", "")).collect()
    }

    #[test]
    fn contradictions_are_found_by_key() {
        let plain = Security {
            protocol: "sasl_plaintext".into(),
            mechanism: "PLAIN".into(),
            username: "u".into(),
            password: text("p"),
            ..Security::default()
        };
        assert_eq!(keys(&Security::default()), [""; 0]);
        assert_eq!(keys(&Security { protocol: "tls".into(), ..Security::default() }), ["protocol"]);
        assert_eq!(keys(&Security { protocol: "sasl_ssl".into(), ..Security::default() }), ["mechanism"]);
        assert_eq!(keys(&Security { mechanism: "PLAIN".into(), ..Security::default() }), ["mechanism"]);
        assert_eq!(keys(&plain), ["mechanism"]);
        assert_eq!(keys(&Security { allow_plaintext_password: true, ..plain.clone() }), [""; 0]);
        assert_eq!(keys(&Security { protocol: "sasl_ssl".into(), ..plain.clone() }), [""; 0]);
        assert_eq!(keys(&Security { mechanism: "SCRAM-SHA-256".into(), username: String::new(), ..plain.clone() }), ["username"]);
        assert_eq!(keys(&Security { mechanism: "OAUTHBEARER".into(), ..plain }), ["token"]);
        assert_eq!(keys(&Security { ca_file: Some("/ca.pem".into()), ..Security::default() }), ["protocol"]);
        assert_eq!(
            keys(&Security { protocol: "ssl".into(), key_file: Some("k".into()), ..Security::default() }),
            ["certificate_file"]
        );
    }

    #[test]
    fn secrets_are_masked_wherever_they_are_printed() {
        let security =
            Security { password: text("hunter2"), key_password: text("hunter2"), token: text("hunter2"), ..Security::default() };
        assert!(!format!("{security:?}").contains("hunter2"));
    }

    #[test]
    fn a_token_tells_its_subject_and_end() {
        // {"sub":"relay-orders","exp":1893456000}
        let token = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJyZWxheS1vcmRlcnMiLCJleHAiOjE4OTM0NTYwMDB9.sig";
        let security = Security { token: text(token), ..Security::default() };
        let token = security.oauth_token().expect("a token");
        assert_eq!((token.principal_name.as_str(), token.lifetime_ms), ("relay-orders", 1_893_456_000_000));
        let security = Security { token: text("not a token"), ..Security::default() };
        assert!(!security.oauth_token().map(|_| ()).expect_err("no JWT").to_string().contains("not a token"));
    }
}
