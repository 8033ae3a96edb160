//! PG011 and PG012: each `[[capture]]` against its tables, compiled as the stream would compile it.

use std::collections::HashMap;
use std::sync::Arc;

use relay_core::{Catalog, Oid, Relation, ReplicaIdentity};
use relay_encode::{Capture, CapturePlan, Captures, Routes};

use super::row::Row;

const ID: &str = "PG012";

/// One row a table, and one for each glob that matches nothing.
pub(super) fn check(routes: &Routes, captures: &Captures, relations: &[Relation], catalogs: &[(Oid, Catalog)]) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut topics: HashMap<String, String> = HashMap::new();
    for capture in captures.iter() {
        let takes = |relation: &&Relation| {
            routes.table(relation).is_none() && captures.table(relation).is_some_and(|taker| Arc::ptr_eq(taker, capture))
        };
        let taken: Vec<&Relation> = relations.iter().filter(takes).collect();
        for relation in &taken {
            let catalog = catalogs.iter().find(|(oid, _)| *oid == relation.oid).map(|(_, catalog)| catalog);
            of_table(capture, relation, catalog.unwrap_or(&Catalog::default()), &mut topics, &mut rows);
        }
        for (key, glob) in capture.idle_globs(&taken) {
            rows.push(idle(key, glob));
        }
    }
    rows
}

fn of_table(
    capture: &Arc<Capture>,
    relation: &Relation,
    catalog: &Catalog,
    topics: &mut HashMap<String, String>,
    rows: &mut Vec<Row>,
) {
    let plan = match CapturePlan::compile(capture, relation, catalog, "") {
        Ok(plan) => plan,
        Err(error) => {
            let fix = match error.hint.as_str() {
                "" => format!("name an existing column in `{}` of the [[capture]], or bring the column back", error.field),
                hint => hint.to_owned(),
            };
            rows.push(
                Row::fail(ID, error.to_string())
                    .because(format!("`{}` of the [[capture]] does not fit the table", error.field))
                    .so("relay stops at the first row of this table")
                    .cure(fix),
            );
            return;
        }
    };
    let before = rows.len();
    if !plan.is_key_covered() {
        rows.push(
            Row::warn("PG011", format!("the replica identity of {relation} does not have every column of its event key"))
                .because("an old row shows the columns of the replica identity alone, and `key` of the [[capture]] names others")
                .so("a deletion follows delivery.on_poison, and a changed key is not noticed")
                .cure(format!("ALTER TABLE {} REPLICA IDENTITY FULL;", quoted(relation))),
        );
    }
    if let Some(topic) = plan.topic().filter(|_| !plan.is_topic_on_purpose())
        && let Some(other) = topics.insert(topic.to_owned(), relation.to_string())
    {
        rows.push(
            Row::fail(ID, format!("tables {other} and {relation} both end in topic {topic}"))
                .because("characters that a topic cannot have become `_`")
                .so("relay stops at the first row of the second one (R0229)")
                .cure("give one of them a `topic` in a [[capture]] of its own, or leave it out with `exclude`"),
        );
    }
    for doubt in plan.key_doubts() {
        rows.push(
            Row::warn(ID, format!("{relation}: {doubt}"))
                .because("`columns` of the [[capture]] is about values, and the key of a record is made of this column")
                .so(doubt.effect())
                .cure(doubt.hint()),
        );
    }
    for note in plan.notes() {
        rows.push(Row::ok(ID, note));
    }
    if rows.len() > before {
        return;
    }
    rows.push(Row::ok(
        ID,
        match plan.has_key() {
            true => format!("changes of table {relation} can be written"),
            false if relation.identity == ReplicaIdentity::Full => {
                format!("changes of table {relation} can be written; it has no key, so its events have none")
            }
            false => format!("inserts of table {relation} can be written; it has no key, so its events have none"),
        },
    ));
}

fn idle(key: &str, glob: &str) -> Row {
    let what = if key == "tables" { "table" } else { "column" };
    Row::warn(ID, format!("no {what} matches `{glob}`"))
        .because(format!(
            "{what}s are compared by schema and name, in their exact case; an [[outbox]] and an earlier [[capture]] come first"
        ))
        .so(if key == "tables" { "no event comes of it until there is one" } else { "nothing is left out or masked by it" })
        .cure(format!("correct `{key}` in the [[capture]]"))
}

fn quoted(relation: &Relation) -> String {
    format!("{}.{}", relay_pgwire::quote_identifier(&relation.schema), relay_pgwire::quote_identifier(&relation.name))
}
