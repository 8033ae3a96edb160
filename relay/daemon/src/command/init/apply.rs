//! Runs the SQL of `relay init` over an administrator's connection: one transaction, and nothing that exists is touched.

use relay_pgwire::{Connection, quote_literal};

use super::script::{Script, Step, What};
use super::{Wish, capture};
use crate::command::refusal::Refusal;

/// What was done.
#[derive(Debug)]
pub(super) struct Applied {
    /// The statements that were run, those that were not as comments.
    pub(super) sql: String,
    /// What happened, for people.
    pub(super) notes: Vec<String>,
    /// How relay's role reaches the same database.
    pub(super) source_url: String,
}

/// What the URL of relay's role takes over from the administrator's.
const KEPT: [&str; 5] = ["sslmode", "sslrootcert", "channel_binding", "connect_timeout", "target_session_attrs"];

/// Runs every step whose object does not exist yet; with `is_dry` it only looks.
pub(super) fn run(wish: &Wish, url: &str, is_dry: bool) -> Result<Applied, Refusal> {
    let wire = super::wire("--apply", url, URL_HINT)?;
    let source_url = source_url(url, &wire, &wish.role);
    let mut connection = Connection::connect(&wire)?;
    let major = relay_postgres::server_version(&connection).unwrap_or(14);
    let script = Script::new(wish, Some(major));
    connection.execute(if is_dry { "BEGIN READ ONLY" } else { "BEGIN" })?;
    if !wish.captures.is_empty() {
        relay_postgres::refuse_unidentified(&mut connection, &capture::wanted(&wish.captures))
            .map_err(|error| Refusal::refused(error.to_string(), "the application goes on as it is; nothing was changed"))?;
    }
    let (mut sql, mut notes) = (String::new(), Vec::new());
    for step in &script.steps {
        let (text, note) = take(&mut connection, step, is_dry)?;
        sql.push_str(&text);
        notes.extend(note);
    }
    notes.extend(slot_note(&mut connection, wish)?);
    connection.execute("COMMIT")?;
    connection.close();
    if is_dry {
        notes.push("dry run: nothing was changed".to_owned());
    }
    Ok(Applied { sql, notes, source_url })
}

const URL_HINT: &str = "an administrator's libpq URL: `postgres://postgres@db:5432/shop`";

/// One step: its statements as printed, and what to say of it.
fn take(connection: &mut Connection, step: &Step, is_dry: bool) -> Result<(String, Option<String>), Refusal> {
    let (name, exists) = match &step.what {
        What::Table(table) => (format!("table {table}"), table_exists(connection, table)?),
        What::Role(role) => (format!("role {role}"), role_exists(connection, role)?),
        What::Publication(name) => (format!("publication {name}"), publication_exists(connection, name)?),
        What::Rights => {
            let sql = spelled_out(connection, &step.sql)?;
            if !is_dry && !sql.trim().is_empty() {
                connection.execute(&sql)?;
            }
            return Ok((sql, None));
        }
    };
    if let Some(remark) = exists {
        return Ok((format!("-- {name} exists: kept\n"), Some(format!("{name} exists and was kept{remark}"))));
    }
    let has_function = step.sql.starts_with("CREATE FUNCTION") && is_there(connection, "to_regproc('relay_uuidv7') IS NOT NULL")?;
    let sql = if has_function { step.without_function() } else { &step.sql };
    let sql = spelled_out(connection, sql)?;
    if sql.trim().is_empty() {
        let hint = "create the tables first, or name others with `--capture`";
        return Err(Refusal::refused(format!("{name}: no table fits"), hint));
    }
    if !is_dry {
        connection.execute(&sql)?;
    }
    let done = if is_dry { "would be created" } else { "was created" };
    Ok((format!("{}\n", sql.trim_end()), Some(format!("{name} {done}"))))
}

/// The statements with what their queries print in place of these.
fn spelled_out(connection: &mut Connection, sql: &str) -> Result<String, Refusal> {
    let mut text = String::new();
    for (part, is_query) in capture::parts(sql) {
        if is_query {
            let rows = connection.query(part)?;
            rows.iter().filter_map(|row| row.get(0)).for_each(|statement| text.push_str(&format!("{statement}\n")));
        } else {
            text.push_str(part);
        }
    }
    Ok(text)
}

/// Whether the condition holds.
fn is_there(connection: &mut Connection, condition: &str) -> Result<bool, Refusal> {
    let rows = connection.query(&format!("SELECT {condition}"))?;
    Ok(rows.first().and_then(|row| row.get(0)) == Some("t"))
}

