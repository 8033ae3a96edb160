//! A case of relay/encode's golden files becomes a table, a row and an `[[outbox]]` on a real server, and a record its lines.

use relay_tests::consumer::Rec;
use relay_tests::relay::binary;
use std::collections::HashMap;
use std::path::Path;
use std::process::Command;
use toml::{Table, Value};

/// The commit time of the golden cases: a record that has it got the default timestamp.
const COMMIT_TIME: &str = "timestamp: 1767614400123";
/// The position of the golden cases, which is also the id of a message without one.
const POSITION: &str = "16B374D848.3";

/// One case.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) preset: String,
    settings: Table,
    /// Schema and name as the case has them.
    schema: String,
    table: String,
    message: Option<(String, String)>,
    row: Vec<Cell>,
    expected: Vec<String>,
}

#[derive(Clone, Debug)]
struct Cell {
    column: String,
    kind: String,
    value: Option<String>,
}

/// How relay gets at the rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// From the log.
    Log,
    /// By the preset's own order in poll mode.
    Poll,
    /// In ticks, after the ALTER that `relay preset sql --mode poll` prints for a preset whose own order is `claim`.
    Tick,
}

/// What a case must come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// The lines of its record.
    Record(Vec<String>),
    /// The message of its record in the dlq topic.
    Poison(String),
    /// Nothing.
    Nothing,
}

/// A case on a server.
#[derive(Debug)]
pub(crate) struct Placed {
    pub(crate) case: Case,
    /// Also what its topics begin with.
    pub(crate) schema: String,
    pub(crate) entry: Table,
    /// What writes its row.
    pub(crate) insert: String,
    /// Whether the preset's own SQL made the table; else the case's row has columns that it lacks, or values that it refuses.
    pub(crate) is_presets: bool,
    /// Whether jsonb keeps the row's documents as they are written.
    pub(crate) is_canonical: bool,
    pub(crate) wanted: Wanted,
}

/// What `relay preset` prints, asked once.
#[derive(Debug, Default)]
pub(crate) struct Printed(HashMap<Vec<String>, String>);

/// Every case of every golden file.
pub(crate) fn cases() -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../relay/encode/golden");
    let mut files: Vec<_> = std::fs::read_dir(folder).expect("golden/").map(|file| file.expect("a file").path()).collect();
    // Those are of other `[format]`s than the stories' own; captures have them on real servers.
    files.retain(|file| !file.ends_with("cloudevents.txt") && !file.ends_with("compat.txt"));
    files.sort();
    let texts = files.iter().map(|file| std::fs::read_to_string(file).expect("readable"));
    texts.flat_map(|text| text.split("\n----\n").map(parse).collect::<Vec<_>>()).collect()
}

fn parse(text: &str) -> Case {
    let (head, rest) = text.split_once("[settings]\n").expect(text);
    let (middle, expected) = rest.split_once("[record]\n").expect(text);
    let (settings, row) = middle.split_once("[row]\n").unwrap_or((middle, ""));
    let field = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    let settings: Table = settings.parse().expect(text);
    let message = field("message").and_then(|text| text.split_once(' ')).map(|(a, b)| (a.to_owned(), b.to_owned()));
    let preset = match (settings.get("preset"), &message) {
        (Some(name), _) => name.as_str().expect("text"),
        (None, Some(_)) => "wal-message",
        (None, None) => "relay",
    };
    let (schema, table) = field("table").and_then(|text| text.split_once('.')).unwrap_or_default();
    let cell = |line: &str| {
        let (head, value) = line.split_once(':').expect(line);
        let (column, kind) = head.rsplit_once(' ').expect(line);
        let value = value.strip_prefix(' ').unwrap_or(value);
        let value = (value != "\\N").then(|| value.replace("\\n", "\n"));
        Cell { column: column.to_owned(), kind: kind.to_owned(), value }
    };
    Case {
        name: field("case").expect(text).to_owned(),
        preset: preset.to_owned(),
        schema: schema.to_owned(),
        table: table.to_owned(),
        row: row.lines().filter(|line| !line.is_empty()).map(cell).collect(),
        expected: expected.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect(),
        settings,
        message,
    }
}

