//! The tables that a snapshot reads: what the publication sends and the configuration captures, partitions each for itself.

use super::refused;
use crate::error::Error;
use crate::source::Source;
use relay_core::Oid;
use relay_core::session::Listed;
use relay_pgwire::{Connection, quote_identifier, quote_literal};
use std::collections::BTreeMap;

/// A table, and how it is called.
#[derive(Clone, Debug)]
pub struct Found {
    /// As the session takes it.
    pub listed: Listed,
    /// The table itself.
    pub(super) leaf: Oid,
    /// The table under whose name its changes are streamed: itself, or its partition root.
    pub(super) stream: Oid,
    /// Schema and name of that one.
    pub stream_name: (String, String),
    /// The table's own name, quoted.
    pub(super) quoted: String,
    /// An update of a row may not be in the stream: a row that moves while the table is read could be missed.
    pub has_silent_updates: bool,
}

/// The tables of a listing, by name.
#[derive(Clone, Debug, Default)]
pub struct Tables(pub BTreeMap<String, Found>);

// === impl Source ===

impl Source {
    /// The published tables whose name in the stream is wanted; of these, where names are given, those which are, or belong to, one of
    /// them. Each is looked at as a reader would, so that one which cannot be read is told of at once.
    ///
    /// # Errors
    /// [`Error::Refused`] for a table that we may not read, one that row security hides rows of, and a name that is none of them.
    pub(super) fn list_captured(
        &self,
        connection: &mut Connection,
        names: &[String],
        wanted: &dyn Fn(&str) -> bool,
        is_export: bool,
    ) -> Result<Tables, Error> {
        const WHAT: &str = "the published tables";
        let rows = connection.query(&format!(
            "SELECT n.nspname, c.relname, p.schemaname, p.tablename, c.oid, s.oid, c.relfilenode, pg_relation_filenode(c.oid), \
             coalesce(pg_relation_size(c.oid) / current_setting('block_size')::int, 0), c.reltuples, c.relpages, \
             coalesce(a.amname, '') = 'heap', \
             (SELECT rn.nspname || '.' || r.relname FROM pg_class r JOIN pg_namespace rn ON rn.oid = r.relnamespace \
              WHERE c.relispartition AND r.oid = pg_partition_root(c.oid)), \
             NOT (SELECT pubupdate FROM pg_publication WHERE pubname = p.pubname) \
             FROM pg_publication_tables p JOIN pg_namespace sn ON sn.nspname = p.schemaname \
             JOIN pg_class s ON s.relnamespace = sn.oid AND s.relname = p.tablename \
             CROSS JOIN LATERAL (SELECT s.oid WHERE s.relkind <> 'p' UNION ALL \
               SELECT t.relid FROM pg_partition_tree(s.oid) t WHERE s.relkind = 'p' AND t.isleaf) AS l(oid) \
             JOIN pg_class c ON c.oid = l.oid AND c.relkind = 'r' JOIN pg_namespace n ON n.oid = c.relnamespace \
             LEFT JOIN pg_am a ON a.oid = c.relam \
             WHERE p.pubname = {} ORDER BY 1, 2",
            quote_literal(&self.config().publication)
        ))?;
        let mut tables = Tables::default();
        let mut met: Vec<&String> = Vec::new();
        for row in &rows {
            let text = |at: usize| row.get(at).ok_or(Error::Answer { query: WHAT });
            let number = |at: usize| text(at).and_then(|text| text.parse::<u32>().map_err(|_| Error::Answer { query: WHAT }));
            let (schema, table) = (text(0)?, text(1)?);
            let name = format!("{schema}.{table}");
            let stream = format!("{}.{}", text(2)?, text(3)?);
            if !wanted(&stream) {
                continue;
            }
            let is_it = |asked: &&String| **asked == name || **asked == stream || row.get(12) == Some(asked);
            met.extend(names.iter().filter(is_it));
            if !names.is_empty() && !names.iter().any(|asked| is_it(&asked)) {
                continue;
            }
            let is_heap = row.get(11) == Some("t");
            // Not there: dropped since the snapshot was exported.
            let Some(file) = row.get(7).and_then(|file| file.parse::<u32>().ok()) else { continue };
            let listed_at = number(6)?;
            let blocks = number(8)?;
            let per_block = |rows: f64, pages: f64| (rows >= 0.0 && pages > 0.0).then(|| rows / pages);
            let float = |at: usize| row.get(at).and_then(|text| text.parse::<f64>().ok()).unwrap_or(-1.0);
            let found = Found {
                listed: Listed {
                    name: name.as_str().into(),
                    stream: stream.as_str().into(),
                    file: if is_heap { file } else { 0 },
                    blocks: if is_heap { blocks } else { 1 },
                    rows_per_block: per_block(float(9), float(10)),
                    is_rewritten: is_export && file != listed_at,
                },
                leaf: Oid(number(4)?),
                stream: Oid(number(5)?),
                stream_name: (text(2)?.to_owned(), text(3)?.to_owned()),
                quoted: format!("{}.{}", quote_identifier(schema), quote_identifier(table)),
                has_silent_updates: row.get(13) == Some("t") || self.config().origin != "any",
            };
            tables.0.insert(name, found);
        }
        if let Some(unknown) = names.iter().find(|name| !met.contains(name)) {
            return Err(Error::Refused(format!(
                "`{unknown}` is no captured table: name a published table that a [[capture]] takes, as schema.table"
            )));
        }
        for found in tables.0.values() {
            self.look_at(connection, found)?;
        }
        Ok(tables)
    }

