//! `[[capture]]` tables, checked: which tables they take, and what becomes of their changes.

use super::fingerprint;
use super::flat::FlatRule;
use super::format::Format;
use super::mask::Mask;
use super::settings::CaptureSettings;
use super::topic::TopicPlan;
use crate::error::RouteError;
use crate::glob::Glob;
use crate::predicate::{self, Term};
use crate::settings::FormatSettings;
use crate::template::{Bare, Expression, Part, Reference, Refusal, Variable};
use relay_core::{Change, Relation};
use std::sync::Arc;

/// A checked `[[capture]]` table.
#[derive(Debug)]
pub struct Capture {
    tables: Vec<Glob>,
    exclude: Vec<Glob>,
    pub(super) shape: Shape,
    pub(super) topic: Expression,
    /// Whether the topic is not the default's.
    pub(super) is_topic_on_purpose: bool,
    pub(super) key: Vec<String>,
    operations: Operations,
    pub(super) filter: Vec<Term>,
    pub(super) partition: Option<Reference>,
    /// `key_change = "split"`.
    pub(super) splits_key_change: bool,
    pub(super) columns_exclude: Vec<Glob>,
    pub(super) masks: Vec<(Glob, Mask)>,
    pub(super) format: Arc<Format>,
}

/// What a value looks like.
#[derive(Debug)]
pub(super) enum Shape {
    Debezium,
    Flat(FlatRule),
    CloudEvents,
}

#[derive(Clone, Copy, Debug, Default)]
struct Operations {
    insert: bool,
    update: bool,
    delete: bool,
    truncate: bool,
}

/// Every capture of a pipeline in the order of the file, the first that takes a table wins; and the logical messages taken.
#[derive(Clone, Debug)]
pub struct Captures {
    captures: Vec<Arc<Capture>>,
    messages: Vec<Glob>,
    pub(super) format: Arc<Format>,
    canonical: Arc<str>,
}

/// Reads one key after the other and collects what is wrong.
struct Reader {
    errors: Vec<RouteError>,
}

// === impl Capture ===

impl Capture {
    fn new(settings: &CaptureSettings, format: &Arc<Format>) -> Result<Self, Vec<RouteError>> {
        let mut reader = Reader { errors: Vec::new() };
        let shape = reader.shape(settings, format);
        let topic = reader.topic(settings, format);
        let filter = reader.filter(&settings.filter);
        let partition = match settings.partition.as_str() {
            "" => None,
            text => reader.take("partition", Reference::parse(text)),
        };
        let splits_key_change = match settings.key_change.as_str() {
            "split" => true,
            "update" => false,
            other => reader.unknown("key_change", other, "split, update"),
        };
        let operations = reader.operations(&settings.operations);
        let masks = reader.masks(&settings.mask);
        if settings.tables.is_empty() {
            reader.errors.push(RouteError::value("tables", "a [[capture]] needs at least one table or glob"));
        }
        for (at, name) in settings.key.iter().enumerate() {
            if settings.key.iter().take(at).any(|before| before == name) {
                reader.errors.push(RouteError::value("key", format!("`{name}` is named twice")));
            }
        }
        match (topic, shape) {
            (Some(topic), Some(shape)) if reader.errors.is_empty() => Ok(Self {
                tables: globs(&settings.tables),
                exclude: globs(&settings.exclude),
                shape,
                topic,
                is_topic_on_purpose: settings.topic != CaptureSettings::DEFAULT_TOPIC,
                key: settings.key.clone(),
                operations,
                filter,
                partition,
                splits_key_change,
                columns_exclude: globs(&settings.columns_exclude),
                masks,
                format: Arc::clone(format),
            }),
            _ => Err(reader.errors),
        }
    }

    /// The globs of `tables`, `columns.exclude` and `columns.mask` that match nothing of these tables, each with its key.
    #[must_use]
    pub fn idle_globs(&self, relations: &[&Relation]) -> Vec<(&'static str, &str)> {
        let tables: Vec<String> = relations.iter().map(ToString::to_string).collect();
        let columns: Vec<String> = relations
            .iter()
            .flat_map(|relation| relation.columns.iter().map(move |column| format!("{relation}.{}", column.name)))
            .collect();
        let idle = |glob: &&Glob, names: &[String]| !names.iter().any(|name| glob.matches(name));
        let of_tables = self.tables.iter().filter(|glob| idle(glob, &tables)).map(|glob| ("tables", glob.as_str()));
        let of_exclude =
            self.columns_exclude.iter().filter(|glob| idle(glob, &columns)).map(|glob| ("columns.exclude", glob.as_str()));
        let of_masks = self.masks.iter().map(|(glob, _)| glob).filter(|glob| idle(glob, &columns));
        of_tables.chain(of_exclude).chain(of_masks.map(|glob| ("columns.mask", glob.as_str()))).collect()
    }

