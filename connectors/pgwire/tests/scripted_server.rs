//! Servers that follow a script on a loopback socket: what a real one does rarely, late or never.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use relay_core::{Kind, Lsn};
use relay_pgwire::{Body, Config, Connection, CopyBoth, Error, Status};

const AUTH_OK: &[u8] = b"R\0\0\0\x08\0\0\0\0";
const READY: &[u8] = b"Z\0\0\0\x05I";
const COPY_BOTH: &[u8] = b"W\0\0\0\x07\0\0\0";

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![tag];
    bytes.extend((body.len() as u32 + 4).to_be_bytes());
    bytes.extend_from_slice(body);
    bytes
}

fn error(severity: &str, code: &str, text: &str) -> Vec<u8> {
    message(b'E', format!("S{severity}\0V{severity}\0C{code}\0M{text}\0\0").as_bytes())
}

fn xlog(payload: &[u8]) -> Vec<u8> {
    message(b'd', &[b"w".as_slice(), &[0; 24], payload].concat())
}

/// Runs `script` for each connection in turn, as many as there are scripts.
struct Scripted {
    port: u16,
    thread: JoinHandle<()>,
}

type Script = Box<dyn FnOnce(TcpStream) + Send>;

fn script(f: impl FnOnce(TcpStream) + Send + 'static) -> Script {
    Box::new(f)
}

impl Scripted {
    fn start(scripts: Vec<Script>) -> Scripted {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let thread = std::thread::spawn(move || {
            for script in scripts {
                script(listener.accept().unwrap().0);
            }
        });
        Scripted { port, thread }
    }

    fn config(&self, parameters: &str) -> Config {
        let mut config = Config::parse(&format!("postgres://u:geheim@127.0.0.1:{}/d?{parameters}", self.port)).unwrap();
        config.set_replication(true).set_connect_timeout(Duration::from_secs(5));
        config
    }
}

/// The start-up packet.
fn startup(socket: &mut TcpStream) -> String {
    let mut length = [0; 4];
    socket.read_exact(&mut length).unwrap();
    let mut packet = vec![0; u32::from_be_bytes(length) as usize - 4];
    socket.read_exact(&mut packet).unwrap();
    String::from_utf8_lossy(&packet).into_owned()
}

/// A message of the client.
fn receive(socket: &mut TcpStream) -> (u8, Vec<u8>) {
    let mut header = [0; 5];
    socket.read_exact(&mut header).unwrap();
    let mut body = vec![0; u32::from_be_bytes(header[1..].try_into().unwrap()) as usize - 4];
    socket.read_exact(&mut body).unwrap();
    (header[0], body)
}

fn let_in(socket: &mut TcpStream) {
    startup(socket);
    let key = message(b'K', &[0, 0, 0, 42, 0, 0, 0, 1]);
    socket.write_all(&[AUTH_OK, &message(b'S', b"server_version\x0016.1\0"), &key, READY].concat()).unwrap();
}

/// A stream from a script that begins after CopyBothResponse.
fn stream(max_message: usize, f: impl FnOnce(&mut TcpStream) + Send + 'static) -> (CopyBoth, JoinHandle<()>) {
    let server = Scripted::start(vec![script(move |mut socket| {
        let_in(&mut socket);
        assert_eq!(receive(&mut socket).0, b'Q');
        socket.write_all(COPY_BOTH).unwrap();
        f(&mut socket);
    })]);
    let mut config = server.config("");
    config.set_max_message(max_message);
    let stream = Connection::connect(&config).unwrap().start_replication("START_REPLICATION").unwrap();
    assert_eq!(stream.backend_pid(), 42);
    (stream, server.thread)
}

