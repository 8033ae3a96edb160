//! A PostgreSQL server of our own: authentication, TLS, queries and a stream, as far as scripted servers cannot show them.
//!
//! Wider than the stories in tests/it (every sslmode, md5, key types), and needs more: the server's programs (in `PG_BIN`, else in
//! Debian's place for version 15) and `openssl`. Run it with `cargo test -p relay-pgwire --test real_server -- --ignored`.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use relay_core::{Kind, Lsn};
use relay_pgwire::{Body, Config, Connection, CopyBoth, Error, Status, quote_identifier, quote_literal};

const NOW: i64 = 0;

struct Server {
    directory: PathBuf,
    bin: PathBuf,
    port: u16,
}

impl Server {
    fn start() -> Server {
        let bin = PathBuf::from(std::env::var("PG_BIN").unwrap_or("/usr/lib/postgresql/15/bin".to_owned()));
        assert!(bin.join("postgres").exists(), "no PostgreSQL server programs in {}", bin.display());
        assert!(Command::new("openssl").arg("version").output().is_ok(), "no openssl");
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let directory = std::env::temp_dir().join(format!("relay-pgwire-{}-{port}", std::process::id()));
        std::fs::create_dir(&directory).unwrap();
        let server = Server { directory, bin, port };
        server.give_away();
        server.run("initdb", &["-D", &server.path("data"), "-U", "admin", "-A", "trust", "-E", "UTF8", "--locale=C", "-N"]);
        server.certificates();
        std::fs::write(server.directory.join("data/pg_hba.conf"), HBA.replace("DIR", &server.path(""))).unwrap();
        let settings = format!(
            "port={port}\nlisten_addresses='127.0.0.1'\nunix_socket_directories='{dir}'\nwal_level=logical\nfsync=off\n\
             ssl=on\nssl_cert_file='{dir}/server.pem'\nssl_key_file='{dir}/server.key'\nssl_ca_file='{dir}/ca.pem'\n",
            dir = server.directory.display()
        );
        std::fs::write(server.directory.join("data/postgresql.auto.conf"), settings).unwrap();
        server.give_away();
        server.run("pg_ctl", &["-D", &server.path("data"), "-w", "-l", &server.path("log"), "start"]);
        server
    }

    fn path(&self, name: &str) -> String {
        self.directory.join(name).display().to_string()
    }

    fn is_root() -> bool {
        let id = Command::new("id").arg("-u").output().unwrap();
        id.stdout.trim_ascii() == b"0"
    }

    /// The server does not run as root.
    fn give_away(&self) {
        if Self::is_root() {
            let done = Command::new("chown").args(["-R", "postgres:postgres"]).arg(&self.directory).status().unwrap();
            assert!(done.success());
        }
    }

