//! What the catalogs say of tables, of the server and its roles, and of others who publish.

use super::{Asked, Dispatcher, Server, Table};
use crate::error::Error;
use relay_core::{Column, Oid, Relation, ReplicaIdentity};
use relay_pgwire::{Connection, Row, quote_literal};
use std::collections::BTreeMap;

/// Tables that frameworks make beside their outbox, by schema (any where empty) and name.
const TRACES: [(&str, &str, &str); 5] = [
    ("", "outbox_kafka_lock", "the processor of tomorrow-one's transactional-outbox"),
    ("", "outbox_instance", "namastack's outbox"),
    ("", "OutboxState", "MassTransit"),
    ("cap", "received", "CAP"),
    ("", "wolverine_nodes", "Wolverine"),
];

pub(super) fn server(connection: &mut Connection, asked: &Asked, major: u32) -> Result<Server, Error> {
    let (role, name) = (quote_literal(&asked.role), quote_literal(&asked.publication));
    let sql = format!(
        "SELECT current_setting('server_version'), current_setting('wal_level'), pg_is_in_recovery(), current_database(), \
         current_user, me.rolsuper, me.rolreplication, has_database_privilege(current_database(), 'CREATE'), \
         it.rolsuper OR it.rolcanlogin AND it.rolreplication, \
         EXISTS (SELECT FROM pg_publication WHERE pubname = {name}), \
         EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = {name}), \
         EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
                 WHERE n.nspname = 'public' AND c.relname = 'outbox') \
         FROM pg_roles me LEFT JOIN pg_roles it ON it.rolname = {role} WHERE me.rolname = current_user"
    );
    const WHAT: &str = "who the server and the roles are";
    let rows = connection.query(&sql)?;
    let row = rows.first().ok_or(Error::Answer { query: WHAT })?;
    let text = |at: usize| row.get(at).unwrap_or_default().to_owned();
    let holds = |at: usize| row.get(at) == Some("t");
    Ok(Server {
        version: text(0),
        major,
        wal_level: text(1),
        is_standby: holds(2),
        database: text(3),
        role: text(4),
        is_superuser: holds(5),
        may_replicate: holds(5) || holds(6),
        may_create: holds(7),
        relay_may_replicate: row.get(8).map(|may| may == "t"),
        has_publication: holds(9),
        has_slot: holds(10),
        has_outbox: holds(11),
    })
}

/// Ordinary and partitioned tables; no system's, no extension's but pgmq's queues, no leaves.
pub(super) fn tables(connection: &mut Connection, asked: &Asked) -> Result<Vec<Table>, Error> {
    let role = quote_literal(&asked.role);
    let only = asked
        .table
        .as_ref()
        .map_or_else(String::new, |table| format!(" AND lower(n.nspname || '.' || c.relname) = lower({})", quote_literal(table)));
    let sql = format!(
        "SELECT c.oid, n.nspname, c.relname, c.relkind = 'p', c.relpersistence = 'u', c.relrowsecurity, \
         pg_get_userbyid(c.relowner), has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT'), \
         has_schema_privilege(r.oid, n.oid, 'USAGE') AND has_table_privilege(r.oid, c.oid, 'SELECT'), \
         (SELECT json_agg(json_build_array(a.attname, format_type(a.atttypid, a.atttypmod), a.atttypid::bigint, a.atttypmod) \
            ORDER BY a.attnum) FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped), \
         (SELECT json_agg(DISTINCT a.attname) FROM pg_index i JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = i.indkey[0] \
            WHERE i.indrelid = c.oid AND i.indisvalid), \
         (SELECT json_agg(t.tgname ORDER BY t.tgname) FROM pg_trigger t WHERE t.tgrelid = c.oid AND NOT t.tgisinternal) \
         FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace LEFT JOIN pg_roles r ON r.rolname = {role} \
         WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relpersistence <> 't' \
         AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_(toast|temp)' \
         AND (n.nspname = 'pgmq' AND c.relname LIKE 'q\\_%' OR NOT EXISTS (SELECT FROM pg_depend d \
              WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.objsubid = 0 AND d.deptype = 'e')){only} \
         ORDER BY 2, 3"
    );
    let published = published(connection)?;
    connection.query(&sql)?.iter().map(|row| table(row, &published)).collect()
}

type ColumnRow = (String, String, u32, i32);
type Published = BTreeMap<(String, String), Vec<String>>;