fn collect(stream: &mut CopyBoth) -> Result<Vec<String>, (Vec<String>, Error)> {
    let mut seen = Vec::new();
    loop {
        assert_eq!(stream.buffer_bytes(), 1 << 20);
        match stream.peek() {
            Err(error) => return Err((seen, error)),
            Ok(None) => {
                if let Err(error) = stream.fill(Duration::from_secs(5)) {
                    return Err((seen, error));
                }
            }
            Ok(Some(frame)) => {
                seen.push(match frame.body {
                    Body::XLogData { payload, .. } => {
                        format!("row {}", String::from_utf8_lossy(&payload[..payload.len().min(9)]))
                    }
                    Body::Oversize { head, len } => format!("oversize {} of {len}", head[0] as char),
                    Body::Notice { fields } => format!("notice {} {}", fields.code, fields.message),
                    Body::ParameterStatus { name, value } => format!("{name}={value}"),
                    Body::Keepalive { wal_end, reply_requested, .. } => format!("keepalive {wal_end} {reply_requested}"),
                    Body::CopyDone => "done".to_owned(),
                    Body::ReadyForQuery => return Ok(seen),
                    other => format!("{other:?}"),
                });
                let size = frame.size;
                stream.consume(size);
            }
        }
    }
}

#[test]
fn a_pooler_is_called_by_its_name() {
    let server = Scripted::start(vec![script(|mut socket| {
        assert!(startup(&mut socket).contains("replication\0database\0user\0u"));
        socket.write_all(&error("FATAL", "08P01", "unsupported startup parameter: replication")).unwrap();
    })]);
    let refused = Connection::connect(&server.config("")).unwrap_err();
    assert_eq!(refused.kind(), Kind::SourcePooler);
    assert!(refused.to_string().contains("pooler") && refused.to_string().contains("replication"));
}

#[test]
fn a_busy_slot_names_its_holder() {
    let server = Scripted::start(vec![script(|mut socket| {
        let_in(&mut socket);
        receive(&mut socket);
        let busy = error("ERROR", "55006", "replication slot \"s\" is active for PID 815");
        socket.write_all(&[&busy, READY].concat()).unwrap();
    })]);
    let refused = Connection::connect(&server.config("")).unwrap().start_replication("START").unwrap_err();
    assert_eq!((refused.kind(), refused.server().unwrap().active_pid()), (Kind::SlotBusy, Some(815)));
}

#[test]
fn the_password_is_not_given_to_who_may_not_have_it() {
    let server = Scripted::start(vec![script(|mut socket| {
        startup(&mut socket);
        socket.write_all(&message(b'R', &[0, 0, 0, 3])).unwrap();
        let mut rest = Vec::new();
        let _ = socket.read_to_end(&mut rest);
        assert!(rest.is_empty(), "{rest:?}");
    })]);
    let refused = Connection::connect(&server.config("require_auth=scram-sha-256")).unwrap_err();
    assert_eq!(refused.kind(), Kind::SourceAuth);
    server.thread.join().unwrap();
}

#[test]
fn a_server_without_tls_or_with_too_much_of_it_is_refused() {
    let answer = |bytes: &'static [u8]| {
        script(move |mut socket| {
            socket.read_exact(&mut [0; 8]).unwrap();
            socket.write_all(bytes).unwrap();
            let _ = socket.read(&mut [0; 512]);
        })
    };
    // No; an error; yes with words in plain after it (CVE-2021-23222); silence.
    for (bytes, part) in [(b"N".as_slice(), "does not offer TLS"), (b"E\0\0", "its log"), (b"SR\0\0\0\x08\0\0\0\0", "TLS with")] {
        let server = Scripted::start(vec![answer(bytes)]);
        let refused = Connection::connect(&server.config("sslmode=require")).unwrap_err();
        assert_eq!(refused.kind(), Kind::SourceTls, "{refused}");
        assert!(refused.to_string().contains(part), "{refused}");
    }
    // `prefer` goes on in plain after a no on the same socket, and after a broken handshake on another.
    let server = Scripted::start(vec![script(|mut socket| {
        socket.read_exact(&mut [0; 8]).unwrap();
        socket.write_all(b"N").unwrap();
        let_in(&mut socket);
    })]);
    assert!(!Connection::connect(&server.config("sslmode=prefer")).unwrap().is_encrypted());
    let server = Scripted::start(vec![answer(b"Snonsense"), script(|mut socket| let_in(&mut socket))]);
    assert!(!Connection::connect(&server.config("sslmode=prefer")).unwrap().is_encrypted());
}

