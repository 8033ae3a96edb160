//! Turns `*`, `?` and `**` in a path into the files that match, for shells and quotes that leave them alone.

use std::path::{Path, PathBuf};

/// How deep `**` looks.
const DEPTH_MAX: usize = 32;

/// The files that a pattern names, sorted; a path without wildcards is itself.
pub(crate) fn expand(pattern: &str) -> Vec<PathBuf> {
    if !pattern.contains(['*', '?']) || Path::new(pattern).exists() {
        return vec![PathBuf::from(pattern)];
    }
    let (root, rest) = match pattern.strip_prefix('/') {
        Some(rest) => (PathBuf::from("/"), rest),
        None => (PathBuf::new(), pattern),
    };
    let parts: Vec<&str> = rest.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    let mut found = Vec::new();
    walk(root, &parts, 0, &mut found);
    found.sort();
    found.dedup();
    found
}

fn walk(at: PathBuf, parts: &[&str], depth: usize, found: &mut Vec<PathBuf>) {
    let Some((first, rest)) = parts.split_first() else {
        if at.is_file() {
            found.push(at);
        }
        return;
    };
    if *first == "**" {
        walk(at.clone(), rest, depth, found);
        if depth < DEPTH_MAX {
            for child in children(&at) {
                // A link may lead back up.
                if child.is_dir() && !child.is_symlink() {
                    walk(child, parts, depth + 1, found);
                }
            }
        }
    } else if first.contains(['*', '?']) {
        for child in children(&at) {
            let name = child.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            if (!name.starts_with('.') || first.starts_with('.')) && matches(first, &name) {
                walk(child, rest, depth, found);
            }
        }
    } else {
        walk(at.join(first), rest, depth, found);
    }
}

fn children(at: &Path) -> Vec<PathBuf> {
    let directory = if at.as_os_str().is_empty() { Path::new(".") } else { at };
    let names = std::fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| at.join(entry.file_name()));
    names.collect()
}

/// Whether a name fits a pattern of `*` and `?`.
fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut at, mut in_name, mut star) = (0, 0, None);
    while in_name < name.len() {
        match pattern.get(at) {
            Some('*') => {
                star = Some((at, in_name));
                at += 1;
            }
            Some(&c) if c == '?' || c == name[in_name] => {
                at += 1;
                in_name += 1;
            }
            _ => match star {
                Some((star_at, taken)) => {
                    (at, in_name) = (star_at + 1, taken + 1);
                    star = Some((star_at, taken + 1));
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_match_names() {
        assert!(matches("*.toml", "relay.toml") && matches("r?lay*", "relay.toml") && matches("*", ""));
        assert!(!matches("*.toml", "relay.md") && !matches("?", ""));
    }

    #[test]
    fn patterns_become_files() {
        let root = std::env::temp_dir().join(format!("relay-paths-{}", std::process::id()));
        std::fs::create_dir_all(root.join("a/b")).unwrap();
        for name in ["one.toml", "a/two.toml", "a/b/three.toml", "a/b/note.md"] {
            std::fs::write(root.join(name), "").unwrap();
        }
        let names = |pattern: &str| {
            let found = expand(root.join(pattern).to_str().unwrap());
            found.into_iter().map(|path| path.strip_prefix(&root).unwrap().display().to_string()).collect::<Vec<_>>()
        };
        assert_eq!(names("*.toml"), ["one.toml"]);
        assert_eq!(names("**/*.toml"), ["a/b/three.toml", "a/two.toml", "one.toml"]);
        assert_eq!(names("a/*/*.md"), ["a/b/note.md"]);
        assert_eq!(names("no/*.toml"), Vec::<String>::new());
        assert_eq!(names("plain.toml"), ["plain.toml"]);
        std::fs::remove_dir_all(&root).unwrap();
    }
}
