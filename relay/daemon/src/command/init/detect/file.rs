//! The configuration that detection writes: each decision and note as a comment, and at the end the SQL that is still needed.

use relay_encode::sql::{self, SqlOptions};
use relay_encode::{Mode, Order};
use relay_postgres::detect::Survey;

use super::super::Wish;
use super::super::template::Template;
use super::judge::Found;
use super::notes;
use crate::settings::quoted;

/// What the file is made of.
#[derive(Debug)]
pub(super) struct File<'a> {
    pub(super) wish: &'a Wish,
    pub(super) survey: &'a Survey,
    pub(super) mode: Mode,
    pub(super) found: &'a [Found],
    /// Where relay's role finds the database; without a password.
    pub(super) url: String,
}

/// Widest line of a comment.
const COLUMNS_MAX: usize = 130;

/// An `[[outbox]]` with these lines.
pub(super) fn block(lines: &[String]) -> String {
    format!("[[outbox]]\n{}\n", lines.join("\n"))
}

/// A text as comment lines, broken between words; control characters of names do not get through.
fn comment(text: &str) -> String {
    let mut lines = vec![String::from("#")];
    for word in text.split(' ') {
        let word: String = word.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect();
        let line = lines.last_mut().filter(|line| line.len() == 1 || line.chars().count() + word.chars().count() < COLUMNS_MAX);
        match line {
            Some(line) => line.push_str(&format!(" {word}")),
            None => lines.push(format!("#   {word}")),
        }
    }
    lines.join("\n") + "\n"
}

/// Lines as they stand, each behind a `#`.
fn commented(text: &str) -> String {
    text.lines().map(|line| format!("#{}{line}\n", if line.is_empty() { "" } else { " " })).collect()
}

// === impl File ===

impl File<'_> {
    /// What stderr shows: grades, decisions and notes.
    pub(super) fn report(&self) -> String {
        let mut text = String::new();
        for found in self.found {
            let (grade, preset) = (found.grade(), found.preset.map_or_else(String::new, |preset| format!(", {}", preset.name)));
            text.push_str(&format!("{}: {grade}{preset}\n", found.table));
            if let Err(why) = &found.outcome {
                text.push_str(&format!("  only a comment: {why}\n"));
            }
            found.decisions.iter().for_each(|decision| text.push_str(&format!("  decision: {decision}\n")));
            found.notes.iter().for_each(|note| text.push_str(&format!("  note: {note}\n")));
        }
        notes::of_server(self.survey, &self.wish.role).iter().for_each(|note| text.push_str(&format!("note: {note}\n")));
        // Names come from the database: they may not steer a terminal.
        text.chars().map(|c| if c.is_control() && c != '\n' { char::REPLACEMENT_CHARACTER } else { c }).collect()
    }

    /// The file.
    pub(super) fn text(&self) -> String {
        let (mut outboxes, server) = (String::new(), &self.survey.server);
        outboxes.push_str(&comment(&format!(
            "`relay init --detect` looked at database {} of PostgreSQL {} as role {}.",
            server.database, server.version, server.role
        )));
        outboxes.push_str(&comment(&format!("Decision: relay logs in as role {}; `--role` names another.", self.wish.role)));
        for note in notes::of_server(self.survey, &self.wish.role) {
            outboxes.push_str(&comment(&format!("Note: {note}.")));
        }
        self.found.iter().for_each(|found| outboxes.push_str(&found.text()));
        if !self.has_active() {
            let table = self.table();
            let others = if self.found.is_empty() { "" } else { "replace it by one of the comments above, or " };
            outboxes.push('\n');
            outboxes.push_str(&comment(&format!(
                "Decision: no table can be taken as it is, so this is relay's own table, {table}, which does not exist yet: \
                 {others}run the SQL at the end."
            )));
            outboxes.push_str(&block(&[format!("table = {}", quoted(table)), "preset = \"relay\"".to_owned()]));
        }
        outboxes.push('\n');
        let template = Template { name: &self.wish.name, url: self.url.clone(), mode: self.mode(), outboxes };
        let sql = if self.has_active() { self.sql() } else { self.proposal() };
        let sql = if sql.is_empty() { "nothing".to_owned() } else { format!("the owner of the database runs it.\n\n{sql}") };
        format!("{}\n\n{}", template.text(), commented(&format!("The SQL still needed: {sql}")))
    }

    /// SQL for relay's own table, for a database without an outbox.
    pub(super) fn proposal(&self) -> String {
        let options = SqlOptions {
            table: Some(self.table().to_owned()),
            role: self.wish.role.clone(),
            application_role: "app".to_owned(),
            publication: self.wish.publication(),
            mode: self.mode,
            server_major: self.survey.server.major,
        };
        let sql = sql::preset_sql(self.wish.preset, &options).unwrap_or_default();
        format!("{}{sql}", self.role_sql())
    }

    fn table(&self) -> &str {
        self.wish.table.as_deref().unwrap_or("public.outbox")
    }

    fn has_active(&self) -> bool {
        self.found.iter().any(Found::is_active)
    }

    /// The lines of `source.mode`.
    fn mode(&self) -> String {
        let server = &self.survey.server;
        match self.mode {
            Mode::Log => "# Decision: the log is read, for wal_level is logical; \"poll\" would ask the tables.\n#mode = \"log\""
                .to_owned(),
            Mode::Poll if server.wal_level == "logical" => {
                "# Decision: the tables are polled, for every one that fits is unlogged.\nmode = \"poll\"".to_owned()
            }
            Mode::Poll => {
                format!("# Decision: the tables are polled, for wal_level is {}.\nmode = \"poll\"", server.wal_level)
            }
        }
    }

    fn role_sql(&self) -> String {
        match self.survey.server.relay_may_replicate {
            None => sql::role_sql(&self.wish.role),
            Some(false) if self.mode == Mode::Log => {
                format!("ALTER ROLE {} LOGIN REPLICATION;\n", sql::identifier(&self.wish.role))
            }
            Some(_) => String::new(),
        }
    }

    /// What of role, grants, publication, slot and index is not there yet.
    fn sql(&self) -> String {
        let (server, role, publication) = (&self.survey.server, self.wish.role.as_str(), self.wish.publication());
        let active: Vec<&Found> = self.found.iter().filter(|found| found.is_active()).collect();
        let mut text = self.role_sql();
        let unread: Vec<&str> = active.iter().filter(|found| !found.state.may_select).map(|found| found.table.as_str()).collect();
        text.push_str(&sql::grants_sql(role, &unread));
        if self.mode == Mode::Poll {
            active.iter().for_each(|found| text.push_str(&found.polling(role)));
            return text;
        }
        let is_sent = |found: &&&Found| found.state.publications.contains(&publication);
        let missing: Vec<&str> = active.iter().filter(|found| !is_sent(found)).map(|found| found.table.as_str()).collect();
        match (server.has_publication, missing.as_slice()) {
            (false, tables) => text.push_str(&sql::publication_sql(&publication, tables)),
            (true, []) => {}
            (true, tables) => text.push_str(&sql::add_to_publication_sql(&publication, tables)),
        }
        if !server.has_slot {
            text.push_str("-- relay makes the slot itself at its first start, where its role may:\n");
            text.push_str(&sql::slot_sql(&publication));
        }
        text
    }
}

