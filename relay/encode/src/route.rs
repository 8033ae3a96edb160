//! One outbox, checked: settings laid over their preset become a route, which waits for its table to appear.

mod reader;

use crate::cloud_route::CloudRule;
use crate::contract::Contract;
use crate::error::RouteError;
use crate::glob::Glob;
use crate::poll::{AfterPublish, Order};
use crate::predicate::Term;
use crate::preset::Preset;
use crate::router;
use crate::settings::{FormatSettings, Mode, OutboxSettings, RecordTimestamp};
use crate::template::{Expression, HeaderItem, Reference};
use crate::topic::{Rewrite, TopicRules};
use reader::{Reader, names_column};
use relay_core::Relation;
use std::sync::Arc;
use std::time::Duration;

/// A checked `[[outbox]]` table.
#[derive(Debug)]
pub struct Route {
    pub(crate) target: Target,
    /// Tells what `{table_suffix}` and `{prefix_rest}` stand for: the target's own star, else that of the preset's default table.
    pub(crate) rest: Option<Glob>,
    pub(crate) conditions: Vec<Term>,
    /// The terms that say when a row is due, where it falls to the encoder to look.
    pub(crate) schedule: Vec<Term>,
    /// `match` in SQL, for the poll query.
    poll_condition: Option<String>,
    order: Option<Order>,
    after_publish: AfterPublish,
    retention: Option<Duration>,
    pub(crate) id: Expression,
    pub(crate) topic: TopicRule,
    pub(crate) topics: TopicRules,
    pub(crate) key: Option<Expression>,
    pub(crate) value: Vec<Reference>,
    pub(crate) value_encoding: ValueEncoding,
    /// `… ?? empty()`: a value that is NULL or missing has no bytes.
    pub(crate) is_null_empty: bool,
    /// Part of generated ids.
    pub(crate) outbox_id: u64,
    /// Name in the object and column.
    pub(crate) envelope: Vec<(String, Reference)>,
    /// Column with the version of that object's schema.
    pub(crate) schema_version: Option<Reference>,
    pub(crate) headers: Vec<HeaderItem>,
    pub(crate) ignores_missing: bool,
    pub(crate) timestamp: Option<Reference>,
    pub(crate) partition: Option<Reference>,
    /// Header name, field name and column of traceparent, tracestate and baggage.
    pub(crate) trace: Vec<(&'static str, Reference)>,
    pub(crate) trace_properties: Option<Reference>,
    pub(crate) tombstone_on_null: bool,
    pub(crate) on_update: OnUpdate,
    pub(crate) on_scheduled: OnScheduled,
    pub(crate) on_non_transactional: OnNonTransactional,
    pub(crate) topic_prefix: String,
    pub(crate) pipeline: String,
    pub(crate) position_header: bool,
    pub(crate) source_header: bool,
    pub(crate) record_timestamp: RecordTimestamp,
    pub(crate) contract: Contract,
    /// `format = "cloudevents"`.
    pub(crate) cloud: Option<CloudRule>,
    preset: &'static Preset,
    canonical: String,
}

/// What a route takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Table(Glob),
    Message(Glob),
}

