//! `relay check`: turns configuration files into findings, without a connection.

use std::io::{IsTerminal, Write};
use std::path::Path;

use relay_core::Kind;

use crate::cli::{CheckArgs, Flags};
use crate::settings::{
    Finding, Inputs, Inspection, Place, Report, effective_toml, expand, inspect, inspect_markdown, origins, read_file,
};

/// Exit code for problems.
pub(crate) const EXIT_PROBLEMS: u8 = 3;
/// Exit code for warnings alone, under `--deny-warnings`.
pub(crate) const EXIT_WARNINGS: u8 = 4;

/// What a check prints, and how it ends.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// For standard output: findings, or the configuration that was asked for.
    pub(crate) out: String,
    /// For standard error: the rest.
    pub(crate) err: String,
    /// The exit code.
    pub(crate) code: u8,
}

/// Runs the command. Returns the exit code.
pub(crate) fn check(flags: &Flags, args: &CheckArgs) -> u8 {
    let outcome = examine(args, flags, &flags.inputs());
    // A reader that has gone away does not change what was found.
    let _ = std::io::stderr().write_all(outcome.err.as_bytes());
    let _ = std::io::stdout().write_all(outcome.out.as_bytes());
    outcome.code
}

/// The command without its process.
pub(crate) fn examine(args: &CheckArgs, flags: &Flags, inputs: &Inputs) -> Outcome {
    let mut report = Report::default();
    let mut print = String::new();
    let mut files = 0;
    let mut add = |inspection: Inspection, report: &mut Report| {
        if args.print_effective {
            print.push_str(&effective_toml(&inspection.tree));
        } else if args.show_origins {
            print.push_str(&origins(&inspection.tree, &inspection.report));
        }
        report.append(inspection.report);
    };
    if args.files.is_empty() {
        files += inputs.files.len();
        add(inspect(inputs), &mut report);
    }
    for pattern in &args.files {
        let paths = expand(pattern);
        if paths.is_empty() {
            let message = format!("no file matches `{pattern}`");
            report.findings.push(Finding::error(Kind::ConfigFile, message, Place::Nowhere));
        }
        for path in paths {
            files += 1;
            if is_markdown(&path) {
                report.append(markdown(&path));
            } else {
                let alone = Inputs { files: vec![path], ..inputs.clone() };
                add(inspect(&alone), &mut report);
            }
        }
    }
    finish(args, flags, &report, print, files)
}

fn is_markdown(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "md" || extension == "markdown")
}

fn markdown(path: &Path) -> Report {
    match read_file(path) {
        Ok(source) => inspect_markdown(&source.name, source.text()),
        Err(finding) => Report { sources: Vec::new(), findings: vec![finding] },
    }
}

fn finish(args: &CheckArgs, flags: &Flags, report: &Report, print: String, files: usize) -> Outcome {
    let (errors, warnings) = (report.errors(), report.warnings());
    let code = match (errors, warnings) {
        (1.., _) => EXIT_PROBLEMS,
        (0, 1..) if args.deny_warnings => EXIT_WARNINGS,
        _ => 0,
    };
    let is_printing = args.print_effective || args.show_origins;
    let is_coloured =
        flags.is_coloured(if is_printing { std::io::stderr().is_terminal() } else { std::io::stdout().is_terminal() });
    let found = if flags.is_json() {
        let rows = serde_json::json!({ "findings": report.rows() });
        format!("{rows:#}\n")
    } else {
        report.text(is_coloured)
    };
    let gap = if found.is_empty() || flags.is_json() { "" } else { "\n" };
    let summary =
        if flags.quiet > 0 || flags.is_json() { String::new() } else { format!("{gap}{}\n", summary(files, errors, warnings)) };
    // The configuration that was asked for must stay TOML, so findings make room for it.
    match is_printing {
        true => Outcome { out: print, err: found + &summary, code },
        false => Outcome { out: found, err: summary, code },
    }
}

