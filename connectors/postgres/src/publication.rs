//! The publication: created for the tables that routes name, and hashed so that a change of it is noticed.

use crate::error::Error;
use crate::source::{Publish, Source, Wanted};
use relay_core::{Kind, Oid};
use relay_pgwire::{Connection, Row, quote_identifier, quote_literal};

/// A table of the publication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// Which one it is, whatever its name.
    pub oid: Oid,
    /// `schema.table`.
    pub name: String,
}

impl Source {
    /// Creates the publication for every table that `wanted` names; an existing one is taken as it is. `needs_tables` is false when only
    /// logical messages are routed.
    ///
    /// # Errors
    /// When no table fits, when the server would refuse every UPDATE of one that does, or when the role may not; the text then holds
    /// the SQL for the owner.
    pub fn create_publication(&self, wanted: &Wanted, needs_tables: bool) -> Result<(), Error> {
        let mut connection = self.connect()?;
        let tables = wanted_tables(&mut connection, wanted)?;
        if tables.is_empty() && needs_tables {
            let message =
                "no table fits the `table` of any [[outbox]], nor the `tables` of any [[capture]]; create the table first";
            return Err(Error::Publication(message.into()));
        }
        if self.config().publish > Publish::Inserts {
            refuse_unidentified(&mut connection, wanted)?;
        }
        let sql = self.publication_sql(&tables);
        match connection.query(&sql) {
            Ok(_) => Ok(()),
            Err(error) if error.sqlstate() == Some("42710") => Ok(()),
            Err(error) if error.kind() == Kind::SourcePermission => {
                Err(Error::PublicationRight { message: error.to_string(), sql })
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The statement that creates the publication for these tables, given as quoted names.
    #[must_use]
    pub fn publication_sql(&self, tables: &[String]) -> String {
        let config = self.config();
        let list = if tables.is_empty() { String::new() } else { format!(" FOR TABLE {}", tables.join(", ")) };
        format!(
            "CREATE PUBLICATION {}{list} WITH (publish = '{}', publish_via_partition_root = true)",
            quote_identifier(&config.publication),
            config.publish.operations()
        )
    }

    /// The tables that the publication has now, by name, which is `schema.table`; `None` when it does not exist.
    ///
    /// # Errors
    /// What the server says.
    pub fn published_tables(&self, connection: &mut Connection) -> Result<Option<Vec<Published>>, Error> {
        let rows = connection.query(&format!(
            "SELECT t.schemaname || '.' || t.tablename, to_regclass(format('%I.%I', t.schemaname, t.tablename))::oid \
             FROM pg_publication AS p LEFT JOIN pg_publication_tables AS t USING (pubname) WHERE pubname = {} ORDER BY 1",
            quote_literal(&self.config().publication)
        ))?;
        // One without tables is a row of NULL.
        let published = |row: &Row| {
            let oid = Oid(row.get(1).and_then(|oid| oid.parse().ok()).unwrap_or(0));
            Some(Published { oid, name: row.get(0)?.to_owned() })
        };
        Ok((!rows.is_empty()).then(|| rows.iter().filter_map(published).collect()))
    }

    /// A hash of the publication's options and tables and of what else decides which changes the stream carries; `None` when the
    /// publication does not exist.
    pub(crate) fn publication_fingerprint(&self, connection: &mut Connection) -> Result<Option<String>, Error> {
        let name = quote_literal(&self.config().publication);
        let rows = connection.query(&format!(
            "SELECT concat_ws(',', puballtables, pubinsert, pubupdate, pubdelete, pubtruncate, pubviaroot) \
             FROM pg_publication WHERE pubname = {name}"
        ))?;
        let Some(options) = rows.first().and_then(|row| row.get(0)).map(str::to_owned) else { return Ok(None) };
        // `t::text` takes in the column list and row filter where the server has them (15+).
        let rows =
            connection.query(&format!("SELECT t::text FROM pg_publication_tables AS t WHERE pubname = {name} ORDER BY 1"))?;
        let mut hash = Fnv::new();
        hash.add(&self.config().publication);
        hash.add(&options);
        for row in &rows {
            hash.add(row.get(0).unwrap_or_default());
        }
        hash.add("messages=true");
        hash.add(&format!("origin={}", self.config().origin));
        Ok(Some(hash.text()))
    }
}

/// Quoted names of the tables that `wanted` names. A partitioned table stands for its leaves; a leaf is taken alone only where its root
/// is not wanted.
fn wanted_tables(connection: &mut Connection, wanted: &Wanted) -> Result<Vec<String>, Error> {
    let rows = connection.query(
        "SELECT n.nspname, c.relname, rn.nspname, rc.relname \
         FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
         LEFT JOIN pg_class rc ON c.relispartition AND rc.oid = pg_partition_root(c.oid) \
         LEFT JOIN pg_namespace rn ON rn.oid = rc.relnamespace \
         WHERE c.relkind IN ('r', 'p') AND c.relpersistence = 'p' AND n.nspname NOT IN ('pg_catalog', 'information_schema') \
         ORDER BY 1, 2",
    )?;
    let mut tables = Vec::new();
    for row in &rows {
        let (Some(schema), Some(table)) = (row.get(0), row.get(1)) else { continue };
        let root_is_wanted = match (row.get(2), row.get(3)) {
            (Some(schema), Some(table)) => wanted(&format!("{schema}.{table}")),
            _ => false,
        };
        if wanted(&format!("{schema}.{table}")) && !root_is_wanted {
            tables.push(format!("{}.{}", quote_identifier(schema), quote_identifier(table)));
        }
    }
    Ok(tables)
}

/// Refuses to publish the updates of a table that nothing identifies a row of: from then on the server would refuse every UPDATE and
/// DELETE of it, and the application would be broken by relay's start.
///
/// # Errors
/// That, or what the server says.
pub fn refuse_unidentified(connection: &mut Connection, wanted: &Wanted) -> Result<(), Error> {
    let rows = connection.query(
        "SELECT n.nspname, c.relname, rn.nspname || '.' || r.relname \
         FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
         LEFT JOIN pg_class r ON c.relispartition AND r.oid = pg_partition_root(c.oid) \
         LEFT JOIN pg_namespace rn ON rn.oid = r.relnamespace \
         WHERE c.relkind = 'r' AND c.relpersistence = 'p' AND n.nspname NOT IN ('pg_catalog', 'information_schema') \
         AND CASE c.relreplident WHEN 'f' THEN false WHEN 'n' THEN true \
           ELSE NOT EXISTS (SELECT 1 FROM pg_index i WHERE i.indrelid = c.oid AND i.indislive \
             AND CASE c.relreplident WHEN 'd' THEN i.indisprimary ELSE i.indisreplident END) END \
         ORDER BY 1, 2",
    )?;
    let mut tables = Vec::new();
    for row in &rows {
        let (Some(schema), Some(table)) = (row.get(0), row.get(1)) else { continue };
        if wanted(&format!("{schema}.{table}")) || row.get(2).is_some_and(|root| wanted(root)) {
            tables.push(format!("{}.{}", quote_identifier(schema), quote_identifier(table)));
        }
    }
    let Some(first) = tables.first() else { return Ok(()) };
    Err(Error::Publication(format!(
        "published as it is, the server would refuse every UPDATE and DELETE of {}, because nothing identifies a row there; \
         ALTER TABLE {first} REPLICA IDENTITY FULL, give the table a primary key, leave it out with `exclude`, or create the \
         publication yourself",
        tables.join(", ")
    )))
}

/// FNV-1a, 64 bit: stable across versions, which the standard library's hasher is not.
struct Fnv(u64);

impl Fnv {
    fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    fn add(&mut self, text: &str) {
        for byte in text.bytes().chain([0]) {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn text(&self) -> String {
        format!("{:016x}", self.0)
    }
}
