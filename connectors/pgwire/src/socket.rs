//! A TCP or unix socket, connected within a time-out, non-blocking, and waited for by poll(2).

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt};

use crate::config::{Host, Keepalive};

/// A connected, non-blocking stream socket.
#[derive(Debug)]
pub(crate) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// What poll(2) found.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Ready {
    /// Something to read, or an end or error that a read will tell.
    pub(crate) read: bool,
    pub(crate) write: bool,
    /// A signal ended the wait.
    pub(crate) interrupted: bool,
}

// === impl Socket ===

impl Socket {
    /// Connects to an address. Nagle's algorithm is off: a status update must not wait for an acknowledgement.
    pub(crate) fn tcp(address: SocketAddr, limit: Duration, keepalive: &Keepalive) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, limit)?;
        stream.set_nodelay(true)?;
        if keepalive.enabled {
            sockopt::set_socket_keepalive(&stream, true)?;
            // 0 leaves the system's default, as in libpq.
            if !keepalive.idle.is_zero() {
                sockopt::set_tcp_keepidle(&stream, keepalive.idle)?;
            }
            if !keepalive.interval.is_zero() {
                sockopt::set_tcp_keepintvl(&stream, keepalive.interval)?;
            }
            if keepalive.count > 0 {
                sockopt::set_tcp_keepcnt(&stream, keepalive.count)?;
            }
        }
        #[cfg(target_os = "linux")]
        if keepalive.user_timeout_ms > 0 {
            sockopt::set_tcp_user_timeout(&stream, keepalive.user_timeout_ms)?;
        }
        stream.set_nonblocking(true)?;
        Ok(Socket::Tcp(stream))
    }

    /// Connects to `<directory>/.s.PGSQL.<port>`.
    pub(crate) fn unix(host: &Host, limit: Duration) -> io::Result<Self> {
        let path = format!("{}/.s.PGSQL.{}", host.name, host.port);
        let address = match path.strip_prefix('@') {
            #[cfg(target_os = "linux")]
            Some(name) => SocketAddrUnix::new_abstract_name(name.as_bytes())?,
            _ => SocketAddrUnix::new(path.as_str())?,
        };
        let deadline = Instant::now() + limit;
        loop {
            let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
            let stream = UnixStream::from(socket);
            stream.set_nonblocking(true)?;
            match rustix::net::connect(&stream, &address) {
                Ok(()) => return Ok(Socket::Unix(stream)),
                // The server's queue of connections is full; a blocking connect would wait without limit.
                Err(Errno::AGAIN | Errno::INTR) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(10)),
                Err(Errno::AGAIN | Errno::INTR) => return Err(io::ErrorKind::TimedOut.into()),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Whether it leads to this machine only.
    pub(crate) fn is_local(&self) -> bool {
        match self {
            Socket::Unix(_) => true,
            Socket::Tcp(stream) => stream.peer_addr().is_ok_and(|address| address.ip().to_canonical().is_loopback()),
        }
    }

    /// Waits until there is something to read, or, with `write`, room to write; with the nanoseconds of ppoll(2).
    pub(crate) fn wait(&self, write: bool, limit: Duration) -> io::Result<Ready> {
        let wanted = if write { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN };
        let mut polled = [PollFd::new(self, wanted)];
        let limit = Timespec {
            tv_sec: i64::try_from(limit.as_secs()).unwrap_or(i64::MAX).min(86_400),
            tv_nsec: limit.subsec_nanos().into(),
        };
        match poll(&mut polled, Some(&limit)) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(Ready { interrupted: true, ..Ready::default() }),
            Err(error) => return Err(error.into()),
        }
        let found = polled[0].revents();
        Ok(Ready {
            read: found.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL),
            write: found.intersects(PollFlags::OUT | PollFlags::ERR),
            interrupted: false,
        })
    }
}

impl Read for Socket {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(stream) => stream.read(into),
            Socket::Unix(stream) => stream.read(into),
        }
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // std's sockets write with MSG_NOSIGNAL, so a closed peer is an error and not a signal.
        match self {
            Socket::Tcp(stream) => stream.write(bytes),
            Socket::Unix(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Socket::Tcp(stream) => stream.as_fd(),
            Socket::Unix(stream) => stream.as_fd(),
        }
    }
}
