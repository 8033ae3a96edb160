//! Captured tables: their `[[capture]]`, and the SQL about tables that only the server can name.

use super::Wish;
use crate::settings::quoted;
use relay_encode::{CaptureSettings, Captures, FormatSettings, sql};

/// Keys of the section with their defaults.
const KEYS: &str = r#"#exclude = []
# "debezium" (its envelope), "flat" (the row) or "cloudevents".
#format = "debezium"
#topic = "{prefix}.{schema}.{table}"
# Columns of the record key; [] = primary key or replica identity.
#key = []
# "truncate" can be added.
#operations = ["insert", "update", "delete"]
#filter = ""
[capture.columns]
# schema.table.column with globs.
#exclude = []
#mask = {}                                  # "public.users.email" = "sha256:salt"

[snapshot]
# Rows that are there already: "initial", "never", "always" or "only".
#mode = "initial"
#threads = 1

[format]
# "debezium" leaves out what relay does otherwise, byte for byte: docs/captures.md.
#compat = "relay"
#schemas = false
#decimal = "precise"
#time = "adaptive"
"#;

/// What a server would refuse.
const IDENTITY: &str = "-- Nothing may update or delete in a published table without primary key or REPLICA IDENTITY FULL.\n";

/// The section of the configuration.
pub(super) fn section(wish: &Wish) -> String {
    let tables: Vec<String> = wish.captures.iter().map(|table| quoted(table)).collect();
    format!(
        "# Changes of plain tables, and first the rows that they hold.\n[[capture]]\ntables = [{}]\n{KEYS}\n",
        tables.join(", ")
    )
}

/// What relay may do with the tables, each statement or query on lines of its own.
pub(super) fn rights(role: &str, tables: &[String]) -> String {
    if !has_globs(tables) {
        return sql::grants_sql(role, &tables.iter().map(String::as_str).collect::<Vec<_>>());
    }
    let (role, matches) = (relay_pgwire::quote_literal(role), matches(tables));
    format!(
        "-- psql runs what these queries print, for the tables of now.\n\
         SELECT DISTINCT format('GRANT USAGE ON SCHEMA %I TO %I;', n.nspname, {role}){matches}\n\\gexec\n\
         SELECT format('GRANT SELECT ON %I.%I TO %I;', n.nspname, c.relname, {role}){matches} ORDER BY 1\n\\gexec\n"
    )
}

/// The publication of inserts, updates and deletes.
pub(super) fn publication(name: &str, tables: &[String]) -> String {
    let with = |operations: &str| format!("WITH (publish = {operations}, publish_via_partition_root = true);");
    if !has_globs(tables) {
        let tables: Vec<String> = tables.iter().map(|table| sql::qualified(table)).collect();
        return format!(
            "{IDENTITY}CREATE PUBLICATION {} FOR TABLE {} {}\n",
            sql::identifier(name),
            tables.join(", "),
            with("'insert, update, delete'")
        );
    }
    format!(
        "{IDENTITY}SELECT format('CREATE PUBLICATION %I FOR TABLE %s {}', {},\n  \
         string_agg(format('%I.%I', n.nspname, c.relname), ', ' ORDER BY n.nspname, c.relname)){} \
         AND NOT c.relispartition HAVING count(*) > 0\n\\gexec\n",
        with("''insert, update, delete''"),
        relay_pgwire::quote_literal(name),
        matches(tables)
    )
}

/// Whether a table is captured.
pub(super) fn wanted(tables: &[String]) -> relay_postgres::Wanted {
    let settings = CaptureSettings { tables: tables.to_vec(), ..CaptureSettings::default() };
    let captures = Captures::new(vec![settings], &FormatSettings::default());
    std::sync::Arc::new(move |name: &str| captures.as_ref().is_ok_and(|captures| captures.names_table(name)))
}

/// The statements and queries of a step, in order; of a query it is true that what it prints is to be run.
pub(super) fn parts(sql: &str) -> impl Iterator<Item = (&str, bool)> {
    let mut rest = sql;
    std::iter::from_fn(move || {
        let (part, is_query) = match rest.split_once("\\gexec\n") {
            Some((query, behind)) => {
                rest = behind;
                (query, true)
            }
            None => (std::mem::take(&mut rest), false),
        };
        (!part.trim().is_empty()).then_some((part, is_query))
    })
}

fn has_globs(tables: &[String]) -> bool {
    tables.iter().any(|table| table.contains('*'))
}

/// FROM and WHERE of the tables that the globs take.
fn matches(tables: &[String]) -> String {
    let pattern = |table: &String| {
        let escaped = table.replace('\\', "\\\\").replace('_', "\\_").replace('%', "\\%").replace('*', "%");
        relay_pgwire::quote_literal(&escaped)
    };
    let patterns: Vec<String> = tables.iter().map(pattern).collect();
    format!(
        "\nFROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace\n\
         WHERE c.relkind IN ('r', 'p') AND c.relpersistence = 'p' AND n.nspname NOT IN ('pg_catalog', 'information_schema')\n  \
         AND n.nspname || '.' || c.relname LIKE ANY (ARRAY[{}])",
        patterns.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_by_name_need_no_query_and_globs_do() {
        let by_name = ["public.users".to_owned(), "Shop.Order".to_owned()];
        assert!(
            rights("relay", &by_name)
                .contains("GRANT USAGE ON SCHEMA \"Shop\" TO relay;\nGRANT SELECT ON public.users TO relay;\n")
        );
        let sql = publication("relay_shop", &by_name);
        assert!(sql.contains("FOR TABLE public.users, \"Shop\".\"Order\" WITH (publish = 'insert, update, delete', "), "{sql}");
        assert_eq!(parts(&sql).map(|(_, is_query)| is_query).collect::<Vec<_>>(), [false]);
        let globs = ["public.order_*".to_owned()];
        assert_eq!(parts(&rights("relay", &globs)).map(|(_, is_query)| is_query).collect::<Vec<_>>(), [true, true]);
        assert!(publication("p", &globs).contains("LIKE ANY (ARRAY["), "{}", publication("p", &globs));
    }
}