/// The lines of a record as the golden files print them, its own topic's beginning and what differs between the ways left out.
pub(crate) fn lines(record: &Rec, wanted: &[String]) -> Vec<String> {
    let position = record.header("relay-pos").unwrap_or_default();
    let mut lines = vec![
        format!("topic: {}", record.topic),
        format!("key: {}", printed(record.key.as_deref())),
        format!("value: {}", printed(record.value.as_deref())),
    ];
    for (name, value) in record.headers.iter().filter(|(name, _)| !name.starts_with("relay-")) {
        let value =
            if name == "id" && record.header("id") == Some(position) { POSITION.into() } else { printed(value.as_deref()) };
        lines.push(format!("header {name}: {value}"));
    }
    if wanted.iter().any(|line| line.starts_with("timestamp: ")) {
        lines.push(format!("timestamp: {}", record.timestamp_ms.unwrap_or_default()));
    }
    if wanted.iter().any(|line| line.starts_with("partition: ")) {
        lines.push(format!("partition: {}", record.partition));
    }
    lines
}

fn printed(bytes: Option<&[u8]>) -> String {
    match bytes {
        None => "\\N".to_owned(),
        Some(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => text.replace('\n', "\\n"),
            Err(_) => bytes.iter().fold("hex ".to_owned(), |text, byte| format!("{text}{byte:02x}")),
        },
    }
}

