//! SQL text for `relay init` and `relay preset sql`: tables, publication, role and rights. Nothing here touches a server.

use crate::error::RouteError;
use crate::poll::{AfterPublish, Order};
use crate::preset::Preset;
use crate::settings::Mode;
use std::fmt::Write;

/// Before PostgreSQL 18 there is no `uuidv7()`.
const UUIDV7_FUNCTION: &str = "\
CREATE FUNCTION relay_uuidv7() RETURNS uuid LANGUAGE sql VOLATILE AS $$
  SELECT encode(set_byte(b, 6, get_byte(b, 6) & 15 | 112), 'hex')::uuid
  FROM (SELECT substr(int8send((extract(epoch FROM clock_timestamp()) * 1000)::bigint), 3, 6)
               || substr(uuid_send(gen_random_uuid()), 7, 10) AS b) t
$$;

";

/// Words that cannot stand as a table or column name without quotes.
const RESERVED: &[&str] = &[
    "all",
    "analyse",
    "analyze",
    "and",
    "any",
    "array",
    "as",
    "asc",
    "both",
    "case",
    "cast",
    "check",
    "collate",
    "column",
    "constraint",
    "create",
    "default",
    "desc",
    "distinct",
    "do",
    "else",
    "end",
    "except",
    "false",
    "fetch",
    "for",
    "foreign",
    "from",
    "grant",
    "group",
    "having",
    "in",
    "initially",
    "intersect",
    "into",
    "lateral",
    "leading",
    "limit",
    "not",
    "null",
    "offset",
    "on",
    "only",
    "or",
    "order",
    "placing",
    "primary",
    "references",
    "returning",
    "select",
    "some",
    "symmetric",
    "table",
    "then",
    "to",
    "trailing",
    "true",
    "union",
    "unique",
    "user",
    "using",
    "variadic",
    "when",
    "where",
    "window",
    "with",
];

/// CREATE TABLE for a preset; `None` when it needs no table. `table` is raw text, `schema.table` or `table`.
#[must_use]
pub fn table_sql(preset: &Preset, table: &str, server_major: u32) -> Option<String> {
    let text = preset.table_sql?;
    let needs_function = text.contains("{uuid}") && server_major < 18;
    let uuid = if server_major < 18 { "relay_uuidv7" } else { "uuidv7" };
    let text = text
        .replace("{table}", &qualified(table))
        .replace("{table_default}", &qualified(&format!("{table}_default")))
        .replace("{uuid}", uuid);
    Some(if needs_function { format!("{UUIDV7_FUNCTION}{text}") } else { text })
}

/// What `relay preset sql` is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SqlOptions {
    /// Table, `schema.table`; the preset's own where `None`.
    pub table: Option<String>,
    /// relay's role.
    pub role: String,
    /// The application's role, which may emit messages.
    pub application_role: String,
    /// Publication and slot.
    pub publication: String,
    /// How relay reads.
    pub mode: Mode,
    /// Major version of the server.
    pub server_major: u32,
}

