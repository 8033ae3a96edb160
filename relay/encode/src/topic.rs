//! Which topic names are allowed, and a routing column's way through regex and replacement.

use crate::glob::Glob;
use crate::settings::FormatSettings;
use crate::template::Reference;
use regex_lite::{CaptureLocations, Regex};

/// What a topic name must be.
#[derive(Clone, Debug)]
pub(crate) struct TopicRules {
    internal: Vec<Box<str>>,
    allowed: Vec<Glob>,
}

/// `topic_match` and its replacement.
#[derive(Clone, Debug)]
pub(crate) struct Rewrite {
    pub(crate) from: Reference,
    whole: Regex,
    first: Regex,
    replacement: Vec<Replacement>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Replacement {
    Literal(String),
    Group(usize),
}

// === impl TopicRules ===

impl TopicRules {
    pub(crate) fn new(format: &FormatSettings) -> Self {
        Self {
            internal: format.internal_topics.iter().map(|topic| topic.as_str().into()).collect(),
            allowed: format.allowed_topics.iter().map(|glob| Glob::new(glob)).collect(),
        }
    }

    /// Words for what is wrong with the topic, none of them from the row. `is_from_row` brings `allowed_topics` in.
    pub(crate) fn check(&self, topic: &[u8], is_from_row: bool) -> Result<(), String> {
        if topic.is_empty() {
            return Err("the topic is empty".to_owned());
        }
        if let Some(at) = topic.iter().position(|byte| !(byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))) {
            return Err(format!("the topic has a character outside [A-Za-z0-9._-] at byte {at}"));
        }
        if topic.len() > 249 {
            return Err(format!("the topic has {} characters, 249 are legal", topic.len()));
        }
        if topic == b"." || topic == b".." {
            return Err("the topic is `.` or `..`".to_owned());
        }
        if topic.starts_with(b"__") {
            return Err("the topic begins with `__`, which is kept for internal topics".to_owned());
        }
        if let Some(internal) = self.internal.iter().find(|internal| internal.as_bytes() == topic) {
            return Err(format!("the topic is `{internal}`, one of relay's own"));
        }
        let topic = std::str::from_utf8(topic).unwrap_or_default();
        if is_from_row && !self.allowed.is_empty() && !self.allowed.iter().any(|glob| glob.matches(topic)) {
            return Err("the topic is not among sink.kafka.allowed_topics".to_owned());
        }
        Ok(())
    }
}

// === impl Rewrite ===

impl Rewrite {
    /// Compiles regex and replacement; the error names which of the two is wrong.
    pub(crate) fn new(from: Reference, regex: &str, replacement: &str) -> Result<Self, (&'static str, String)> {
        let compile = |text: &str| Regex::new(text).map_err(|error| ("topic_match", error.to_string()));
        let first = compile(regex)?;
        let whole = compile(&format!(r"\A(?:{regex})\z"))?;
        let replacement = parse_replacement(replacement, &first).map_err(|message| ("topic", message))?;
        Ok(Self { from, whole, first, replacement })
    }

    /// Room for a match; kept between calls.
    pub(crate) fn locations(&self) -> CaptureLocations {
        self.first.capture_locations()
    }

    /// Appends the topic: as Debezium's router, the regex must match the whole value, then its first match is replaced. A value
    /// that does not match is the topic itself.
    pub(crate) fn apply(&self, value: &str, locations: &mut CaptureLocations, out: &mut Vec<u8>) {
        let found = self.whole.is_match(value).then(|| self.first.captures_read(locations, value)).flatten();
        let Some(found) = found else {
            out.extend_from_slice(value.as_bytes());
            return;
        };
        out.extend_from_slice(&value.as_bytes()[..found.start()]);
        for part in &self.replacement {
            match part {
                Replacement::Literal(text) => out.extend_from_slice(text.as_bytes()),
                Replacement::Group(group) => {
                    if let Some((start, end)) = locations.get(*group) {
                        out.extend_from_slice(&value.as_bytes()[start..end]);
                    }
                }
            }
        }
        out.extend_from_slice(&value.as_bytes()[found.end()..]);
    }
}