// === impl Found: as text ===

impl Found {
    fn grade(&self) -> String {
        let grade = match self.fit.grade {
            relay_encode::detect::Grade::Exact => "exact",
            relay_encode::detect::Grade::Close => "close",
            relay_encode::detect::Grade::Shape => "shape",
        };
        format!("{grade}, {} per cent", self.fit.percent)
    }

    /// Its `[[outbox]]`, or why it is a comment.
    fn text(&self) -> String {
        let preset = self.preset.map_or_else(|| "no preset".to_owned(), |preset| format!("preset {}", preset.name));
        let mut text = format!("\n{}", comment(&format!("{}: {}, {preset}.", self.table, self.grade())));
        self.decisions.iter().for_each(|decision| text.push_str(&comment(&format!("Decision: {decision}."))));
        if let Err(why) = &self.outcome {
            text.push_str(&comment(&format!("Decision: only a comment. {why}.")));
        }
        self.notes.iter().for_each(|note| text.push_str(&comment(&format!("Note: {note}."))));
        let block = block(&self.lines);
        if self.is_active() { text + &block } else { text + &block.lines().map(|line| format!("#{line}\n")).collect::<String>() }
    }

    /// Index, columns and rights for polling.
    fn polling(&self, role: &str) -> String {
        let (Some(preset), Ok(reading)) = (self.preset, &self.outcome) else { return String::new() };
        let order = reading.order.as_ref();
        let has_index = matches!(order, Some(Order::Tick { xid, .. }) if self.state.indexed.contains(xid));
        let index = if has_index { String::new() } else { sql::polling_sql(preset, &self.table, order) };
        format!("{index}{}", sql::marking_sql(role, &self.table, order, &reading.after))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_are_broken_between_words_and_names_cannot_leave_them() {
        let text = comment(&format!("a\nb {}", "word ".repeat(60).trim_end()));
        assert!(text.starts_with("# a\u{FFFD}b word") && text.lines().count() == 3, "{text}");
        assert!(text.lines().all(|line| line.starts_with('#') && line.chars().count() <= COLUMNS_MAX), "{text}");
        assert_eq!(commented("a\n\n-- b"), "# a\n#\n# -- b\n");
    }
}
