//! An ErrorResponse or NoticeResponse becomes its fields, and its SQLSTATE a kind.

use std::fmt;

use relay_core::Kind;

use crate::message::Fields;

/// What the server said in an ErrorResponse or NoticeResponse.
///
/// `message`, `detail` and `hint` come in the server's `lc_messages`, which an ordinary role cannot change; `code`, `file` and
/// `routine` are never translated.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerError {
    /// ERROR, FATAL, PANIC, WARNING, NOTICE, DEBUG, INFO or LOG, untranslated (field `V`).
    pub severity: String,
    /// SQLSTATE, five characters.
    pub code: String,
    /// The primary message.
    pub message: String,
    /// More about the problem.
    pub detail: Option<String>,
    /// What to do about it.
    pub hint: Option<String>,
    /// Call stack of PL functions and the like (field `W`).
    pub context: Option<String>,
    /// Source file of the server that raised it, such as `slot.c`.
    pub file: Option<String>,
    /// Function of the server that raised it.
    pub routine: Option<String>,
}

// === impl ServerError ===

impl ServerError {
    /// Reads the fields of an ErrorResponse or NoticeResponse body; whatever is malformed ends the list, for half a message
    /// from the server is worth more than a complaint about its form.
    pub(crate) fn parse(body: &[u8]) -> Self {
        let mut error = ServerError::default();
        let mut translated_severity = String::new();
        let mut fields = Fields::new(body);
        while let Ok(tag) = fields.u8() {
            if tag == 0 {
                break;
            }
            let Ok(text) = fields.cstr() else { break };
            let text = String::from_utf8_lossy(text).into_owned();
            match tag {
                b'S' => translated_severity = text,
                b'V' => error.severity = text,
                b'C' => error.code = text,
                b'M' => error.message = text,
                b'D' => error.detail = Some(text),
                b'H' => error.hint = Some(text),
                b'W' => error.context = Some(text),
                b'F' => error.file = Some(text),
                b'R' => error.routine = Some(text),
                _ => {}
            }
        }
        if error.severity.is_empty() {
            // Poolers and other stand-ins send no `V`.
            error.severity = translated_severity;
        }
        error
    }

    /// Whether the server ends the connection after this.
    #[must_use]
    pub fn is_fatal(&self) -> bool {
        matches!(self.severity.as_str(), "FATAL" | "PANIC")
    }

    /// Of 55006 on a slot: the process that holds it ("is active for PID n"). The number is read from the end of the
    /// message, so that a translated one serves as well.
    #[must_use]
    pub fn active_pid(&self) -> Option<i32> {
        if self.code != "55006" {
            return None;
        }
        let tail = self.message.rsplit(['"', '\u{bb}', '\u{201c}', '\u{201d}']).next()?;
        let digits = tail.split(|c: char| !c.is_ascii_digit()).rfind(|run| !run.is_empty())?;
        digits.parse().ok()
    }