/// Lines that do not depend on how jsonb orders members: the value parsed, the headers sorted.
pub(crate) fn loosened(lines: &[String]) -> Vec<String> {
    let value = |line: &String| {
        let json = line.strip_prefix("value: ").and_then(|text| serde_json::from_str::<serde_json::Value>(text).ok());
        json.map_or_else(|| line.clone(), |json| format!("value: {json}"))
    };
    let mut lines: Vec<String> = lines.iter().map(value).collect();
    lines.sort();
    lines
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

// === impl Printed ===

impl Printed {
    /// `relay preset …`, successful.
    pub(crate) fn ask(&mut self, args: &[&str]) -> &str {
        let args: Vec<String> = args.iter().map(|&arg| arg.to_owned()).collect();
        self.0.entry(args.clone()).or_insert_with(|| {
            let output = Command::new(binary(&[])).arg("preset").args(&args).output().expect("start relay");
            assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8(output.stdout).expect("text")
        })
    }

    /// A preset's fields.
    pub(crate) fn fields(&mut self, preset: &str) -> Table {
        let file: Table = self.ask(&["show", preset]).parse().expect("TOML");
        file["outbox"][0].as_table().expect("a section").clone()
    }
}

// === impl Case ===

impl Case {
    /// Whether its row is due later than the golden files' own present, which servers do not know.
    pub(crate) fn depends_on_now(&self) -> bool {
        self.expected[0].starts_with("poison: scheduled") || self.expected[0] == "Filtered(Scheduled)"
    }

    /// The preset's order in poll mode, if it has one.
    pub(crate) fn order(&self, printed: &mut Printed) -> Option<String> {
        printed.fields(&self.preset).get("order").and_then(Value::as_str).map(str::to_owned)
    }

    /// Makes the table, and all that there is to know of it. `major` is the server's version.
    pub(crate) fn place(self, db: &mut postgres::Client, printed: &mut Printed, way: Way, schema: &str, major: u32) -> Placed {
        let mut order = self.order(printed);
        db.batch_execute(&format!("CREATE SCHEMA {schema}; GRANT USAGE ON SCHEMA {schema} TO relay")).expect("a schema");
        let (mut is_presets, mut is_canonical) = (false, true);
        let mut insert = self.emit(schema);
        if self.message.is_none() {
            let sql = self.preset_sql(printed, way, schema, major);
            let made = self.make(db, schema, &sql);
            is_presets = made.is_some();
            insert = made.unwrap_or_else(|| {
                let sql = self.row_sql(schema);
                self.make(db, schema, &sql).unwrap_or_else(|| panic!("{}: its own columns refuse the row: {sql}", self.name))
            });
            let tick = sql.split_once("then: order = \"tick(").and_then(|(_, rest)| rest.split_once('"'));
            let is_first = |order: &str| {
                order
                    .trim_start_matches("claim(")
                    .trim_end_matches(')')
                    .split(" ?? ")
                    .any(|name| self.row.iter().any(|cell| cell.column == name.trim_matches('"')))
            };
            order = match (way, order) {
                (Way::Tick, _) if is_presets => Some(format!("tick({}", tick.expect("the SQL names the order").0)),
                (Way::Tick, _) => Some("tick(xid, seq)".to_owned()),
                (_, Some(order)) if order.starts_with("claim") && !is_first(&order) => {
                    Some(format!("claim({})", self.row[0].column))
                }
                (_, order) => order,
            };
            is_canonical = self.is_canonical(db);
        }
        let wanted = self.wanted(printed, schema);
        let entry = self.entry(printed, way, schema, order, matches!(wanted, Wanted::Record(_)));
        Placed { schema: schema.to_owned(), entry, insert, is_presets, is_canonical, wanted, case: self }
    }

    /// The preset's SQL for a way: columns for ticks only where asked for; publication and slot come later, for all tables.
    fn preset_sql(&self, printed: &mut Printed, way: Way, schema: &str, major: u32) -> String {
        let (mode, major) = (if way == Way::Log { "log" } else { "poll" }, major.to_string());
        let table = format!("g00.{}", self.table);
        let sql = printed.ask(&["sql", &self.preset, "--table", &table, "--mode", mode, "--server-version", &major]);
        let sql = sql.split_once("CREATE PUBLICATION").map_or(sql, |(head, _)| head);
        let sql = sql.replace("g00", schema).replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION");
        let is_extra = |line: &str| line.starts_with("ALTER TABLE") || line.starts_with("CREATE INDEX");
        sql.lines().filter(|line| way == Way::Tick || !is_extra(line)).map(|line| format!("{line}\n")).collect()
    }

    /// A table of the row's columns.
    fn row_sql(&self, schema: &str) -> String {
        let table = format!("{schema}.{}", quoted(&self.table));
        let column = |cell: &Cell| match cell.kind.as_str() {
            "xid8" => format!("{} xid8 NOT NULL DEFAULT pg_current_xact_id()", quoted(&cell.column)),
            kind => format!("{} {kind}", quoted(&cell.column)),
        };
        let mut columns: Vec<String> = self.row.iter().map(column).collect();
        let extra = [("seq", "bigint GENERATED ALWAYS AS IDENTITY"), ("xid", "xid8 NOT NULL DEFAULT pg_current_xact_id()")];
        let is_missing = |name: &str| self.row.iter().all(|cell| cell.column != name);
        columns.extend(extra.iter().filter(|(name, _)| is_missing(name)).map(|(name, kind)| format!("{name} {kind}")));
        let key = quoted(&self.row[0].column);
        format!(
            "CREATE TABLE {table} ({}, PRIMARY KEY ({key})); GRANT SELECT, UPDATE, DELETE ON {table} TO relay",
            columns.join(", ")
        )
    }

    /// Makes the table by that SQL and tries the row; `None`, with nothing left behind, when they do not go together.
    fn make(&self, db: &mut postgres::Client, schema: &str, sql: &str) -> Option<String> {
        let mut all = db.transaction().expect("a transaction");
        all.batch_execute(sql).unwrap_or_else(|error| panic!("{}: {error:?}\n{sql}", self.name));
        let table = format!("{schema}.{}", quoted(&self.table));
        let rows = all
            .query(
                "SELECT attname::text, atttypid::regtype::text, attnotnull AND NOT atthasdef AND attidentity = '' \
                 FROM pg_attribute WHERE attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped",
                &[&table],
            )
            .expect("columns");
        let found: HashMap<String, String> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
        for cell in &self.row {
            let kind: String = all.query_one("SELECT $1::text::regtype::text", &[&cell.kind]).expect("a type").get(0);
            if found.get(&cell.column) != Some(&kind) {
                return None;
            }
        }
        // What the case leaves out and the table insists on.
        let filled = rows.iter().filter(|row| row.get(2) && self.row.iter().all(|cell| cell.column != row.get::<_, &str>(0)));
        let filled = filled.map(|row| {
            let value = match row.get::<_, &str>(1) {
                "timestamp with time zone" | "timestamp without time zone" => "now()",
                "integer" | "bigint" | "smallint" => "0",
                _ => "''",
            };
            (quoted(row.get(0)), value.to_owned())
        });
        let own = self.row.iter().filter(|cell| cell.kind != "xid8");
        let own = own.map(|cell| (quoted(&cell.column), cell.value.as_deref().map_or("NULL".to_owned(), literal)));
        let (names, values): (Vec<String>, Vec<String>) = own.chain(filled).unzip();
        let insert = format!("INSERT INTO {table} ({}) OVERRIDING SYSTEM VALUE VALUES ({})", names.join(", "), values.join(", "));
        let mut trial = all.transaction().expect("a savepoint");
        trial.batch_execute(&insert).ok()?;
        trial.rollback().expect("the trial is undone");
        all.commit().expect("the table is made");
        Some(insert)
    }

    fn is_canonical(&self, db: &mut postgres::Client) -> bool {
        let documents = self.row.iter().filter(|cell| cell.kind == "jsonb").filter_map(|cell| cell.value.as_ref());
        documents.fold(true, |all, text| {
            let row = db.query_one("SELECT $1::text::jsonb::text = $1::text", &[text]).expect("a document");
            all && row.get::<_, bool>(0)
        })
    }

    fn emit(&self, schema: &str) -> String {
        let Some((prefix, content)) = &self.message else { return String::new() };
        let prefix = prefix.replacen("outbox", schema, 1);
        format!("SELECT pg_logical_emit_message(true, {}, {})", literal(&prefix), literal(content))
    }

    /// The topic's template: the case's, or the preset's.
    fn template(&self, printed: &mut Printed) -> String {
        let of = |table: &Table| table.get("topic").and_then(Value::as_str).map(str::to_owned);
        of(&self.settings).or_else(|| of(&printed.fields(&self.preset))).expect("a topic")
    }

    fn wanted(&self, printed: &mut Printed, schema: &str) -> Wanted {
        if let Some(message) = self.expected[0].strip_prefix("poison: ") {
            let (_, message) = message.split_once(": ").expect("a reason");
            let label = match &self.message {
                Some((prefix, _)) => (prefix.clone(), prefix.replacen("outbox", schema, 1)),
                None => (format!("{}.{}", self.schema, self.table), format!("{schema}.{}", self.table)),
            };
            let message = message.strip_prefix(&label.0).map_or(message.to_owned(), |rest| format!("{}{rest}", label.1));
            return Wanted::Poison(message);
        }
        if self.expected[0].starts_with("Filtered") {
            return Wanted::Nothing;
        }
        let is_of_schema = self.template(printed).contains("{schema}");
        let line = |line: &String| match line.strip_prefix("topic: ") {
            Some(topic) if is_of_schema => format!("topic: {schema}.{}", topic.replacen(&self.schema, schema, 1)),
            Some(topic) => format!("topic: {schema}.{topic}"),
            None => line.clone(),
        };
        let is_kept = |line: &&String| !line.starts_with("header relay-") && *line != COMMIT_TIME;
        Wanted::Record(self.expected.iter().filter(is_kept).map(line).collect())
    }

    /// The case's settings with a table and topics of their own, and for polling what the preset leaves to the user.
    fn entry(&self, printed: &mut Printed, way: Way, schema: &str, order: Option<String>, is_record: bool) -> Table {
        let mut entry = self.settings.clone();
        let mut put = |name: &str, value: String| drop(entry.insert(name.to_owned(), Value::String(value)));
        match (&self.message, self.settings.get("table").and_then(Value::as_str)) {
            (Some(_), _) => {
                let glob = self.settings["message"].as_str().expect("text");
                put("message", glob.replacen("outbox", schema, 1));
            }
            (None, Some(glob)) => put("table", glob.replacen(&self.schema, schema, 1)),
            (None, None) => put("table", format!("{schema}.{}", self.table)),
        }
        let fields = printed.fields(&self.preset);
        if let Some(order) = order.filter(|_| way != Way::Log) {
            if order.starts_with("claim") && !fields.contains_key("after_publish") {
                put("after_publish", "delete".to_owned());
            }
            put("order", order);
        }
        if !is_record {
            return entry;
        }
        let router = entry.get_mut("router").and_then(Value::as_table_mut);
        match router.and_then(|router| router.get_mut("route.topic.replacement")) {
            Some(replacement) => *replacement = Value::String(format!("{schema}.{}", replacement.as_str().expect("text"))),
            None => {
                let template = self.template(printed);
                let alternatives: Vec<String> = template.split("??").map(|text| format!("{schema}.{}", text.trim())).collect();
                entry.insert("topic".to_owned(), Value::String(alternatives.join(" ?? ")));
            }
        }
        entry
    }
}

// === impl Placed ===

impl Placed {
    /// Its topic, where it has one.
    pub(crate) fn topic(&self) -> Option<&str> {
        match &self.wanted {
            Wanted::Record(lines) => lines[0].strip_prefix("topic: "),
            _ => None,
        }
    }

    /// Whether it says which partition its record belongs in.
    pub(crate) fn needs_partitions(&self) -> bool {
        matches!(&self.wanted, Wanted::Record(lines) if lines.iter().any(|line| line.starts_with("partition: ")))
    }

    /// Its table, quoted.
    pub(crate) fn table(&self) -> String {
        format!("{}.{}", self.schema, quoted(&self.case.table))
    }
}