fn summary(files: usize, errors: usize, warnings: usize) -> String {
    let count = |number: usize, word: &str| format!("{number} {word}{}", if number == 1 { "" } else { "s" });
    match (errors, warnings) {
        (0, 0) => format!("{}: no findings", count(files, "file")),
        _ => format!("{}: {}, {}", count(files, "file"), count(errors, "error"), count(warnings, "warning")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    const GOOD: &str = "name = \"a\"\nsource.url = \"postgres://localhost/a\"\n[[outbox]]\ntable = \"t\"\n";

    /// A directory of its own, removed at the end.
    struct Directory(PathBuf);

    impl Directory {
        fn with(name: &str, files: &[(&str, &str)]) -> Self {
            let path = std::env::temp_dir().join(format!("relay-check-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&path).unwrap();
            files.iter().for_each(|(name, text)| std::fs::write(path.join(name), text).unwrap());
            Self(path)
        }

        fn check(&self, pattern: &str, change: impl FnOnce(&mut CheckArgs, &mut Flags)) -> Outcome {
            let mut args = CheckArgs { files: vec![self.0.join(pattern).display().to_string()], ..CheckArgs::default() };
            let mut flags = Flags { color: crate::cli::Color::Never, ..Flags::default() };
            change(&mut args, &mut flags);
            let outcome = examine(&args, &flags, &Inputs::default());
            let here = format!("{}/", self.0.display());
            Outcome { out: outcome.out.replace(&here, ""), err: outcome.err.replace(&here, ""), code: outcome.code }
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn exit_codes_tell_problems_from_warnings() {
        let warned = format!("{GOOD}[sink.kafka]\nunsafe = true\n");
        let markdown = format!("# Page\n```toml\n{GOOD}```\n```toml\n[nonsense]\n```\n");
        let files =
            [("good.toml", GOOD), ("warned.toml", warned.as_str()), ("bad.toml", "name = 5\n"), ("page.md", markdown.as_str())];
        let files = Directory::with("codes", &files);
        let deny = |args: &mut CheckArgs, _: &mut Flags| args.deny_warnings = true;
        let good = files.check("good.toml", deny);
        assert_eq!((good.out.as_str(), good.err.as_str(), good.code), ("", "1 file: no findings\n", 0));
        assert_eq!(files.check("warned.toml", |_, _| {}).code, 0);
        assert_eq!(files.check("warned.toml", deny).code, EXIT_WARNINGS);
        assert_eq!(files.check("bad.toml", deny).code, EXIT_PROBLEMS);
        let all = files.check("*.toml", deny);
        assert_eq!(all.code, EXIT_PROBLEMS);
        assert!(all.err.starts_with("\n3 files: ") && all.out.contains("--> bad.toml:1:8\n"), "{}{}", all.out, all.err);
        assert_eq!(files.check("none*.toml", deny).code, EXIT_PROBLEMS);
        let page = files.check("page.md", deny);
        assert!(page.code == EXIT_PROBLEMS && page.out.contains("--> page.md:9:2\n"), "{}", page.out);
    }

    #[test]
    fn what_was_asked_for_goes_to_stdout_and_the_rest_does_not() {
        let files = Directory::with("streams", &[("warned.toml", &format!("{GOOD}[sink.kafka]\nunsafe = true\n"))]);
        let effective = files.check("warned.toml", |args, _| args.print_effective = true);
        assert!(effective.out.starts_with("name = \"a\"\n") && effective.err.contains("warning[R0104]"));
        let origins = files.check("warned.toml", |args, _| args.show_origins = true);
        assert!(origins.out.contains("sink.kafka.unsafe = true <- warned.toml:6\n"), "{}", origins.out);
        let json = files.check("warned.toml", |_, flags| flags.json = true);
        let json: serde_json::Value = serde_json::from_str(&json.out).unwrap();
        let row = json["findings"][0].as_object().unwrap();
        let names: Vec<_> = row.keys().map(String::as_str).collect();
        let wanted = ["code", "column", "file", "hint", "key", "line", "message", "severity"];
        assert!(wanted.iter().all(|name| names.contains(name)) && names.len() == wanted.len(), "{names:?}");
        assert_eq!((row["severity"].as_str(), row["line"].as_u64()), (Some("warn"), Some(6)));
    }
}
