//! Decides about one table: which preset, how well, and the `[[outbox]]` that it would get, proven by the route compiler.

use relay_encode::detect::{Candidate, Fit, Grade, renamed, shape};
use relay_encode::{AfterPublish, FormatSettings, Mode, Order, OutboxSettings, Plan, Preset, Route, Routes};
use relay_postgres::detect::{Server, Table};

use super::super::entry;
use super::rows::Told;
use super::{file, notes};
use crate::settings::{is_legal_topic, quoted};

/// What holds for every table.
#[derive(Debug)]
pub(super) struct Case<'a> {
    pub(super) pipeline: &'a str,
    /// relay's publication.
    pub(super) publication: String,
    pub(super) server: &'a Server,
    pub(super) mode: Mode,
}

/// What was found out about a table.
#[derive(Debug)]
pub(super) struct Found {
    /// `schema.table`.
    pub(super) table: String,
    pub(super) fit: Fit,
    /// `None` for a mere shape.
    pub(super) preset: Option<&'static Preset>,
    /// What was decided, and why.
    pub(super) decisions: Vec<String>,
    /// What an operator should know.
    pub(super) notes: Vec<String>,
    /// The lines of its `[[outbox]]`; those that begin with `#` are proposals.
    pub(super) lines: Vec<String>,
    /// How polling would read it, or why the `[[outbox]]` is only a comment.
    pub(super) outcome: Result<Reading, String>,
    /// Whether relay's role may read it, an index serves the tick query, and relay's publication has it.
    pub(super) state: State,
}

/// How polling reads a table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Reading {
    pub(super) order: Option<Order>,
    pub(super) after: AfterPublish,
}

/// What of the SQL has been run already.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct State {
    pub(super) may_select: bool,
    pub(super) indexed: Vec<String>,
    pub(super) publications: Vec<String>,
}

/// Looks at one table; `fits` has at least one entry, the best first.
pub(super) fn judge(case: &Case<'_>, table: &Table, mut fits: Vec<Fit>, told: &Told) -> Found {
    let fit = fits.remove(0);
    let mut found = Found {
        table: table.raw(),
        preset: fit.preset.and_then(|name| Preset::find(name).ok()),
        fit,
        decisions: Vec::new(),
        notes: Vec::new(),
        lines: Vec::new(),
        outcome: Ok(Reading::default()),
        state: State {
            may_select: table.relay_may_select,
            indexed: table.indexed.clone(),
            publications: table.publications.clone(),
        },
    };
    found.choose(&fits, told);
    match found.preset {
        Some(preset) => found.outbox(case, table, preset, told),
        None => found.sketch(table, told),
    }
    found.outcome = found.outcome(case, table);
    found.notes = notes::of_table(case, table, &found);
    found
}

/// A condition on one value of a column, in the language of `match`.
fn condition(column: &str, value: &str) -> String {
    format!("match = {}", quoted(&format!("{column} = '{}'", value.replace('\'', "''"))))
}

// === impl Found ===

impl Found {
    /// Whether its `[[outbox]]` stands in the file as more than a comment.
    pub(super) fn is_active(&self) -> bool {
        self.outcome.is_ok()
    }

    /// Between presets that the columns alone do not tell apart.
    fn choose(&mut self, others: &[Fit], told: &Told) {
        let Some(preset) = self.preset else { return };
        let also: Vec<&str> =
            others.iter().filter(|other| other.grade == Grade::Exact).filter_map(|other| other.preset).collect();
        if !also.is_empty() && self.fit.grade == Grade::Exact {
            self.decisions.push(format!("it fits {} exactly too; {} is the more specific one", also.join(", "), preset.name));
        }
        let Some(variant) = &self.fit.variant else { return };
        let Ok(other) = Preset::find(variant.preset) else { return };
        let has_its_name = entry::defaults(other).get("table").and_then(toml::Value::as_str) == Some(self.table.as_str());
        match told.is_envelope {
            Some(true) => {
                self.decisions.push(format!("{}, not {}: its payloads are a forwarder's envelopes", other.name, preset.name));
                self.preset = Some(other);
            }
            Some(false) => {
                self.decisions.push(format!("{}, not {}: its payloads are no forwarder's envelopes", preset.name, other.name));
            }
            None if has_its_name => {
                self.decisions.push(format!("{}, not {}: by the table's name; no row could tell", other.name, preset.name));
                self.preset = Some(other);
            }
            None => self.decisions.push(format!("{}, not {}: no row could tell", preset.name, other.name)),
        }
    }

