//! The listener as its clients meet it.

use super::*;
use crate::metrics::{Build, Setup};
use crate::status::{LastError, Loop, Peer, RouteCount, SlotFacts};
use relay_core::Lsn;
use relay_core::session::State as Doing;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Instant;

fn config(listen: &str) -> Config {
    Config {
        listen: listen.to_owned(),
        hosts: vec!["relay.shop.svc".to_owned()],
        not_ready_after: Duration::from_secs(30),
        name: "orders".to_owned(),
        slot: "relay_orders".to_owned(),
        mode: "log",
        guarantee: "at-least-once",
        token: None,
    }
}

/// A pipeline that streams, with a fact in every field.
fn streaming() -> Status {
    let status = Status::new();
    for which in [Loop::Reader, Loop::Ack, Loop::Checkpoint] {
        status.beat(which);
    }
    status.saw(Peer::Source);
    status.saw(Peer::Sink);
    *status.slot() = Some(SlotFacts {
        active_pid: Some(4711),
        wal_status: Some("reserved".to_owned()),
        safe_wal_bytes: None,
        confirmed_lsn: Lsn(0x1000),
        restart_lsn: Lsn(0x800),
        wal_end: Lsn(0x3000),
        retained_bytes: 0x2800,
        ..SlotFacts::default()
    });
    status.server().oldest_transaction = Some((2.5, "pid 99".to_owned()));
    status.routes().push(RouteCount { source: "public.outbox".to_owned(), topic: "orders".to_owned(), events: 7 });
    let mut progress = status.progress();
    progress.state = Doing::Streaming;
    progress.has_tried = true;
    progress.is_leader = true;
    progress.received = Lsn(0x3000);
    progress.frontier = Lsn(0x2800);
    progress.checkpoint = Lsn(0x2000);
    progress.confirmed = Lsn(0x2000);
    progress.in_flight_events = 3;
    progress.in_flight_bytes = 300;
    let at = crate::clock::rfc3339(1_772_357_400_123_000);
    progress.last_error = Some(LastError { code: "R0210", message: "the connection broke".to_owned(), hint: "wait", at });
    drop(progress);
    status
}

fn admin(listen: &str, status: &Status) -> Admin {
    let metrics = Arc::new(Metrics::with("orders", 10, Build::default(), Setup::default()));
    Admin::with(config(listen), status.clone(), metrics, None).unwrap()
}

/// Everything that comes back for one raw request.
fn exchange(mut stream: impl Read + Write, request: &str) -> String {
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    // A connection that is cut off has said what it had to say.
    let _ = stream.read_to_string(&mut answer);
    answer
}

