//! Reads the repository and holds it to the habits that no compiler checks: opening sentences, line lengths, names, codes, links.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// A file of the repository: its path from the top, with `/`, and its text.
struct File {
    path: String,
    text: String,
}

/// This file names what it forbids.
const SELF: &str = "tests/tidy/tidy.rs";
/// Longest line of a Rust file, in characters.
const COLUMNS_MAX: usize = 140;
/// Tables with one row a line: breaking their rows would hide the columns.
const TABLES: [&str; 3] = ["relay/core/src/error.rs", "relay/daemon/src/metrics/name.rs", "tests/it/recording/roundtrip.rs"];
/// Names that say nothing about what is inside.
const EMPTY_NAMES: [&str; 8] = ["util", "utils", "common", "helper", "helpers", "misc", "manager", "handler"];
/// Words that people leave behind to come back to.
const REMINDERS: [&str; 6] = ["TODO", "FIXME", "XXX", "HACK", "unimplemented!", "todo!"];
/// Where unsafe code may stand. A test crate that needs it (a counting allocator) is added here, with its reason.
const UNSAFE: [&str; 1] = ["connectors/kafka/src/native.rs"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Every text file below `folder` whose name ends in one of the extensions; build output, hidden folders and corpora left out.
fn files(folder: &str, extensions: &[&str]) -> Vec<File> {
    let (root, mut found) = (root(), Vec::new());
    let mut folders = vec![root.join(folder)];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries.flatten() {
            let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
            if path.is_dir() {
                if !name.starts_with('.') && !matches!(name.as_str(), "target" | "corpus" | "artifacts") {
                    folders.push(path);
                }
            } else if extensions.iter().any(|extension| name.ends_with(&format!(".{extension}"))) {
                let Ok(text) = fs::read_to_string(&path) else { continue };
                let path = path.strip_prefix(&root).unwrap_or(&path).to_string_lossy().replace('\\', "/");
                found.push(File { path: path.trim_start_matches("./").to_owned(), text });
            }
        }
    }
    found.sort_by(|one, other| one.path.cmp(&other.path));
    found
}

/// Applies a rule to files and fails with everything that it finds.
fn hold(files: &[File], rule: impl Fn(&File) -> Vec<String>) {
    assert!(!files.is_empty(), "the rule met no file");
    let findings: Vec<String> = files.iter().flat_map(rule).collect();
    assert!(findings.is_empty(), "{} findings:\n{}", findings.len(), findings.join("\n"));
}

/// What a rule says about a made-up file.
fn findings(rule: impl Fn(&File) -> Vec<String>, path: &str, text: &str) -> usize {
    rule(&File { path: path.into(), text: text.into() }).len()
}

fn opens_with_a_sentence(file: &File) -> Vec<String> {
    let first = file.text.lines().next().unwrap_or_default();
    let is_sentence = first.strip_prefix("//! ").is_some_and(|text| text.trim().len() > 10);
    if is_sentence { Vec::new() } else { vec![format!("{}:1: does not open with a `//!` sentence", file.path)] }
}

fn is_narrow(file: &File) -> Vec<String> {
    let lines = file.text.lines().enumerate().map(|(at, line)| (at + 1, line.chars().count()));
    let wide = lines.filter(|(_, columns)| *columns > COLUMNS_MAX && !TABLES.contains(&file.path.as_str()));
    wide.map(|(at, columns)| format!("{}:{at}: {columns} columns, {COLUMNS_MAX} at most", file.path)).collect()
}

/// Whether `word` stands in `line` with nothing of a word on either side.
fn has_word(line: &str, word: &str) -> bool {
    let is_part = |letter: char| letter.is_alphanumeric() || letter == '_';
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        !before.is_some_and(is_part) && !after.is_some_and(|letter| is_part(letter) && !word.ends_with('!'))
    })
}

fn has_no_reminder(file: &File) -> Vec<String> {
    let lines = file.text.lines().enumerate();
    let found =
        lines.flat_map(|(at, line)| REMINDERS.iter().filter(move |word| has_word(line, word)).map(move |word| (at + 1, word)));
    found.map(|(at, word)| format!("{}:{at}: a leftover `{word}`", file.path)).collect()
}

