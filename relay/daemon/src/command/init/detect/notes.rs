//! What an operator should know of a table and of its server before relay reads them.

use relay_encode::{AfterPublish, Mode, Order};
use relay_postgres::detect::{Survey, Table};

use super::judge::{Case, Found};

/// Notes about one table.
pub(super) fn of_table(case: &Case<'_>, table: &Table, found: &Found) -> Vec<String> {
    let mut notes = vec![reading(case, table, found)];
    let mut add = |text: String| notes.push(text);
    if table.is_partitioned {
        add("partitioned: the publication needs publish_via_partition_root = true".to_owned());
    }
    if table.is_unlogged {
        add("unlogged: its rows never reach the log, and a crash empties it".to_owned());
    }
    for (column, _) in table.types.iter().filter(|(_, kind)| kind == "oid") {
        add(format!("`{column}` is an oid: the log carries the number of a large object, not its bytes; ALTER ... TYPE bytea"));
    }
    if table.has_row_security {
        add("row-level security is on: the log is not subject to it, polling is; give relay's role a policy or BYPASSRLS"
            .to_owned());
    }
    if !table.triggers.is_empty() {
        add(format!("triggers: {}; one that deletes or rewrites rows changes what is published", table.triggers.join(", ")));
    }
    let others: Vec<&str> = table.publications.iter().filter(|name| **name != case.publication).map(String::as_str).collect();
    if !others.is_empty() {
        add(format!("published already, by {}: somebody else may read it", others.join(", ")));
    }
    if let Some(preset) = found.preset.filter(|preset| !preset.warn.is_empty()) {
        add(preset.warn.to_owned());
    }
    notes
}

/// By the log, or polled in which order.
fn reading(case: &Case<'_>, table: &Table, found: &Found) -> String {
    if case.server.wal_level == "logical" && !table.is_unlogged {
        return "log mode is possible: commit order".to_owned();
    }
    let why = if table.is_unlogged { "unlogged" } else { "wal_level" };
    if let Some(preset) = found.preset.filter(|preset| !preset.no_poll.is_empty()) {
        return format!("log mode is not possible ({why}), and polling is not: {}", preset.no_poll);
    }
    let order = match (case.mode, &found.outcome) {
        (Mode::Poll, Ok(reading)) => reading.order.as_ref().map(|order| words(order, &reading.after)),
        _ => None,
    };
    match order {
        Some(order) => format!("log mode is not possible ({why}); polling would read it by {order}"),
        None => format!("log mode is not possible ({why}); `relay preset sql NAME --mode poll` prints what polling needs"),
    }
}

fn words(order: &Order, after: &AfterPublish) -> String {
    match order {
        Order::Tick { xid, order } => format!("tick({xid}, {order}): each key in commit order where writers take turns"),
        Order::Claim { order } => {
            let mark = match after {
                AfterPublish::Keep => "not marked",
                AfterPublish::Delete => "deleted when published",
                AfterPublish::Update(_) => "marked when published",
            };
            format!("claim({}): in the order in which rows became visible, {mark}", order.join(" ?? "))
        }
    }
}

/// Notes about the server, and about roles.
pub(super) fn of_server(survey: &Survey, role: &str) -> Vec<String> {
    let server = &survey.server;
    let mut notes = Vec::new();
    if server.wal_level != "logical" {
        notes.push(format!(
            "wal_level is {}: the log cannot be read before ALTER SYSTEM SET wal_level = 'logical' and a restart",
            server.wal_level
        ));
    }
    if server.is_standby {
        notes.push(
            "the server is a standby: publication and grants are made on its primary; slots here need 16 or newer".to_owned(),
        );
    }
    for dispatcher in &survey.dispatchers {
        let (seen, whose) = (&dispatcher.seen, dispatcher.whose);
        notes.push(format!("{seen} is a sign of {whose}: stop it first where it reads the same rows, or both publish"));
    }
    match server.relay_may_replicate {
        None => notes.push(format!("role {role} does not exist yet")),
        Some(false) => notes.push(format!("role {role} may not log in or not replicate")),
        Some(true) => {}
    }
    if server.has_slot {
        notes.push("a slot of that name exists: one that is older than its publication cannot be read (PG010)".to_owned());
    }
    if !server.is_superuser {
        let lacks = [(server.may_replicate, "replicate"), (server.may_create, "create in this database")];
        let lacks: Vec<&str> = lacks.iter().filter(|(may, _)| !may).map(|(_, what)| *what).collect();
        if !lacks.is_empty() {
            let (role, lacks) = (&server.role, lacks.join(" or "));
            notes.push(format!("role {role}, which looked, may not {lacks}: an owner runs the SQL"));
        }
    }
    notes
}
