//! The authentication dialogue: each request of the server becomes an answer, or the reason why there is none.

use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{self, ScramSha256};
use zeroize::Zeroizing;

use crate::config::{AuthMethod, ChannelBinding, Config};
use crate::error::Error;
use crate::message::{Fields, Truncated};

/// What the connection is, as far as authentication minds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Setting {
    /// TLS is on.
    pub(crate) tls: bool,
    /// A unix socket or a loopback address.
    pub(crate) local: bool,
    /// `tls-server-end-point` of the server's certificate (RFC 5929), if it has one.
    pub(crate) end_point: Option<Vec<u8>>,
}

/// One authentication, from the first request to AuthenticationOk.
pub(crate) struct Auth<'a> {
    config: &'a Config,
    setting: Setting,
    scram: Option<ScramSha256>,
    /// The method that has run to its end.
    done: Option<AuthMethod>,
    bound: bool,
}

/// What to do after a request.
pub(crate) enum Reply {
    /// Send this, a whole message.
    Send(Zeroizing<Vec<u8>>),
    /// Wait for the next.
    Nothing,
    /// Authenticated.
    Done,
}

/// A server may ask for this many rounds of hashing at most: it names the number before it has proven anything.
/// PostgreSQL's default is 4096.
const SCRAM_ITERATIONS_MAX: u32 = 10_000_000;

const SASL_NAME_MAX: usize = 64;

// === impl Auth ===

impl<'a> Auth<'a> {
    pub(crate) fn new(config: &'a Config, setting: Setting) -> Self {
        Auth { config, setting, scram: None, done: None, bound: false }
    }

    /// Answers the body of one AuthenticationRequest (`R`).
    pub(crate) fn step(&mut self, body: &[u8]) -> Result<Reply, Error> {
        let mut fields = Fields::new(body);
        let truncated = |Truncated| Error::protocol("an authentication request is too short");
        match fields.i32().map_err(truncated)? {
            0 => self.finish(),
            3 => {
                self.begin(AuthMethod::Password)?;
                self.check_plaintext("clear")?;
                self.done = Some(AuthMethod::Password);
                Ok(password_message(self.password()?.as_bytes()))
            }
            5 => {
                self.begin(AuthMethod::Md5)?;
                self.check_plaintext("md5")?;
                let salt = fields.bytes(4).map_err(truncated)?;
                let salt = salt.try_into().map_err(|_| Error::protocol("an md5 salt is not four bytes"))?;
                let password = self.password()?;
                self.done = Some(AuthMethod::Md5);
                let hash = Zeroizing::new(md5_hash(self.config.user.as_bytes(), password.as_bytes(), salt));
                Ok(password_message(hash.as_bytes()))
            }
            10 => self.sasl_begin(&mut fields),
            11 => self.sasl_continue(fields.rest()),
            12 => self.sasl_final(fields.rest()),
            2 | 6..=9 => Err(Error::Auth("the server asks for Kerberos or SSPI, which relay does not have".to_owned())),
            code => Err(Error::Auth(format!("the server asks for authentication method {code}, which relay does not have"))),
        }
    }

    /// AuthenticationOk: whether what happened before is enough.
    fn finish(&mut self) -> Result<Reply, Error> {
        if self.scram.is_some() {
            return Err(Error::Auth("the server ended SCRAM before it proved that it knows the password".to_owned()));
        }
        self.check_method(self.done.unwrap_or(AuthMethod::None))?;
        if self.config.channel_binding == ChannelBinding::Require && !self.bound {
            return Err(Error::Auth(
                "channel_binding=require, but the server let relay in without SCRAM-SHA-256-PLUS".to_owned(),
            ));
        }
        Ok(Reply::Done)
    }

    /// Before anything of the password is sent: is the method allowed, and is it the first?
    fn begin(&self, method: AuthMethod) -> Result<(), Error> {
        if self.done.is_some() || self.scram.is_some() {
            return Err(Error::protocol("the server asks for a second authentication"));
        }
        self.check_method(method)?;
        if self.config.channel_binding == ChannelBinding::Require && method != AuthMethod::Scram {
            return Err(Error::Auth(format!("channel_binding=require, but the server asks for method {method}")));
        }
        Ok(())
    }

    fn check_method(&self, method: AuthMethod) -> Result<(), Error> {
        match &self.config.require_auth {
            Some(required) if !required.allows(method) => Err(Error::Auth(match method {
                AuthMethod::None => format!("require_auth={required}, but the server let relay in without asking"),
                _ => format!("require_auth={required}, but the server asks for method {method}"),
            })),
            _ => Ok(()),
        }
    }

    /// A listener must not learn the password: clear text shows it, and an md5 answer is enough to log in or to guess it.
    fn check_plaintext(&self, kind: &str) -> Result<(), Error> {
        if self.setting.tls || self.setting.local || self.config.allow_plaintext_password {
            return Ok(());
        }
        Err(Error::Auth(format!(
            "the server asks for a {kind} password over a connection without TLS: use TLS or scram-sha-256, or set \
             allow_plaintext_password"
        )))
    }