fn has_telling_names(file: &File) -> Vec<String> {
    let parts = file.path.trim_end_matches(".rs").split('/');
    let mut found: Vec<String> =
        parts.filter(|part| EMPTY_NAMES.contains(part)).map(|part| format!("{}: `{part}` names nothing", file.path)).collect();
    for (at, line) in file.text.lines().enumerate() {
        let mut words = line.split_whitespace().skip_while(|word| word.starts_with("pub"));
        let name = (words.next() == Some("mod")).then(|| words.next()).flatten().map(|name| name.trim_end_matches([';', '{']));
        if let Some(name) = name.filter(|name| EMPTY_NAMES.contains(name)) {
            found.push(format!("{}:{}: a module named `{name}`", file.path, at + 1));
        }
    }
    found
}

fn is_safe(file: &File) -> Vec<String> {
    let mut found = Vec::new();
    for (at, line) in file.text.lines().enumerate() {
        let code = line.split("//").next().unwrap_or_default();
        let is_unsafe =
            ["unsafe {", "unsafe fn", "unsafe impl", "unsafe trait", "unsafe extern", "#[unsafe("].iter().any(|form| {
                // Neither the end of a longer name nor the word inside a text is meant.
                let is_whole = |before: &str| !before.ends_with(|letter: char| letter.is_alphanumeric() || letter == '_');
                code.find(form).is_some_and(|place| is_whole(&code[..place]) && code[..place].matches('"').count() % 2 == 0)
            });
        let is_lifted = code.contains("(unsafe_code") && (code.contains("allow") || code.contains("expect"));
        if (is_unsafe || is_lifted) && !UNSAFE.contains(&file.path.as_str()) && file.path != SELF {
            found.push(format!("{}:{}: unsafe code belongs to {}", file.path, at + 1, UNSAFE.join(", ")));
        }
    }
    found
}

/// The text outside of fenced blocks, line by line, code spans blanked out.
fn prose(text: &str) -> Vec<(usize, String)> {
    let (mut lines, mut is_code) = (Vec::new(), false);
    for (at, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            is_code = !is_code;
        } else if !is_code {
            let spans = line.split('`').enumerate();
            lines.push((at + 1, spans.map(|(at, span)| if at % 2 == 0 { span } else { "" }).collect()));
        }
    }
    lines
}

/// The anchors of a Markdown file's headings, as the common renderers make them.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut is_code = false;
    let mut anchors = BTreeSet::new();
    for line in text.lines() {
        is_code ^= line.trim_start().starts_with("```");
        let heading = line.trim_start_matches('#');
        if !is_code && line.starts_with('#') && heading.starts_with(' ') {
            let kept = heading.trim().to_lowercase().replace(' ', "-");
            anchors.insert(kept.chars().filter(|letter| letter.is_alphanumeric() || matches!(letter, '-' | '_')).collect());
        }
    }
    anchors
}

/// Where the links of a Markdown file lead, without those to other hosts.
fn links(text: &str) -> Vec<(usize, String)> {
    let mut links = Vec::new();
    for (at, line) in prose(text) {
        for (place, _) in line.match_indices("](") {
            let target = line[place + 2..].split(')').next().unwrap_or_default().split_whitespace().next().unwrap_or_default();
            if !target.contains("://") && !target.starts_with("mailto:") {
                links.push((at, target.to_owned()));
            }
        }
    }
    links
}

fn has_whole_links(file: &File) -> Vec<String> {
    let folder = root().join(&file.path).parent().map(Path::to_path_buf).unwrap_or_default();
    let mut found = Vec::new();
    for (at, target) in links(&file.text) {
        let (path, anchor) = target.split_once('#').unwrap_or((&target, ""));
        let place = folder.join(path);
        let text = if path.is_empty() { file.text.clone() } else { fs::read_to_string(&place).unwrap_or_default() };
        if !path.is_empty() && !place.exists() {
            found.push(format!("{}:{at}: link to `{target}`, which does not exist", file.path));
        } else if !anchor.is_empty() && !anchors(&text).contains(anchor) {
            found.push(format!("{}:{at}: `{target}` has no such heading", file.path));
        }
    }
    found
}

