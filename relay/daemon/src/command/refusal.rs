//! Why a one-shot command ends early: what happened, the cure apart from it, and the exit code.

use relay_core::Kind;
use relay_core::checkpoint::ReadError;
use relay_core::window::{Failure, FailureKind};

use crate::cli::EXIT_USAGE;

/// Exit code for what went wrong at work, and for what a command refuses.
pub(crate) const EXIT_FAILURE: u8 = 1;
/// Exit code where something cannot be reached.
pub(crate) const EXIT_UNREACHED: u8 = 69;
/// Exit code where somebody else is in the way; later it may work.
pub(crate) const EXIT_BUSY: u8 = 75;
const EXIT_PERMISSION: u8 = 77;
const EXIT_CONFIG: u8 = 78;

/// The end of a command that did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// The exit code.
    pub(crate) code: u8,
    /// The row of the policy table, where there is one.
    kind: Option<Kind>,
    message: String,
    hint: String,
}

// === impl Refusal ===

impl Refusal {
    /// A command line that cannot be meant.
    pub(crate) fn usage(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { code: EXIT_USAGE, kind: None, message: message.into(), hint: hint.into() }
    }

    /// What the command will not do as things stand.
    pub(crate) fn refused(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { code: EXIT_FAILURE, kind: None, message: message.into(), hint: hint.into() }
    }

    /// A configuration that no component takes.
    pub(crate) fn config(message: impl Into<String>) -> Self {
        Self { code: EXIT_CONFIG, kind: None, message: message.into(), hint: "run `relay check`".into() }
    }

    /// An error of a known kind, with the kind's hint.
    pub(crate) fn of(kind: Kind, message: impl Into<String>) -> Self {
        Self { code: exit_code(kind), kind: Some(kind), message: message.into(), hint: kind.directive().hint.into() }
    }

    /// Another cure than the kind's.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = hint.into();
        self
    }

    /// Another exit code than the kind's.
    pub(crate) fn code(mut self, code: u8) -> Self {
        self.code = code;
        self
    }

    /// What stderr shows.
    pub(crate) fn text(&self) -> String {
        let code = self.kind.map_or_else(String::new, |kind| format!("[{}]", kind.directive().code));
        let hint = if self.hint.is_empty() { String::new() } else { format!("\nhint: {}\n", self.hint) };
        format!("error{code}: {}\n{hint}", self.message)
    }

    /// Prints it. Returns the exit code.
    pub(crate) fn report(&self) -> u8 {
        eprint!("{}", self.text());
        self.code
    }
}

impl From<relay_postgres::Error> for Refusal {
    fn from(error: relay_postgres::Error) -> Self {
        Self::of(error.kind(), error.to_string())
    }
}

impl From<relay_pgwire::Error> for Refusal {
    fn from(error: relay_pgwire::Error) -> Self {
        Self::of(error.kind(), error.to_string())
    }
}

impl From<ReadError> for Refusal {
    fn from(error: ReadError) -> Self {
        Self::of(read_kind(&error), error.to_string())
    }
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        let kind = match failure.kind {
            FailureKind::Denied => Kind::SinkPermission,
            FailureKind::UnknownTopic => Kind::TopicMissing,
            FailureKind::Fenced => Kind::Fenced,
            _ => Kind::CheckpointUnreachable,
        };
        Self::of(kind, failure.message)
    }
}

/// The kind of a checkpoint that cannot be read.
pub(crate) fn read_kind(error: &ReadError) -> Kind {
    match error {
        ReadError::Unreachable(_) => Kind::CheckpointUnreachable,
        ReadError::Denied(_) => Kind::SinkPermission,
        ReadError::Unusable(_) => Kind::CheckpointUnusable,
        ReadError::Fenced(_) => Kind::Fenced,
    }
}

/// The exit code of a one-shot command for an error of that kind (operations.md, section 1.1).
fn exit_code(kind: Kind) -> u8 {
    match kind {
        Kind::ConfigSyntax
        | Kind::ConfigUnknownKey
        | Kind::ConfigValue
        | Kind::ConfigConflict
        | Kind::ConfigNotImplemented
        | Kind::ConfigFile => EXIT_CONFIG,
        Kind::SourceAuth | Kind::SourcePermission | Kind::SinkAuth | Kind::SinkPermission => EXIT_PERMISSION,
        Kind::SourceUnreachable
        | Kind::SourceLimit
        | Kind::SourceUnavailable
        | Kind::SourceLost
        | Kind::SourceSilent
        | Kind::SinkUnreachable
        | Kind::CheckpointUnreachable => EXIT_UNREACHED,
        Kind::SlotBusy => EXIT_BUSY,
        _ => EXIT_FAILURE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_follow_the_kind() {
        for (kind, code) in [
            (Kind::ConfigValue, 78),
            (Kind::SourceAuth, 77),
            (Kind::SourcePermission, 77),
            (Kind::SinkPermission, 77),
            (Kind::SourceUnreachable, 69),
            (Kind::CheckpointUnreachable, 69),
            (Kind::SlotBusy, 75),
            (Kind::SlotMissing, 1),
            (Kind::CheckpointForeign, 1),
        ] {
            assert_eq!(Refusal::of(kind, "").code, code, "{kind:?}");
        }
        assert_eq!(Refusal::usage("", "").code, 64);
    }

    #[test]
    fn the_hint_stands_apart() {
        let text = Refusal::of(Kind::SlotBusy, "slot `a` is active for PID 7").hint("stop it").text();
        assert_eq!(text, "error[R0220]: slot `a` is active for PID 7\n\nhint: stop it\n");
        assert_eq!(Refusal::refused("no", "").text(), "error: no\n");
    }
}