/// A remark for an object that exists.
type Exists = Option<String>;

fn table_exists(connection: &mut Connection, table: &str) -> Result<Exists, Refusal> {
    let (schema, name) = table.split_once('.').unwrap_or(("public", table));
    let (schema, name) = (quote_literal(schema), quote_literal(name));
    let condition = format!(
        "EXISTS (SELECT 1 FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace \
         WHERE n.nspname = {schema} AND c.relname = {name})"
    );
    Ok(is_there(connection, &condition)?.then(|| "; `relay doctor` compares its columns (PG012)".to_owned()))
}

fn role_exists(connection: &mut Connection, role: &str) -> Result<Exists, Refusal> {
    let role = quote_literal(role);
    if !is_there(connection, &format!("EXISTS (SELECT 1 FROM pg_roles WHERE rolname = {role})"))? {
        return Ok(None);
    }
    let condition = format!("EXISTS (SELECT 1 FROM pg_roles WHERE rolname = {role} AND rolcanlogin AND rolreplication)");
    let may = is_there(connection, &condition)?;
    Ok(Some(if may { String::new() } else { "; it lacks LOGIN or REPLICATION (PG004)".to_owned() }))
}

fn publication_exists(connection: &mut Connection, name: &str) -> Result<Exists, Refusal> {
    let condition = format!("EXISTS (SELECT 1 FROM pg_publication WHERE pubname = {})", quote_literal(name));
    Ok(is_there(connection, &condition)?.then(|| "; `relay doctor` compares its tables (PG010)".to_owned()))
}

/// A slot that was there before the publication cannot be read.
fn slot_note(connection: &mut Connection, wish: &Wish) -> Result<Option<String>, Refusal> {
    let slot = wish.publication();
    let condition = format!("EXISTS (SELECT 1 FROM pg_replication_slots WHERE slot_name = {})", quote_literal(&slot));
    let note = format!("slot {slot} exists; one that is older than its publication cannot be read (PG010)");
    Ok(is_there(connection, &condition)?.then_some(note))
}

/// The URL for relay's role: same hosts, database and TLS, nobody's password.
pub(super) fn source_url(url: &str, admin: &relay_pgwire::Config, role: &str) -> String {
    let query = url.split_once('?').map_or("", |(_, query)| query);
    let mut parameters: Vec<String> = Vec::new();
    let mut hosts: Vec<String> = Vec::new();
    for host in admin.hosts() {
        if host.is_unix() {
            parameters.push(format!("host={}", encoded(&host.name, "/")));
            parameters.push(format!("port={}", host.port));
        } else {
            hosts.push(host.to_string());
        }
    }
    let is_kept = |pair: &&str| pair.split_once('=').is_some_and(|(name, _)| KEPT.contains(&name));
    parameters.extend(query.split('&').filter(is_kept).map(str::to_owned));
    let query = if parameters.is_empty() { String::new() } else { format!("?{}", parameters.join("&")) };
    format!("postgres://{}@{}/{}{query}", encoded(role, ""), hosts.join(","), encoded(admin.database(), ""))
}

/// Percent-encoded, but for what URLs never need encoded and for `also`.
fn encoded(text: &str, also: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) || also.as_bytes().contains(&byte);
    text.bytes().map(|byte| if is_plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_role_gets_the_administrators_address_without_the_password() {
        for (admin, expected) in [
            (
                "postgres://postgres:canary@db:5433/shop?sslmode=require&application_name=x",
                "postgres://relay@db:5433/shop?sslmode=require",
            ),
            ("postgres://postgres@a,b:5433/shop", "postgres://relay@a:5432,b:5433/shop"),
            (
                "postgres://postgres@/my%20shop?host=/run/pg&port=5444&password=canary",
                "postgres://relay@/my%20shop?host=/run/pg&port=5444",
            ),
        ] {
            let wire = relay_pgwire::Config::parse(admin).unwrap();
            let url = source_url(admin, &wire, "relay");
            assert_eq!(url, expected);
            assert_eq!(relay_pgwire::Config::parse(&url).unwrap().hosts(), wire.hosts());
        }
        let wire = relay_pgwire::Config::parse("postgres://p@db/shop").unwrap();
        assert_eq!(source_url("postgres://p@db/shop", &wire, "my relay"), "postgres://my%20relay@db:5432/shop");
    }
}