fn connect(admin: &Admin) -> TcpStream {
    let stream = TcpStream::connect(admin.addresses()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

fn ask(admin: &Admin, method: &str, path: &str, host: &str) -> (u16, String) {
    let answer = exchange(connect(admin), &format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n"));
    let code = answer.split(' ').nth(1).unwrap_or_else(|| panic!("no answer: {answer:?}")).parse().unwrap();
    (code, answer.split_once("\r\n\r\n").unwrap().1.to_owned())
}

fn get(admin: &Admin, path: &str) -> (u16, String) {
    ask(admin, "GET", path, "127.0.0.1")
}

#[test]
fn probes_follow_the_status() {
    let status = Status::new();
    let admin = admin("127.0.0.1:0", &status);
    assert_eq!(get(&admin, "/livez").0, 200);
    assert_eq!(get(&admin, "/startupz"), (503, r#"{"reasons":["starting"],"status":"unavailable"}"#.to_owned()));
    assert_eq!(get(&admin, "/readyz").0, 503);
    assert_eq!(get(&admin, "/status").0, 200);
    status.saw(Peer::Source);
    status.saw(Peer::Sink);
    status.progress().has_tried = true;
    status.progress().state = Doing::Standby;
    assert_eq!(get(&admin, "/startupz").0, 200);
    assert_eq!(get(&admin, "/readyz"), (200, r#"{"reasons":[],"status":"ok"}"#.to_owned()));
    status.progress().blocked = Some("topic_missing:orders".to_owned());
    assert_eq!(get(&admin, "/readyz"), (503, r#"{"reasons":["topic_missing:orders"],"status":"unavailable"}"#.to_owned()));
    let text = "[-]state standby failed: topic_missing:orders\n[+]source ok\n[+]sink ok\nreadyz check failed\n";
    assert_eq!(get(&admin, "/readyz?verbose"), (503, text.to_owned()));
    admin.close();
}

#[test]
fn the_shape_of_status() {
    let admin = admin("127.0.0.1:0", &streaming());
    let (code, body) = get(&admin, "/status");
    let mut value: Value = serde_json::from_str(&body).unwrap();
    value["version"] = json!("0.1.0");
    assert_eq!(code, 200);
    assert_eq!(
        value,
        json!({
            "name": "orders", "version": "0.1.0", "uptime_seconds": 0, "state": "streaming", "reasons": [], "leader": true,
            "mode": "log", "guarantee": "at-least-once", "snapshot": null,
            "slot": {
                "name": "relay_orders", "active_pid": 4711, "confirmed_lsn": "0/1000", "restart_lsn": "0/800",
                "retained_bytes": 0x2800, "wal_status": "reserved", "safe_wal_bytes": null
            },
            "position": { "received": "0/3000", "frontier": "0/2800", "checkpoint": "0/2000", "confirmed": "0/2000" },
            "lag": { "seconds": 0.0, "bytes": { "received": 0, "queued": 0, "produced": 0x800, "confirmed": 0x1000 } },
            "in_flight": { "events": 3, "bytes": 300 },
            "routes": [{ "source": "public.outbox", "topic": "orders", "events": 7 }],
            "oldest_transaction": { "seconds": 2.5, "pid": 99, "gid": null },
            "last_error": {
                "code": "R0210", "message": "the connection broke", "hint": "wait", "at": "2026-03-01T09:30:00.123Z"
            }
        })
    );
    assert_eq!(get(&admin, "/healthz").0, 200);
    let (code, metrics) = get(&admin, "/metrics");
    assert_eq!((code, metrics.contains("relay_state{pipeline=\"orders\",state=\"streaming\"} 1")), (200, true));
    admin.close();
}

#[test]
fn a_foreign_name_is_refused_but_probes_and_metrics_answer() {
    let admin = admin("127.0.0.1:0", &streaming());
    for path in ["/status", "/healthz", "/nowhere"] {
        assert_eq!(ask(&admin, "GET", path, "evil.example").0, 403, "{path}");
    }
    for path in ["/livez", "/readyz", "/startupz", "/metrics"] {
        assert_eq!(ask(&admin, "GET", path, "evil.example").0, 200, "{path}");
    }
    assert_eq!(ask(&admin, "GET", "/status", "relay.shop.svc:9464").0, 200);
    assert_eq!(ask(&admin, "GET", "http://evil.example/status", "127.0.0.1").0, 403);
    assert_eq!(get(&admin, "/nowhere").0, 404);
    for method in ["POST", "PUT", "DELETE", "HEAD", "OPTIONS"] {
        assert_eq!(ask(&admin, method, "/status", "127.0.0.1").0, 405, "{method}");
    }
    admin.close();
}

#[test]
fn a_head_has_a_size_and_a_time() {
    let admin = admin("127.0.0.1:0", &streaming());
    let huge = format!("GET /livez HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "y".repeat(20_000));
    let answer = exchange(connect(&admin), &huge);
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
    let started = Instant::now();
    exchange(connect(&admin), "GET /livez HTTP/1.1\r\nhost:");
    assert!((4..10).contains(&started.elapsed().as_secs()), "closed after {:?}", started.elapsed());
    admin.close();
}

#[test]
fn slow_clients_do_not_delay_a_probe() {
    let admin = admin("127.0.0.1:0", &streaming());
    let slow: Vec<TcpStream> = (0..400)
        .map(|at| {
            let mut stream = connect(&admin);
            // Some say nothing at all, some half of a head, some never read their answer.
            let request = ["", "GET /livez HT", "GET /metrics HTTP/1.1\r\nhost: a\r\n\r\n"][at % 3];
            let _ = stream.write_all(request.as_bytes());
            stream
        })
        .collect();
    for _ in 0..20 {
        let started = Instant::now();
        assert_eq!(get(&admin, "/livez").0, 200);
        // The time-out of the shipped probes.
        assert!(started.elapsed() < Duration::from_secs(3), "answered after {:?}", started.elapsed());
    }
    let is_closed = |mut stream: &TcpStream| {
        stream.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
        let mut byte = [0; 65_536];
        loop {
            match stream.read(&mut byte) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) => return error.kind() != io::ErrorKind::WouldBlock,
            }
        }
    };
    let open = slow.iter().filter(|stream| !is_closed(stream)).count();
    assert!(open <= serve::SEATS, "{open} connections are open");
    admin.close();
}

#[test]
fn several_addresses_and_a_socket_file() {
    let dir = std::env::temp_dir().join(format!("relay-admin-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let path = dir.join("admin.sock");
    // Left behind by a process that was killed.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let listen = format!("127.0.0.1:0,unix:{}", path.display());
    let admin = admin(&listen, &streaming());
    let (tcp, unix) = admin.addresses().split_once(',').unwrap();
    assert_eq!(unix, format!("unix:{}", path.display()));
    let request = "GET /status HTTP/1.1\r\nhost: admin.sock\r\nconnection: close\r\n\r\n";
    assert!(exchange(UnixStream::connect(&path).unwrap(), request).starts_with("HTTP/1.1 200"));
    assert!(exchange(TcpStream::connect(tcp).unwrap(), request).starts_with("HTTP/1.1 403"));
    admin.close();
    assert!(!path.exists());
    std::fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn an_address_in_use_is_an_error_at_once() {
    let first = admin("127.0.0.1:0", &Status::new());
    let metrics = Arc::new(Metrics::with("orders", 10, Build::default(), Setup::default()));
    let error = Admin::with(config(first.addresses()), Status::new(), Arc::clone(&metrics), None).unwrap_err();
    assert!(matches!(&error, Error::Bind { address, .. } if address == first.addresses()), "{error}");
    assert!(error.to_string().starts_with("admin.listen: bind 127.0.0.1:"), "{error}");
    assert!(error.hint().contains("admin.listen"));
    assert!(matches!(Admin::with(config("nonsense"), Status::new(), metrics, None), Err(Error::Address(_))));
    let off = admin("", &Status::new());
    assert_eq!(off.addresses(), "");
    off.close();
    first.close();
}

#[test]
fn closing_does_not_wait_for_idle_clients() {
    let admin = admin("127.0.0.1:0", &streaming());
    let mut kept = connect(&admin);
    kept.write_all(b"GET /livez HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    let mut byte = [0; 1];
    kept.read_exact(&mut byte).unwrap();
    let _silent = connect(&admin);
    let address = admin.addresses().to_owned();
    let started = Instant::now();
    admin.close();
    assert!(started.elapsed() < Duration::from_secs(3), "closed after {:?}", started.elapsed());
    assert!(TcpStream::connect(address).is_err());
}
