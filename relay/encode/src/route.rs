//! One outbox, checked: settings laid over their preset become a route, which waits for its table to appear.

use crate::error::RouteError;
use crate::glob::Glob;
use crate::headers;
use crate::poll::{AfterPublish, Order};
use crate::predicate::{self, Term};
use crate::preset::Preset;
use crate::router;
use crate::settings::{FormatSettings, Mode, OutboxSettings, RecordTimestamp};
use crate::template::{Bare, Expression, HeaderItem, Part, Reference, Refusal, Variable};
use crate::topic::{Rewrite, TopicRules};
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
        let settings = settings.over(preset_settings);
        let mut reader = Reader { settings: &settings, default_table: &default_table, rest: None, errors };
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

/// A field with its value, the values that are implemented, and how values of a later version begin.
type Fixed<'a> = (&'a str, Option<&'a str>, &'a [&'a str], &'a [&'a str]);

/// Reads one field after the other and collects what is wrong.
struct Reader<'a> {
    settings: &'a OutboxSettings,
    default_table: &'a str,
    rest: Option<Glob>,
    errors: Vec<RouteError>,
}

impl Reader<'_> {
    fn refuse(&mut self, field: &str, refusal: Refusal) {
        self.errors.push(match refusal {
            Refusal::Wrong(message) => RouteError::value(field, message),
            Refusal::Later(what) => RouteError::not_implemented(field, what),
        });
    }

    fn take<T>(&mut self, field: &str, parsed: Result<T, Refusal>) -> Option<T> {
        parsed.map_err(|refusal| self.refuse(field, refusal)).ok()
    }

    /// Values that are legal and wait for a later version.
    fn refuse_later(&mut self, format: &FormatSettings) {
        let settings = self.settings;
        let fixed: [Fixed<'_>; 5] = [
            ("format", settings.format.as_deref(), &["raw"], &["cloudevents"]),
            ("dataschema", settings.dataschema.as_deref(), &[""], &[""]),
            ("schema_version", settings.schema_version.as_deref(), &[""], &[""]),
            ("format.compat", Some(&format.compat), &["relay"], &["debezium"]),
            ("format.invalid_utf8", Some(&format.invalid_utf8), &["poison"], &["replace", "base64"]),
        ];
        for (field, value, now, later) in fixed {
            let Some(value) = value else { continue };
            if !now.contains(&value) {
                self.refuse_value(field, value, now, later);
            }
        }
        if format.schemas && (settings.value_encoding.as_deref() == Some("json-string") || settings.envelope.is_some()) {
            self.errors.push(RouteError::not_implemented("format.schemas", "`format.schemas = true` for outbox values"));
        }
    }

    fn refuse_value(&mut self, field: &str, value: &str, now: &[&str], later: &[&str]) {
        let is_later = later.iter().any(|later| value.starts_with(later));
        self.errors.push(if is_later {
            RouteError::not_implemented(field, format!("`{value}`"))
        } else {
            RouteError::value(field, format!("`{value}` is not known")).hint(format!("known: {}", now.join(", ")))
        });
    }

    fn choice<T: Copy>(&mut self, field: &str, value: Option<&str>, known: &[(&str, T)], later: &[&str]) -> Option<T> {
        let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
        let value = value.unwrap_or(names.first()?);
        let found = known.iter().find(|(name, _)| *name == value).map(|(_, choice)| *choice);
        if found.is_none() {
            self.refuse_value(field, value, &names, later);
        }
        found
    }

    /// A field with a single column; empty means none.
    fn reference(&mut self, field: &str, text: Option<&str>) -> Option<Reference> {
        let text = text.filter(|text| !text.is_empty())?;
        let parsed = Reference::parse(text);
        self.take(field, parsed)
    }

    fn expression(&mut self, field: &str, text: Option<&str>, bare: Bare, target: &Target) -> Option<Expression> {
        let text = text.filter(|text| !text.is_empty())?;
        let parsed = Expression::parse(text, bare);
        let expression = self.take(field, parsed)?;
        let (is_message, has_star) = (matches!(target, Target::Message(_)), self.rest.is_some());
        let cases = [
            (Variable::Table, "{table}", is_message, "stands only where `table` is set"),
            (Variable::Schema, "{schema}", is_message, "stands only where `table` is set"),
            (Variable::TableSuffix, "{table_suffix}", is_message || !has_star, "needs a `*` in `table`"),
            (Variable::PrefixRest, "{prefix_rest}", !is_message || !has_star, "needs a `*` in `message`"),
        ];
        for (variable, name, is_wrong, why) in cases {
            if is_wrong && expression.uses(variable) {
                self.errors.push(RouteError::value(field, format!("`{name}` {why}")));
            }
        }
        Some(expression)
    }

    fn route(&mut self, preset: &'static Preset, format: &FormatSettings) -> Option<Route> {
        let settings = self.settings;
        let target = match (&settings.table, &settings.message) {
            (Some(table), _) if !table.is_empty() => Some(Target::Table(Glob::new(table))),
            (_, Some(message)) if !message.is_empty() => Some(Target::Message(Glob::new(message))),
            _ => None,
        };
        let Some(target) = target else {
            self.errors.push(RouteError::value("table", "an [[outbox]] needs a `table` or a `message`"));
            return None;
        };
        self.rest = target.rest(self.default_table);
        let topics = TopicRules::new(format);
        let topic = self.topic(&topics, &target);
        let id = self.expression("id", settings.id.as_deref(), Bare::Column, &target);
        if settings.id.as_deref().unwrap_or_default().is_empty() {
            self.errors
                .push(RouteError::value("id", "every event needs an id").hint("name the column of the table's primary key"));
        }
        let key = self.expression("key", settings.key.as_deref(), Bare::Column, &target);
        let (value, is_null_empty) = self.value();
        let terms = match settings.matches.as_deref() {
            Some(text) => self.take("match", predicate::parse(text)).unwrap_or_default(),
            None => Vec::new(),
        };
        let (order, after_publish) = self.polling(format.mode);
        let is_claim = format.mode == Mode::Poll && matches!(order, Some(Order::Claim { .. }));
        let poll_condition: Vec<String> =
            terms.iter().filter(|term| !term.is_schedule() || is_claim && term.can_wait()).map(Term::sql).collect();
        let (schedule, conditions): (Vec<Term>, Vec<Term>) = terms.into_iter().partition(Term::is_schedule);
        let value_encoding = self.choice(
            "value_encoding",
            settings.value_encoding.as_deref(),
            &[
                ("auto", ValueEncoding::Auto),
                ("base64", ValueEncoding::Base64),
                ("json-string", ValueEncoding::JsonString),
                ("wrap:eventuate", ValueEncoding::Eventuate),
            ],
            &[],
        );
        let envelope = self.envelope();
        if !envelope.is_empty() && !matches!(value_encoding, Some(ValueEncoding::Auto) | None) {
            self.errors.push(RouteError::conflict("envelope", "an envelope goes with `value_encoding = \"auto\"` only"));
        }
        let headers = self.headers();
        let ignores_missing =
            self.choice("missing_columns", settings.missing_columns.as_deref(), &[("error", false), ("ignore", true)], &[]);
        let trace =
            [("traceparent", &settings.traceparent), ("tracestate", &settings.tracestate), ("baggage", &settings.baggage)];
        let trace = trace.into_iter().filter_map(|(name, text)| Some((name, self.reference(name, text.as_deref())?))).collect();
        let on_update = self.choice(
            "on_update",
            settings.on_update.as_deref(),
            &[("ignore", OnUpdate::Ignore), ("stop", OnUpdate::Stop)],
            &["publish"],
        );
        let on_scheduled = self.choice(
            "on_scheduled",
            settings.on_scheduled.as_deref(),
            &[("poison", OnScheduled::Poison), ("publish", OnScheduled::Publish), ("skip", OnScheduled::Skip)],
            &[],
        );
        let on_non_transactional = self.choice(
            "on_non_transactional",
            settings.on_non_transactional.as_deref(),
            &[("ignore", OnNonTransactional::Ignore), ("poison", OnNonTransactional::Poison)],
            &[],
        );
        let prefix = if format.topic_prefix.is_empty() { &format.pipeline } else { &format.topic_prefix };
        Some(Route {
            conditions,
            // The poll query asks by the server's clock, and a row that it gives is due whatever ours says; what it cannot
            // ask is judged when it is read.
            schedule: schedule.into_iter().filter(|term| !(is_claim && term.can_wait())).collect(),
            poll_condition: (!poll_condition.is_empty()).then(|| poll_condition.join(" AND ")),
            order,
            after_publish: after_publish?,
            retention: settings.retention,
            id: id?,
            topic: topic?,
            topics,
            key,
            value,
            value_encoding: value_encoding?,
            is_null_empty,
            outbox_id: settings.outbox_id.unwrap_or(0) as u64,
            envelope,
            headers,
            ignores_missing: ignores_missing?,
            timestamp: self.reference("timestamp", settings.timestamp.as_deref()),
            partition: self.reference("partition", settings.partition.as_deref()),
            trace,
            trace_properties: self.reference("trace_properties", settings.trace_properties.as_deref()),
            tombstone_on_null: settings.tombstone_on_null.unwrap_or(false),
            on_update: on_update?,
            on_scheduled: on_scheduled?,
            on_non_transactional: on_non_transactional?,
            topic_prefix: prefix.clone(),
            pipeline: format.pipeline.clone(),
            position_header: format.position_header,
            source_header: format.source_header,
            record_timestamp: format.record_timestamp,
            preset,
            canonical: canonical(settings, format, prefix),
            target,
            rest: self.rest.clone(),
        })
    }

    /// Order and fate of polled rows.
    fn polling(&mut self, mode: Mode) -> (Option<Order>, Option<AfterPublish>) {
        let order = self.settings.order.as_deref().filter(|text| !text.is_empty()).map(Order::parse);
        let order = order.and_then(|parsed| self.take("order", parsed.map_err(Refusal::Wrong)));
        let after = AfterPublish::parse(self.settings.after_publish.as_deref().unwrap_or("keep"));
        let after = self.take("after_publish", after.map_err(Refusal::Wrong));
        if mode == Mode::Poll && matches!(order, Some(Order::Claim { .. })) && after == Some(AfterPublish::Keep) {
            let hint = "for example \"delete\", or \"update:published_at=now()\" with `match = \"published_at is null\"`";
            let message = "with order `claim` the marks are the position: published rows must be marked or deleted";
            self.errors.push(RouteError::conflict("after_publish", message).hint(hint));
        }
        if mode == Mode::Poll
            && order.is_none()
            && self.settings.table.is_some()
            && self.settings.order.as_deref().is_none_or(str::is_empty)
        {
            let hint = "for example \"tick(xid, seq)\", or \"claim(id)\"";
            self.errors.push(RouteError::conflict("order", "the preset has no order for poll mode").hint(hint));
        }
        if self.settings.retention.is_some() {
            let message = match (&order, mode) {
                (None, _) => Some("nothing tells which rows are published: the [[outbox]] has no `order`"),
                (Some(Order::Claim { .. }), Mode::Log) => {
                    Some("in log mode published rows are known by an xid8 column, and its order is `claim`")
                }
                _ if self.settings.timestamp.as_deref().is_none_or(str::is_empty) => {
                    Some("nothing tells how old a row is: the [[outbox]] has no `timestamp` column")
                }
                _ => None,
            };
            if let Some(message) = message {
                self.errors.push(RouteError::conflict("retention", message).hint("leave it out, or use order `tick(xid, seq)`"));
            }
        }
        (order, after)
    }

    fn topic(&mut self, topics: &TopicRules, target: &Target) -> Option<TopicRule> {
        let settings = self.settings;
        let text = settings.topic.as_deref().unwrap_or_default();
        if text.is_empty() {
            self.errors.push(RouteError::value("topic", "every event needs a topic"));
            return None;
        }
        if let Some(regex) = settings.topic_match.as_deref().filter(|regex| !regex.is_empty()) {
            let Some(from) = self.reference("topic_from", settings.topic_from.as_deref()) else {
                self.errors.push(RouteError::value("topic_from", "`topic_match` needs the routing column"));
                return None;
            };
            if text.contains('{') && !text.contains("${") {
                let hint = "with `topic_match`, `topic` is its replacement: `$1`, `${name}`";
                self.errors.push(RouteError::value("topic", "a template does not go with `topic_match`").hint(hint));
                return None;
            }
            return match Rewrite::new(from, regex, text) {
                Ok(rewrite) => Some(TopicRule::Rewrite(rewrite)),
                Err((field, message)) => {
                    self.errors.push(RouteError::value(field, message));
                    None
                }
            };
        }
        let expression = self.expression("topic", Some(text), Bare::Literal, target)?;
        let is_fixed = |alternative: &Vec<Part>| matches!(alternative.as_slice(), [Part::Literal(_)]);
        for alternative in expression.alternatives.iter().filter(|alternative| is_fixed(alternative)) {
            if let [Part::Literal(topic)] = alternative.as_slice()
                && let Err(message) = topics.check(topic.as_bytes(), false)
            {
                self.errors.push(RouteError::value("topic", message));
            }
        }
        Some(TopicRule::Template(expression))
    }

    /// The alternatives, and whether `empty()` stands behind them.
    fn value(&mut self) -> (Vec<Reference>, bool) {
        let text = self.settings.value.as_deref().unwrap_or_default();
        let (text, is_null_empty) = match text.trim().strip_suffix("empty()").and_then(|rest| rest.trim_end().strip_suffix("??"))
        {
            Some(rest) => (rest, true),
            None => (text, false),
        };
        if text.is_empty() {
            self.errors.push(RouteError::value("value", "every event needs a payload column"));
        }
        let alternatives: Vec<Result<Reference, Refusal>> = text.split("??").map(Reference::parse).collect();
        (alternatives.into_iter().filter_map(|parsed| self.take("value", parsed)).collect(), is_null_empty)
    }

    fn envelope(&mut self) -> Vec<(String, Reference)> {
        let mut entries = Vec::new();
        for text in self.settings.envelope.iter().flatten() {
            match HeaderItem::parse(text) {
                Ok(HeaderItem::Field { name, reference }) => entries.push((name, reference)),
                Ok(_) => self.refuse("envelope", Refusal::Wrong(format!("`{text}` is not of the form column or column:alias"))),
                Err(refusal) => self.refuse("envelope", refusal),
            }
        }
        entries
    }

    fn headers(&mut self) -> Vec<HeaderItem> {
        let mut items = Vec::new();
        for text in self.settings.headers.iter().flatten() {
            let parsed = HeaderItem::parse(text);
            let Some(mut item) = self.take("headers", parsed) else { continue };
            if let HeaderItem::SourceName(name) = item {
                let value = self.settings.source_name.clone().unwrap_or_default();
                if value.is_empty() {
                    let message = format!("the header `{name}` needs this key: the name by which consumers know the source");
                    self.errors.push(RouteError::value("source_name", message).hint("for example source_name = \"shop\""));
                }
                item = HeaderItem::Constant { name, value };
            }
            let name = match &item {
                HeaderItem::Field { name, .. }
                | HeaderItem::Constant { name, .. }
                | HeaderItem::Int64(name, _)
                | HeaderItem::Time { name, .. }
                | HeaderItem::SourceName(name) => Some(name),
                HeaderItem::Entries { .. } | HeaderItem::Arrays { .. } => None,
            };
            if let Some(Err(message)) = name.map(|name| headers::check_name(name)) {
                self.errors.push(RouteError::value("headers", format!("`{text}`: {message}")));
            }
            items.push(item);
        }
        items
    }
}

/// Whether a condition has a term about the column.
fn names_column(condition: Option<&str>, column: &str) -> bool {
    let terms = condition.and_then(|text| predicate::parse(text).ok()).unwrap_or_default();
    terms.iter().any(|term| term.column.column == column)
}

/// Everything that decides what a row becomes, as text that is the same in every build.
fn canonical(settings: &OutboxSettings, format: &FormatSettings, prefix: &str) -> String {
    format!(
        "{}on_non_transactional={}\nprefix={prefix}\nposition_header={}\nsource_header={}\n",
        settings.canonical(),
        settings.on_non_transactional.as_deref().unwrap_or_default(),
        format.position_header,
        format.source_header,
    )
}