    /// Reads nothing of a table, as a reader would: in a transaction that keeps it from being rewritten or dropped until that ends.
    fn look_at(&self, connection: &mut Connection, found: &Found) -> Result<(), Error> {
        match connection.query(&format!("SELECT FROM ONLY {} LIMIT 0", found.quoted)) {
            Ok(_) => Ok(()),
            Err(error) => Err(refused(&error, &found.listed.name, self.role()).unwrap_or(error.into())),
        }
    }

    /// Whom we connect as.
    pub(super) fn role(&self) -> &str {
        self.config().wire.user()
    }

    /// Whether a snapshot of these tables, of the rows that meet a condition, could be read.
    ///
    /// # Errors
    /// As [`Source::find_captured`]; [`Error::Refused`] for a condition that does not fit, too.
    pub fn check_captured(&self, names: &[String], condition: Option<&str>, wanted: &dyn Fn(&str) -> bool) -> Result<(), Error> {
        let mut connection = self.connect_snapshot()?;
        let tables = self.list_captured(&mut connection, names, wanted, false)?;
        let Some(condition) = condition else { return Ok(()) };
        for found in tables.0.values() {
            check_condition(&mut connection, found, condition).map_err(|error| match error.sqlstate() {
                Some(state) if state.starts_with("42") || state.starts_with("22") => {
                    Error::Refused(format!("`{condition}` is no condition on the rows of {}: {error}", found.listed.name))
                }
                _ => error.into(),
            })?;
        }
        Ok(())
    }

    /// As a listing between watermarks does it, on a connection of its own.
    ///
    /// # Errors
    /// [`Error::Refused`] for a table that we may not read, one that row security hides rows of, and a name that is no captured table;
    /// and when the server cannot be reached.
    pub fn find_captured(&self, names: &[String], wanted: &dyn Fn(&str) -> bool) -> Result<Tables, Error> {
        self.list_captured(&mut self.connect_snapshot()?, names, wanted, false)
    }
}

/// Whether a text is one condition and nothing else: it stands among other conditions of a statement, in brackets.
///
/// Somebody's text must not end that statement, nor the bracket. So the server analyses it, which takes one statement alone and runs
/// nothing, in brackets of two kinds, as no text closes both. Only then it is tried.
fn check_condition(connection: &mut Connection, found: &Found, condition: &str) -> Result<(), relay_pgwire::Error> {
    for (open, close) in [("(", ")"), ("(ARRAY[", "])[1]")] {
        connection.analyse(&format!("SELECT FROM ONLY {} WHERE {open}{condition}\n{close}", found.quoted))?;
    }
    connection.query(&format!("SELECT FROM ONLY {} WHERE ({condition}\n) LIMIT 0", found.quoted)).map(|_| ())
}