    /// The `[[outbox]]` of a preset.
    fn outbox(&mut self, case: &Case<'_>, table: &Table, preset: &'static Preset, told: &Told) {
        let fields = entry::fields(preset, &self.table, case.pipeline);
        for (field, line) in fields.iter().skip(2) {
            self.decisions.push(match *field {
                "source_name" => "source_name is the pipeline's name: say otherwise before the first start".to_owned(),
                field => format!("{field} is set for this one table: {line}"),
            });
        }
        self.lines.extend(fields.into_iter().map(|(_, line)| line));
        if self.fit.grade == Grade::Close {
            let renamed = renamed(preset, &table.types);
            self.lines.extend(renamed.lines);
            if let Some(text) = renamed.fixed_match {
                self.decisions.push(format!("the preset's `match` cannot be overridden, and would have to be: {text}"));
            }
        }
        if !preset.requires_match.is_empty() {
            self.condition(preset.requires_match, told);
        }
        if let Some(headers) = &told.headers {
            self.decisions
                .push(format!("`{headers}` holds JSON objects, which the preset does not read: a comment shows how to"));
            self.lines.push(format!("#headers = [{}]", quoted(&format!("{{{headers}}}"))));
        }
        if case.mode == Mode::Poll {
            self.tick(table, preset);
        }
    }

    /// The condition that only the user can know; one value among the rows makes it a safe guess.
    fn condition(&mut self, column: &str, told: &Told) {
        match told.matches.as_slice() {
            [value] => {
                self.lines.push(condition(column, value));
                self.decisions.push(format!("match takes the only {column} among the newest rows: other rows are not published"));
            }
            [] => {
                let why = told.unread.as_deref().unwrap_or("its rows have none");
                self.decisions.push(format!("no {column} is known, {why}: `match` is yours to write"));
                self.lines.push(format!("#{}", condition(column, "…")));
            }
            values => {
                self.decisions.push(format!("{} values of {column} among the newest rows: choose one", values.len()));
                self.lines.extend(values.iter().map(|value| format!("#{}", condition(column, value))));
            }
        }
    }

    /// With an xid8 column polling need not claim.
    fn tick(&mut self, table: &Table, preset: &Preset) {
        let is_tick = entry::defaults(preset).get("order").is_some_and(|order| order.to_string().contains("tick("));
        let order = preset.order_column();
        let has =
            |name: &str, kinds: &[&str]| table.types.iter().any(|(known, kind)| known == name && kinds.contains(&kind.as_str()));
        if !is_tick && has("xid", &["xid8"]) && has(order, &["bigint", "integer"]) {
            self.lines.push(entry::line("order", &format!("tick(xid, {order})")));
            self.decisions.push("order is tick, not claim: it has an xid8 column".to_owned());
        }
    }

    /// For a table that fits no preset: the generic one, with the parts that its columns seem to play.
    fn sketch(&mut self, table: &Table, told: &Told) {
        let (schema, name) = (table.relation.schema.to_string(), table.relation.name.to_string());
        let Some(shape) = shape(&Candidate { schema, table: name, columns: table.types.clone() }) else { return };
        let mut lines = vec![entry::line("table", &self.table), entry::line("preset", "kafka-columns")];
        lines.push(match (&shape.topic, &shape.kind) {
            (Some(column), _) | (None, Some(column)) => entry::line("topic", &format!("{{{column}}}")),
            (None, None) => "topic = \"…\"".to_owned(),
        });
        lines.push(entry::line("key", shape.key.as_deref().unwrap_or_default()));
        lines.push(entry::line("value", &shape.payload));
        lines.push(entry::line("id", shape.id.as_deref().unwrap_or("…")));
        let headers = told.headers.as_ref().map(|headers| quoted(&format!("{{{headers}}}"))).unwrap_or_default();
        lines.push(format!("headers = [{headers}]"));
        if let (Some(kind), true) = (&shape.kind, shape.topic.is_some()) {
            lines.push(entry::line("type", kind));
        }
        self.lines = lines;
    }