    fn run(&self, program: &str, arguments: &[&str]) {
        let mut command = if Self::is_root() {
            let mut command = Command::new("setpriv");
            command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]).arg(self.bin.join(program));
            command
        } else {
            Command::new(self.bin.join(program))
        };
        let done = command.args(arguments).current_dir("/").stdout(Stdio::null()).status().unwrap();
        assert!(done.success(), "{program}");
    }

    /// An authority, and certificates of the server: good, for another host, with a common name only, run out, its own
    /// authority; and one of a client.
    fn certificates(&self) {
        let script = r#"
            set -e
            new() { openssl req -newkey ec -nodes -pkeyopt ec_paramgen_curve:prime256v1 \
                -keyout $1.key -out $1.csr -subj "/CN=$2"; }
            sign() { printf 'basicConstraints=CA:FALSE\n%s\n' "$2" > ext; shift_days=$3
                openssl x509 -req -in $1.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out $1.pem -extfile ext $shift_days $4; }
            openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -subj /CN=authority -days 30
            new good good; sign good 'subjectAltName=DNS:localhost,IP:127.0.0.1' '-days 20' -sha384
            new other other; sign other 'subjectAltName=DNS:elsewhere.example' '-days 20' -sha256
            new cn localhost; sign cn '' '-days 20' -sha256
            new old old; sign old 'subjectAltName=DNS:localhost' '-days -1' -sha256
            openssl req -x509 -newkey rsa:2048 -nodes -keyout self.key -out self.pem -subj /CN=localhost -days 20 \
                -addext subjectAltName=DNS:localhost
            openssl genpkey -algorithm ed25519 -out edca.key
            openssl req -x509 -key edca.key -out edca.pem -subj /CN=edauthority -days 20
            openssl req -new -key edca.key -subj /CN=ed -out ed.csr
            printf 'basicConstraints=CA:FALSE\nsubjectAltName=DNS:localhost\n' > ext
            openssl x509 -req -in ed.csr -CA edca.pem -CAkey edca.key -CAcreateserial -out ed.pem -extfile ext -days 20
            cp edca.key ed.key
            new client cert_user; sign client '' '-days 20' -sha256
            openssl req -newkey rsa:2048 -nodes -keyout pss.key -out pss.csr -subj /CN=localhost
            printf 'basicConstraints=CA:FALSE\nsubjectAltName=DNS:localhost\n' > ext
            openssl x509 -req -in pss.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out pss.pem -extfile ext -days 20 -sha512 \
                -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:-1
            cp good.pem server.pem; cp good.key server.key; chmod 600 *.key
        "#;
        let mut shell = Command::new("sh");
        shell.args(["-c", script]).current_dir(&self.directory).stderr(Stdio::null()).stdout(Stdio::null());
        assert!(shell.status().unwrap().success(), "openssl");
    }

    /// Has the server show another certificate from now on.
    fn show(&self, name: &str) {
        for end in ["pem", "key"] {
            std::fs::copy(self.directory.join(format!("{name}.{end}")), self.directory.join(format!("server.{end}"))).unwrap();
        }
        self.give_away();
        self.run("pg_ctl", &["-D", &self.path("data"), "reload"]);
        std::thread::sleep(Duration::from_millis(300));
    }

    fn url(&self, user: &str, host: &str, parameters: &str) -> String {
        format!("postgres://{user}@{host}:{}/postgres?{parameters}", self.port)
    }

    fn connect(&self, user: &str, parameters: &str) -> Result<Connection, Error> {
        Connection::connect(&Config::parse(&self.url(user, "localhost", parameters)).unwrap())
    }

    fn admin(&self) -> Connection {
        Connection::connect(&Config::parse(&self.url("admin", "", &format!("host={}", self.directory.display()))).unwrap())
            .unwrap()
    }

    fn replication(&self, parameters: &str) -> Connection {
        let mut config = Config::parse(&self.url("scram_user:geheim", "localhost", parameters)).unwrap();
        config.set_replication(true).set_default_application_name("relay_test").set_startup_parameter("wal_sender_timeout", "7s");
        Connection::connect(&config).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.run("pg_ctl", &["-D", &self.path("data"), "-w", "-m", "immediate", "stop"]);
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

const HBA: &str = "
local all admin trust
local all all scram-sha-256
hostnossl all tls_user 127.0.0.1/32 reject
hostssl all tls_user 127.0.0.1/32 scram-sha-256
hostssl all plain_user 127.0.0.1/32 reject
hostnossl all plain_user 127.0.0.1/32 scram-sha-256
hostssl all cert_user 127.0.0.1/32 cert
hostssl all both_user 127.0.0.1/32 scram-sha-256 clientcert=verify-ca
host all md5_user 127.0.0.1/32 md5
host all clear_user 127.0.0.1/32 password
host all scram_user 127.0.0.1/32 scram-sha-256
host all trust_user 127.0.0.1/32 trust
";

fn kind(result: Result<Connection, Error>) -> (Kind, String) {
    let error = result.err().unwrap();
    (error.kind(), error.to_string())
}

#[test]
#[ignore = "needs Debian's PostgreSQL and openssl; see the first lines"]
fn against_a_server() {
    let server = Server::start();
    let mut admin = server.admin();
    for user in ["tls_user", "plain_user", "cert_user", "both_user", "clear_user", "scram_user", "trust_user"] {
        admin.execute(&format!("CREATE ROLE {user} LOGIN REPLICATION PASSWORD 'geheim'")).unwrap();
    }
    admin.execute("SET password_encryption = md5; CREATE ROLE md5_user LOGIN PASSWORD 'geheim'").unwrap();
    authentication(&server);
    tls(&server);
    queries(&server, &mut admin);
    stream(&server, &mut admin, "");
    stream(&server, &mut admin, &format!("sslmode=verify-full&sslrootcert={}", server.path("ca.pem")));
    speed(&server, &mut admin);
}

fn authentication(server: &Server) {
    for (user, parameters) in [
        ("scram_user:geheim", ""),
        ("scram_user:geheim", "require_auth=scram-sha-256"),
        ("md5_user:geheim", ""),
        ("clear_user:geheim", ""),
        ("trust_user", "require_auth=none"),
        ("scram_user:geheim", "sslmode=require&channel_binding=require"),
        ("scram_user:geheim", "sslmode=require&channel_binding=disable"),
        ("md5_user:geheim", "sslmode=require"),
        ("tls_user:geheim", "sslmode=prefer"),
        ("tls_user:geheim", "sslmode=allow"),
        ("plain_user:geheim", "sslmode=prefer"),
        ("plain_user:geheim", "sslmode=allow"),
    ] {
        let connection = server.connect(user, parameters).unwrap_or_else(|error| panic!("{user} {parameters}: {error}"));
        assert_eq!(connection.parameter("client_encoding"), Some("UTF8"));
        let tls = parameters.contains("require&") || parameters.ends_with("sslmode=require") || user.starts_with("tls");
        assert_eq!(connection.is_encrypted(), tls, "{user} {parameters}");
        assert!(connection.backend_pid() > 0);
    }
    assert_eq!(kind(server.connect("scram_user:falsch", "")).0, Kind::SourceAuth);
    assert_eq!(kind(server.connect("nobody:x", "")).0, Kind::SourceAuth);
    assert_eq!(kind(server.connect("tls_user:geheim", "")).0, Kind::SourceAuth);
    assert_eq!(kind(server.connect("plain_user:geheim", "sslmode=require")).0, Kind::SourceAuth);
    assert!(kind(server.connect("scram_user", "")).1.contains("none is set"));
    assert!(kind(server.connect("md5_user:geheim", "require_auth=scram-sha-256")).1.contains("require_auth"));
    assert!(kind(server.connect("trust_user", "require_auth=!none")).1.contains("require_auth"));
    assert!(kind(server.connect("scram_user:geheim", "channel_binding=require&sslmode=disable")).1.contains("no TLS"));
    assert!(kind(server.connect("md5_user:geheim", "channel_binding=require&sslmode=require")).1.contains("method md5"));
    // A unix socket, with a password.
    let path = format!("host={}", server.directory.display());
    Connection::connect(&Config::parse(&server.url("scram_user:geheim", "", &path)).unwrap()).unwrap();
    // The second host.
    let url = format!("postgres://scram_user:geheim@localhost:1,localhost:{}/postgres", server.port);
    Connection::connect(&Config::parse(&url).unwrap()).unwrap();
    for (wanted, fits) in
        [("read-write", true), ("primary", true), ("prefer-standby", true), ("standby", false), ("read-only", false)]
    {
        let result = server.connect("scram_user:geheim", &format!("target_session_attrs={wanted}"));
        assert_eq!(result.is_ok(), fits, "{wanted}");
        if let Err(error) = result {
            assert_eq!(error.kind(), Kind::SourceUnavailable, "{error}");
        }
    }
}

fn tls(server: &Server) {
    let ca = |mode: &str| format!("sslmode={mode}&sslrootcert={}&channel_binding=prefer", server.path("ca.pem"));
    let user = "scram_user:geheim";
    let full = server.connect(user, &ca("verify-full")).unwrap();
    let days = (full.peer_certificate_not_after().unwrap() - unix_now()) / 86_400;
    assert!((19..=20).contains(&days), "{days}");
    let bound = format!("{}&channel_binding=require", ca("verify-full"));
    server.connect(user, &bound).unwrap();
    assert_eq!(kind(server.connect(user, "sslmode=verify-full")).0, Kind::SourceTls);
    assert!(kind(server.connect(user, "sslmode=verify-full&sslrootcert=/nowhere")).1.contains("sslrootcert: /nowhere"));

    let client = format!("{}&sslcert={}&sslkey={}", ca("verify-full"), server.path("client.pem"), server.path("client.key"));
    server.connect("cert_user", &client).unwrap();
    server.connect("both_user:geheim", &client).unwrap();
    assert_eq!(kind(server.connect("cert_user", &ca("verify-full"))).0, Kind::SourceAuth);
    assert!(kind(server.connect("cert_user", &client.replace("client.key", "good.key"))).1.contains("sslkey"));

    server.show("other");
    let (refused, text) = kind(server.connect(user, &ca("verify-full")));
    assert_eq!(refused, Kind::SourceTls);
    assert!(text.contains("elsewhere.example"), "{text}");
    server.connect(user, &ca("verify-ca")).unwrap();
    server.connect(user, &ca("require")).unwrap();

    server.show("cn");
    server.connect(user, &ca("verify-full")).unwrap();
    let address = server.url(user, "127.0.0.1", &ca("verify-full"));
    assert_eq!(kind(Connection::connect(&Config::parse(&address).unwrap())).0, Kind::SourceTls);

    server.show("old");
    let (refused, text) = kind(server.connect(user, &ca("verify-ca")));
    assert_eq!(refused, Kind::SourceTls);
    assert!(text.contains("expired"), "{text}");
    server.connect(user, "sslmode=require&channel_binding=require").unwrap();

    server.show("self");
    let own = format!("sslmode=verify-full&sslrootcert={}", server.path("self.pem"));
    let (refused, text) = kind(server.connect(user, &own));
    assert_eq!(refused, Kind::SourceTls);
    assert!(text.contains("self-signed and marked CA:TRUE"), "{text}");
    assert!(kind(server.connect(user, &ca("verify-full"))).1.contains("CA:TRUE"));
    server.connect(user, "sslmode=require&channel_binding=require").unwrap();

    server.show("pss");
    server.connect(user, &bound).unwrap();
    server.connect(user, &format!("{}&channel_binding=disable", ca("verify-full"))).unwrap();

    server.show("ed");
    let ed = format!("sslmode=verify-full&sslrootcert={}", server.path("edca.pem"));
    server.connect(user, &ed).unwrap();
    assert!(kind(server.connect(user, &format!("{ed}&channel_binding=require"))).1.contains("RFC 5929"));
    server.show("good");
}

fn unix_now() -> i64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() as i64
}