#[test]
fn a_start_up_ends_in_time_whatever_the_server_does() {
    let silent = script(|mut socket| drop(socket.read_to_end(&mut Vec::new())));
    let chatty = script(|mut socket| {
        startup(&mut socket);
        while socket.write_all(&message(b'N', b"SNOTICE\0C00000\0Mwait\0\0")).is_ok() {}
    });
    let dripping = script(|mut socket| {
        startup(&mut socket);
        for byte in message(b'N', &[b'S'; 60_000]) {
            std::thread::sleep(Duration::from_millis(10));
            if socket.write_all(&[byte]).is_err() {
                return;
            }
        }
    });
    for (script, parameters) in [(silent, ""), (chatty, ""), (dripping, "")] {
        let server = Scripted::start(vec![script]);
        let mut config = server.config(parameters);
        config.set_connect_timeout(Duration::from_millis(300));
        let began = Instant::now();
        let late = Connection::connect(&config).unwrap_err();
        assert_eq!(late.kind(), Kind::SourceUnreachable, "{late}");
        assert!(began.elapsed() < Duration::from_secs(3));
    }
    let server = Scripted::start(vec![script(|mut socket| {
        startup(&mut socket);
        socket.write_all(b"R\x7f\xff\xff\xff").unwrap();
    })]);
    assert!(matches!(Connection::connect(&server.config("")), Err(Error::MessageTooLong { .. })));
    let server = Scripted::start(vec![script(|_| {})]);
    assert_eq!(Connection::connect(&server.config("")).unwrap_err().kind(), Kind::SourceLost);
}

#[test]
fn the_next_host_is_tried_when_it_may_help() {
    let fatal = |code: &'static str, text: &'static str| {
        script(move |mut socket| {
            startup(&mut socket);
            socket.write_all(&error("FATAL", code, text)).unwrap();
        })
    };
    let starting = Scripted::start(vec![fatal("57P03", "the database system is starting up")]);
    let good = Scripted::start(vec![script(|mut socket| let_in(&mut socket))]);
    let url = format!("postgres://u@127.0.0.1:{},127.0.0.1:{}/d", starting.port, good.port);
    Connection::connect(&Config::parse(&url).unwrap()).unwrap();

    let wrong = Scripted::start(vec![fatal("28P01", "password authentication failed")]);
    let url = format!("postgres://u@127.0.0.1:1,127.0.0.1:{},127.0.0.1:{}/d", wrong.port, good.port);
    assert_eq!(Connection::connect(&Config::parse(&url).unwrap()).unwrap_err().kind(), Kind::SourceAuth);

    let starting = Scripted::start(vec![fatal("57P03", "the database system is starting up")]);
    let url = format!("postgres://u@127.0.0.1:{},127.0.0.1:1/d", starting.port);
    let none = Connection::connect(&Config::parse(&url).unwrap()).unwrap_err();
    assert_eq!((none.kind(), none.sqlstate()), (Kind::SourceUnavailable, Some("57P03")));
    assert!(none.to_string().contains("127.0.0.1:1:"), "{none}");
}