    /// Whether the file may have it, and how it would be read.
    fn outcome(&self, case: &Case<'_>, table: &Table) -> Result<Reading, String> {
        let proven = self.prove(case, table);
        match (self.fit.grade, proven) {
            (Grade::Exact, _) if case.mode == Mode::Log && table.is_unlogged => {
                Err("it is unlogged, so its rows never reach the log: poll it in a pipeline of its own".to_owned())
            }
            (Grade::Exact, proven) => proven,
            (Grade::Close, Ok(_)) => Err(format!("close: {}; with these fields it fits", self.fit.differences.join(", "))),
            (Grade::Close, Err(why)) => Err(format!("close: {}; and not ready: {why}", self.fit.differences.join(", "))),
            (Grade::Shape, _) => {
                Err("no preset, but it looks like an outbox; docs/presets.md has the layouts of more frameworks".to_owned())
            }
        }
    }

    /// The `[[outbox]]`, compiled as `relay check` and the stream would compile it.
    fn prove(&self, case: &Case<'_>, table: &Table) -> Result<Reading, String> {
        #[derive(serde::Deserialize)]
        struct Text {
            outbox: Vec<OutboxSettings>,
        }
        if self.table.contains('*') {
            return Err("its name has a `*`, which `table` reads as a glob".to_owned());
        }
        let text: Text = toml::from_str(&file::block(&self.lines)).map_err(|error| error.message().to_owned())?;
        let settings = text.outbox.into_iter().next().ok_or("there is no [[outbox]]")?;
        // A topic made of the table's name is not to be read as a template.
        let is_suffix = self.preset.is_some_and(|preset| preset.toml.contains("topic = \"{table_suffix}\""));
        if let Some(topic) = settings.topic.as_deref().filter(|topic| is_suffix && !is_legal_topic(topic)) {
            return Err(format!("`{topic}` is not a topic name: set `topic`"));
        }
        let format = FormatSettings { mode: case.mode, pipeline: case.pipeline.to_owned(), ..FormatSettings::default() };
        let route = Route::new(settings, &format).map_err(|errors| {
            errors.iter().map(|error| format!("{}: {}", error.field, error.message)).collect::<Vec<_>>().join("; ")
        })?;
        let routes = Routes::new([route]);
        let route = routes.table(&table.relation).ok_or("`table` does not name it")?;
        Plan::compile(route, &table.relation).map_err(|error| error.to_string())?;
        Ok(Reading { order: route.order().cloned(), after: route.after_publish().clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use relay_core::{Column, Oid, Relation, ReplicaIdentity};
    use relay_encode::detect::detect;

    const TEXT: u32 = 25;

    fn server(wal_level: &str) -> Server {
        Server {
            version: "18.1".into(),
            major: 18,
            wal_level: wal_level.into(),
            is_standby: false,
            database: "shop".into(),
            role: "reader".into(),
            is_superuser: false,
            may_replicate: false,
            may_create: false,
            relay_may_replicate: None,
            has_publication: false,
            has_slot: false,
            has_outbox: true,
        }
    }

    fn table(name: &str, columns: &[(&str, &str, u32)]) -> Table {
        let (schema, name) = name.split_once('.').unwrap();
        let column = |(name, _, oid): &(&str, &str, u32)| Column {
            name: (*name).into(),
            type_oid: Oid(*oid),
            type_modifier: -1,
            type_name: None,
            is_key: false,
        };
        Table {
            types: columns.iter().map(|(name, kind, _)| ((*name).to_owned(), (*kind).to_owned())).collect(),
            relation: Relation {
                oid: Oid(1),
                schema: schema.into(),
                name: name.into(),
                identity: ReplicaIdentity::Default,
                columns: columns.iter().map(column).collect(),
            },
            is_partitioned: false,
            is_unlogged: false,
            has_row_security: false,
            triggers: Vec::new(),
            publications: Vec::new(),
            indexed: Vec::new(),
            owner: "app".into(),
            may_select: true,
            relay_may_select: false,
        }
    }

    fn judged(table: &Table, mode: Mode, told: &Told) -> Found {
        let server = server(if mode == Mode::Log { "logical" } else { "replica" });
        let case = Case { pipeline: "shop", publication: "relay_shop".into(), server: &server, mode };
        let (schema, name) = (table.relation.schema.to_string(), table.relation.name.to_string());
        judge(&case, table, detect(&Candidate { schema, table: name, columns: table.types.clone() }), told)
    }

    fn namastack() -> Table {
        let texts = ["id", "status", "record_key", "record_type", "payload", "handler_id"].map(|name| (name, "text", TEXT));
        let others =
            [("partition_no", "integer", 23), ("created_at", "timestamp with time zone", 1184), ("completed_at", "text", TEXT)];
        table("public.outbox_record", &[texts.as_slice(), others.as_slice()].concat())
    }

    #[test]
    fn a_handler_is_taken_only_where_there_is_no_other() {
        let told = |ids: &[&str]| Told { matches: ids.iter().map(|id| (*id).to_owned()).collect(), ..Told::default() };
        let one = judged(&namastack(), Mode::Log, &told(&["it's"]));
        assert!(one.is_active() && one.lines.contains(&"match = \"handler_id = 'it''s'\"".to_owned()), "{one:?}");
        for ids in [&["a", "b"][..], &[]] {
            let found = judged(&namastack(), Mode::Log, &told(ids));
            assert!(found.outcome.as_ref().is_err_and(|why| why.contains("handler_id")), "{found:?}");
            assert!(found.lines.iter().skip(2).all(|line| line.starts_with("#match")), "{found:?}");
            assert!(!found.decisions.join("").contains("`a`"), "what rows hold is for the file alone: {found:?}");
        }
    }

    #[test]
    fn a_name_that_is_no_topic_or_a_glob_is_a_comment() {
        let columns = [
            ("msg_id", "bigint", 20),
            ("enqueued_at", "timestamp with time zone", 1184),
            ("vt", "timestamp with time zone", 1184),
            ("message", "jsonb", 3802),
            ("headers", "jsonb", 3802),
        ];
        let outcome = |name: &str| judged(&table(name, &columns), Mode::Log, &Told::default()).outcome;
        assert!(outcome("pgmq.q_orders").is_ok());
        for name in ["pgmq.q_my orders", "pgmq.q_{message}"] {
            assert!(outcome(name).is_err_and(|why| why.contains("topic name")), "{name}");
        }
        assert!(outcome("pgmq.q_*").is_err_and(|why| why.contains("glob")));
    }

    #[test]
    fn polling_takes_ticks_where_the_table_has_them_and_is_refused_without_a_mark() {
        let mut columns = vec![
            ("id", "uuid", 2950),
            ("aggregatetype", "text", TEXT),
            ("aggregateid", "text", TEXT),
            ("type", "text", TEXT),
            ("payload", "jsonb", 3802),
        ];
        let found = judged(&table("public.o", &columns), Mode::Poll, &Told::default());
        assert!(found.outcome.is_err_and(|why| why.contains("after_publish")));
        columns.extend([("xid", "xid8", 5069), ("seq", "bigint", 20)]);
        let found = judged(&table("public.o", &columns), Mode::Poll, &Told::default());
        let tick = Order::Tick { xid: "xid".into(), order: "seq".into() };
        assert_eq!(found.outcome, Ok(Reading { order: Some(tick), after: AfterPublish::Keep }));
        assert!(found.notes[0].contains("polling would read it by tick(xid, seq)"), "{:?}", found.notes);
    }
}
