//! The settings of relay that mean what a set's options of Debezium mean.

use super::sets::{Cases, Set};
use relay_tests::postgres::Postgres;

/// Columns and masks of the changes, as [`super::record`] gives them to Debezium.
const COLUMNS: &str = r#"
columns.exclude = ["changes.masked.hidden"]
[capture.columns.mask]
"changes.masked.card" = "stars:3"
"changes.masked.note" = "truncate:4"
"changes.masked.blank" = "truncate:0"
"changes.masked.secret" = "sha256:pepper"
"changes.masked.short" = "sha256:pepper"
"#;

// === impl Set ===

impl Set {
    fn option(&self, name: &str) -> Option<&'static str> {
        self.options.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
    }

    /// `relay.toml` without its server: `compat`, and topics that begin with `prefix`.
    pub(crate) fn toml(&self, db: &Postgres, compat: &str, prefix: &str) -> String {
        let publication = self.option("publication.name").unwrap_or(match self.cases {
            Cases::Types => "dbz_types",
            Cases::Changes => "dbz_changes",
        });
        let messages = match self.cases {
            Cases::Types => "",
            Cases::Changes => "source.log.messages = [\"*\"]\nsource.log.nontransactional_messages = true",
        };
        let mut toml = format!(
            "source.log.publication = {publication:?}\n{messages}\nsink.kafka.partitions = 1\ndelivery.on_poison = \"dlq\"\n\
             [format]\ncompat = {compat:?}\ntopic_prefix = {prefix:?}\nsource_version = \"3.7.0.Final\"\n"
        );
        if compat == "relay" {
            toml.push_str("cloudevents_source = \"/relay/srv\"\n");
        }
        let words = [
            ("decimal.handling.mode", "decimal"),
            ("time.precision.mode", "time"),
            ("interval.handling.mode", "interval"),
            ("binary.handling.mode", "binary"),
            ("hstore.handling.mode", "hstore"),
        ];
        for (option, key) in words {
            if let Some(value) = self.option(option) {
                let value = if value == "adaptive_time_microseconds" { "adaptive-microseconds" } else { value };
                toml.push_str(&format!("{key} = {value:?}\n"));
            }
        }
        let switches = [
            ("value.converter.schemas.enable", "schemas"),
            ("provide.transaction.metadata", "transaction_metadata"),
            ("tombstones.on.delete", "tombstones"),
        ];
        for (option, key) in switches {
            if let Some(value) = self.option(option) {
                toml.push_str(&format!("{key} = {value}\n"));
            }
        }
        toml + &self.captures(db)
    }

    fn captures(&self, db: &Postgres) -> String {
        let schema = if self.cases == Cases::Types { "types" } else { "changes" };
        let named = |stem: &&str| format!("\"{schema}.{stem}\", \"{schema}.{stem}_*\"");
        let tables: Vec<String> = self.families.iter().map(named).collect();
        let tables = if tables.is_empty() { format!("\"{schema}.*\"") } else { tables.join(", ") };
        let fatal: Vec<String> = self.fatal.iter().map(|table| format!("\"{schema}.{table}\"")).collect();
        let mut common = format!("exclude = [{}]\n", fatal.join(", "));
        if self.option("skipped.operations").is_some() {
            common.push_str("operations = [\"insert\", \"update\", \"delete\", \"truncate\"]\n");
        }
        if let Some(mode) = self.option("transforms.unwrap.delete.tombstone.handling.mode") {
            let list = |option: &str| self.option(option).unwrap_or_default().split(',').map(str::to_owned).collect::<Vec<_>>();
            let list = |option: &str| list(option).into_iter().filter(|name| !name.is_empty()).collect::<Vec<_>>();
            common.push_str(&format!(
                "format = \"flat\"\nflat = {{ delete = {mode:?}, add_fields = {:?}, add_headers = {:?} }}\n",
                list("transforms.unwrap.add.fields"),
                list("transforms.unwrap.add.headers")
            ));
        }
        if self.option("value.converter").is_some() {
            common.push_str("format = \"cloudevents\"\n");
        }
        if self.cases == Cases::Changes {
            common.push_str(COLUMNS);
        }
        let mut toml = String::new();
        let is_asked = |table: &str| {
            let stem = table.split('.').nth(1).and_then(|table| table.rsplit_once('_')).map_or("", |(stem, _)| stem);
            self.families.is_empty() || self.families.contains(&stem)
        };
        for (table, key) in keys(db, self.cases).into_iter().filter(|(table, _)| is_asked(table)) {
            toml.push_str(&format!("[[capture]]\ntables = [{table:?}]\nkey = {key:?}\n{common}"));
        }
        toml + &format!("[[capture]]\ntables = [{tables}]\n{common}")
    }
}

/// Tables that have no key of their own, and the columns that are to be it.
pub(crate) fn keys(db: &Postgres, cases: Cases) -> Vec<(String, Vec<String>)> {
    if cases == Cases::Changes {
        return ["changes.keyed_elsewhere", "changes.keyed_full"].map(|table| (table.to_owned(), vec!["aa".to_owned()])).to_vec();
    }
    let rows = db.sql(
        "SELECT 'types.' || relname, (SELECT string_agg(attname, ',' ORDER BY attnum) FROM pg_attribute WHERE attrelid = c.oid AND \
         attnum > 0 AND attname <> 'x') FROM pg_class c WHERE relnamespace = 'types'::regnamespace AND relkind = 'r' AND relname \
         LIKE '%\\_key' AND NOT EXISTS (SELECT FROM pg_index WHERE indrelid = c.oid) ORDER BY relname",
    );
    let text = |cell: &Option<String>| cell.clone().expect("a name");
    rows.0.iter().map(|row| (text(&row[0]), text(&row[1]).split(',').map(str::to_owned).collect())).collect()
}