    /// The kind that SQLSTATE and source file suggest; who knows the situation refines it.
    #[must_use]
    pub fn kind(&self) -> Kind {
        let file = |name: &str| self.file.as_deref() == Some(name);
        let says = |text: &str| self.message.contains(text) || self.detail.as_deref().is_some_and(|detail| detail.contains(text));
        match self.code.as_str() {
            "28000" | "28P01" => Kind::SourceAuth,
            "42501" => Kind::SourcePermission,
            // 53400: all replication slots are in use.
            "53300" | "53400" => Kind::SourceLimit,
            "57P01" | "57P02" | "57P03" => Kind::SourceUnavailable,
            "55006" => Kind::SlotBusy,
            "42704" if file("slot.c") || says("replication slot") => Kind::SlotMissing,
            "42704" if says("publication") || file("pg_publication.c") => Kind::PublicationMissing,
            "55000" if says("wal_level") => Kind::SourceUnfit,
            // A slot synchronised from a primary: this standby's turn comes when it is promoted.
            "55000" if says("being synchronized") || says("being synced") => Kind::SlotBusy,
            "55000" if says("invalidated") || says("no longer") || says("exceeded") || says("cannot read from logical") => {
                Kind::SlotLost
            }
            "55000" if says("slot") => Kind::SlotUnfit,
            "58P01" => Kind::SlotLost,
            // The server cannot build the text of a row: larger than its allocator allows, or not in any encoding it knows.
            "54000" | "22021" | "22P05" => Kind::RowUnsendable,
            "XX000" if says("invalid memory alloc request size") => Kind::RowUnsendable,
            _ if says("unsupported startup parameter") => Kind::SourcePooler,
            "08P01" => Kind::SourceProtocol,
            "0A000" | "22023" | "3D000" | "42601" | "42704" | "55000" => Kind::SourceUnfit,
            _ => Kind::SourceLost,
        }
    }
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.severity, self.code, self.message)?;
        if let Some(detail) = &self.detail {
            write!(f, " ({detail})")?;
        }
        Ok(())
    }
}

impl std::error::Error for ServerError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(code: &str, message: &str) -> ServerError {
        ServerError { severity: "ERROR".into(), code: code.into(), message: message.into(), ..ServerError::default() }
    }

    #[test]
    fn the_pid_of_a_busy_slot_is_found_in_any_language() {
        assert_eq!(error("55006", "replication slot \"relay_9\" is active for PID 4711").active_pid(), Some(4711));
        assert_eq!(error("55006", "Replikations-Slot »s1« ist aktiv für PID 7").active_pid(), Some(7));
        assert_eq!(error("55006", "replication slot \"s1\" is busy").active_pid(), None);
        assert_eq!(error("42704", "slot 5").active_pid(), None);
    }

    #[test]
    fn sqlstates_map_to_kinds() {
        for (code, message, kind) in [
            ("28P01", "password authentication failed", Kind::SourceAuth),
            ("28000", "no pg_hba.conf entry", Kind::SourceAuth),
            ("42501", "permission denied", Kind::SourcePermission),
            ("53300", "too many connections", Kind::SourceLimit),
            ("57P03", "the database system is starting up", Kind::SourceUnavailable),
            ("57P01", "terminating connection", Kind::SourceUnavailable),
            ("55006", "replication slot \"s\" is active for PID 3", Kind::SlotBusy),
            ("42704", "replication slot \"s\" does not exist", Kind::SlotMissing),
            ("42704", "publication \"p\" does not exist", Kind::PublicationMissing),
            ("42704", "unrecognized configuration parameter \"x\"", Kind::SourceUnfit),
            ("55000", "can no longer get changes from replication slot \"s\"", Kind::SlotLost),
            ("55000", "cannot read from logical replication slot \"s\"", Kind::SlotLost),
            ("55000", "logical decoding requires wal_level >= logical", Kind::SourceUnfit),
            ("58P01", "requested WAL segment has already been removed", Kind::SlotLost),
            ("XX000", "invalid memory alloc request size 1500000000", Kind::RowUnsendable),
            ("08P01", "unsupported startup parameter: replication", Kind::SourcePooler),
            ("57014", "canceling statement", Kind::SourceLost),
        ] {
            assert_eq!(error(code, message).kind(), kind, "{code} {message}");
        }
    }

    #[test]
    fn half_a_message_is_read_as_far_as_it_goes() {
        let whole = b"SFEHLER\0VERROR\0C42704\0Mno\0Ddetail\0Hhint\0Fslot.c\0RReplicationSlotAcquire\0\0";
        let read = ServerError::parse(whole);
        assert_eq!((read.severity.as_str(), read.code.as_str(), read.message.as_str()), ("ERROR", "42704", "no"));
        assert_eq!(read.kind(), Kind::SlotMissing);
        for end in 0..whole.len() {
            let _ = ServerError::parse(&whole[..end]);
        }
    }
}