fn table(row: &Row, published: &Published) -> Result<Table, Error> {
    const WHAT: &str = "the tables";
    let text = |at: usize| row.get(at).unwrap_or_default().to_owned();
    let holds = |at: usize| row.get(at) == Some("t");
    let broken = || Error::Answer { query: WHAT };
    let names = |at: usize| -> Result<Vec<String>, Error> {
        row.get(at).map(serde_json::from_str).transpose().map_err(|_| broken()).map(Option::unwrap_or_default)
    };
    let columns: Vec<ColumnRow> = row.get(9).map(serde_json::from_str).transpose().map_err(|_| broken())?.unwrap_or_default();
    let (schema, name) = (text(1), text(2));
    let relation = Relation {
        oid: row.get(0).and_then(|oid| oid.parse().ok()).map(Oid).ok_or_else(broken)?,
        schema: schema.as_str().into(),
        name: name.as_str().into(),
        identity: ReplicaIdentity::Default,
        columns: columns
            .iter()
            .map(|(name, _, oid, modifier)| Column {
                name: name.as_str().into(),
                type_oid: Oid(*oid),
                type_modifier: *modifier,
                type_name: None,
                is_key: false,
            })
            .collect(),
    };
    Ok(Table {
        types: columns.into_iter().map(|(name, kind, ..)| (name, kind)).collect(),
        relation,
        is_partitioned: holds(3),
        is_unlogged: holds(4),
        has_row_security: holds(5),
        owner: text(6),
        may_select: holds(7),
        relay_may_select: holds(8),
        indexed: names(10)?,
        triggers: names(11)?,
        publications: published.get(&(schema, name)).cloned().unwrap_or_default(),
    })
}

/// The publications of each table; a leaf that is sent under its own name counts for its root.
fn published(connection: &mut Connection) -> Result<Published, Error> {
    let rows = connection.query(
        "SELECT DISTINCT rn.nspname, r.relname, p.pubname FROM pg_publication_tables p \
         JOIN pg_namespace n ON n.nspname = p.schemaname JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = p.tablename \
         JOIN pg_class r ON r.oid = coalesce(pg_partition_root(c.oid), c.oid) JOIN pg_namespace rn ON rn.oid = r.relnamespace \
         ORDER BY 1, 2, 3",
    )?;
    let mut published = Published::new();
    for row in &rows {
        if let (Some(schema), Some(table), Some(publication)) = (row.get(0), row.get(1), row.get(2)) {
            published.entry((schema.to_owned(), table.to_owned())).or_default().push(publication.to_owned());
        }
    }
    Ok(published)
}

/// Lock and lease tables, slots and publications of others who publish rows.
pub(crate) fn dispatchers(connection: &mut Connection) -> Result<Vec<Dispatcher>, Error> {
    let names: Vec<String> = TRACES.iter().map(|(_, table, _)| quote_literal(table)).collect();
    let rows = connection.query(&format!(
        "SELECT 'table', n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
         WHERE c.relkind IN ('r', 'p') AND c.relname IN ({}) \
         UNION ALL SELECT 'slot', '', slot_name FROM pg_replication_slots WHERE database = current_database() \
         UNION ALL SELECT 'publication', '', pubname FROM pg_publication ORDER BY 1, 2, 3",
        names.join(", ")
    ))?;
    let seen = |row: &Row| {
        let (kind, schema, name) = (row.get(0)?, row.get(1)?, row.get(2)?);
        whose(kind, schema, name).map(|whose| Dispatcher {
            seen: if schema.is_empty() { format!("{kind} {name}") } else { format!("{kind} {schema}.{name}") },
            table: (kind == "table").then(|| (schema.to_owned(), name.to_owned())),
            whose,
        })
    };
    Ok(rows.iter().filter_map(seen).collect())
}

fn whose(kind: &str, schema: &str, name: &str) -> Option<&'static str> {
    match kind {
        "table" => TRACES
            .iter()
            .find(|(its_schema, table, _)| *table == name && (its_schema.is_empty() || *its_schema == schema))
            .map(|(.., whose)| *whose),
        "slot" if name.starts_with("eventuate_slot") => Some("Eventuate's CDC"),
        "slot" if name == "debezium" => Some("Debezium"),
        "publication" if name == "dbz_publication" => Some("Debezium"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dispatchers_are_known_by_what_they_leave() {
        assert_eq!(whose("table", "cap", "received"), Some("CAP"));
        assert_eq!(whose("table", "public", "received"), None);
        assert_eq!(whose("table", "shop", "OutboxState"), Some("MassTransit"));
        assert_eq!(whose("slot", "", "eventuate_slot2"), Some("Eventuate's CDC"));
        assert_eq!(whose("publication", "", "dbz_publication"), Some("Debezium"));
        assert_eq!(whose("slot", "", "relay_orders"), None);
    }
}
