//! Turns a project of `tests/frameworks` into a program of another outbox framework, built once per machine beside the servers.

use std::collections::hash_map::DefaultHasher;
use std::ffi::OsStr;
use std::hash::{Hash, Hasher};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::fetch::{maven, once};
use crate::process::{Process, run};
use crate::scratch::Scratch;

/// A built project, ready to be started any number of times.
#[derive(Debug, Clone)]
pub enum Framework {
    /// Classes and jars of a Maven project.
    Java(PathBuf),
    /// The program of a Go module.
    Go(PathBuf),
}

/// JVMs that live for seconds: compile quickly rather than well.
const JVM: [&str; 5] = ["-Xms64m", "-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData"];

// === impl Framework ===

impl Framework {
    /// A Maven project: its dependencies, and its classes where it has any.
    pub fn java(project: &str) -> Framework {
        let source = source(project);
        Framework::Java(once(&built_name(project, &source), |into| {
            let pom = source.join("pom.xml").display().to_string();
            let lib = into.join("lib");
            maven(
                &["copy-dependencies", "-f", &pom, "-DincludeScope=runtime", &format!("-DoutputDirectory={}", lib.display())],
                into,
            );
            let classes = into.join("classes");
            std::fs::create_dir(&classes).expect("create a folder for classes");
            let sources: Vec<PathBuf> = files(&source).into_iter().filter(|file| is_of(file, "java")).collect();
            if !sources.is_empty() {
                let mut javac = Command::new("javac");
                javac.args(["--release", "17", "-encoding", "UTF-8", "-Xlint:all,-processing", "-cp"]);
                javac.arg(format!("{}/*", lib.display())).arg("-d").arg(&classes).args(&sources);
                run("compile a project of tests/frameworks, which needs a JDK 17 or newer", &mut javac);
            }
        }))
    }

    /// A Go module with one program.
    pub fn go(module: &str) -> Framework {
        let source = source(module);
        Framework::Go(once(&built_name(module, &source), |into| {
            let mut go = Command::new("go");
            go.args(["build", "-trimpath", "-buildvcs=false", "-o"]).arg(into.join("program")).arg(".").current_dir(&source);
            // A module may ask for a newer Go than the machine's, which that fetches.
            go.env("GOTOOLCHAIN", "auto");
            run("build a module of tests/frameworks, which needs Go 1.21 or newer", &mut go);
        }))
    }

    /// The command that starts it: for Java with the class whose `main` runs, for Go with the first argument.
    pub fn command(&self, entry: &str) -> Command {
        match self {
            Framework::Java(home) => {
                let mut command = Command::new("java");
                command.args(JVM).args(["-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp"]);
                command.arg(format!("{home}/classes:{home}/lib/*", home = home.display())).arg(entry);
                command
            }
            Framework::Go(home) => {
                let mut command = Command::new(home.join("program"));
                command.arg(entry);
                command
            }
        }
    }

    /// Starts it to run beside the test.
    pub fn start(&self, entry: &str, args: &[&str], scratch: &Scratch) -> Process {
        let log = scratch.join(&format!("{}.log", entry.rsplit('.').next().unwrap_or(entry)));
        Process::start(entry, self.command(entry).args(args).current_dir(scratch.path()), &log, "KILL")
    }

    /// Runs it to its end with `input` on its standard input; answers the lines of its standard output, each of them JSON.
    #[track_caller]
    pub fn ask(&self, entry: &str, args: &[&str], input: &str) -> Vec<serde_json::Value> {
        let mut command = self.command(entry);
        let mut child = command
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("start {entry} ({:?}): {e}", command.get_program()));
        // What it is asked is short; a program that reads none of it may have ended already.
        let _ = child.stdin.take().expect("a pipe").write_all(input.as_bytes());
        let output = child.wait_with_output().expect("wait for the framework");
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{entry} ended with {}\n{out}{err}", output.status);
        let read = |line: &str| serde_json::from_str(line).unwrap_or_else(|e| panic!("{entry}: no JSON: {e}\n{line}\n{err}"));
        out.lines().map(read).collect()
    }
}

fn source(project: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("frameworks").join(project)
}

/// A name that changes with the project's files, so that an edited one is built anew.
fn built_name(project: &str, source: &Path) -> String {
    let mut hasher = DefaultHasher::new();
    for file in files(source) {
        file.strip_prefix(source).unwrap_or(&file).hash(&mut hasher);
        std::fs::read(&file).unwrap_or_else(|e| panic!("read {}: {e}", file.display())).hash(&mut hasher);
    }
    format!("framework-{project}-{:016x}", hasher.finish())
}

/// Every file below a folder, sorted.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|e| panic!("list {}: {e}", folder.display()));
    let mut found: Vec<PathBuf> = Vec::new();
    for path in entries.map(|entry| entry.expect("read a folder").path()) {
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

fn is_of(file: &Path, extension: &str) -> bool {
    file.extension().and_then(OsStr::to_str) == Some(extension)
}
