//! Reads one field of an `[[outbox]]` after the other, and collects what is wrong.

use super::{OnNonTransactional, OnScheduled, OnUpdate, Route, Target, TopicRule, ValueEncoding};
use crate::cloud_route::CloudRule;
use crate::contract::Contract;
use crate::error::RouteError;
use crate::glob::Glob;
use crate::headers;
use crate::poll::{AfterPublish, Order};
use crate::predicate::{self, Term};
use crate::preset::Preset;
use crate::settings::{FormatSettings, Mode, OutboxSettings};
use crate::template::{Bare, Expression, HeaderItem, Part, Reference, Refusal, Variable};
use crate::topic::{Rewrite, TopicRules};

/// A field with its value, the values that are implemented, and how values of a later version begin.
type Fixed<'a> = (&'a str, Option<&'a str>, &'a [&'a str], &'a [&'a str]);

/// Reads one field after the other and collects what is wrong.
pub(super) struct Reader<'a> {
    pub(super) settings: &'a OutboxSettings,
    pub(super) default_table: &'a str,
    pub(super) rest: Option<Glob>,
    pub(super) errors: Vec<RouteError>,
    /// Whether the outbox has a `value_encoding` that is not its preset's default.
    pub(super) sets_encoding: bool,
}

// === impl Reader ===

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
    pub(super) fn refuse_later(&mut self, format: &FormatSettings) {
        let settings = self.settings;
        let fixed: [Fixed<'_>; 2] = [
            ("format", settings.format.as_deref(), &["raw", "cloudevents"], &[]),
            ("format.compat", Some(&format.compat), &["relay", "debezium"], &[]),
        ];
        for (field, value, now, later) in fixed {
            let Some(value) = value else { continue };
            if !now.contains(&value) {
                self.refuse_value(field, value, now, later);
            }
        }
        let has_envelope = settings.envelope.as_ref().is_some_and(|envelope| !envelope.is_empty());
        if settings.format.as_deref() == Some("cloudevents") {
            let encoding = settings.value_encoding.as_deref().unwrap_or("auto");
            if has_envelope || !matches!(encoding, "auto" | "base64") {
                let message = "a CloudEvent's data is the payload: no `envelope`, and `value_encoding` \"auto\" or \"base64\"";
                self.errors.push(RouteError::conflict("format", message));
            }
        } else if settings.dataschema.as_deref().is_some_and(|column| !column.is_empty()) {
            let hint = "set format = \"cloudevents\"";
            self.errors.push(RouteError::conflict("dataschema", "it is an attribute of CloudEvents").hint(hint));
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

    pub(super) fn route(&mut self, preset: &'static Preset, format: &FormatSettings) -> Option<Route> {
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
        let trace: Vec<_> =
            trace.into_iter().filter_map(|(name, text)| Some((name, self.reference(name, text.as_deref())?))).collect();
        let cloud = self.cloud(format, &trace);
        let contract = Contract::new(format, self.sets_encoding).map_err(|error| self.errors.push(error)).ok();
        let on_update = self.choice(
            "on_update",
            settings.on_update.as_deref(),
            &[("ignore", OnUpdate::Ignore), ("publish", OnUpdate::Publish), ("stop", OnUpdate::Stop)],
            &[],
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
            schema_version: self.reference("schema_version", settings.schema_version.as_deref()),
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
            contract: contract?,
            cloud,
            preset,
            canonical: canonical(settings, format, prefix),
            target,
            rest: self.rest.clone(),
        })
    }

    /// What `format = "cloudevents"` asks for.
    fn cloud(&mut self, format: &FormatSettings, trace: &[(&'static str, Reference)]) -> Option<CloudRule> {
        let settings = self.settings;
        if settings.format.as_deref() != Some("cloudevents") {
            return None;
        }
        let event_type = self.reference("type", settings.event_type.as_deref());
        let data_schema = self.reference("dataschema", settings.dataschema.as_deref());
        Some(CloudRule::new(format, event_type, data_schema, trace.to_vec()))
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
pub(super) fn names_column(condition: Option<&str>, column: &str) -> bool {
    let terms = condition.and_then(|text| predicate::parse(text).ok()).unwrap_or_default();
    terms.iter().any(|term| term.column.column == column)
}

/// Everything that decides what a row becomes, as text that is the same in every build.
fn canonical(settings: &OutboxSettings, format: &FormatSettings, prefix: &str) -> String {
    format!(
        "{}on_non_transactional={}\nprefix={prefix}\nposition_header={}\nsource_header={}\n{}{}{}",
        settings.canonical(),
        settings.on_non_transactional.as_deref().unwrap_or_default(),
        format.position_header,
        format.source_header,
        match (format.compat.as_str(), format.schemas) {
            ("relay", false) => String::new(),
            (compat, schemas) => format!("compat={compat}\nschemas={schemas}\n"),
        },
        match format.invalid_utf8.as_str() {
            "poison" => String::new(),
            policy => format!("invalid_utf8={policy}\n"),
        },
        match settings.format.as_deref() {
            Some("cloudevents") => format!(
                "dataschema={:?}\ntype={:?}\ncloudevents={:?}\n",
                settings.dataschema,
                settings.event_type,
                (
                    &format.cloudevents_mode,
                    &format.cloudevents_source,
                    &format.cloudevents_content_type,
                    format.cloudevents_partitionkey
                ),
            ),
            _ => String::new(),
        },
    )
}
