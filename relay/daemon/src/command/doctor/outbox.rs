//! PG012: each `[[outbox]]` against the columns of its table, compiled as the stream would compile it.

use std::sync::Arc;

use relay_core::{Oid, Relation};
use relay_encode::{Plan, Route, Routes};

use super::row::Row;

const ID: &str = "PG012";
/// Type `oid`.
const LARGE_OBJECT: Oid = Oid(26);

/// One row a table, and one for each `[[outbox]]` that has none.
pub(super) fn check(routes: &Routes, relations: Option<&Result<Vec<Relation>, String>>) -> Vec<Row> {
    let relations = match relations {
        Some(Ok(relations)) => relations,
        Some(Err(reason)) => return vec![Row::skip(ID, reason.clone())],
        None => return vec![Row::skip(ID, "not looked at: the server is too old (PG002)")],
    };
    let mut rows: Vec<Row> = routes.iter().flat_map(|route| of_route(routes, route, relations)).collect();
    let warned = routes.iter().map(|route| route.preset()).filter(|preset| !preset.warn.is_empty());
    rows.extend(warned.map(|preset| Row::ok("PG027", format!("preset {}: {}", preset.name, preset.warn))));
    rows
}

fn of_route(routes: &Routes, route: &Arc<Route>, relations: &[Relation]) -> Vec<Row> {
    let preset = route.preset().name;
    if let Some(prefix) = route.message() {
        return vec![match Plan::compile_message(route, prefix) {
            Ok(_) => Row::ok(ID, format!("messages with prefix {prefix}: preset {preset}; there is no table to look at")),
            Err(error) => failed(ID, &error),
        }];
    }
    let takes = |relation: &&Relation| routes.table(relation).is_some_and(|taker| Arc::ptr_eq(taker, route));
    let mut rows: Vec<Row> = relations.iter().filter(takes).map(|relation| of_table(route, relation, preset)).collect();
    if rows.is_empty() {
        rows.push(without_table(route.table().unwrap_or_default(), preset));
    }
    rows
}

fn of_table(route: &Arc<Route>, relation: &Relation, preset: &str) -> Row {
    match Plan::compile(route, relation) {
        Ok(_) => Row::ok(ID, format!("table {relation} has the columns of preset {preset}")),
        // The payload is a large object, of which the row has the number alone.
        Err(error) if error.field == "value" && is_large_object(relation, &error.column) => failed("PG013", &error),
        Err(error) => failed(ID, &error),
    }
}

fn is_large_object(relation: &Relation, column: &str) -> bool {
    let wanted = column.trim_matches('"');
    relation.columns.iter().any(|column| *column.name == *wanted && column.type_oid == LARGE_OBJECT)
}

fn failed(id: &'static str, error: &relay_encode::PlanError) -> Row {
    let fix = match error.hint.as_str() {
        "" => format!("name an existing column in `{}` of the [[outbox]], or bring the column back", error.field),
        hint => hint.to_owned(),
    };
    Row::fail(id, error.to_string())
        .because(format!("`{}` of the [[outbox]], its own or its preset's, does not fit the table", error.field))
        .so("relay stops at the first row of this table")
        .cure(fix)
}

fn without_table(pattern: &str, preset: &str) -> Row {
    if pattern.contains('*') {
        return Row::warn(ID, format!("no table matches `{pattern}`"))
            .because("the tables are not there yet, or they are in another database or schema")
            .so("no event comes of this [[outbox]] until there is one")
            .cure("correct `table` in the [[outbox]], or create the tables");
    }
    let row = Row::fail(ID, format!("there is no table `{pattern}`"));
    if !pattern.contains('.') {
        return row
            .because("`table` is compared with schema and name, joined by a dot")
            .so("no event comes of this [[outbox]]")
            .cure(format!("table = \"public.{pattern}\"  # in the [[outbox]]"));
    }
    row.because("it was not created, has its name in another case, or is in another database")
        .so("no event comes of this [[outbox]]")
        .cure(format!("relay init --dry-run --preset {preset} --table {pattern}  # prints its CREATE TABLE"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::doctor::row::Status;
    use relay_core::{Column, ReplicaIdentity};
    use relay_encode::{FormatSettings, OutboxSettings};

    fn routes(tables: &[(&str, &str)]) -> Routes {
        let route = |(table, preset): &(&str, &str)| {
            let settings =
                OutboxSettings { table: Some((*table).into()), preset: Some((*preset).into()), ..OutboxSettings::default() };
            Route::new(settings, &FormatSettings::default()).unwrap()
        };
        Routes::new(tables.iter().map(route))
    }

    fn relation(name: &str, columns: &[(&str, u32)]) -> Relation {
        let column = |(name, type_oid): &(&str, u32)| Column {
            name: (*name).into(),
            type_oid: Oid(*type_oid),
            type_modifier: -1,
            type_name: None,
            is_key: false,
        };
        Relation {
            oid: Oid(1),
            schema: "public".into(),
            name: name.into(),
            identity: ReplicaIdentity::Default,
            columns: columns.iter().map(column).collect(),
        }
    }

    #[test]
    fn a_column_in_another_case_is_proposed() {
        let routes = routes(&[("public.outboxevent", "debezium")]);
        let columns = [("id", 2950), ("aggregateType", 25), ("aggregateid", 25), ("type", 25), ("payload", 3802)];
        let rows = check(&routes, Some(&Ok(vec![relation("outboxevent", &columns)])));
        assert_eq!(rows.len(), 1);
        assert_eq!(rows[0].status, Status::Fail);
        assert!(rows[0].fix.contains("aggregateType"), "{rows:?}");
        let good = columns.map(|(name, oid)| (if name == "aggregateType" { "aggregatetype" } else { name }, oid));
        assert_eq!(check(&routes, Some(&Ok(vec![relation("outboxevent", &good)])))[0].status, Status::Ok);
    }

    #[test]
    fn an_outbox_without_a_table_says_what_is_missing() {
        let rows = check(&routes(&[("outbox", "relay"), ("public.o", "relay"), ("shop.*", "relay")]), Some(&Ok(Vec::new())));
        assert!(rows[0].fix.contains("public.outbox") && rows[1].fix.contains("--table public.o"), "{rows:?}");
        assert_eq!(rows.iter().map(|row| row.status).collect::<Vec<_>>(), [Status::Fail, Status::Fail, Status::Warn]);
        assert_eq!(check(&Routes::default(), None)[0].status, Status::Skip);
    }
}