/// Everything that a preset needs on the server: table, grants, and for the log publication and slot, for polling index and columns.
///
/// # Errors
/// A preset that cannot be polled.
pub fn preset_sql(preset: &Preset, options: &SqlOptions) -> Result<String, RouteError> {
    if options.mode == Mode::Poll && !preset.no_poll.is_empty() {
        return Err(RouteError::conflict("preset", format!("`{}` cannot be polled: {}", preset.name, preset.no_poll)));
    }
    let settings = preset.settings()?;
    let (role, publication) = (options.role.as_str(), options.publication.as_str());
    let Some(table) = options.table.clone().or_else(|| settings.table.as_deref().map(example)) else {
        let mut sql = message_grants_sql(&options.application_role, options.server_major);
        sql.push_str(&publication_sql(publication, &[]));
        sql.push_str(&slot_sql(publication));
        return Ok(sql);
    };
    let mut sql = table_sql(preset, &table, options.server_major).unwrap_or_default();
    sql.push('\n');
    if options.mode == Mode::Log {
        sql.push_str(&grants_sql(role, &[&table]));
        sql.push_str(&publication_sql(publication, &[&table]));
        sql.push_str(&slot_sql(publication));
        return Ok(sql);
    }
    let order = settings.order.as_deref().and_then(|text| Order::parse(text).ok());
    let after = settings.after_publish.as_deref().and_then(|text| AfterPublish::parse(text).ok()).unwrap_or_default();
    sql.push_str(&polling_sql(preset, &table, order.as_ref()));
    sql.push_str(&grants_sql(role, &[&table]));
    sql.push_str(&marking_sql(role, &table, order.as_ref(), &after));
    if preset.table_sql.is_some_and(|sql| sql.contains("{table_default}")) {
        // The other partitions are reached through the outbox, by their bounds; this one has none.
        let (rest, role) = (qualified(&format!("{table}_default")), identifier(role));
        let _ = writeln!(sql, "GRANT SELECT, DELETE ON {rest} TO {role};  -- for retention");
    }
    Ok(sql)
}

/// The rights beyond SELECT that polling needs.
#[must_use]
pub fn marking_sql(role: &str, table: &str, order: Option<&Order>, after: &AfterPublish) -> String {
    let (table, role) = (qualified(table), identifier(role));
    // A row is claimed FOR UPDATE, whatever becomes of it.
    let is_claim = matches!(order, Some(Order::Claim { .. }));
    let (right, why) = match after {
        AfterPublish::Delete if is_claim => ("UPDATE, DELETE", ""),
        AfterPublish::Delete => ("DELETE", ""),
        AfterPublish::Update(_) => ("UPDATE", ""),
        AfterPublish::Keep if is_claim => ("UPDATE, DELETE", "  -- as after_publish needs it"),
        AfterPublish::Keep => ("DELETE", "  -- for after_publish = \"delete\" and retention"),
    };
    format!("GRANT {right} ON {table} TO {role};{why}\n")
}

/// The index of the tick query; for a table without an xid8 column also the columns that turn it into one for order `tick`.
#[must_use]
pub fn polling_sql(preset: &Preset, table: &str, order: Option<&Order>) -> String {
    let quoted = qualified(table);
    match order {
        // Watermill's primary key is that index.
        Some(Order::Tick { xid, .. }) if preset.table_sql.is_some_and(|sql| sql.contains(&format!("PRIMARY KEY (\"{xid}\""))) => {
            String::new()
        }
        Some(Order::Tick { xid, order }) => {
            format!("CREATE INDEX ON {quoted} ({}, {});  -- for the tick query\n", identifier(xid), identifier(order))
        }
        _ => {
            let mut sql = "-- order = \"claim(…)\" needs nothing more. These columns make order = \"tick(xid, …)\" possible, which keeps\n\
                           -- each key's order and switches to and from the log; existing rows get the ALTER's own xid, without a\n\
                           -- rewrite of the table:\n"
                .to_owned();
            let _ = writeln!(sql, "ALTER TABLE {quoted} ADD COLUMN xid xid8 NOT NULL DEFAULT pg_current_xact_id();");
            let mut order = preset.serial;
            if order.is_empty() {
                order = "seq";
                let _ = writeln!(
                    sql,
                    "ALTER TABLE {quoted} ADD COLUMN seq bigint GENERATED ALWAYS AS IDENTITY;  -- rewrites the table"
                );
            }
            let _ =
                writeln!(sql, "CREATE INDEX ON {quoted} (xid, {});  -- then: order = \"tick(xid, {order})\"", identifier(order));
            sql
        }
    }
}

/// The slot, after the publication.
#[must_use]
pub fn slot_sql(slot: &str) -> String {
    format!("SELECT pg_create_logical_replication_slot({}, 'pgoutput');\n", crate::poll::sql_literal(slot))
}