/// How a topic is made.
#[derive(Clone, Debug)]
pub(crate) enum TopicRule {
    Template(Expression),
    Rewrite(Rewrite),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ValueEncoding {
    Auto,
    Base64,
    JsonString,
    /// `wrap:eventuate`.
    Eventuate,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnUpdate {
    Ignore,
    /// As an insert; what the row leaves out comes from the old one.
    Publish,
    Stop,
}

/// What becomes of a row that is due in the future.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnScheduled {
    Poison,
    Publish,
    Skip,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnNonTransactional {
    Ignore,
    Poison,
}

/// Every route of a pipeline, in the order of the file: the first that matches wins.
#[derive(Clone, Debug, Default)]
pub struct Routes {
    routes: Vec<Arc<Route>>,
}

// === impl Route ===

impl Route {
    /// Lays `settings` over their preset and checks all that can be checked without the table.
    ///
    /// # Errors
    /// Every field that is wrong, contradicts another, or asks for something that this version does not implement.
    pub fn new(mut settings: OutboxSettings, format: &FormatSettings) -> Result<Self, Vec<RouteError>> {
        let mut errors = Vec::new();
        let default_preset = match (&settings.message, &settings.router) {
            (Some(_), _) => "wal-message",
            (None, Some(_)) => "debezium",
            (None, None) => "relay",
        };
        if settings.table.is_some() && settings.message.is_some() {
            errors.push(RouteError::conflict("message", "an [[outbox]] has a `table` or a `message`, not both"));
        }
        router::apply(&mut settings, &mut errors);
        let preset_name = settings.preset.clone().unwrap_or_else(|| default_preset.to_owned());
        let found = Preset::find(&preset_name).and_then(|preset| Ok((preset, preset.settings()?)));
        let (preset, preset_settings) = match found {
            Ok(found) => found,
            Err(error) => {
                errors.push(error);
                return Err(errors);
            }
        };
        let preset_settings = match (&settings.table, &settings.message) {
            // The preset's default table gives way to a message and the other way round.
            (None, Some(_)) => OutboxSettings { table: None, ..preset_settings },
            (Some(_), None) => OutboxSettings { message: None, ..preset_settings },
            _ => preset_settings,
        };
        if settings.after_publish.as_deref().is_some_and(|after| after != "keep") && format.mode == Mode::Log {
            let hint = "set source.mode = \"poll\", or leave the key out; `retention` prunes published rows in either mode";
            errors.push(RouteError::conflict("after_publish", "nothing is marked or deleted in log mode").hint(hint));
        }
        if format.mode == Mode::Poll && !preset.no_poll.is_empty() {
            let message = format!("`{}` cannot be polled: {}", preset.name, preset.no_poll);
            errors.push(RouteError::conflict("preset", message).hint("set source.mode = \"log\""));
        }
        if !preset.requires_match.is_empty() && !names_column(settings.matches.as_deref(), preset.requires_match) {
            let column = preset.requires_match;
            let message =
                format!("preset `{}` needs a condition on `{column}`: several rows are written for one event", preset.name);
            errors.push(RouteError::value("match", message).hint(format!("match = \"{column} = '…'\"")));
        }
        let default_table = preset_settings.table.clone().unwrap_or_default();
        let is_wrapped = preset_settings.value_encoding.as_deref().is_some_and(|encoding| encoding != "auto");
        let sets_encoding = settings.value_encoding.is_some() || is_wrapped;
        let settings = settings.over(preset_settings);
        let mut reader = Reader { settings: &settings, default_table: &default_table, rest: None, errors, sets_encoding };
        reader.refuse_later(format);
        let route = reader.route(preset, format);
        match route {
            Some(route) if reader.errors.is_empty() => Ok(route),
            _ => Err(reader.errors),
        }
    }

    /// The preset it started from.
    #[must_use]
    pub fn preset(&self) -> &'static Preset {
        self.preset
    }

    /// The table name or glob, if it takes rows.
    #[must_use]
    pub fn table(&self) -> Option<&str> {
        match &self.target {
            Target::Table(glob) => Some(glob.as_str()),
            Target::Message(_) => None,
        }
    }

    /// Whether it takes the table of that name, `schema.table`.
    fn takes_table(&self, name: &str) -> bool {
        let Target::Table(glob) = &self.target else { return false };
        let bare = name.split_once('.').map_or(name, |(_, bare)| bare);
        let is_excepted = || glob.has_star() && self.preset.except.iter().any(|except| Glob::new(except).matches(bare));
        glob.matches(name) && !is_excepted()
    }

    /// The message prefix or glob, if it takes logical messages.
    #[must_use]
    pub fn message(&self) -> Option<&str> {
        match &self.target {
            Target::Table(_) => None,
            Target::Message(glob) => Some(glob.as_str()),
        }
    }

    /// The settings that decide bytes and routing, one a line.
    #[must_use]
    pub fn canonical(&self) -> &str {
        &self.canonical
    }

    /// The topic, if no row takes part in it.
    #[must_use]
    pub fn fixed_topic(&self) -> Option<&str> {
        match &self.topic {
            TopicRule::Template(expression) => expression.constant(),
            TopicRule::Rewrite(_) => None,
        }
    }

    /// Whether encoding asks for the time of encoding.
    #[must_use]
    pub fn needs_now(&self) -> bool {
        self.record_timestamp == RecordTimestamp::Now || !self.schedule.is_empty()
    }

    /// Poll mode: the order of rows; `None` where the preset has none and the settings neither.
    #[must_use]
    pub fn order(&self) -> Option<&Order> {
        self.order.as_ref()
    }

    /// Poll mode: what becomes of a published row.
    #[must_use]
    pub fn after_publish(&self) -> &AfterPublish {
        &self.after_publish
    }

    /// `match` as SQL for the poll query: with order `claim` a row waits until it is due, if a column says when; else it is judged when it
    /// is read.
    #[must_use]
    pub fn poll_condition(&self) -> Option<&str> {
        self.poll_condition.as_deref()
    }

    /// Age from which published rows are pruned.
    #[must_use]
    pub fn retention(&self) -> Option<Duration> {
        self.retention
    }

    /// The column whose time is the record's, if it is a column.
    #[must_use]
    pub fn timestamp_column(&self) -> Option<&str> {
        self.timestamp.as_ref().filter(|reference| reference.pointer.is_none()).map(|reference| reference.column.as_str())
    }
}

// === impl Target ===

impl Target {
    fn rest(&self, default_table: &str) -> Option<Glob> {
        match self {
            Self::Table(glob) | Self::Message(glob) if glob.has_star() => Some(glob.clone()),
            // `pgmq.q_orders` under a preset for `pgmq.q_*`; the schema may be another.
            Self::Table(table) => default_table
                .split_once('.')
                .filter(|(_, name)| name.contains('*'))
                .map(|(_, name)| Glob::new(&format!("*.{name}")))
                .filter(|glob| glob.matches(table.as_str())),
            Self::Message(_) => None,
        }
    }
}

// === impl Routes ===

impl Routes {
    /// All routes, in the order of the file.
    #[must_use]
    pub fn new(routes: impl IntoIterator<Item = Route>) -> Self {
        Self { routes: routes.into_iter().map(Arc::new).collect() }
    }

    /// Whether a route takes the table of that name, `schema.table`.
    #[must_use]
    pub fn names_table(&self, name: &str) -> bool {
        self.route_of(name).is_some()
    }

    /// The route of a table.
    #[must_use]
    pub fn table(&self, relation: &Relation) -> Option<&Arc<Route>> {
        self.route_of(&relation.to_string())
    }

    /// The route of a table, given as `schema.table`.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<&Arc<Route>> {
        self.route_of(name)
    }

    fn route_of(&self, name: &str) -> Option<&Arc<Route>> {
        self.routes.iter().find(|route| route.takes_table(name))
    }

    /// The route of a logical message.
    #[must_use]
    pub fn message(&self, prefix: &str) -> Option<&Arc<Route>> {
        self.routes.iter().find(|route| matches!(&route.target, Target::Message(glob) if glob.matches(prefix)))
    }

    /// Every route.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Arc<Route>> {
        self.routes.iter()
    }
}
