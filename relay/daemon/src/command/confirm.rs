//! The question before something that cannot be taken back: a name must be typed.

use std::io::BufRead;

use super::refusal::Refusal;

/// Says what will be done and asks for `name`; `undone` says what is left as it was where another answer comes.
pub(super) fn confirm(question: &str, name: &str, undone: &str, answers: &mut impl BufRead) -> Result<(), Refusal> {
    eprint!("{question} to go on: ");
    let mut line = String::new();
    if answers.read_line(&mut line).unwrap_or(0) == 0 {
        eprintln!();
    }
    match line.trim() == name {
        true => Ok(()),
        false => Err(Refusal::refused(format!("the name was not typed; {undone}"), "`--yes` goes on without asking")),
    }
}