fn queries(server: &Server, admin: &mut Connection) {
    let rows = admin.query("SELECT 1 AS a, NULL AS b, 'x' AS c; SELECT 2 AS a").unwrap();
    assert_eq!(rows.len(), 2);
    assert_eq!((rows[0].get(0), rows[0].by_name("b"), rows[0].by_name("c")), (Some("1"), None, Some("x")));
    assert_eq!(rows[1].columns().len(), 1);
    let error = admin.query("SELECT 1; SELECT * FROM nowhere").unwrap_err();
    assert_eq!(error.sqlstate(), Some("42P01"));
    assert_eq!(admin.query("SHOW TimeZone").unwrap()[0].get(0), Some("UTC"));
    assert_eq!(admin.execute("CREATE TABLE q(a int); INSERT INTO q SELECT generate_series(1, 500)").unwrap(), 500);
    assert!(admin.query("").unwrap().is_empty());
    admin.query("DO $$ BEGIN RAISE WARNING 'mind'; END $$").unwrap();
    assert_eq!(admin.take_notices()[0].message, "mind");
    for text in ["it's", "a\\b'\"", "\n\t\u{1F600}", ""] {
        for setting in ["on", "off"] {
            let sql = format!("SET standard_conforming_strings = {setting}; SELECT {}", quote_literal(text));
            assert_eq!(admin.query(&sql).unwrap()[0].get(0), Some(text));
        }
        let sql = format!("SELECT 1 AS {}", quote_identifier(&format!("{text}x")));
        assert_eq!(admin.query(&sql).unwrap()[0].columns()[0].name, format!("{text}x"));
    }
    let error = admin.query("COPY q TO STDOUT").unwrap_err();
    assert_eq!(error.kind(), Kind::SourceProtocol);
    let mut looks = 0;
    let mut watched = server.admin();
    let rows = watched.query_watched("SELECT pg_sleep(0.3)", Duration::from_millis(50), |_| {
        looks += 1;
        true
    });
    assert_eq!((rows.unwrap().len(), (3..=6).contains(&looks)), (1, true));
    assert!(watched.query_watched("SELECT pg_sleep(9)", Duration::from_millis(50), |_| false).is_err());
    let mut slow = server.admin();
    slow.set_query_timeout(Some(Duration::from_millis(100)));
    assert_eq!(slow.query("SELECT pg_sleep(5)").unwrap_err().kind(), Kind::SourceSilent);
    assert!(slow.is_broken() && slow.query("SELECT 1").is_err());
    // Whether a text is one statement is the server's to say, and nothing of it is run.
    admin.analyse("SELECT a FROM q WHERE a = 1").unwrap();
    for (text, state) in [("SELECT 1; DROP TABLE q", "42601"), ("SELECT b FROM q", "42703"), ("DROP TABLE q; --", "42601")] {
        assert_eq!(admin.analyse(text).unwrap_err().sqlstate(), Some(state), "{text}");
    }
    admin.analyse("DROP TABLE q").unwrap();
    assert_eq!(admin.query("SELECT count(*) FROM q").unwrap()[0].get(0), Some("500"));
    *admin = server.admin();
}

