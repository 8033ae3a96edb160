//! The role: whether it may replicate, and whether it may more than it should.

use super::{Examination, Finding, words};
use crate::error::Error;
use relay_core::Kind;

// === impl Examination: role ===

impl Examination<'_> {
    /// PG004: what the catalog says, and the proof of it, a replication connection. Without a free walsender only the first.
    pub(super) fn replication(&mut self, has_walsender: bool) {
        let answer = self.ask_one(
            "SELECT r.rolsuper OR r.rolreplication, \
             EXISTS (SELECT 1 FROM pg_roles AS c WHERE c.rolname = 'rds_replication'), \
             EXISTS (SELECT 1 FROM pg_roles AS c WHERE c.rolname = 'rds_replication' AND pg_has_role(r.oid, c.oid, 'MEMBER')) \
             FROM pg_roles AS r WHERE r.rolname = current_user",
        );
        let row = match answer {
            Ok(row) => row,
            Err(reason) => return self.add(Finding::skip("PG004", &reason)),
        };
        let (has_attribute, is_rds, is_member) = (row.get(0) == Some("t"), row.get(1) == Some("t"), row.get(2) == Some("t"));
        let role = self.role();
        let grant = match is_rds {
            true => format!("GRANT rds_replication TO {role};"),
            false => format!("ALTER ROLE {role} REPLICATION;"),
        };
        let lacks = |observed: String| {
            Finding::fail("PG004", observed)
                .because("the role lacks the attribute REPLICATION")
                .so("relay cannot open its replication connection")
                .cure(grant.clone())
        };
        if !has_attribute && !is_member {
            return self.add(lacks(format!("role {role} may not replicate")));
        }
        if !has_walsender {
            return self.add(Finding::ok("PG004", format!("role {role} may replicate; not tried: no walsender is free")));
        }
        let finding = match self.source.connect_replication() {
            Ok(connection) => {
                connection.close();
                Finding::ok("PG004", format!("role {role} may replicate"))
            }
            Err(error) => self.no_replication(&error, lacks),
        };
        self.add(finding);
    }

    fn no_replication(&self, error: &Error, lacks: impl Fn(String) -> Finding) -> Finding {
        let (role, database) = (self.role(), self.source.config().wire.database());
        match error.kind() {
            Kind::SourcePermission => lacks(words(error)),
            Kind::SourceLimit => Finding::fail("PG004", words(error))
                .because("no walsender or connection was free when relay asked")
                .so("relay cannot open its replication connection")
                .cure("ALTER SYSTEM SET max_wal_senders = 20;  -- then restart the server"),
            Kind::SourcePooler => Finding::fail("PG004", words(error))
                .because("a connection pooler stands in between")
                .so("relay cannot open its replication connection")
                .cure("name the PostgreSQL server itself in source.url, not the pooler"),
            _ => Finding::fail("PG004", words(error))
                .because("a connection for SQL works, one for replication does not")
                .so("relay cannot read the slot")
                .cure(format!(
                    "compare the lines of pg_hba.conf for database {database} and role {role}: relay's replication connection \
                     names the database, not `replication`"
                )),
        }
    }

    /// PG023.
    pub(super) fn superuser(&mut self) {
        let role = self.role();
        let finding = match self.ask_one("SELECT rolsuper FROM pg_roles WHERE rolname = current_user") {
            Ok(row) if row.get(0) == Some("t") => Finding::warn("PG023", format!("role {role} is a superuser"))
                .because("relay needs LOGIN, REPLICATION and SELECT on the outbox tables, and no more")
                .so("whoever gets hold of relay's password has the whole server")
                .cure(
                    "CREATE ROLE relay WITH LOGIN REPLICATION;  -- then GRANT SELECT on each outbox table, as `relay init` \
                     prints it, and name that role in source.url",
                ),
            Ok(_) => Finding::ok("PG023", format!("role {role} is no superuser")),
            Err(reason) => Finding::skip("PG023", &reason),
        };
        self.add(finding);
    }
}