/// A table that a preset's glob takes; a name without a star is itself.
#[must_use]
pub fn example(glob: &str) -> String {
    let (head, _) = glob.split_once('*').unwrap_or((glob, ""));
    if head.ends_with('_') && head.len() < glob.len() { format!("{head}orders") } else { head.to_owned() }
}

/// What puts more tables into a publication that exists.
#[must_use]
pub fn add_to_publication_sql(publication: &str, tables: &[&str]) -> String {
    let tables: Vec<String> = tables.iter().map(|table| qualified(table)).collect();
    format!("ALTER PUBLICATION {} ADD TABLE {};\n", identifier(publication), tables.join(", "))
}

/// CREATE PUBLICATION for outbox tables alone: inserts, under the root's name. Without tables it carries messages only.
#[must_use]
pub fn publication_sql(publication: &str, tables: &[&str]) -> String {
    let tables: Vec<String> = tables.iter().map(|table| qualified(table)).collect();
    let list = if tables.is_empty() { String::new() } else { format!(" FOR TABLE {}", tables.join(", ")) };
    let name = identifier(publication);
    format!("CREATE PUBLICATION {name}{list} WITH (publish = 'insert', publish_via_partition_root = true);\n")
}

/// CREATE ROLE for relay; the password is left to the owner.
#[must_use]
pub fn role_sql(role: &str) -> String {
    format!("CREATE ROLE {} WITH LOGIN REPLICATION;  -- then \\password, or a certificate\n", identifier(role))
}

/// What relay may do with the outbox tables in log mode.
#[must_use]
pub fn grants_sql(role: &str, tables: &[&str]) -> String {
    let role = identifier(role);
    let mut schemas: Vec<&str> = tables.iter().filter_map(|table| Some(table.split_once('.')?.0)).collect();
    schemas.sort_unstable();
    schemas.dedup();
    let usage = schemas.into_iter().filter(|schema| *schema != "public");
    let usage = usage.map(|schema| format!("GRANT USAGE ON SCHEMA {} TO {role};\n", identifier(schema)));
    let select = tables.iter().map(|table| format!("GRANT SELECT ON {} TO {role};\n", qualified(table)));
    usage.chain(select).collect()
}

/// Every role may emit messages unless this is run: it leaves the right to the application's role alone.
#[must_use]
pub fn message_grants_sql(application_role: &str, server_major: u32) -> String {
    // PostgreSQL 17 added the argument `flush`, which is part of the function's identity.
    let flush = if server_major >= 17 { ", boolean" } else { "" };
    let role = identifier(application_role);
    ["text", "bytea"]
        .iter()
        .map(|content| {
            let function = format!("pg_catalog.pg_logical_emit_message(boolean, text, {content}{flush})");
            format!("REVOKE EXECUTE ON FUNCTION {function} FROM PUBLIC;\nGRANT EXECUTE ON FUNCTION {function} TO {role};\n")
        })
        .collect()
}

