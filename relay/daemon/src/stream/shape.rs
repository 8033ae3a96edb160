//! Tells people how a table's shape changed while its rows are streamed. Nothing stops by it: events follow the log.

use relay_core::catalog::CatalogColumn;
use relay_core::{Catalog, Column, Relation};

/// Logs the differences between two shapes of one table, if there are any that matter to readers.
pub(super) fn tell(before: &Relation, now: &Relation) {
    let hint = "events follow the log: those of rows written before the change have the old shape, those after it the new one";
    warn(now, hint, &differences(before, now));
}

/// Logs what the catalog says anew of a table whose shape is the same; whether that is anything.
pub(super) fn tell_catalog(table: &Relation, before: &Catalog, now: &Catalog) -> bool {
    let changes = catalog_differences(before, now);
    warn(table, "rows written before the change may have been published by what the catalog said after it", &changes);
    !changes.is_empty()
}

fn warn(table: &Relation, hint: &str, changes: &[String]) {
    if !changes.is_empty() {
        tracing::warn!(event = "table.changed", table = %table, hint, "{table}: {}", changes.join("; "));
    }
}

/// What the catalog says anew, in words.
fn catalog_differences(before: &Catalog, now: &Catalog) -> Vec<String> {
    let mut changes = Vec::new();
    if before.primary_key != now.primary_key {
        let key = |key: &[Box<str>]| if key.is_empty() { "none".to_owned() } else { format!("`{}`", key.join("`, `")) };
        changes.push(format!("has another primary key: {}, it was {}", key(&now.primary_key), key(&before.primary_key)));
    }
    let mut differ = |what: &str, is_same: fn(&CatalogColumn, &CatalogColumn) -> bool| {
        let is_other = |column: &&CatalogColumn| before.column(&column.name).is_some_and(|old| !is_same(old, column));
        let names: Vec<&str> = now.columns.iter().filter(is_other).map(|column| &*column.name).collect();
        if !names.is_empty() {
            changes.push(format!("has another {what} in columns `{}`", names.join("`, `")));
        }
    };
    differ("NOT NULL", |old, new| old.is_nullable == new.is_nullable);
    differ("default", |old, new| old.default == new.default);
    changes
}

/// What changed, in words.
fn differences(before: &Relation, now: &Relation) -> Vec<String> {
    let mut changes = Vec::new();
    if (&before.schema, &before.name) != (&now.schema, &now.name) {
        changes.push(format!("was renamed, it was `{before}`"));
    }
    let list = |verb: &str, columns: Vec<&str>| {
        let names: Vec<String> = columns.iter().map(|name| format!("`{name}`")).collect();
        (!names.is_empty()).then(|| format!("{verb} {}", names.join(", ")))
    };
    let lacks = |relation: &Relation, column: &&Column| relation.column(&column.name).is_none();
    let added: Vec<&Column> = now.columns.iter().filter(|column| lacks(before, column)).collect();
    let gone: Vec<&Column> = before.columns.iter().filter(|column| lacks(now, column)).collect();
    let names = |columns: &[&Column]| -> Vec<String> { columns.iter().map(|column| column.name.to_string()).collect() };
    changes.extend(list("has new columns", names(&added).iter().map(String::as_str).collect()));
    changes.extend(list("lost columns", names(&gone).iter().map(String::as_str).collect()));
    let both = |column: &Column| before.column(&column.name).and_then(|at| before.columns.get(at)).cloned();
    let retyped: Vec<&str> = now
        .columns
        .iter()
        .filter(|column| {
            both(column).is_some_and(|old| {
                (old.type_oid, old.type_modifier, &old.type_name) != (column.type_oid, column.type_modifier, &column.type_name)
            })
        })
        .map(|column| &*column.name)
        .collect();
    changes.extend(list("has another type in columns", retyped));
    let key = |relation: &Relation| -> Vec<String> {
        let mut key: Vec<String> =
            relation.columns.iter().filter(|column| column.is_key).map(|column| column.name.to_string()).collect();
        key.sort_unstable();
        key
    };
    if before.identity != now.identity {
        changes.push(format!("has replica identity {}, it had {}", now.identity.name(), before.identity.name()));
    } else if key(before) != key(now) {
        changes.push(match key(now).is_empty() {
            true => "has lost the key that its replica identity needs: the server refuses its updates and deletes".to_owned(),
            false => format!("has another key: {}", key(now).join(", ")),
        });
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;
    use relay_core::{Oid, ReplicaIdentity};

    fn relation(name: &str, identity: ReplicaIdentity, columns: &[(&str, u32, bool)]) -> Relation {
        let column = |&(name, oid, is_key): &(&str, u32, bool)| Column {
            name: name.into(),
            type_oid: Oid(oid),
            type_modifier: -1,
            type_name: None,
            is_key,
        };
        Relation {
            oid: Oid(1),
            schema: "public".into(),
            name: name.into(),
            identity,
            columns: columns.iter().map(column).collect(),
        }
    }

    #[test]
    fn what_only_the_catalog_knows_has_its_words() {
        let column = |name: &str, is_nullable, default: Option<&str>| CatalogColumn {
            name: name.into(),
            is_nullable,
            default: default.map(Into::into),
        };
        let catalog = |key: &[&str], columns: &[CatalogColumn]| Catalog {
            primary_key: key.iter().map(|&name| name.into()).collect(),
            columns: columns.to_vec(),
            ..Catalog::default()
        };
        let before = catalog(&["a", "b"], &[column("a", false, None), column("b", false, Some("7")), column("c", true, None)]);
        assert_eq!(catalog_differences(&before, &before), [""; 0]);
        let now = catalog(&["b", "a"], &[column("a", false, None), column("b", true, None), column("c", true, Some("1"))]);
        let words = [
            "has another primary key: `b`, `a`, it was `a`, `b`",
            "has another NOT NULL in columns `b`",
            "has another default in columns `b`, `c`",
        ];
        assert_eq!(catalog_differences(&before, &now), words);
        assert_eq!(catalog_differences(&before, &catalog(&[], &[])), ["has another primary key: none, it was `a`, `b`"]);
    }

    #[test]
    fn every_difference_has_its_words() {
        let before = relation("t", ReplicaIdentity::Default, &[("id", 23, true), ("a", 25, false), ("b", 25, false)]);
        assert_eq!(differences(&before, &before), [""; 0]);
        let now = relation("u", ReplicaIdentity::Full, &[("id", 20, true), ("b", 25, true), ("c", 25, true)]);
        let words = [
            "was renamed, it was `public.t`",
            "has new columns `c`",
            "lost columns `a`",
            "has another type in columns `id`",
            "has replica identity FULL, it had DEFAULT",
        ];
        assert_eq!(differences(&before, &now), words);
        let keyless = relation("t", ReplicaIdentity::Default, &[("id", 23, false), ("a", 25, false), ("b", 25, false)]);
        assert_eq!(differences(&before, &keyless).len(), 1);
        assert!(differences(&before, &keyless)[0].contains("lost the key"));
        let other = relation("t", ReplicaIdentity::Default, &[("id", 23, false), ("a", 25, true), ("b", 25, false)]);
        assert_eq!(differences(&before, &other), ["has another key: a"]);
    }
}
