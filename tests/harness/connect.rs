//! Turns connector properties into a running Kafka Connect worker in standalone mode, with Debezium on its class path.

use std::path::PathBuf;
use std::time::Instant;

use crate::framework::Framework;
use crate::kafka::Kafka;
use crate::ports::free_port;
use crate::postgres::Postgres;
use crate::process::Process;
use crate::scratch::Scratch;
use crate::wait::{secs, until};

/// One connector of Debezium for PostgreSQL: its name, which is its slot's too, and its properties.
#[derive(Debug, Clone)]
pub struct Connector {
    name: String,
    properties: String,
}

/// A worker with its connectors. Gone on drop.
#[derive(Debug)]
pub struct Connect {
    process: Process,
    _scratch: Scratch,
}

// === impl Connector ===

impl Connector {
    /// A connector that reads a server's database `postgres` by the publication named, into topics `prefix` begins.
    pub fn new(name: &str, db: &Postgres, publication: &str, prefix: &str) -> Connector {
        let port = db.port();
        let properties = format!(
            "name={name}\nconnector.class=io.debezium.connector.postgresql.PostgresConnector\ntasks.max=1\n\
             database.hostname=127.0.0.1\ndatabase.port={port}\ndatabase.user=postgres\ndatabase.password=x\n\
             database.dbname=postgres\ntopic.prefix={prefix}\nplugin.name=pgoutput\nslot.name={name}\n\
             publication.name={publication}\npublication.autocreate.mode=disabled\npoll.interval.ms=50\n"
        );
        Connector { name: name.to_owned(), properties }
    }

    /// One more property, by its name of Debezium or Connect.
    pub fn set(mut self, name: &str, value: &str) -> Connector {
        // A properties file reads a backslash as an escape.
        self.properties.push_str(&format!("{name}={}\n", value.replace('\\', "\\\\")));
        self
    }
}

// === impl Connect ===

impl Connect {
    /// Starts a worker with some connectors on the broker that the tests share, and waits until each of them streams.
    pub fn start(db: &Postgres, connectors: &[Connector]) -> Connect {
        let begin = Instant::now();
        let scratch = Scratch::new("connect");
        let worker = format!(
            "bootstrap.servers={}\nlisteners=http://127.0.0.1:{}\nkey.converter=org.apache.kafka.connect.storage.StringConverter\n\
             value.converter=org.apache.kafka.connect.storage.StringConverter\noffset.storage.file.filename={}\n\
             offset.flush.interval.ms=1000\nplugin.discovery=service_load\n",
            Kafka::shared().brokers(),
            free_port(),
            scratch.join("offsets").display()
        );
        let file = |connector: &Connector| scratch.write(&format!("{}.properties", connector.name), &connector.properties);
        let files = [scratch.write("worker.properties", &worker)].into_iter().chain(connectors.iter().map(file));
        let files: Vec<PathBuf> = files.collect();
        let mut command = Framework::java("debezium").command("org.apache.kafka.connect.cli.ConnectStandalone");
        command.args(&files).current_dir(scratch.path());
        // Texts of ranges are in the JVM's zone, and one connector takes some 40 MiB.
        command.env("TZ", "UTC").env("_JAVA_OPTIONS", format!("-Xmx{}m", 256 + 48 * connectors.len()));
        let process = Process::start("Kafka Connect", &mut command, &scratch.join("connect.log"), "KILL");
        let slots: Vec<String> = connectors.iter().map(|connector| format!("'{}'", connector.name)).collect();
        let slots = format!("SELECT count(*) FROM pg_replication_slots WHERE active AND slot_name IN ({})", slots.join(", "));
        let mut connect = Connect { process, _scratch: scratch };
        until("Debezium to stream", secs(300), || {
            connect.assert_running();
            (usize::try_from(db.sql(&slots).number()) == Ok(connectors.len())).then_some(())
        });
        println!("Debezium streams by {} connectors after {:.1?}", connectors.len(), begin.elapsed());
        connect
    }

    /// Fails when the worker, or a task of it, has ended.
    #[track_caller]
    pub fn assert_running(&mut self) {
        let log = self.logs();
        assert!(
            self.process.is_running() && !log.contains("Task is being killed") && !log.contains("Producer failure"),
            "Kafka Connect ended\n{log}"
        );
    }

    /// All that the worker has logged: warnings and errors.
    pub fn logs(&self) -> String {
        self.process.log()
    }
}