/// Error codes that stand as texts in a source: `"R0101"`.
fn codes(text: &str) -> BTreeSet<String> {
    let is_code = |text: &&str| text.len() == 5 && text.starts_with('R') && text[1..].bytes().all(|byte| byte.is_ascii_digit());
    text.split('"').filter(is_code).map(str::to_owned).collect()
}

/// The names of a metrics contract: the first text of each line that begins with a constant's name.
fn metric_names(text: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for line in text.lines().map(str::trim) {
        let constant = line.trim_start_matches("pub(crate) const ").trim_start_matches("const ");
        let is_constant = constant.starts_with(|letter: char| letter.is_ascii_uppercase());
        let name = line.split('"').nth(1).filter(|name| name.starts_with("relay_") || name.starts_with("process_"));
        if let Some(name) = name.filter(|name| is_constant && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'))
        {
            names.insert(name.to_owned());
        }
    }
    names
}

/// The names in the first column of a Markdown table.
fn first_column(text: &str) -> BTreeSet<String> {
    let cells = text.lines().filter_map(|line| line.strip_prefix("| ")?.split('|').next().map(str::to_owned));
    cells.flat_map(|cell| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>()).collect()
}

#[test]
fn every_source_file_opens_with_a_sentence() {
    hold(&files("", &["rs"]), opens_with_a_sentence);
    assert_eq!(findings(opens_with_a_sentence, "a.rs", "use std::fs;\n"), 1);
    assert_eq!(findings(opens_with_a_sentence, "a.rs", "//!\n"), 1);
}

#[test]
fn no_line_is_too_long() {
    hold(&files("", &["rs"]), is_narrow);
    let wide = "ä".repeat(COLUMNS_MAX + 1);
    assert_eq!(findings(is_narrow, "a.rs", &wide), 1);
    assert_eq!(findings(is_narrow, "a.rs", &wide[2..]), 0);
    assert_eq!(findings(is_narrow, TABLES[0], &wide), 0);
    let all = files("", &["rs"]);
    assert!(TABLES.iter().all(|table| all.iter().any(|file| file.path == *table)), "an excepted table is gone");
}

#[test]
fn nothing_is_left_to_come_back_to() {
    let mut all = files("", &["rs", "md", "toml", "yaml", "yml", "sh", "sql", "service"]);
    all.retain(|file| file.path != SELF);
    hold(&all, has_no_reminder);
    assert_eq!(findings(has_no_reminder, "a.rs", "// TODO: later\nfn x() { todo!() }\n"), 2);
    assert_eq!(findings(has_no_reminder, "a.rs", "\"XXX000\" TODOS todos!"), 0);
}

#[test]
fn names_say_what_is_inside() {
    hold(&files("", &["rs"]), has_telling_names);
    assert_eq!(findings(has_telling_names, "relay/core/src/utils.rs", ""), 1);
    assert_eq!(findings(has_telling_names, "relay/common/src/lsn.rs", ""), 1);
    assert_eq!(findings(has_telling_names, "a.rs", "pub(crate) mod helper;\nmod misc {\nmod model;\n"), 2);
}

#[test]
fn unsafe_code_stays_where_it_is_allowed() {
    hold(&files("", &["rs"]), is_safe);
    assert_eq!(findings(is_safe, "a.rs", "fn x() { unsafe { y() } }\n#![allow(unsafe_code)]\nunsafe impl Send for X {}\n"), 3);
    assert_eq!(findings(is_safe, "a.rs", "// unsafe { }\nlet text = \"unsafe { }\";\nif !allow_unsafe {\n"), 0);
    assert_eq!(findings(is_safe, UNSAFE[0], "unsafe { y() }"), 0);
}

#[test]
fn every_error_code_has_a_page_and_every_page_a_code() {
    let policy = fs::read_to_string(root().join("relay/core/src/error.rs")).unwrap();
    let codes = codes(policy.split("#[cfg(test)]").next().unwrap());
    assert!(codes.len() > 30, "the policy table is not found: {codes:?}");
    let pages = files("docs/errors", &["md"]);
    let (index, pages): (Vec<_>, Vec<_>) = pages.into_iter().partition(|file| file.path.ends_with("README.md"));
    let named: BTreeSet<String> =
        pages.iter().filter_map(|file| Some(file.path.rsplit_once('/')?.1.trim_end_matches(".md").to_owned())).collect();
    assert_eq!(named, codes, "pages on the left, codes on the right");
    let index = &index.first().expect("docs/errors/README.md").text;
    for page in &pages {
        let code = page.path.rsplit_once('/').unwrap().1.trim_end_matches(".md");
        assert!(page.text.starts_with(&format!("# {code}: ")), "{}: does not begin with its code", page.path);
        for heading in ["## What it means", "## What relay does", "## What to do"] {
            assert!(page.text.contains(heading), "{}: `{heading}` is missing", page.path);
        }
        assert!(index.contains(&format!("[{code}]({code}.md)")), "docs/errors/README.md does not list {code}");
    }
}

#[test]
fn every_metric_is_in_the_reference() {
    let sources = files("relay/daemon/src", &["rs"]);
    let metrics =
        sources.iter().filter(|file| file.path.starts_with("relay/daemon/src/metrics") && !file.path.ends_with("tests.rs"));
    let names: BTreeSet<String> = metrics.flat_map(|file| metric_names(&file.text)).collect();
    assert!(names.len() > 30, "the contract is not found: {names:?}");
    let reference = fs::read_to_string(root().join("docs/reference/metrics.md")).unwrap();
    let documented = first_column(&reference);
    let missing: Vec<_> = names.difference(&documented).collect();
    assert!(missing.is_empty(), "not in docs/reference/metrics.md: {missing:?}");
    let unknown: Vec<_> = documented.iter().filter(|name| name.starts_with("relay_") && !names.contains(*name)).collect();
    assert!(unknown.is_empty(), "in docs/reference/metrics.md alone: {unknown:?}");
}

#[test]
fn docs_name_only_metrics_that_exist() {
    let documented = first_column(&fs::read_to_string(root().join("docs/reference/metrics.md")).unwrap());
    let docs = files("docs", &["md"]);
    hold(&docs, |file| {
        // A name is what follows `relay_` up to a bracket of labels; `relay_orders` is the slot of the examples.
        let words = file.text.split(|letter: char| !(letter.is_ascii_alphanumeric() || letter == '_'));
        let units = ["_total", "_bytes", "_seconds", "_lsn", "_info", "_status"];
        let metrics = words.filter(|word| word.starts_with("relay_") && units.iter().any(|unit| word.ends_with(unit)));
        let unknown = metrics.filter(|word| !documented.contains(*word));
        unknown.map(|word| format!("{}: there is no metric `{word}`", file.path)).collect()
    });
}

#[test]
fn links_lead_somewhere() {
    hold(&files("", &["md"]), has_whole_links);
    assert_eq!(
        findings(has_whole_links, "docs/x.md", "[a](nothing.md) [b](#none) `[c](nothing.md)`\n```\n[d](nothing.md)\n```\n"),
        2
    );
    assert_eq!(findings(has_whole_links, "docs/x.md", "# One word\n[a](#one-word) [b](https://example.com/x)\n"), 0);
}

#[test]
fn scenarios_name_tests_that_are_there() {
    let matrix = fs::read_to_string(root().join("docs/crash-matrix.md")).unwrap();
    let tests: String =
        ["tests", "relay/core/tests"].iter().flat_map(|folder| files(folder, &["rs"])).map(|file| file.text).collect();
    let rows = matrix.lines().filter(|line| line.starts_with("| ") && line.matches('|').count() == 4);
    let named: Vec<&str> =
        rows.skip(1).filter_map(|row| row.rsplit('|').nth(1)).flat_map(|cell| cell.split('`').skip(1).step_by(2)).collect();
    assert!(named.len() > 30, "the table is not found: {named:?}");
    let missing: Vec<_> = named.iter().filter(|name| !tests.contains(&format!("fn {name}()"))).collect();
    assert!(missing.is_empty(), "docs/crash-matrix.md names tests that are not there: {missing:?}");
}
