//! Reads from the catalog of now what a Relation message does not say: the order of keys, nullability, defaults, and what types are.

use crate::error::Error;
use crate::source::Source;
use relay_core::catalog::{CatalogColumn, CatalogType, TypeForm};
use relay_core::{Catalog, Oid, Relation};
use relay_pgwire::{Connection, Row};
use std::collections::HashMap;

/// Types below this oid are built in: whoever reads their values knows them by number.
const FIRST_OID: u32 = 10_000;
const WHAT: &str = "the catalog's share of a table";

/// A row of `pg_type`, as far as readers of values need it.
struct TypeRow {
    oid: Oid,
    name: Box<str>,
    kind: u8,
    base: Oid,
    modifier: i32,
    element: Option<Oid>,
    delimiter: u8,
}

// === impl Source ===

impl Source {
    /// The catalog's share of this version of a table; empty where the table is gone.
    ///
    /// # Errors
    /// When the server cannot be reached, or what it says.
    pub fn read_catalog(&self, relation: &Relation) -> Result<Catalog, Error> {
        read_catalog(&mut self.connect()?, relation)
    }
}

/// As [`Source::read_catalog`], on a connection at hand, in whatever transaction it is.
///
/// # Errors
/// What the server says.
pub fn read_catalog(connection: &mut Connection, relation: &Relation) -> Result<Catalog, Error> {
    let columns = columns(connection, relation.oid)?;
    if columns.is_empty() {
        return Ok(Catalog::default());
    }
    let mut catalog = Catalog { columns, ..Catalog::default() };
    indexes(connection, relation.oid, &mut catalog)?;
    let own: Vec<Oid> = relation.columns.iter().map(|column| column.type_oid).filter(|oid| oid.0 >= FIRST_OID).collect();
    if !own.is_empty() {
        catalog.types = types(connection, &own)?;
    }
    Ok(catalog)
}

fn columns(connection: &mut Connection, table: Oid) -> Result<Vec<CatalogColumn>, Error> {
    let rows = connection.query(&format!(
        "SELECT a.attname, a.attnotnull OR EXISTS (\
           WITH RECURSIVE chain(oid) AS (\
             SELECT a.atttypid UNION ALL SELECT t.typbasetype FROM chain JOIN pg_type t ON t.oid = chain.oid WHERE t.typtype = 'd') \
           SELECT 1 FROM chain JOIN pg_type t ON t.oid = chain.oid WHERE t.typnotnull), \
         pg_get_expr(d.adbin, d.adrelid) \
         FROM pg_attribute a LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum AND a.attgenerated = '' \
         WHERE a.attrelid = {table} AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum"
    ))?;
    let column = |row: &Row| {
        Ok(CatalogColumn { name: text(row, 0)?.into(), is_nullable: text(row, 1)? != "t", default: row.get(2).map(Into::into) })
    };
    rows.iter().map(column).collect()
}

/// The three keys that a table may have, each by the columns of its index in index order.
fn indexes(connection: &mut Connection, table: Oid, catalog: &mut Catalog) -> Result<(), Error> {
    // `relname` sorts by bytes: the first index by name is the same whatever the database's collation is.
    let rows = connection.query(&format!(
        "SELECT i.indexrelid, i.indisprimary, i.indisreplident, \
         i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL, a.attname \
         FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid \
         CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY AS k(attnum, place) \
         LEFT JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum \
         WHERE i.indrelid = {table} AND (i.indisprimary OR i.indisreplident OR i.indisunique) AND k.place <= i.indnkeyatts \
         ORDER BY c.relname, i.indexrelid, k.place"
    ))?;
    for index in rows.chunk_by(|one, other| one.get(0) == other.get(0)) {
        let is = |at: usize| index.first().is_some_and(|row| row.get(at) == Some("t"));
        // An expression has no column.
        let Some(names) = index.iter().map(|row| row.get(4).map(Box::from)).collect::<Option<Vec<Box<str>>>>() else { continue };
        if is(1) {
            catalog.primary_key.clone_from(&names);
        }
        if is(2) {
            catalog.identity_index.clone_from(&names);
        }
        let is_nullable = |name: &str| catalog.column(name).is_none_or(|column| column.is_nullable);
        if is(3) && catalog.unique_index.is_empty() && !names.iter().any(|name| is_nullable(name)) {
            catalog.unique_index = names;
        }
    }
    Ok(())
}