    /// Whether it takes the table of that name, `schema.table`.
    fn takes_table(&self, name: &str) -> bool {
        self.tables.iter().any(|glob| glob.matches(name)) && !self.exclude.iter().any(|glob| glob.matches(name))
    }

    /// Whether changes of that operation are published.
    pub(super) fn takes(&self, change: &Change<'_>) -> bool {
        match change {
            Change::Insert { .. } => self.operations.insert,
            Change::Update { .. } => self.operations.update,
            Change::Delete { .. } => self.operations.delete,
            Change::Truncate { .. } => self.operations.truncate,
            Change::Message { .. } => false,
        }
    }

    /// Whether an old tuple can lead to a record.
    pub(super) fn reads_old_rows(&self) -> bool {
        self.operations.delete || (self.operations.update && self.splits_key_change)
    }

    /// Whether values leave the column out.
    pub(super) fn excludes(&self, relation: &Relation, column: &str) -> bool {
        // Almost nobody excludes a column; a name is built only for those who do.
        !self.columns_exclude.is_empty() && {
            let name = format!("{relation}.{column}");
            self.columns_exclude.iter().any(|glob| glob.matches(&name))
        }
    }

    /// The mask of the column.
    pub(super) fn mask(&self, relation: &Relation, column: &str) -> Option<&Mask> {
        let name = format!("{relation}.{column}");
        self.masks.iter().find(|(glob, _)| glob.matches(&name)).map(|(_, mask)| mask)
    }
}

fn globs(texts: &[String]) -> Vec<Glob> {
    texts.iter().map(|text| Glob::new(text)).collect()
}

// === impl Reader ===

impl Reader {
    fn take<T>(&mut self, field: &str, parsed: Result<T, Refusal>) -> Option<T> {
        parsed
            .map_err(|refusal| {
                self.errors.push(match refusal {
                    Refusal::Wrong(message) => RouteError::value(field, message),
                    Refusal::Later(what) => RouteError::not_implemented(field, what),
                });
            })
            .ok()
    }

    fn unknown<T: Default>(&mut self, field: &str, value: &str, known: &str) -> T {
        self.errors.push(RouteError::value(field, format!("`{value}` is not known")).hint(format!("known: {known}")));
        T::default()
    }

    fn shape(&mut self, settings: &CaptureSettings, format: &Format) -> Option<Shape> {
        match settings.format.as_str() {
            "debezium" => Some(Shape::Debezium),
            "cloudevents" => Some(Shape::CloudEvents),
            "flat" => match FlatRule::new(&settings.flat, format) {
                Ok(rule) => Some(Shape::Flat(rule)),
                Err(error) => {
                    self.errors.push(error);
                    None
                }
            },
            other => self.unknown("format", other, "debezium, flat, cloudevents"),
        }
    }

    fn topic(&mut self, settings: &CaptureSettings, format: &Format) -> Option<Expression> {
        let topic = self.take("topic", Expression::parse(&settings.topic, Bare::Literal))?;
        let is_offered = |part: &Part| {
            matches!(
                part,
                Part::Literal(_) | Part::Field(_) | Part::Variable(Variable::Prefix | Variable::Schema | Variable::Table)
            )
        };
        if !topic.alternatives.iter().flatten().all(is_offered) {
            let message = "a topic is made of {prefix}, {schema}, {table}, columns and text";
            self.errors.push(RouteError::value("topic", message));
        }
        if format.schemas && topic.alternatives.iter().flatten().any(|part| matches!(part, Part::Field(_))) {
            let message = "a column in the topic does not go with `format.schemas = true`: the schemas are named after the topic";
            self.errors.push(RouteError::conflict("topic", message));
        }
        Some(topic)
    }

    fn filter(&mut self, text: &str) -> Vec<Term> {
        if text.trim().is_empty() {
            return Vec::new();
        }
        let terms = self.take("filter", predicate::parse(text)).unwrap_or_default();
        if terms.iter().any(Term::is_schedule) {
            let message = "`now()` stands only in `match` of an [[outbox]]: a change is judged once, when it is read";
            self.errors.push(RouteError::value("filter", message));
        }
        terms
    }

