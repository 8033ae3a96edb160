//! Which topics there are, which names may become one, and what is known of each.

use crate::limits::Limits;
use relay_core::sink::Waiting;
use relay_core::{Poison, PoisonReason};
use std::collections::HashMap;
use std::sync::atomic::{AtomicI32, AtomicU8, Ordering};
use std::sync::{Mutex, PoisonError};

/// One topic, shared by the sink and the admin thread.
#[derive(Debug)]
pub(crate) struct Topic {
    pub(crate) name: Box<str>,
    /// How it is created.
    pub(crate) role: Role,
    pub(crate) limits: Limits,
    state: AtomicU8,
    partitions: AtomicI32,
    message: Mutex<String>,
}

/// What a topic is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Takes events.
    Target,
    /// The checkpoint topic: compacted, one partition.
    Checkpoint,
    /// The topic of parked events: compacted, one partition.
    Dlq,
}

/// Whether events may go to a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum State {
    Lookup,
    Ready,
    Missing,
    Denied,
}

/// Decides which names may become a topic of this pipeline.
#[derive(Debug)]
pub(crate) struct Gate {
    allowed: Vec<String>,
    max_topics: usize,
    /// Names, as the broker's metrics write them, to the topic that has them.
    taken: HashMap<String, String>,
    targets: usize,
}

// === impl Topic ===

impl Topic {
    pub(crate) fn new(name: &str, role: Role) -> Self {
        Self {
            name: name.into(),
            role,
            limits: Limits::default(),
            state: AtomicU8::new(State::Lookup as u8),
            partitions: AtomicI32::new(0),
            message: Mutex::default(),
        }
    }

    #[inline]
    pub(crate) fn state(&self) -> State {
        match self.state.load(Ordering::Acquire) {
            1 => State::Ready,
            2 => State::Missing,
            3 => State::Denied,
            _ => State::Lookup,
        }
    }

    /// Changes the state; whether it was another before.
    pub(crate) fn set_state(&self, state: State, message: &str) -> bool {
        message.clone_into(&mut self.message.lock().unwrap_or_else(PoisonError::into_inner));
        self.state.swap(state as u8, Ordering::AcqRel) != state as u8
    }

    pub(crate) fn message(&self) -> String {
        self.message.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// 0 while unknown.
    pub(crate) fn partitions(&self) -> i32 {
        self.partitions.load(Ordering::Relaxed)
    }

    /// Sets the partition count; the one before.
    pub(crate) fn set_partitions(&self, count: i32) -> i32 {
        self.partitions.swap(count, Ordering::Relaxed)
    }

    /// What an event has to wait for.
    #[cold]
    pub(crate) fn waiting(&self) -> Waiting {
        match self.state() {
            State::Lookup | State::Ready => Waiting::Lookup,
            State::Missing => Waiting::TopicMissing { topic: self.name.to_string(), message: self.message() },
            State::Denied => Waiting::Denied { topic: self.name.to_string(), message: self.message() },
        }
    }
}

// === impl Gate ===

impl Gate {
    /// `own` are the names that no event may choose.
    pub(crate) fn new(allowed: Vec<String>, max_topics: usize, own: &[&str]) -> Self {
        let taken = own.iter().map(|name| (folded(name), (*name).to_owned())).collect();
        Self { allowed, max_topics, taken, targets: 0 }
    }