#[test]
fn a_standby_is_told_by_its_report_or_by_asking() {
    let reporting = |standby: &'static str| {
        script(move |mut socket| {
            startup(&mut socket);
            let hot = message(b'S', format!("in_hot_standby\0{standby}\0").as_bytes());
            let read_only = message(b'S', b"default_transaction_read_only\0off\0");
            socket.write_all(&[AUTH_OK, &hot, &read_only, READY].concat()).unwrap();
        })
    };
    let asked = script(|mut socket| {
        let_in(&mut socket);
        for value in [b"t".as_slice(), b"on"] {
            receive(&mut socket);
            let row = [[0, 1, 0, 0, 0, value.len() as u8].as_slice(), value].concat();
            let _ = socket.write_all(&[message(b'D', &row), message(b'C', b"SELECT 1\0"), READY.to_vec()].concat());
        }
    });
    let standby = Scripted::start(vec![reporting("on"), asked]);
    let primary = Scripted::start(vec![reporting("off"), reporting("off")]);
    let url = format!("postgres://u@127.0.0.1:{},127.0.0.1:{}/d?target_session_attrs=read-write", standby.port, primary.port);
    for _ in 0..2 {
        let connection = Connection::connect(&Config::parse(&url).unwrap()).unwrap();
        assert!(connection.server_address().ends_with(&primary.port.to_string()));
    }
}