/// An identifier, quoted where SQL needs it.
#[must_use]
pub fn identifier(name: &str) -> String {
    let mut bytes = name.bytes();
    let starts_plain = bytes.next().is_some_and(|byte| byte.is_ascii_lowercase() || byte == b'_');
    let is_plain = starts_plain && bytes.all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    if is_plain && !RESERVED.contains(&name) { name.to_owned() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}

/// `schema.table` with each part quoted where needed; the first dot divides.
#[must_use]
pub fn qualified(table: &str) -> String {
    match table.split_once('.') {
        Some((schema, table)) => format!("{}.{}", identifier(schema), identifier(table)),
        None => identifier(table),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_relay_table_on_18_and_before() {
        let preset = Preset::find("relay").expect("known");
        let new = table_sql(preset, "public.outbox", 18).expect("a table");
        assert!(new.starts_with("CREATE TABLE public.outbox (\n") && new.contains("DEFAULT uuidv7(),"));
        assert!(new.contains("CREATE TABLE public.outbox_default PARTITION OF public.outbox DEFAULT;"));
        let old = table_sql(preset, "Shop.Order", 17).expect("a table");
        assert!(old.starts_with("CREATE FUNCTION relay_uuidv7()") && old.contains("DEFAULT relay_uuidv7(),"));
        assert!(old.contains("CREATE TABLE \"Shop\".\"Order\" ("));
        assert!(!old.contains('{') || old.contains("'{}'"));
        let debezium = table_sql(Preset::find("debezium").expect("known"), "outboxevent", 14).expect("a table");
        assert!(debezium.starts_with("CREATE TABLE outboxevent (") && !debezium.contains("FUNCTION"));
        assert_eq!(table_sql(Preset::find("wal-message").expect("known"), "x", 18), None);
    }

    #[test]
    fn a_preset_prints_what_its_mode_needs() {
        let sql = |name: &str, mode: Mode| {
            let options = SqlOptions {
                table: None,
                role: "relay".to_owned(),
                application_role: "app".to_owned(),
                publication: "relay_orders".to_owned(),
                mode,
                server_major: 18,
            };
            preset_sql(Preset::find(name).expect("known"), &options)
        };
        let log = sql("pgmq", Mode::Log).expect("log");
        assert!(
            log.contains("CREATE TABLE pgmq.q_orders (")
                && log.contains("CREATE PUBLICATION relay_orders FOR TABLE pgmq.q_orders")
        );
        assert!(log.contains("pg_create_logical_replication_slot('relay_orders', 'pgoutput')"));
        let poll = sql("eventuate-tram", Mode::Poll).expect("poll");
        assert!(poll.contains("ALTER TABLE eventuate.message ADD COLUMN xid xid8 NOT NULL DEFAULT pg_current_xact_id();"));
        assert!(poll.contains("ADD COLUMN seq bigint") && poll.contains("GRANT UPDATE ON eventuate.message TO relay;"));
        assert!(!poll.contains("PUBLICATION"));
        let serial = sql("goharvest", Mode::Poll).expect("poll");
        assert!(serial.contains("(xid, id)") && !serial.contains("ADD COLUMN seq"));
        assert!(sql("relay", Mode::Poll).expect("poll").contains("CREATE INDEX ON public.outbox (xid, seq)"));
        assert!(sql("relay", Mode::Poll).expect("poll").contains("GRANT SELECT, DELETE ON public.outbox_default TO relay;"));
        assert!(!sql("watermill", Mode::Poll).expect("poll").contains("CREATE INDEX"));
        assert!(sql("debezium-quarkus", Mode::Poll).is_err() && sql("wal-message", Mode::Poll).is_err());
        assert!(sql("wal-message", Mode::Log).expect("log").contains("REVOKE EXECUTE"));
    }

    #[test]
    fn publication_role_and_rights() {
        assert_eq!(
            publication_sql("relay_orders", &["public.outbox", "s.user"]),
            "CREATE PUBLICATION relay_orders FOR TABLE public.outbox, s.\"user\" \
             WITH (publish = 'insert', publish_via_partition_root = true);\n"
        );
        assert_eq!(
            grants_sql("relay", &["s.a", "outbox"]),
            "GRANT USAGE ON SCHEMA s TO relay;\nGRANT SELECT ON s.a TO relay;\nGRANT SELECT ON outbox TO relay;\n"
        );
        assert!(message_grants_sql("app", 17).contains("(boolean, text, bytea, boolean) FROM PUBLIC"));
        assert!(message_grants_sql("app", 16).contains("(boolean, text, text) TO app"));
        assert!(role_sql("a\"b").starts_with("CREATE ROLE \"a\"\"b\" WITH LOGIN REPLICATION;"));
    }
}