fn stream(server: &Server, admin: &mut Connection, parameters: &str) {
    admin
        .execute("CREATE TABLE t(id int PRIMARY KEY, text text); CREATE PUBLICATION p FOR TABLE t; GRANT ALL ON t TO scram_user")
        .unwrap();
    let mut connection = server.replication(parameters);
    let identity = connection.query("IDENTIFY_SYSTEM").unwrap();
    assert_eq!(identity[0].by_name("dbname"), Some("postgres"));
    assert_eq!(connection.query("SHOW wal_sender_timeout").unwrap()[0].get(0), Some("7s"));
    connection.query("CREATE_REPLICATION_SLOT s LOGICAL pgoutput (SNAPSHOT 'nothing')").unwrap();
    let missing = server.replication("").start_replication(&start("gone", Lsn::ZERO)).unwrap_err();
    assert_eq!(missing.kind(), Kind::SlotMissing);
    let mut stream = connection.start_replication(&start("s", Lsn::ZERO)).unwrap();
    let busy = server.replication("").start_replication(&start("s", Lsn::ZERO)).unwrap_err();
    assert_eq!(busy.kind(), Kind::SlotBusy);
    assert_eq!(busy.server().unwrap().active_pid(), Some(stream.backend_pid()));

    admin.execute("INSERT INTO t SELECT n, repeat('x', 200) FROM generate_series(1, 1000) n").unwrap();
    admin.execute("INSERT INTO t VALUES (0, repeat('y', 5000000))").unwrap();
    let (mut inserts, mut commits, mut largest, mut end) = (0, 0, 0, Lsn::ZERO);
    while commits < 2 {
        read(&mut stream, &mut |body| {
            if let Body::XLogData { payload, .. } = body {
                inserts += u32::from(payload[0] == b'I');
                largest = largest.max(payload.len());
                if payload[0] == b'C' {
                    commits += 1;
                    end = Lsn(u64::from_be_bytes(payload[10..18].try_into().unwrap()));
                }
            }
        });
    }
    assert_eq!((inserts, largest > 5_000_000), (1001, true));
    stream.send_status(Status { written: end, flushed: end, applied: end, reply_requested: true }, NOW);
    let mut answered = false;
    while !answered {
        read(&mut stream, &mut |body| answered |= matches!(body, Body::Keepalive { .. }));
    }
    let sql = "SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name = 's'";
    assert_eq!(admin.query(sql).unwrap()[0].get(0), Some(end.to_string().as_str()));
    stream.finish(Duration::from_secs(5)).unwrap();

    // Oversize on a real stream, and the end of the stream when the server ends it.
    let mut config = Config::parse(&server.url("scram_user:geheim", "localhost", parameters)).unwrap();
    config.set_replication(true).set_max_message(1 << 16);
    let mut stream = Connection::connect(&config).unwrap().start_replication(&start("s", Lsn::ZERO)).unwrap();
    admin.execute("UPDATE t SET text = repeat('z', 3000000) WHERE id = 0; INSERT INTO t VALUES (-1, 'small')").unwrap();
    let (mut oversize, mut commit) = (0, false);
    while !commit {
        read(&mut stream, &mut |body| match body {
            Body::Oversize { head, len } => {
                assert_eq!(head[0], b'U');
                oversize = *len;
            }
            Body::XLogData { payload, .. } => commit |= payload[0] == b'C',
            _ => {}
        });
    }
    assert!(oversize > 3_000_000);
    admin.query(&format!("SELECT pg_terminate_backend({})", stream.backend_pid())).unwrap();
    let error = loop {
        match stream.peek() {
            Ok(Some(frame)) => {
                let size = frame.size;
                stream.consume(size);
            }
            Ok(None) => {
                stream.fill(Duration::from_secs(5)).unwrap();
            }
            Err(error) => break error,
        }
    };
    assert_eq!((error.kind(), error.sqlstate()), (Kind::SourceUnavailable, Some("57P01")));
    drop(stream);
    drop_slot(admin);
    admin.execute("DROP PUBLICATION p; DROP TABLE t").unwrap();
}

