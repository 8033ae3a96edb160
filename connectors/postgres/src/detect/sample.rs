//! A few rows of a table, to tell variants of a layout apart; they are shown to nobody.

use super::Table;
use crate::error::Error;
use relay_pgwire::{Connection, Row, quote_identifier};
use std::fmt;

/// Rows, each with the columns asked for as text. `Debug` shows how many there are and nothing of them.
#[derive(Clone, Default)]
pub struct Samples(Vec<Vec<Option<String>>>);

/// More would not make the choice surer.
const ROWS: usize = 5;
/// A larger value says no more, and would have to be fetched.
const VALUE_BYTES_MAX: usize = 1 << 20;
/// Up to here the newest rows are looked for without an index.
const TABLE_BYTES_MAX: u64 = 64 << 20;

// === impl Samples ===

impl Samples {
    /// Whether there was no row.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The values of a column, by its place among those asked for; without NULLs.
    pub fn values(&self, at: usize) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(move |row| row.get(at)?.as_deref())
    }
}

impl fmt::Debug for Samples {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Samples({} rows)", self.0.len())
    }
}

pub(super) fn read(connection: &mut Connection, table: &Table, columns: &[&str]) -> Result<Samples, Error> {
    connection.execute("SAVEPOINT look")?;
    let rows = match rows(connection, table, columns) {
        Ok(rows) => rows,
        Err(error) => {
            connection.execute("ROLLBACK TO SAVEPOINT look")?;
            return Err(error);
        }
    };
    connection.execute("RELEASE SAVEPOINT look")?;
    let is_hex: Vec<bool> = columns.iter().map(|column| is_bytea(table, column)).collect();
    let value =
        |(at, value): (usize, Option<String>)| if is_hex.get(at) == Some(&true) { value.map(|hex| decoded(&hex)) } else { value };
    Ok(Samples(rows.into_iter().map(|row| row.into_values().into_iter().enumerate().map(value).collect()).collect()))
}

fn rows(connection: &mut Connection, table: &Table, columns: &[&str]) -> Result<Vec<Row>, Error> {
    let mut order = indexed(table);
    // What a root's leaves weigh is not asked for.
    if order.is_none() && !table.is_partitioned {
        let size = connection.query(&format!("SELECT pg_relation_size({})", table.relation.oid))?;
        let bytes = size.first().and_then(|row| row.get(0)?.parse::<u64>().ok());
        order = growing(table).filter(|_| bytes.is_some_and(|bytes| bytes <= TABLE_BYTES_MAX));
    }
    Ok(connection.query(&query(table, columns, order))?)
}

fn query(table: &Table, columns: &[&str], order: Option<&str>) -> String {
    let value = |column: &&str| {
        let name = quote_identifier(column);
        let text = if is_bytea(table, column) { format!("encode({name}, 'hex')") } else { format!("{name}::text") };
        format!("CASE WHEN octet_length({text}) <= {VALUE_BYTES_MAX} THEN {text} END")
    };
    let list: Vec<String> = columns.iter().map(value).collect();
    let order = order.map_or_else(String::new, |column| format!(" ORDER BY {} DESC", quote_identifier(column)));
    let (schema, name) = (quote_identifier(&table.relation.schema), quote_identifier(&table.relation.name));
    format!("SELECT {} FROM {schema}.{name}{order} LIMIT {ROWS}", list.join(", "))
}

fn is_bytea(table: &Table, column: &str) -> bool {
    table.types.iter().any(|(known, kind)| known == column && kind == "bytea")
}

/// Bytes that are no text come as something that is no JSON either.
fn decoded(hex: &str) -> String {
    let digit = |byte: u8| char::from(byte).to_digit(16).unwrap_or(0) as u8;
    let bytes: Vec<u8> = hex.as_bytes().chunks_exact(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A column that grows with time.
fn grows(kind: &str) -> bool {
    matches!(kind, "bigint" | "integer" | "xid8") || kind.starts_with("timestamp")
}

/// Such a column that an index begins with.
fn indexed(table: &Table) -> Option<&str> {
    let takes = |(name, kind): &&(String, String)| grows(kind) && table.indexed.contains(name);
    table.types.iter().find(takes).map(|(name, _)| name.as_str())
}

/// Such a column, a time before a number.
fn growing(table: &Table) -> Option<&str> {
    let time = table.types.iter().find(|(_, kind)| kind.starts_with("timestamp"));
    time.or_else(|| table.types.iter().find(|(_, kind)| grows(kind))).map(|(name, _)| name.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use relay_core::{Oid, Relation, ReplicaIdentity};

    fn table(types: &[(&str, &str)], indexed: &[&str]) -> Table {
        Table {
            types: types.iter().map(|(name, kind)| ((*name).to_owned(), (*kind).to_owned())).collect(),
            relation: Relation {
                oid: Oid(1),
                schema: "Shop".into(),
                name: "out box".into(),
                identity: ReplicaIdentity::Default,
                columns: Vec::new(),
            },
            is_partitioned: false,
            is_unlogged: false,
            has_row_security: false,
            triggers: Vec::new(),
            publications: Vec::new(),
            indexed: indexed.iter().map(|name| (*name).to_owned()).collect(),
            owner: String::new(),
            may_select: true,
            relay_may_select: false,
        }
    }

    #[test]
    fn the_newest_rows_come_by_an_index_or_from_a_small_table() {
        let types = [("id", "uuid"), ("seq", "bigint"), ("created_at", "timestamp with time zone"), ("payload", "bytea")];
        assert_eq!(indexed(&table(&types, &["id", "seq"])), Some("seq"));
        assert_eq!((indexed(&table(&types, &["id"])), growing(&table(&types, &[]))), (None, Some("created_at")));
        let sql = query(&table(&types, &[]), &["payload", "id"], Some("seq"));
        assert!(sql.ends_with(" FROM \"Shop\".\"out box\" ORDER BY \"seq\" DESC LIMIT 5"), "{sql}");
        assert!(sql.contains("encode(\"payload\", 'hex')") && sql.contains("\"id\"::text"), "{sql}");
        assert_eq!(decoded("7b2261225c7d"), "{\"a\"\\}");
    }

    #[test]
    fn nothing_of_a_row_is_shown() {
        let samples = Samples(vec![vec![Some("canary".to_owned()), None]]);
        assert_eq!(format!("{samples:?}"), "Samples(1 rows)");
        assert_eq!((samples.values(0).collect::<Vec<_>>(), samples.values(1).count()), (vec!["canary"], 0));
    }
}