/// Java's replacement syntax: `$1` takes as many digits as make a group that exists, `${name}`, `\` before a plain character.
fn parse_replacement(text: &str, regex: &Regex) -> Result<Vec<Replacement>, String> {
    let groups = regex.capture_names().count();
    let mut parts = Vec::new();
    let mut literal = String::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        rest = &rest[first.len_utf8()..];
        if first == '\\' {
            let Some(escaped) = rest.chars().next() else { return Err("`\\` at the end of the replacement".to_owned()) };
            literal.push(escaped);
            rest = &rest[escaped.len_utf8()..];
            continue;
        }
        if first != '$' {
            literal.push(first);
            continue;
        }
        let group = if let Some((name, behind)) = rest.strip_prefix('{').and_then(|rest| rest.split_once('}')) {
            rest = behind;
            let group = regex.capture_names().position(|known| known == Some(name));
            group.ok_or_else(|| format!("topic_match has no group named `{name}`"))?
        } else {
            let mut group: Option<usize> = None;
            while let Some(digit) = rest.chars().next().and_then(|digit| digit.to_digit(10)) {
                let longer = group.unwrap_or(0).saturating_mul(10) + digit as usize;
                if group.is_some() && longer >= groups {
                    break;
                }
                group = Some(longer);
                rest = &rest[1..];
            }
            let group = group.ok_or_else(|| "`$` stands only in `$1` and `${name}`; write `\\$` for itself".to_owned())?;
            if group >= groups {
                return Err(format!("topic_match has no group {group}"));
            }
            group
        };
        if !literal.is_empty() {
            parts.push(Replacement::Literal(std::mem::take(&mut literal)));
        }
        parts.push(Replacement::Group(group));
    }
    if !literal.is_empty() {
        parts.push(Replacement::Literal(literal));
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_choose_no_illegal_and_no_internal_topic() {
        let format = FormatSettings {
            internal_topics: vec!["orders.dlq".to_owned()],
            allowed_topics: vec!["orders*".to_owned()],
            ..FormatSettings::default()
        };
        let rules = TopicRules::new(&format);
        assert_eq!(rules.check(b"orders.a-B_9", true), Ok(()));
        let long = "o".repeat(250);
        for wrong in ["", ".", "..", "__x", "a b", "ä", "orders.dlq", "other", &long] {
            assert!(rules.check(wrong.as_bytes(), true).is_err(), "{wrong}");
        }
        assert_eq!(rules.check(b"other", false), Ok(()));
    }

    #[test]
    fn the_first_match_is_replaced_if_the_whole_value_matches() {
        let from = || Reference::parse("a").expect("legal");
        let apply = |regex: &str, replacement: &str, value: &str| {
            let rewrite = Rewrite::new(from(), regex, replacement).expect("legal");
            let mut out = Vec::new();
            rewrite.apply(value, &mut rewrite.locations(), &mut out);
            String::from_utf8(out).expect("UTF-8")
        };
        let cases = [
            ("(?<routedByValue>.*)", "outbox.event.${routedByValue}", "order", "outbox.event.order"),
            ("(.*)-(.*)", "$2.$1", "a-b", "b.a"),
            ("a", "x", "ab", "ab"),
            ("a|ab", "x", "ab", "xb"),
            ("(a)(b)?", "$1$2$12", "a", "aa2"),
            ("(.)", r"\$1", "q", "$1"),
        ];
        for (regex, replacement, value, topic) in cases {
            assert_eq!(apply(regex, replacement, value), topic, "{regex} {replacement}");
        }
        for (regex, replacement, field) in
            [("(", "x", "topic_match"), ("a", "$1", "topic"), ("a", "${n}", "topic"), ("a", "$", "topic")]
        {
            assert_eq!(Rewrite::new(from(), regex, replacement).expect_err(regex).0, field);
        }
        assert_eq!(Rewrite::new(from(), "(?=a)a", "x").expect_err("look-ahead").0, "topic_match");
    }
}
