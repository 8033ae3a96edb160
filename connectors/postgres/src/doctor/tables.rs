//! The tables that routes name: which there are, and what shape the stream gives them.

use super::Examination;
use relay_core::{Catalog, Column, Oid, Relation, ReplicaIdentity};
use relay_pgwire::{Row, quote_identifier, quote_literal};

/// A table that a route names, or whose root one names.
#[derive(Clone, Debug)]
pub(super) struct Table {
    pub(super) oid: Oid,
    pub(super) schema: String,
    pub(super) name: String,
    pub(super) is_partitioned: bool,
    pub(super) is_unlogged: bool,
    /// Whether our role may put it into a publication.
    pub(super) is_owned: bool,
    /// `schema.table` of its partition root.
    pub(super) root: Option<String>,
}

// === impl Table ===

impl Table {
    /// `schema.table`, as routes and catalogs have it.
    pub(super) fn raw(&self) -> String {
        format!("{}.{}", self.schema, self.name)
    }

    /// The same for SQL.
    pub(super) fn quoted(&self) -> String {
        format!("{}.{}", quote_identifier(&self.schema), quote_identifier(&self.name))
    }

    fn read(row: &Row) -> Option<Self> {
        let oid = row.get(0)?.parse().ok().map(Oid)?;
        Some(Self {
            oid,
            schema: row.get(1)?.to_owned(),
            name: row.get(2)?.to_owned(),
            is_partitioned: row.get(3) == Some("p"),
            is_unlogged: row.get(4) == Some("u"),
            is_owned: row.get(5) == Some("t"),
            root: row.get(6).map(str::to_owned),
        })
    }
}

// === impl Examination: tables ===

impl Examination<'_> {
    /// The tables that routes name; leaves only where their root is not named.
    pub(super) fn tables(&mut self) -> Result<Vec<Table>, String> {
        let rows = self.ask(
            "SELECT c.oid, n.nspname, c.relname, c.relkind, c.relpersistence, pg_has_role(c.relowner, 'USAGE'), \
             CASE WHEN c.relispartition THEN \
               (SELECT rn.nspname || '.' || r.relname FROM pg_class AS r JOIN pg_namespace AS rn ON rn.oid = r.relnamespace \
                WHERE r.oid = pg_partition_root(c.oid)) END \
             FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace \
             WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't' \
             AND n.nspname NOT IN ('pg_catalog', 'information_schema') ORDER BY 2, 3",
        )?;
        let wanted = &self.expected.wanted;
        let is_named = |table: &Table| wanted(&table.raw()) && !table.root.as_ref().is_some_and(|root| wanted(root));
        Ok(rows.iter().filter_map(Table::read).filter(is_named).collect())
    }

    /// What the catalog adds to the shapes of captured tables.
    pub(super) fn catalogs(&mut self, relations: &[Relation], captured: &[Table]) -> Vec<(Oid, Catalog)> {
        let is_captured = |relation: &&Relation| captured.iter().any(|table| table.oid == relation.oid);
        let mut catalogs = Vec::new();
        for relation in relations.iter().filter(is_captured) {
            // A shape without it is still good for most of what is checked.
            let catalog = crate::catalog::read_catalog(&mut self.connection, relation).unwrap_or_default();
            catalogs.push((relation.oid, catalog));
        }
        catalogs
    }

    /// The shape of each table as its Relation message would say it: without columns that the publication leaves out.
    pub(super) fn relations(&mut self, tables: &[Table]) -> Result<Vec<Relation>, String> {
        let publication = quote_literal(&self.source.config().publication);
        let mut relations = Vec::new();
        for table in tables {
            // Column lists came with 15. Stored generated columns are sent from 18 on, where the publication says so.
            let listed = match self.major {
                // A poller reads what a query gives.
                _ if self.expected.is_poll => "true".to_owned(),
                ..=14 => "a.attgenerated = ''".to_owned(),
                15..=17 => format!("a.attgenerated = '' AND {}", listed_columns(&publication)),
                _ => format!(
                    "(a.attgenerated = '' OR {0} IS NOT NULL) AND {1}",
                    names_of(&publication),
                    listed_columns(&publication)
                ),
            };
            let rows = self.ask(&format!(
                "SELECT a.attname, a.atttypid, a.atttypmod, \
                 c.relreplident = 'f' OR c.relreplident <> 'n' AND coalesce(a.attnum = ANY (i.indkey), false), c.relreplident, \
                 CASE WHEN t.oid >= 10000 THEN t.typname END \
                 FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace \
                 JOIN pg_attribute AS a ON a.attrelid = c.oid LEFT JOIN pg_type AS t ON t.oid = a.atttypid \
                 LEFT JOIN pg_index AS i ON i.indrelid = c.oid \
                   AND CASE c.relreplident WHEN 'i' THEN i.indisreplident ELSE i.indisprimary END \
                 WHERE c.oid = {} AND a.attnum > 0 AND NOT a.attisdropped AND {listed} ORDER BY a.attnum",
                table.oid
            ))?;
            let column = |row: &Row| {
                Some(Column {
                    name: row.get(0)?.into(),
                    type_oid: row.get(1)?.parse().ok().map(Oid)?,
                    type_modifier: row.get(2)?.parse().ok()?,
                    type_name: row.get(5).map(Into::into),
                    is_key: row.get(3) == Some("t"),
                })
            };
            relations.push(Relation {
                oid: table.oid,
                schema: table.schema.as_str().into(),
                name: table.name.as_str().into(),
                identity: match rows.first().and_then(|row| row.get(4)) {
                    Some("f") => ReplicaIdentity::Full,
                    Some("n") => ReplicaIdentity::Nothing,
                    Some("i") => ReplicaIdentity::Index,
                    _ => ReplicaIdentity::Default,
                },
                columns: rows.iter().filter_map(column).collect(),
            });
        }
        Ok(relations)
    }
}

/// The publication's columns of the table at hand; NULL where it does not have the table.
fn names_of(publication: &str) -> String {
    format!(
        "(SELECT t.attnames FROM pg_publication_tables AS t \
          WHERE t.pubname = {publication} AND t.schemaname = n.nspname AND t.tablename = c.relname)"
    )
}

/// Whether the column is one of them; every column counts where the publication does not have the table.
fn listed_columns(publication: &str) -> String {
    let names = names_of(publication);
    format!("({names} IS NULL OR a.attname = ANY ({names}::name[]))")
}