    fn password(&self) -> Result<Zeroizing<String>, Error> {
        let missing = || Error::Auth(format!("the server asks for a password of user `{}` and none is set", self.config.user));
        // PostgreSQL takes no empty password, so an empty one is as none.
        self.config.password.clone().filter(|password| !password.is_empty()).ok_or_else(missing)
    }

    fn sasl_begin(&mut self, fields: &mut Fields<'_>) -> Result<Reply, Error> {
        self.begin(AuthMethod::Scram)?;
        let (mut plain, mut plus) = (false, false);
        let mut offered = Vec::new();
        while let Ok(name) = fields.cstr() {
            match name {
                b"" => break,
                b"SCRAM-SHA-256" => plain = true,
                b"SCRAM-SHA-256-PLUS" => plus = true,
                _ => {}
            }
            if offered.len() < 8 && name.len() <= SASL_NAME_MAX {
                offered.push(String::from_utf8_lossy(name).into_owned());
            }
        }
        let wanted = self.config.channel_binding;
        let end_point = self.setting.end_point.clone().filter(|_| wanted != ChannelBinding::Disable);
        let (mechanism, binding) = match end_point {
            Some(hash) if plus => (sasl::SCRAM_SHA_256_PLUS, sasl::ChannelBinding::tls_server_end_point(hash)),
            _ if wanted == ChannelBinding::Require => return Err(Error::Auth(self.unbound(plus))),
            // `y`: we could have, but the server does not offer it. The server compares, so nobody in between can hide
            // its offer.
            Some(_) if plain => (sasl::SCRAM_SHA_256, sasl::ChannelBinding::unrequested()),
            None if plain => (sasl::SCRAM_SHA_256, sasl::ChannelBinding::unsupported()),
            _ => return Err(Error::Auth(format!("the server offers only SASL {}", offered.join(", ")))),
        };
        self.bound = mechanism == sasl::SCRAM_SHA_256_PLUS;
        let scram = ScramSha256::new(self.password()?.as_bytes(), binding);
        let first = scram.message();
        let mut body = Zeroizing::new(Vec::with_capacity(64 + first.len()));
        body.extend_from_slice(mechanism.as_bytes());
        body.push(0);
        body.extend_from_slice(&(first.len() as u32).to_be_bytes());
        body.extend_from_slice(first);
        self.scram = Some(scram);
        Ok(message(&body))
    }

    /// Why channel binding, which is required, is not to be had.
    fn unbound(&self, offered: bool) -> String {
        let why = if !self.setting.tls {
            "the connection has no TLS"
        } else if !offered {
            "the server does not offer SCRAM-SHA-256-PLUS"
        } else {
            "the server's certificate is signed in a way that has no channel binding (RFC 5929), such as Ed25519"
        };
        format!("channel_binding=require, but {why}")
    }

    fn sasl_continue(&mut self, first: &[u8]) -> Result<Reply, Error> {
        let scram = self.scram.as_mut().ok_or_else(|| Error::protocol("SASL goes on before it began"))?;
        let rounds = first.rsplit(|&byte| byte == b',').find_map(|field| field.strip_prefix(b"i="));
        let rounds = rounds.and_then(|digits| std::str::from_utf8(digits).ok()?.parse::<u32>().ok());
        match rounds {
            Some(1..=SCRAM_ITERATIONS_MAX) => {}
            Some(rounds) => return Err(Error::Auth(format!("SCRAM: the server asks for {rounds} iterations"))),
            None => return Err(Error::protocol("SCRAM: the server's first message has no iteration count")),
        }
        scram.update(first).map_err(|error| Error::Auth(format!("SCRAM: {error}")))?;
        Ok(message(scram.message()))
    }

    /// The server's signature: only who knows the password's verifier can make it.
    fn sasl_final(&mut self, last: &[u8]) -> Result<Reply, Error> {
        let mut scram = self.scram.take().ok_or_else(|| Error::protocol("SASL ends before it began"))?;
        scram.finish(last).map_err(|error| Error::Auth(format!("SCRAM: the server's proof is wrong: {error}")))?;
        self.done = Some(AuthMethod::Scram);
        Ok(Reply::Nothing)
    }
}

/// A `p` message around `body`.
fn message(body: &[u8]) -> Reply {
    let mut bytes = Zeroizing::new(Vec::with_capacity(5 + body.len()));
    bytes.push(b'p');
    bytes.extend_from_slice(&(body.len() as u32 + 4).to_be_bytes());
    bytes.extend_from_slice(body);
    Reply::Send(bytes)
}

