//! The SQL of `relay init`: table, then role and rights, then publication, each a step of its own.

use std::collections::BTreeSet;

use relay_encode::sql;

use super::{Wish, capture};

/// Written for any server: before 18 there is no `uuidv7()`, and relay's own function works everywhere.
const OLDEST: u32 = 14;
/// From 17 on the function that emits messages has one more argument.
const NEWEST: u32 = 18;

/// Every step, in the order to run them.
#[derive(Debug)]
pub(super) struct Script {
    pub(super) steps: Vec<Step>,
    head: String,
}

/// Statements about one thing.
#[derive(Clone, Debug)]
pub(super) struct Step {
    pub(super) what: What,
    pub(super) sql: String,
}

/// What a step makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// `schema.table`.
    Table(String),
    Role(String),
    /// Rights may be granted again and again.
    Rights,
    Publication(String),
}

// === impl Script ===

impl Script {
    /// For servers of one version, or for all.
    pub(super) fn new(wish: &Wish, server_major: Option<u32>) -> Self {
        // A glob stands for its first table.
        let table = wish.table.as_deref().map(sql::example);
        let tables: Vec<&str> = table.as_deref().into_iter().collect();
        let mut steps = Vec::new();
        if let Some(table) = &table
            && let Some(text) = sql::table_sql(wish.preset, table, server_major.unwrap_or(OLDEST))
        {
            steps.push(Step { what: What::Table(table.clone()), sql: text });
        }
        steps.push(Step { what: What::Role(wish.role.clone()), sql: sql::role_sql(&wish.role) });
        let mut rights = sql::grants_sql(&wish.role, &tables);
        if wish.has_outbox && wish.table.is_none() {
            rights.push_str(&message_rights(wish, server_major));
        }
        if !wish.captures.is_empty() {
            rights.push_str(&capture::rights(&wish.role, &wish.captures));
        }
        steps.push(Step { what: What::Rights, sql: rights });
        let publication = wish.publication();
        let sql = if wish.captures.is_empty() {
            sql::publication_sql(&publication, &tables)
        } else {
            // A glob may take the outbox too, and PostgreSQL takes a table once.
            let all: BTreeSet<String> = table.iter().chain(&wish.captures).cloned().collect();
            capture::publication(&publication, &all.into_iter().collect::<Vec<_>>())
        };
        steps.push(Step { sql, what: What::Publication(publication) });
        let version = server_major.map_or("PostgreSQL 14 and newer".to_owned(), |major| format!("PostgreSQL {major}"));
        let what = if wish.has_outbox { format!("preset {}", wish.preset.name) } else { "captured tables".to_owned() };
        let head = format!("-- Pipeline {}, {what}, for {version}.\n", wish.name);
        Self { steps, head }
    }

    /// As `psql` reads it.
    pub(super) fn text(&self) -> String {
        let mut text = self.head.clone();
        for step in &self.steps {
            let sql = step.sql.trim_end();
            if !sql.is_empty() {
                text.push_str(&format!("\n{sql}\n"));
            }
        }
        text
    }
}

/// Without the application's role nothing is taken away: the statements stand as a comment.
fn message_rights(wish: &Wish, server_major: Option<u32>) -> String {
    let major = server_major.unwrap_or(NEWEST);
    let form = if major >= 17 { "PostgreSQL 17 and newer" } else { "PostgreSQL 14 to 16" };
    match &wish.application {
        Some(role) => format!("-- Only this role may write messages ({form}).\n{}", sql::message_grants_sql(role, major)),
        None => {
            let statements: String = sql::message_grants_sql("app", major).lines().map(|line| format!("-- {line}\n")).collect();
            format!(
                "-- Every role may write messages, and so events. To leave that to the application's role (here app; {form}; or \
                 run\n-- `relay init --application ROLE`):\n{statements}"
            )
        }
    }
}

// === impl Step ===

impl Step {
    /// The statements without relay's uuid function, for a database that has it already.
    pub(super) fn without_function(&self) -> &str {
        match (self.sql.starts_with("CREATE FUNCTION"), self.sql.find("CREATE TABLE")) {
            (true, Some(at)) => &self.sql[at..],
            _ => &self.sql,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::init::tests::wish;

    #[test]
    fn the_table_comes_first_and_the_publication_last() {
        let script = Script::new(&wish("relay"), None);
        let text = script.text();
        let at = |part: &str| text.find(part).unwrap_or_else(|| panic!("{part} in {text}"));
        assert!(
            text.starts_with("-- Pipeline orders, preset relay, for PostgreSQL 14 and newer.\n\nCREATE FUNCTION relay_uuidv7()")
        );
        assert!(at("CREATE TABLE public.outbox (") < at("CREATE ROLE relay WITH LOGIN REPLICATION"));
        assert!(at("CREATE ROLE") < at("GRANT SELECT ON public.outbox TO relay;"));
        assert!(at("GRANT SELECT") < at("CREATE PUBLICATION relay_orders FOR TABLE public.outbox"));
        assert!(script.steps[0].without_function().starts_with("CREATE TABLE"));
        assert!(!Script::new(&wish("relay"), Some(18)).text().contains("FUNCTION"));
    }

    #[test]
    fn messages_need_no_table_and_leave_rights_alone_without_a_role() {
        let text = Script::new(&wish("wal-message"), None).text();
        assert!(!text.contains("TABLE") && text.contains("CREATE PUBLICATION relay_orders WITH ("), "{text}");
        assert!(text.contains("\n-- REVOKE EXECUTE") && !text.contains("\nREVOKE"), "{text}");
        let named = Wish { application: Some("shop_app".into()), ..wish("wal-message") };
        let text = Script::new(&named, Some(16)).text();
        assert!(text.contains("\nREVOKE EXECUTE") && text.contains("(boolean, text, text) TO shop_app;"), "{text}");
    }
}
