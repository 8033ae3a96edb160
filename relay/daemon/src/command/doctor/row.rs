//! One line of `relay doctor`: a check, how it went, and the cure.

use serde::Serialize;

/// A check of this version.
#[derive(Clone, Copy, Debug)]
pub(super) struct Check {
    pub(super) id: &'static str,
    pub(super) group: Group,
    /// The worst that it can say.
    severity: Status,
}

/// Where a check looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Group {
    Postgres,
    Kafka,
    Relay,
}

/// How a check went; the worse, the greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Status {
    Ok,
    Skip,
    Warn,
    Fail,
}

/// What a check found; the names are part of the contract.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Row {
    pub(super) id: &'static str,
    severity: Status,
    pub(super) status: Status,
    pub(super) observed: String,
    pub(super) cause: String,
    pub(super) effect: String,
    pub(super) fix: String,
}

const fn check(id: &'static str, group: Group, severity: Status) -> Check {
    Check { id, group, severity }
}

/// Every check, in the order printed (operations.md, section 4).
pub(super) const CHECKS: [Check; 25] = {
    use Group::{Kafka, Postgres, Relay};
    use Status::{Fail, Warn};
    [
        check("PG001", Postgres, Fail),
        check("PG002", Postgres, Fail),
        check("PG003", Postgres, Fail),
        check("PG004", Postgres, Fail),
        check("PG005", Postgres, Fail),
        check("PG006", Postgres, Fail),
        check("PG007", Postgres, Fail),
        check("PG008", Postgres, Warn),
        check("PG010", Postgres, Fail),
        check("PG011", Postgres, Fail),
        check("PG012", Postgres, Fail),
        check("PG013", Postgres, Fail),
        check("PG018", Postgres, Warn),
        check("PG021", Postgres, Warn),
        check("PG022", Postgres, Fail),
        check("PG023", Postgres, Warn),
        check("PG025", Postgres, Fail),
        check("PG026", Postgres, Fail),
        check("PG027", Postgres, Warn),
        check("KF001", Kafka, Fail),
        check("KF002", Kafka, Fail),
        check("KF003", Kafka, Fail),
        check("KF009", Kafka, Fail),
        check("KF012", Kafka, Fail),
        check("RL001", Relay, Fail),
    ]
};

/// The checks of a group.
pub(super) fn of(group: Group) -> impl Iterator<Item = &'static Check> {
    CHECKS.iter().filter(move |check| check.group == group)
}

// === impl Group ===

impl Group {
    pub(super) fn title(self) -> &'static str {
        match self {
            Group::Postgres => "PostgreSQL",
            Group::Kafka => "Kafka",
            Group::Relay => "relay",
        }
    }
}

// === impl Status ===

impl Status {
    pub(super) fn name(self) -> &'static str {
        match self {
            Status::Ok => "ok",
            Status::Skip => "skip",
            Status::Warn => "warn",
            Status::Fail => "fail",
        }
    }
}

// === impl Row ===

impl Row {
    pub(super) fn new(id: &'static str, status: Status, observed: impl Into<String>) -> Self {
        let severity = CHECKS.iter().find(|check| check.id == id).map_or(Status::Fail, |check| check.severity);
        Self { id, severity, status, observed: observed.into(), cause: String::new(), effect: String::new(), fix: String::new() }
    }

    pub(super) fn ok(id: &'static str, observed: impl Into<String>) -> Self {
        Self::new(id, Status::Ok, observed)
    }

    pub(super) fn skip(id: &'static str, observed: impl Into<String>) -> Self {
        Self::new(id, Status::Skip, observed)
    }

    pub(super) fn warn(id: &'static str, observed: impl Into<String>) -> Self {
        Self::new(id, Status::Warn, observed)
    }

    pub(super) fn fail(id: &'static str, observed: impl Into<String>) -> Self {
        Self::new(id, Status::Fail, observed)
    }

    pub(super) fn because(mut self, cause: impl Into<String>) -> Self {
        self.cause = cause.into();
        self
    }

    pub(super) fn so(mut self, effect: impl Into<String>) -> Self {
        self.effect = effect.into();
        self
    }

    pub(super) fn cure(mut self, fix: impl Into<String>) -> Self {
        self.fix = fix.into();
        self
    }

    /// Where it stands among the checks; what is of no known check comes last.
    pub(super) fn place(&self) -> usize {
        CHECKS.iter().position(|check| check.id == self.id).unwrap_or(CHECKS.len())
    }

    pub(super) fn group(&self) -> Group {
        CHECKS.get(self.place()).map_or(Group::Relay, |check| check.group)
    }

    /// Whether it says more than its line.
    pub(super) fn has_cure(&self) -> bool {
        matches!(self.status, Status::Warn | Status::Fail)
    }
}

impl From<relay_postgres::doctor::Finding> for Row {
    fn from(finding: relay_postgres::doctor::Finding) -> Self {
        use relay_postgres::doctor::Status as Theirs;
        let status = match finding.status {
            Theirs::Ok => Status::Ok,
            Theirs::Skip => Status::Skip,
            Theirs::Warn => Status::Warn,
            Theirs::Fail => Status::Fail,
        };
        Self::new(finding.id, status, finding.observed).because(finding.cause).so(finding.effect).cure(finding.fix)
    }
}

impl From<relay_kafka::doctor::Finding> for Row {
    fn from(finding: relay_kafka::doctor::Finding) -> Self {
        use relay_kafka::doctor::Severity as Theirs;
        let status = match finding.severity {
            Theirs::Ok => Status::Ok,
            Theirs::Skip => Status::Skip,
            Theirs::Warn => Status::Warn,
            Theirs::Fail => Status::Fail,
        };
        Self::new(finding.id, status, finding.observed).because(finding.cause).so(finding.effect).cure(finding.fix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_check_of_the_server_has_a_place() {
        for id in relay_postgres::doctor::CHECKS {
            assert!(CHECKS.iter().any(|check| check.id == id), "{id}");
        }
        assert!(CHECKS.is_sorted_by_key(|check| check.group));
    }

    #[test]
    fn a_row_as_json_has_the_names_of_the_contract() {
        let row = Row::warn("PG008", "a").because("b").so("c").cure("d");
        let json = serde_json::to_string(&row).unwrap();
        let expected = r#"{"id":"PG008","severity":"warn","status":"warn","observed":"a","cause":"b","effect":"c","fix":"d"}"#;
        assert_eq!(json, expected);
        assert_eq!(serde_json::to_value(Row::skip("PG003", "")).unwrap()["severity"], "fail");
    }
}
