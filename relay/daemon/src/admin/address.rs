//! Turns `admin.listen` into bound sockets.

use std::fmt;
use std::fs;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use tokio::net::{TcpListener, TcpSocket, UnixListener};

/// Connections that wait to be accepted: room for a crowd of slow clients in front of a probe.
const BACKLOG: u32 = 1_024;

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Address {
    /// `host:port`.
    Tcp(String),
    /// `unix:/path`.
    Unix(PathBuf),
}

/// A listening socket.
#[derive(Debug)]
pub(super) enum Bound {
    Tcp(TcpListener),
    Unix(UnixListener, Socket),
}

/// A socket's file, removed with its owner.
#[derive(Debug)]
pub(super) struct Socket(PathBuf);

// === impl Address ===

impl Address {
    /// The addresses of a comma-separated text; the part that is none.
    pub(super) fn list(text: &str) -> Result<Vec<Self>, String> {
        if text.trim().is_empty() {
            return Ok(Vec::new());
        }
        text.split(',').map(|part| Self::one(part.trim()).ok_or_else(|| part.trim().to_owned())).collect()
    }

    fn one(text: &str) -> Option<Self> {
        if let Some(path) = text.strip_prefix("unix:") {
            return path.starts_with('/').then(|| Self::Unix(PathBuf::from(path)));
        }
        let (host, port) = text.rsplit_once(':')?;
        let is_v6 = host.starts_with('[') && host.ends_with(']');
        let is_whole = !host.is_empty() && (is_v6 || !host.contains([':', '/']));
        (is_whole && port.parse::<u16>().is_ok()).then(|| Self::Tcp(text.to_owned()))
    }

    /// Listens there. Must run inside a runtime.
    pub(super) fn bind(&self) -> io::Result<Bound> {
        match self {
            Self::Tcp(text) => {
                let mut last = io::Error::new(ErrorKind::AddrNotAvailable, "the name has no address");
                for address in text.to_socket_addrs()? {
                    match listen(address) {
                        Ok(listener) => return Ok(Bound::Tcp(listener)),
                        Err(error) => last = error,
                    }
                }
                Err(last)
            }
            Self::Unix(path) => {
                remove_stale(path)?;
                Ok(Bound::Unix(UnixListener::bind(path)?, Socket(path.clone())))
            }
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(text) => f.write_str(text),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// A process that was killed leaves its socket's file behind: one that nobody answers on is removed.
fn remove_stale(path: &Path) -> io::Result<()> {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket());
    let is_refused =
        || std::os::unix::net::UnixStream::connect(path).is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused);
    if is_socket && is_refused() { fs::remove_file(path) } else { Ok(()) }
}

// === impl Bound ===

impl Bound {
    /// The address with the port that the system chose.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Tcp(listener) => listener.local_addr().map_or_else(|_| String::from("?"), |address| address.to_string()),
            Self::Unix(_, Socket(path)) => format!("unix:{}", path.display()),
        }
    }
}

// === impl Socket ===

impl Drop for Socket {
    fn drop(&mut self) {
        // Somebody else may have removed it.
        let _ = fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_separated_by_commas() {
        let tcp = |text: &str| Address::Tcp(text.to_owned());
        assert_eq!(Address::list(""), Ok(vec![]));
        assert_eq!(Address::list("127.0.0.1:9464"), Ok(vec![tcp("127.0.0.1:9464")]));
        assert_eq!(
            Address::list("[::1]:0, localhost:1,unix:/run/relay/admin.sock"),
            Ok(vec![tcp("[::1]:0"), tcp("localhost:1"), Address::Unix("/run/relay/admin.sock".into())])
        );
        for bad in ["9464", ":9464", "127.0.0.1", "127.0.0.1:port", "::1:9464", "unix:admin.sock", "a:1,,b:2", "http://a:1"] {
            assert!(Address::list(bad).is_err(), "{bad}");
        }
    }
}
