//! Two records become the places at which they are not the same: members of key, value, schemas and headers, each as its JSON text.

use super::golden::{Line, unwrapped};
use serde::Deserialize;
use serde::de::{MapAccess, Visitor};
use serde_json::value::RawValue;

/// One place at which two records differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Leaf {
    /// `value/after/id`, `key/id`, `header/__debezium.newkey`; in a schema the names of fields: `valueSchema/after/id/default`.
    pub(super) place: String,
    /// What Debezium has there; `None`: nothing.
    pub(super) their: Option<String>,
    /// What relay has there.
    pub(super) our: Option<String>,
}

/// The members of an object, in their order.
#[derive(Debug)]
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Members<'de>;
            fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Reader)
    }
}

type Named<'a> = Vec<(String, &'a str)>;

/// What an object consists of; of a list of schema's fields, the fields by their names.
fn parts(text: &str) -> Option<Named<'_>> {
    if let Ok(Members(members)) = serde_json::from_str::<Members<'_>>(text) {
        return Some(members.into_iter().map(|(name, value)| (name, value.get())).collect());
    }
    let list: Vec<&RawValue> = serde_json::from_str(text).ok()?;
    let field = |schema: &&'_ RawValue| {
        let Members(members) = serde_json::from_str(schema.get()).ok()?;
        let (_, name) = members.into_iter().find(|(name, _)| name == "field")?;
        serde_json::from_str::<String>(name.get()).ok()
    };
    list.iter().map(|schema| Some((field(schema)?, schema.get()))).collect::<Option<Named<'_>>>().filter(|list| !list.is_empty())
}

fn walk(place: &str, their: Option<&str>, our: Option<&str>, out: &mut Vec<Leaf>) {
    if their == our {
        return;
    }
    match their.and_then(parts).zip(our.and_then(parts)) {
        Some((their, our)) => walk_parts(place, &their, &our, out),
        None => out.push(Leaf { place: place.to_owned(), their: their.map(str::to_owned), our: our.map(str::to_owned) }),
    }
}

fn walk_parts(place: &str, their: &Named<'_>, our: &Named<'_>, out: &mut Vec<Leaf>) {
    let value = |list: &Named<'_>, name: &str| list.iter().position(|(known, _)| known == name);
    let common = |one: &Named<'_>, other: &Named<'_>| {
        let names = one.iter().filter(|(name, _)| value(other, name).is_some()).map(|(name, _)| name.as_str());
        names.collect::<Vec<_>>().join(",")
    };
    let (order, our_order) = (common(their, our), common(our, their));
    if order != our_order {
        out.push(Leaf { place: format!("{place}/order"), their: Some(order), our: Some(our_order) });
    }
    let is_new = |(name, _): &&(String, &str)| value(their, name).is_none();
    for (name, _) in their.iter().chain(our.iter().filter(is_new)) {
        let at = |list: &Named<'_>| value(list, name).map(|at| list[at].1.to_owned());
        // The names of fields say enough.
        let inner = if name == "fields" { place.to_owned() } else { format!("{place}/{name}") };
        walk(&inner, at(their).as_deref(), at(our).as_deref(), out);
    }
}

/// The places at which two records of one topic differ.
pub(super) fn leaves(their: &Line, our: &Line) -> Vec<Leaf> {
    let mut out = Vec::new();
    for (part, their, our) in [("key", &their.key, &our.key), ("value", &their.value, &our.value)] {
        let split = |text: &Option<String>| match text.as_deref().map(|text| (text, unwrapped(text))) {
            Some((_, Some(wrapped))) => (Some(wrapped.schema.get().to_owned()), Some(wrapped.payload.get().to_owned())),
            Some((text, None)) => (None, Some(text.to_owned())),
            None => (None, None),
        };
        let ((their_schema, their), (our_schema, our)) = (split(their), split(our));
        walk(&format!("{part}Schema"), their_schema.as_deref(), our_schema.as_deref(), &mut out);
        walk(part, their.as_deref(), our.as_deref(), &mut out);
    }
    let headers = |line: &Line| -> Vec<(String, String)> {
        let text = |value: &Option<String>| value.as_deref().map_or("null".to_owned(), |value| format!("{value:?}"));
        // One that is there twice is told by its number.
        let count = |at: usize| line.headers[..at].iter().filter(|(name, _)| *name == line.headers[at].0).count();
        let name = |at: usize| match count(at) {
            0 => line.headers[at].0.clone(),
            count => format!("{} {count}", line.headers[at].0),
        };
        line.headers.iter().enumerate().map(|(at, (_, value))| (name(at), text(value))).collect()
    };
    let (their, our) = (headers(their), headers(our));
    let their: Named<'_> = their.iter().map(|(name, value)| (name.clone(), value.as_str())).collect();
    let our: Named<'_> = our.iter().map(|(name, value)| (name.clone(), value.as_str())).collect();
    walk_parts("header", &their, &our, &mut out);
    out
}