fn drop_slot(admin: &mut Connection) {
    let deadline = Instant::now() + Duration::from_secs(5);
    while let Err(error) = admin.query("SELECT pg_drop_replication_slot('s')") {
        assert!(error.kind() == Kind::SlotBusy && Instant::now() < deadline, "{error}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn start(slot: &str, at: Lsn) -> String {
    format!("START_REPLICATION SLOT {} LOGICAL {at} (proto_version '1', publication_names '\"p\"')", quote_identifier(slot))
}

/// One fill, and every frame in it.
fn read(stream: &mut CopyBoth, each: &mut dyn FnMut(&Body<'_>)) {
    stream.fill(Duration::from_secs(5)).unwrap();
    while let Some(frame) = stream.peek().unwrap() {
        each(&frame.body);
        let size = frame.size;
        stream.consume(size);
    }
}

/// Prints the rate; judged by the benchmarks, not here. `PGWIRE_ROWS` makes it long enough to mean something.
fn speed(server: &Server, admin: &mut Connection) {
    let rows: u32 = std::env::var("PGWIRE_ROWS").ok().and_then(|text| text.parse().ok()).unwrap_or(10_000);
    admin
        .execute(
            "CREATE TABLE t(id int PRIMARY KEY, k text, text text); CREATE PUBLICATION p FOR TABLE t;\
                  GRANT ALL ON t TO scram_user",
        )
        .unwrap();
    admin.query("SELECT pg_create_logical_replication_slot('s', 'pgoutput')").unwrap();
    admin.set_query_timeout(None);
    let insert = format!(
        "DO $$ BEGIN FOR i IN 1..{} LOOP INSERT INTO t SELECT n, 'order-' || n, repeat('x', 300) \
         FROM generate_series(i * 10, i * 10 + 9) n; COMMIT; END LOOP; END $$",
        rows / 10
    );
    admin.execute(&insert).unwrap();
    let ca = format!("sslmode=verify-full&sslrootcert={}", server.path("ca.pem"));
    let unix = format!("host={}", server.directory.display());
    for (name, parameters) in [("tcp", String::new()), ("unix", unix), ("tls", ca)] {
        for coalesce_us in [0, 100] {
            let mut stream = server.replication(&parameters).start_replication(&start("s", Lsn::ZERO)).unwrap();
            let (mut inserts, mut fills, mut bytes) = (0, 0, 0);
            let began = Instant::now();
            let mut reported = began;
            while inserts < rows / 10 * 10 {
                if let Some(frame) = stream.peek().unwrap() {
                    if let Body::XLogData { payload, .. } = frame.body {
                        inserts += u32::from(payload[0] == b'I');
                    }
                    let size = frame.size;
                    stream.consume(size);
                    continue;
                }
                let fill = stream.fill(Duration::from_secs(5)).unwrap();
                fills += 1;
                bytes += fill.bytes;
                if reported.elapsed() > Duration::from_secs(1) {
                    // Says nothing about the slot, but keeps the walsender's time-out (7 s) away.
                    stream.send_status(Status::default(), NOW);
                    reported = Instant::now();
                }
                if coalesce_us > 0 && fill.drained && fill.bytes < 32 * 1024 {
                    std::thread::sleep(Duration::from_micros(coalesce_us));
                }
            }
            let seconds = began.elapsed().as_secs_f64();
            eprintln!(
                "{name}, coalesce {coalesce_us} us: {:.0} rows/s, {fills} fills, {:.0} MB/s",
                f64::from(inserts) / seconds,
                bytes as f64 / seconds / 1e6
            );
            drop(stream);
            wait_free(admin);
        }
    }
    pg_recvlogical(server, admin, rows);
    drop_slot(admin);
}

fn wait_free(admin: &mut Connection) {
    while admin.query("SELECT 1 FROM pg_replication_slots WHERE active").unwrap().len() == 1 {
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The same backlog with PostgreSQL's own client over TCP.
fn pg_recvlogical(server: &Server, admin: &mut Connection, rows: u32) {
    let end = admin.query("SELECT pg_current_wal_lsn()").unwrap()[0].get(0).unwrap().to_owned();
    let began = Instant::now();
    let mut command = Command::new(server.bin.join("pg_recvlogical"));
    command.args(["-h", "127.0.0.1", "-p", &server.port.to_string(), "-U", "trust_user", "-d", "postgres", "-S", "s"]);
    command.args(["--start", "-f", "/dev/null", "-E", &end, "-o", "proto_version=1", "-o", "publication_names=p"]);
    let done = command.env("PGSSLMODE", "disable").status().unwrap();
    assert!(done.success());
    eprintln!("pg_recvlogical, tcp: {:.0} rows/s", f64::from(rows) / began.elapsed().as_secs_f64());
}
