//! Looks at a database for tables that may be outboxes: reads its catalogs in one READ ONLY transaction and changes nothing.

mod catalog;
pub(crate) use catalog::dispatchers;
mod sample;

use crate::error::Error;
use crate::inspect::server_version;
use relay_core::Relation;
use relay_pgwire::Connection;

pub use sample::Samples;

/// What to look for.
#[derive(Clone, Debug)]
pub struct Asked {
    /// One table, `schema.table` in any case; every one where `None`.
    pub table: Option<String>,
    /// The role that relay is to log in as; it need not exist.
    pub role: String,
    /// The name that relay's publication and slot would have.
    pub publication: String,
}

/// What the database says.
#[derive(Clone, Debug)]
pub struct Survey {
    /// The server, and whom it took us for.
    pub server: Server,
    /// The tables, by name.
    pub tables: Vec<Table>,
    /// Signs that somebody else publishes.
    pub dispatchers: Vec<Dispatcher>,
}

/// The server, the role that looks, and relay's own objects so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// As the server prints it.
    pub version: String,
    /// Major version.
    pub major: u32,
    /// `wal_level`.
    pub wal_level: String,
    /// Whether it replays another server's WAL.
    pub is_standby: bool,
    /// The database.
    pub database: String,
    /// The role that looks.
    pub role: String,
    /// Whether that role is a superuser.
    pub is_superuser: bool,
    /// Whether it may read the log.
    pub may_replicate: bool,
    /// Whether it may create a publication, as far as the database goes.
    pub may_create: bool,
    /// Whether relay's role may log in and read the log; `None` when there is no such role.
    pub relay_may_replicate: Option<bool>,
    /// Whether relay's publication exists.
    pub has_publication: bool,
    /// Whether relay's slot exists.
    pub has_slot: bool,
    /// Whether something is called `public.outbox`.
    pub has_outbox: bool,
}

/// A table and what its catalogs say.
#[derive(Clone, Debug)]
pub struct Table {
    /// Columns with their types, as `format_type` prints them.
    pub types: Vec<(String, String)>,
    /// Schema, name and columns as the log would send them.
    pub relation: Relation,
    /// A root of partitions.
    pub is_partitioned: bool,
    /// Its rows never reach the log.
    pub is_unlogged: bool,
    /// Row-level security is on.
    pub has_row_security: bool,
    /// Names of its triggers.
    pub triggers: Vec<String>,
    /// Publications that send it.
    pub publications: Vec<String>,
    /// First columns of its indexes.
    pub indexed: Vec<String>,
    /// Who owns it.
    pub owner: String,
    /// Whether the role that looks may read its rows.
    pub may_select: bool,
    /// Whether relay's role may use the schema and read the rows.
    pub relay_may_select: bool,
}

/// A sign that somebody else publishes rows of this database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dispatcher {
    /// What was seen: `table cap.received`, `slot eventuate_slot1`.
    pub seen: String,
    /// Schema and name, where it is a table.
    pub table: Option<(String, String)>,
    /// Whose it is.
    pub whose: &'static str,
}

/// The transaction in which the database is looked at.
#[derive(Debug)]
pub struct Look {
    connection: Connection,
}

/// Nothing that is looked at may take longer, and no lock of others is waited for.
const BEGIN: &str = "BEGIN READ ONLY; SET LOCAL statement_timeout = '5s'; SET LOCAL lock_timeout = '1s'; \
                     SET LOCAL search_path = pg_catalog";

// === impl Look ===

impl Look {
    /// Connects and begins the transaction.
    ///
    /// # Errors
    /// When the server cannot be reached, refuses us, or is too old.
    pub fn begin(wire: &relay_pgwire::Config) -> Result<Self, Error> {
        let mut connection = Connection::connect(wire)?;
        if server_version(&connection).is_some_and(|major| major < 14) {
            return Err(Error::Unfit(format!(
                "the server is PostgreSQL {}; relay needs 14 or newer",
                connection.parameter("server_version").unwrap_or("unknown")
            )));
        }
        connection.execute(BEGIN)?;
        Ok(Self { connection })
    }

    /// Reads the catalogs.
    ///
    /// # Errors
    /// What the server says; a catalog too large for the statement's time-out is `57014`.
    pub fn survey(&mut self, asked: &Asked) -> Result<Survey, Error> {
        let major = server_version(&self.connection).unwrap_or(14);
        let server = catalog::server(&mut self.connection, asked, major)?;
        let tables = catalog::tables(&mut self.connection, asked)?;
        let dispatchers = catalog::dispatchers(&mut self.connection)?;
        Ok(Survey { server, tables, dispatchers })
    }

    /// At most five rows of a table, the newest where an index or its small size gives them, and only these columns.
    ///
    /// # Errors
    /// What the server says; the transaction goes on.
    pub fn sample(&mut self, table: &Table, columns: &[&str]) -> Result<Samples, Error> {
        sample::read(&mut self.connection, table, columns)
    }

    /// Ends the transaction and the connection.
    pub fn end(mut self) {
        // Nothing was changed, so a failed end changes nothing either.
        let _ = self.connection.execute("ROLLBACK");
        self.connection.close();
    }
}

// === impl Table ===

impl Table {
    /// `schema.table`, as routes and catalogs have it.
    #[must_use]
    pub fn raw(&self) -> String {
        self.relation.to_string()
    }
}