fn password_message(secret: &[u8]) -> Reply {
    let mut body = Zeroizing::new(Vec::with_capacity(secret.len() + 1));
    body.extend_from_slice(secret);
    body.push(0);
    message(&body)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(parameters: &str) -> Config {
        Config::parse(&format!("postgres://u:secret@h/d?{parameters}")).expect("legal")
    }

    fn refusal(config: &Config, setting: Setting, requests: &[&[u8]]) -> String {
        let mut auth = Auth::new(config, setting);
        for request in requests {
            if let Err(error) = auth.step(request) {
                assert!(!error.to_string().contains("secret"));
                return error.to_string();
            }
        }
        panic!("not refused")
    }

    const OK: &[u8] = &[0, 0, 0, 0];
    const CLEAR: &[u8] = &[0, 0, 0, 3];
    const MD5: &[u8] = &[0, 0, 0, 5, 1, 2, 3, 4];
    const SCRAM: &[u8] = b"\0\0\0\x0aSCRAM-SHA-256\0\0";
    const SCRAM_PLUS: &[u8] = b"\0\0\0\x0aSCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0";

    fn remote() -> Setting {
        Setting::default()
    }

    fn tls() -> Setting {
        Setting { tls: true, local: false, end_point: Some(vec![1; 32]) }
    }

    #[test]
    fn a_password_in_clear_needs_tls_or_this_machine() {
        for request in [CLEAR, MD5] {
            assert!(refusal(&config(""), remote(), &[request]).contains("without TLS"));
            let local = Setting { local: true, ..remote() };
            for setting in [tls(), local] {
                assert!(matches!(Auth::new(&config(""), setting).step(request), Ok(Reply::Send(_))));
            }
            let mut allowed = config("");
            allowed.set_allow_plaintext_password(true);
            assert!(matches!(Auth::new(&allowed, remote()).step(request), Ok(Reply::Send(_))));
        }
    }

    #[test]
    fn require_auth_decides() {
        assert!(refusal(&config("require_auth=scram-sha-256"), tls(), &[CLEAR]).contains("method password"));
        assert!(refusal(&config("require_auth=scram-sha-256"), tls(), &[OK]).contains("without asking"));
        assert!(refusal(&config("require_auth=!password,!md5"), tls(), &[MD5]).contains("method md5"));
        assert!(refusal(&config("require_auth=!none"), tls(), &[OK]).contains("without asking"));
        assert!(matches!(Auth::new(&config("require_auth=none"), tls()).step(OK), Ok(Reply::Done)));
        assert!(matches!(Auth::new(&config("require_auth=!md5"), remote()).step(SCRAM), Ok(Reply::Send(_))));
    }

    #[test]
    fn channel_binding_is_required_or_left() {
        let require = config("channel_binding=require");
        assert!(refusal(&require, remote(), &[SCRAM_PLUS]).contains("no TLS"));
        assert!(refusal(&require, tls(), &[SCRAM]).contains("does not offer"));
        assert!(refusal(&require, tls(), &[OK]).contains("without SCRAM-SHA-256-PLUS"));
        assert!(refusal(&require, tls(), &[CLEAR]).contains("method password"));
        let first = |config: &Config, setting, request| match Auth::new(config, setting).step(request) {
            Ok(Reply::Send(bytes)) => String::from_utf8_lossy(&bytes).into_owned(),
            _ => panic!("no answer"),
        };
        assert!(first(&require, tls(), SCRAM_PLUS).contains("SCRAM-SHA-256-PLUS\0"));
        assert!(first(&config(""), tls(), SCRAM_PLUS).contains("p=tls-server-end-point"));
        assert!(first(&config(""), tls(), SCRAM).contains("y,,"));
        assert!(first(&config(""), remote(), SCRAM_PLUS).contains("n,,"));
        assert!(first(&config("channel_binding=disable"), tls(), SCRAM_PLUS).contains("n,,"));
    }

    #[test]
    fn a_server_that_cheats_is_refused() {
        assert!(refusal(&config(""), tls(), &[SCRAM, OK]).contains("before it proved"));
        assert!(refusal(&config(""), tls(), &[CLEAR, MD5]).contains("second"));
        assert!(refusal(&config(""), tls(), &[SCRAM, b"\0\0\0\x0br=x,s=AAAA,i=4000000000"]).contains("iterations"));
        assert!(refusal(&config(""), tls(), &[SCRAM, b"\0\0\0\x0br=x,s=AAAA,i=10"]).contains("SCRAM"));
        assert!(refusal(&config(""), tls(), &[b"\0\0\0\x0a\x00"]).contains("offers only"));
        assert!(refusal(&config(""), tls(), &[b"\0\0\0\x0b"]).contains("before it began"));
        let mut none = Config::parse("postgres://u@h/d").expect("legal");
        none.set_allow_plaintext_password(true);
        assert!(refusal(&none, tls(), &[CLEAR]).contains("none is set"));
    }
}