#[test]
fn frames_may_come_byte_by_byte() {
    let (mut stream, server) = stream(1 << 20, |socket| {
        socket.set_nodelay(true).unwrap();
        let keepalive = [b"k".as_slice(), &[0, 0, 0, 1, 0, 0, 0, 2], &[0; 8], &[1]].concat();
        let bytes = [
            xlog(b"first"),
            message(b'N', b"SWARNING\0VWARNING\0C01000\0Mmind\0\0"),
            message(b'd', &keepalive),
            message(b'S', b"TimeZone\0UTC\0"),
            xlog(b"second"),
            message(b'c', b""),
            message(b'C', b"COPY 0\0"),
            READY.to_vec(),
        ];
        for (index, byte) in bytes.concat().into_iter().enumerate() {
            socket.write_all(&[byte]).unwrap();
            if index % 8 == 0 {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    });
    let expected =
        ["row first", "notice 01000 mind", "keepalive 1/2 true", "TimeZone=UTC", "row second", "done", "CommandComplete"];
    assert_eq!(collect(&mut stream).unwrap(), expected);
    assert!(stream.has_buffered());
    server.join().unwrap();
}

#[test]
fn an_oversize_row_is_drained_without_being_held() {
    let (mut stream, server) = stream(10_000, |socket| {
        let mut large = vec![b'I'; 30 << 20];
        large[0] = b'U';
        socket
            .write_all(&[xlog(b"before"), xlog(&large), xlog(b"after"), xlog(&large[..10_100]), READY.to_vec()].concat())
            .unwrap();
    });
    let seen = collect(&mut stream).unwrap();
    assert_eq!(seen, ["row before", &format!("oversize U of {}", 30 << 20), "row after", "oversize U of 10100"]);
    server.join().unwrap();
}

#[test]
fn a_large_row_that_fits_is_whole() {
    let (mut stream, server) = stream(16 << 20, |socket| {
        let large: Vec<u8> = (0..10_u32 << 20).map(|n| (n % 251) as u8).collect();
        socket.write_all(&[xlog(b"before"), xlog(&large), xlog(b"after"), READY.to_vec()].concat()).unwrap();
    });
    let mut rows = Vec::new();
    loop {
        let size = match stream.peek().unwrap() {
            None => {
                stream.fill(Duration::from_secs(5)).unwrap();
                continue;
            }
            Some(frame) => match frame.body {
                Body::XLogData { payload, .. } => {
                    rows.push(payload.len());
                    assert!(rows.len() != 2 || payload.iter().enumerate().all(|(n, byte)| *byte == (n % 251) as u8));
                    frame.size
                }
                _ => break,
            },
        };
        stream.consume(size);
    }
    assert_eq!(rows, [6, 10 << 20, 5]);
    let _ = stream.fill(Duration::ZERO);
    assert_eq!(stream.buffer_bytes(), 1 << 20);
    server.join().unwrap();
}

#[test]
fn the_last_words_of_a_server_are_heard() {
    let (mut stream, server) = stream(1 << 20, |socket| {
        let bye = error("FATAL", "57P01", "terminating connection due to administrator command");
        socket.write_all(&[xlog(b"row"), bye].concat()).unwrap();
    });
    server.join().unwrap();
    // The socket is closed by now; a status update that cannot be sent must not hide why.
    for _ in 0..3 {
        stream.send_status(Status::default(), 0);
        std::thread::sleep(Duration::from_millis(10));
    }
    let (seen, error) = collect(&mut stream).unwrap_err();
    assert_eq!((seen, error.sqlstate()), (vec!["row row".to_owned()], Some("57P01")));
}

#[test]
fn an_unknown_message_is_an_error() {
    for bytes in [message(b'd', b"?"), message(b'T', b""), b"d\0\0\0\x01".to_vec(), message(b'd', &[b'k'; 300_000])] {
        let (mut stream, server) = stream(200_000, move |socket| {
            let _ = socket.write_all(&bytes);
        });
        let (_, error) = collect(&mut stream).unwrap_err();
        assert_eq!(error.kind(), Kind::SourceProtocol, "{error}");
        server.join().unwrap();
    }
}

#[test]
fn a_server_that_does_not_read_gets_only_the_latest_status() {
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let (mut stream, server) = stream(1 << 20, move |socket| {
        wait.recv().unwrap();
        let (mut count, mut last, mut asked) = (0_u64, 0, false);
        while last < LAST {
            let (tag, body) = receive(socket);
            assert_eq!((tag, body.len(), body[0]), (b'd', 34, b'r'));
            let written = u64::from_be_bytes(body[1..9].try_into().unwrap());
            assert!(written > last, "positions only go forward");
            last = written;
            count += 1;
            asked |= body[33] == 1;
        }
        assert!(count < LAST, "{count} updates, none replaced");
        assert!(asked, "the wish for an answer is not lost with the update that carried it");
        socket.write_all(&xlog(b"heard")).unwrap();
    });
    // More than the socket's buffers hold.
    const LAST: u64 = 400_000;
    let began = Instant::now();
    for n in 1..=LAST {
        stream.send_status(Status { written: Lsn(n), reply_requested: n == LAST - 1, ..Status::default() }, 0);
    }
    assert!(began.elapsed() < Duration::from_secs(20));
    assert!(stream.has_unsent());
    go.send(()).unwrap();
    let (seen, _) = collect(&mut stream).unwrap_err();
    assert_eq!(seen, ["row heard"]);
    assert!(!stream.has_unsent());
    server.join().unwrap();
}

#[test]
fn waiting_takes_as_long_as_asked() {
    let (mut stream, server) = stream(1 << 20, |socket| drop(socket.read(&mut [0; 8])));
    for wait in [Duration::ZERO, Duration::from_micros(200), Duration::from_millis(50)] {
        let began = Instant::now();
        let fill = stream.fill(wait).unwrap();
        assert_eq!((fill.bytes, fill.drained), (0, true));
        assert!(began.elapsed() >= wait && began.elapsed() < wait + Duration::from_millis(500));
    }
    drop(stream);
    server.join().unwrap();
}

#[test]
fn a_stream_ends_with_the_last_status_and_copy_done() {
    let (mut stream, server) = stream(1 << 20, |socket| {
        assert_eq!(receive(socket).0, b'd');
        assert_eq!(receive(socket).0, b'c');
        socket.write_all(&[xlog(b"late"), message(b'c', b""), message(b'C', b"COPY 0\0"), READY.to_vec()].concat()).unwrap();
        assert_eq!(receive(socket).0, b'X');
    });
    stream.send_status(Status::default(), 0);
    stream.finish(Duration::from_secs(5)).unwrap();
    server.join().unwrap();
    let (stream, server) = self::stream(1 << 20, |socket| drop(socket.read_to_end(&mut Vec::new())));
    let began = Instant::now();
    assert!(stream.finish(Duration::from_millis(100)).is_err());
    assert!(began.elapsed() < Duration::from_secs(2));
    server.join().unwrap();
}
