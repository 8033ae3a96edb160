//! The value of a route meets its table: payload, envelope and their schema.

use super::{Resolver, TopicStep, ValueStep, is_raw_json};
use crate::envelope::{Envelope, EnvelopeMember, EnvelopeSchema};
use crate::error::PlanError;
use crate::field::{Field, Form, Names, oid};
use crate::route::ValueEncoding;
use crate::template::Reference;
use relay_core::ReplicaIdentity;

// === impl Resolver ===

impl Resolver<'_> {
    pub(super) fn value(&mut self, topic: &TopicStep) -> Result<ValueStep, PlanError> {
        let route = self.route;
        let mut alternatives = Vec::new();
        for reference in &route.value {
            let Some(field) = self.optional("value", Some(reference))? else { continue };
            if field.type_oid == oid::OID {
                let mut error = self.wrong_type("value", &field, "an oid names a large object, whose bytes are not in the log");
                let (table, column) = (&self.label, &field.name);
                error.hint = format!("ALTER TABLE {table} ALTER COLUMN \"{column}\" TYPE bytea USING lo_get(\"{column}\")");
                return Err(error);
            }
            let is_text = matches!(field.type_oid, oid::TEXT | oid::VARCHAR | oid::BPCHAR) || is_raw_json(&field);
            if route.value_encoding == ValueEncoding::Base64 && !is_text {
                return Err(self.wrong_type("value", &field, "`value_encoding = \"base64\"` needs a text column"));
            }
            alternatives.push(field);
        }
        if alternatives.is_empty() {
            // All were optional and are missing: the first says so.
            let first = route.value.first().cloned().map(|reference| Reference { is_optional: false, ..reference });
            alternatives.extend(self.optional("value", first.as_ref())?);
        }
        let is_json = alternatives.first().is_some_and(|field| field.form == Form::Json || is_raw_json(field));
        let contract = &route.contract;
        // Debezium's contract, and CloudEvents, do not meet: the payload is the data.
        let is_converted = contract.is_converted && route.cloud.is_none();
        let encoding = if is_converted { ValueEncoding::JsonString } else { route.value_encoding };
        let is_json = is_json || encoding == ValueEncoding::JsonString;
        let envelope = self.envelope(alternatives.first(), is_converted, topic)?;
        let null: &[u8] = if is_json && !route.is_null_empty { b"null" } else { b"" };
        let head = match encoding {
            ValueEncoding::JsonString if envelope.is_none() => contract.value_head(alternatives.first()),
            _ => Box::default(),
        };
        let is_null_kept = contract.is_debezium && !contract.is_converted;
        let alternatives = alternatives.into();
        Ok(ValueStep { alternatives, encoding, null, envelope, wrap: None, head, is_null_kept })
    }

    /// `is_converted`: D6.
    fn envelope(
        &mut self,
        payload: Option<&Field>,
        is_converted: bool,
        topic: &TopicStep,
    ) -> Result<Option<Envelope>, PlanError> {
        let contract = &self.route.contract;
        let (mut members, mut names) = (Vec::new(), Vec::new());
        for (name, reference) in &self.route.envelope {
            let Some(field) = self.listed("envelope", reference)? else { continue };
            names.push(name.as_str());
            let mut member = vec![b','];
            crate::json::write_string(name, &mut member);
            member.push(b':');
            let kind = (!is_raw_json(&field) && field.form != Form::Bool).then(|| contract.column_type(&field));
            members.push(EnvelopeMember { name: member.into(), field, kind });
        }
        if members.is_empty() {
            return Ok(None);
        }
        let version = self.optional("schema_version", self.route.schema_version.as_ref())?;
        if let Some(field) = &version
            && !is_raw_json(field)
            && !matches!(field.type_oid, oid::INT2 | oid::INT4)
        {
            return Err(self.wrong_type("schema_version", field, "it must be smallint or integer"));
        }
        let column_type = |field: &Field| contract.column_type(field);
        let schema = contract.schemas.then(|| {
            let is_optional = |field: &Field| match &self.names {
                // Whether others may be NULL only the catalog knows.
                Names::Columns(relation) if matches!(relation.identity, ReplicaIdentity::Default | ReplicaIdentity::Index) => {
                    relation.columns.get(field.column).is_none_or(|column| !column.is_key)
                }
                _ => true,
            };
            let fields: Vec<(&str, &Field, bool)> = payload
                .map(|field| ("payload", field, true))
                .into_iter()
                .chain(names.into_iter().zip(&members).map(|(name, member)| (name, &member.field, is_optional(&member.field))))
                .collect();
            let prefix = &self.route.topic_prefix;
            let name = match &self.names {
                Names::Columns(_) => format!("{prefix}.{}", self.label),
                Names::Members(_) => format!("{prefix}.message"),
            };
            EnvelopeSchema {
                head: EnvelopeSchema::render(&name, &fields, column_type),
                routing: topic.routing().cloned(),
                version,
            }
        });
        Ok(Some(Envelope::new(members.into(), payload, is_converted, schema, column_type)))
    }
}
