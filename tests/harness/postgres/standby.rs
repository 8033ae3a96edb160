//! Turns a running server into a pair: a hot standby that streams from it, through a fault proxy's port if need be.

use super::{Postgres, append, setting_line};
use crate::ports::free_port;
use crate::process::run;
use crate::scratch::{Scratch, give};
use crate::wait::{secs, until};
use std::process::Command;

// === impl Postgres ===

impl Postgres {
    /// A standby that follows this server through a port of loopback. `name` is what `synchronous_standby_names` calls it.
    ///
    /// Nothing may write meanwhile: the files are copied as they are. The standby streams when this returns.
    pub fn standby(&self, name: &str, through: u16) -> Postgres {
        let scratch = Scratch::new("pg");
        // A backup lasts as long as the session that began it.
        let mut session = self.superuser();
        session.batch_execute("SELECT pg_backup_start('standby', true)").expect("begin a backup");
        run("copy the data directory", Command::new("cp").arg("-a").arg(self.data()).arg(scratch.join("data")));
        let label: String = session.query_one("SELECT labelfile FROM pg_backup_stop(false)", &[]).expect("end the backup").get(0);
        let standby = Postgres { version: self.version, home: self.home.clone(), port: free_port(), process: None, scratch };
        let data = standby.data();
        std::fs::remove_file(data.join("postmaster.pid")).expect("forget the primary's process");
        for (file, text) in [("backup_label", label.as_str()), ("standby.signal", "")] {
            std::fs::write(data.join(file), text).unwrap_or_else(|e| panic!("write {file}: {e}"));
            give(&data.join(file));
        }
        let folder = standby.scratch.path().display().to_string();
        let primary = format!("host=127.0.0.1 port={through} user=postgres application_name={name}");
        let settings = [("port", standby.port.to_string()), ("unix_socket_directories", folder), ("primary_conninfo", primary)];
        settings.iter().for_each(|(name, value)| append(&data.join("postgresql.conf"), &setting_line(name, value)));
        let mut standby = standby;
        standby.start_again();
        let streams =
            format!("SELECT count(*) FROM pg_stat_replication WHERE application_name = '{name}' AND state = 'streaming'");
        until("the standby to stream", secs(30), || (self.sql(&streams).number() == 1).then_some(()));
        println!("{} standby `{name}` ready on port {}", standby.version, standby.port);
        standby
    }
}