    fn operations(&mut self, names: &[String]) -> Operations {
        let mut operations = Operations::default();
        for name in names {
            match name.as_str() {
                "insert" => operations.insert = true,
                "update" => operations.update = true,
                "delete" => operations.delete = true,
                "truncate" => operations.truncate = true,
                other => self.unknown("operations", other, "insert, update, delete, truncate"),
            }
        }
        operations
    }

    fn masks(&mut self, entries: &[(String, String)]) -> Vec<(Glob, Mask)> {
        let mut masks = Vec::new();
        for (glob, text) in entries {
            match Mask::parse(text) {
                Ok(mask) => masks.push((Glob::new(glob), mask)),
                Err(message) => self.errors.push(RouteError::value("columns.mask", format!("`{glob}`: {message}"))),
            }
        }
        masks
    }
}

// === impl Captures ===

impl Captures {
    /// Checks every capture against the format they share.
    ///
    /// # Errors
    /// What is wrong, each with the number of its `[[capture]]`, from 0; what is wrong in `[format]` comes with number 0.
    pub fn new(settings: Vec<CaptureSettings>, format: &FormatSettings) -> Result<Self, Vec<(usize, RouteError)>> {
        let number = |index: usize| move |error| (index, error);
        let shared = Format::new(format).map_err(|errors| errors.into_iter().map(number(0)).collect::<Vec<_>>())?;
        let shared = Arc::new(shared);
        let (mut captures, mut wrong) = (Vec::new(), Vec::new());
        for (index, settings) in settings.iter().enumerate() {
            match Capture::new(settings, &shared) {
                Ok(capture) => captures.push(Arc::new(capture)),
                Err(errors) => wrong.extend(errors.into_iter().map(number(index))),
            }
        }
        if !wrong.is_empty() {
            return Err(wrong);
        }
        let canonical = fingerprint::canonical(&settings, format).into();
        Ok(Self { captures, messages: globs(&format.messages), format: shared, canonical })
    }

    /// The captures in the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Capture>> {
        self.captures.iter()
    }

    /// Whether there is no capture; messages may be taken all the same.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.captures.is_empty()
    }

    /// Whether a capture takes the table of that name, `schema.table`.
    #[must_use]
    pub fn names_table(&self, name: &str) -> bool {
        self.captures.iter().any(|capture| capture.takes_table(name))
    }

    /// Whether a capture takes the table of that name, `schema.table`, and by that name, not by a star.
    #[must_use]
    pub fn insists_on(&self, name: &str) -> bool {
        let in_full = |capture: &Capture| capture.tables.iter().any(|glob| !glob.has_star() && glob.matches(name));
        self.captures.iter().any(|capture| in_full(capture) && capture.takes_table(name))
    }

    /// Whether updates of the table of that name, `schema.table`, become events.
    #[must_use]
    pub fn takes_updates(&self, name: &str) -> bool {
        self.captures.iter().find(|capture| capture.takes_table(name)).is_some_and(|capture| capture.operations.update)
    }

    /// The topic of a table's events, where it is known without a row.
    #[must_use]
    pub fn topic(&self, schema: &str, table: &str) -> Option<String> {
        let name = format!("{schema}.{table}");
        TopicPlan::constant(self.captures.iter().find(|capture| capture.takes_table(&name))?, schema, table)
    }

    /// The capture of a table.
    #[must_use]
    pub fn table(&self, relation: &Relation) -> Option<&Arc<Capture>> {
        let name = relation.to_string();
        self.captures.iter().find(|capture| capture.takes_table(&name))
    }

    /// Whether logical messages of any prefix are published.
    #[must_use]
    pub fn has_messages(&self) -> bool {
        !self.messages.is_empty()
    }

    /// Whether logical messages of that prefix are published.
    #[must_use]
    pub fn takes_message(&self, prefix: &str) -> bool {
        self.messages.iter().any(|glob| glob.matches(prefix))
    }

    /// Whether BEGIN and END records are published.
    #[must_use]
    pub fn has_transaction_metadata(&self) -> bool {
        self.format.transaction_metadata
    }

    /// `{prefix}` of topics.
    #[must_use]
    pub fn topic_prefix(&self) -> &str {
        &self.format.prefix
    }

    /// The settings that decide bytes and routing, one a line, for the fingerprint.
    #[must_use]
    pub fn canonical(&self) -> &str {
        &self.canonical
    }

    /// Whether every capture makes CloudEvents.
    pub(super) fn makes_cloudevents(&self) -> bool {
        !self.captures.is_empty() && self.captures.iter().all(|capture| matches!(capture.shape, Shape::CloudEvents))
    }
}