    /// Lets a name in for good, or says why not. `is_configured`: it stands in the configuration and was not chosen by a row.
    pub(crate) fn admit(&mut self, name: &str, is_configured: bool) -> Result<(), Poison> {
        let poison = |text: String| Err(Poison::new(PoisonReason::Route, text));
        if let Some(fault) = illegal(name) {
            return poison(format!("`{}` cannot be a topic: {fault}", shown(name)));
        }
        let folded = folded(name);
        if let Some(other) = self.taken.get(&folded) {
            return if other == name {
                poison(format!("`{name}` is relay's own topic"))
            } else {
                poison(format!(
                    "topics `{other}` and `{name}` differ only in `.` and `_`, which Kafka does not allow side by side"
                ))
            };
        }
        if !is_configured {
            if name.starts_with("__") {
                return poison(format!("`{name}` is reserved: names that begin with `__` are Kafka's own"));
            }
            if !self.allowed.is_empty() && !self.allowed.iter().any(|glob| matches(glob.as_bytes(), name.as_bytes())) {
                return poison(format!("topic `{name}` matches none of sink.kafka.allowed_topics"));
            }
        }
        if self.targets >= self.max_topics {
            return poison(format!(
                "`{name}` would be topic number {}: sink.kafka.max_topics is {}",
                self.targets + 1,
                self.max_topics
            ));
        }
        self.targets += 1;
        self.taken.insert(folded, name.to_owned());
        Ok(())
    }
}

/// Kafka's rule for names.
pub(crate) fn illegal(name: &str) -> Option<&'static str> {
    if name.is_empty() {
        Some("it is empty or not UTF-8")
    } else if name == "." || name == ".." {
        Some("Kafka keeps this name for itself")
    } else if name.len() > 249 {
        Some("it has more than 249 characters")
    } else if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-')) {
        Some("only letters, digits, `.`, `_` and `-` are allowed")
    } else {
        None
    }
}

fn folded(name: &str) -> String {
    name.replace('.', "_")
}

/// A name that is safe to print: a row chose it.
fn shown(name: &str) -> String {
    name.chars().take(60).flat_map(char::escape_default).collect()
}

/// Glob matching: `*` any run of characters, `?` any one.
pub(crate) fn matches(glob: &[u8], name: &[u8]) -> bool {
    let (mut g, mut n) = (0, 0);
    let mut star = None;
    while n < name.len() {
        match glob.get(g) {
            Some(b'*') => {
                star = Some((g, n));
                g += 1;
            }
            Some(&byte) if byte == b'?' || byte == name[n] => {
                g += 1;
                n += 1;
            }
            _ => match star {
                Some((at, from)) => {
                    star = Some((at, from + 1));
                    g = at + 1;
                    n = from + 1;
                }
                None => return false,
            },
        }
    }
    glob[g..].iter().all(|&byte| byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_let_in_by_the_rules_of_section_10() {
        let mut gate = Gate::new(vec!["shop.*".to_owned(), "a?c".to_owned()], 3, &["orders.checkpoint", "orders.dlq"]);
        let mut refused = |name: &str, is_configured| gate.admit(name, is_configured).err().map(|poison| poison.message);
        assert_eq!(refused("shop.orders", false), None);
        assert_eq!(refused("abc", false), None);
        assert!(refused("abbc", false).is_some_and(|text| text.contains("allowed_topics")));
        assert!(refused("shop_orders", true).is_some_and(|text| text.contains("shop.orders") && text.contains("shop_orders")));
        assert!(refused("orders.checkpoint", true).is_some_and(|text| text.contains("own topic")));
        assert!(refused("orders_dlq", true).is_some());
        assert!(refused("__consumer_offsets", false).is_some());
        assert!(refused("a b", true).is_some());
        assert!(refused("..", true).is_some());
        assert!(refused("", true).is_some());
        assert!(refused(&"x".repeat(250), true).is_some());
        assert_eq!(refused("elsewhere", true), None, "the allow-list is for names from rows");
        assert!(refused("shop.more", false).is_some_and(|text| text.contains("max_topics is 3")));
    }

    #[test]
    fn globs_match_as_people_expect() {
        for (glob, name, expected) in [
            ("*", "", true),
            ("a*c", "abbbc", true),
            ("a*c", "abbbd", false),
            ("*.events.*", "shop.events.v1", true),
            ("?", "", false),
            ("a**b", "ab", true),
            ("", "a", false),
        ] {
            assert_eq!(matches(glob.as_bytes(), name.as_bytes()), expected, "{glob} {name}");
        }
    }
}