/// These types and those that they are made of, as far as they are not built in.
fn types(connection: &mut Connection, own: &[Oid]) -> Result<Vec<CatalogType>, Error> {
    let list: Vec<String> = own.iter().map(ToString::to_string).collect();
    let rows = connection.query(&format!(
        "WITH RECURSIVE used(oid) AS (\
           SELECT unnest(ARRAY[{}]::oid[]) \
           UNION SELECT part.oid FROM used JOIN pg_type t ON t.oid = used.oid \
             CROSS JOIN LATERAL (VALUES (t.typbasetype), (t.typelem)) AS part(oid) WHERE part.oid >= {FIRST_OID}) \
         SELECT t.oid, t.typname, t.typtype, t.typbasetype, t.typtypmod, \
         CASE WHEN t.typsubscript = 'array_subscript_handler'::regproc THEN t.typelem END, t.typdelim \
         FROM used JOIN pg_type t ON t.oid = used.oid ORDER BY t.oid",
        list.join(",")
    ))?;
    let found = rows.iter().map(type_row).collect::<Result<Vec<TypeRow>, Error>>()?;
    let enums: Vec<String> = found.iter().filter(|row| row.kind == b'e').map(|row| row.oid.to_string()).collect();
    let labels = if enums.is_empty() { HashMap::new() } else { labels(connection, &enums)? };
    Ok(put_together(&found, labels))
}

fn labels(connection: &mut Connection, enums: &[String]) -> Result<HashMap<Oid, Vec<Box<str>>>, Error> {
    let rows = connection.query(&format!(
        "SELECT enumtypid, enumlabel FROM pg_enum WHERE enumtypid IN ({}) ORDER BY enumtypid, enumsortorder",
        enums.join(",")
    ))?;
    let mut labels: HashMap<Oid, Vec<Box<str>>> = HashMap::new();
    for row in &rows {
        labels.entry(Oid(number(row, 0)?)).or_default().push(text(row, 1)?.into());
    }
    Ok(labels)
}

fn put_together(found: &[TypeRow], mut labels: HashMap<Oid, Vec<Box<str>>>) -> Vec<CatalogType> {
    let form = |row: &TypeRow| match (row.kind, row.element) {
        (b'd', _) => {
            let (base, modifier) = base_of(found, row);
            TypeForm::Domain(base, modifier)
        }
        (b'e', _) => TypeForm::Enum(labels.remove(&row.oid).unwrap_or_default()),
        (b'c', _) => TypeForm::Composite,
        (b'r' | b'm', _) => TypeForm::Range,
        (_, Some(element)) => TypeForm::Array(element, row.delimiter),
        _ => TypeForm::Plain,
    };
    let mut form = form;
    found.iter().map(|row| CatalogType { oid: row.oid, name: row.name.clone(), form: form(row) }).collect()
}

/// What a domain stands for at the end of the chain. Only the last domain of it can have a modifier.
fn base_of(found: &[TypeRow], domain: &TypeRow) -> (Oid, i32) {
    let mut last = domain;
    // A chain has no more links than there are types.
    for _ in found {
        match found.iter().find(|row| row.oid == last.base && row.kind == b'd') {
            Some(next) => last = next,
            None => break,
        }
    }
    (last.base, last.modifier)
}

fn type_row(row: &Row) -> Result<TypeRow, Error> {
    let byte = |at: usize| text(row, at).and_then(|text| text.bytes().next().ok_or(Error::Answer { query: WHAT }));
    Ok(TypeRow {
        oid: Oid(number(row, 0)?),
        name: text(row, 1)?.into(),
        kind: byte(2)?,
        base: Oid(number(row, 3)?),
        modifier: number(row, 4)?,
        element: row.get(5).map(|_| number(row, 5).map(Oid)).transpose()?,
        delimiter: byte(6)?,
    })
}

fn text(row: &Row, at: usize) -> Result<&str, Error> {
    row.get(at).ok_or(Error::Answer { query: WHAT })
}

fn number<T: std::str::FromStr>(row: &Row, at: usize) -> Result<T, Error> {
    text(row, at)?.parse().map_err(|_| Error::Answer { query: WHAT })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(oid: u32, kind: u8, base: u32, modifier: i32, element: Option<u32>) -> TypeRow {
        let element = element.map(Oid);
        TypeRow { oid: Oid(oid), name: format!("t{oid}").into(), kind, base: Oid(base), modifier, element, delimiter: b',' }
    }

    #[test]
    fn a_domain_over_domains_is_its_base_with_the_modifier_of_the_last() {
        let found = [
            row(20_000, b'd', 20_001, -1, None),
            row(20_001, b'd', 1_700, 327_686, None),
            row(20_002, b'b', 0, -1, Some(20_000)),
            row(20_003, b'e', 0, -1, None),
            row(20_004, b'd', 20_004, 7, None),
        ];
        let labels = HashMap::from([(Oid(20_003), vec!["b".into(), "a".into()])]);
        let types = put_together(&found, labels);
        let forms: Vec<_> = types.iter().map(|found| found.form.clone()).collect();
        assert_eq!(
            forms,
            [
                TypeForm::Domain(Oid(1_700), 327_686),
                TypeForm::Domain(Oid(1_700), 327_686),
                TypeForm::Array(Oid(20_000), b','),
                TypeForm::Enum(vec!["b".into(), "a".into()]),
                TypeForm::Domain(Oid(20_004), 7),
            ]
        );
    }
}
