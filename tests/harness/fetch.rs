//! Turns Maven coordinates into unpacked server files, once per machine, through the `mvn` client alone.
//!
//! Needed on the machine: a JDK or JRE 17 or newer, Maven, `tar` and `sh`; the .txz is opened by a Rust crate.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Once;
use std::time::Instant;

use rustix::fs::{FlockOperation, flock};

use crate::scratch::are_we_root;
use crate::versions::{KAFKA, MAVEN_DEPENDENCY_PLUGIN, Version, kafka_coordinates};

/// The folder with `bin`, `lib` and `share` of a PostgreSQL version.
pub fn postgres(version: Version) -> PathBuf {
    once(&format!("postgres-{}", version.release()), |into| {
        let jar = into.join("jar");
        let artifact = format!("-Dartifact={}", version.coordinates());
        maven(&["unpack", &artifact, &format!("-DoutputDirectory={}", jar.display())], into);
        let txz = std::fs::read_dir(&jar).expect("list the unpacked jar").filter_map(Result::ok);
        let txz = txz.map(|entry| entry.path()).find(|path| path.extension().is_some_and(|e| e == "txz"));
        let txz = txz.unwrap_or_else(|| panic!("no .txz in the jar of {}", version.coordinates()));
        untar(&txz, into);
        std::fs::remove_dir_all(&jar).expect("remove the unpacked jar");
    })
}

/// A Java class path that holds the broker and its tools.
pub fn kafka_class_path() -> String {
    static JAVA: Once = Once::new();
    JAVA.call_once(|| {
        let java = Command::new("java").arg("-version").stdin(Stdio::null()).output();
        let is_there = java.is_ok_and(|output| output.status.success());
        assert!(is_there, "cannot run `java -version`: these tests start Apache Kafka, which needs Java 17 or newer");
    });
    format!("{}/*", once(&format!("kafka-{KAFKA}"), fetch_kafka).display())
}

/// Where fetched servers are kept: `RELAY_TEST_CACHE`, else beside the compiled tests, where `cargo clean` finds them.
pub fn cache() -> PathBuf {
    if let Some(path) = std::env::var_os("RELAY_TEST_CACHE") {
        return PathBuf::from(path);
    }
    let beside = target_dir().join("relay-test-cache");
    if are_we_root() && !can_all_enter(&beside) {
        // The servers' user could not read its own programs below a private home.
        return std::env::temp_dir().join("relay-test-cache");
    }
    beside
}

/// The target directory that this very test was built into.
pub fn target_dir() -> PathBuf {
    let exe = std::env::current_exe().expect("a test knows its own path");
    // <target>/<profile>/deps/<test>
    exe.ancestors().nth(3).map(Path::to_path_buf).unwrap_or_else(|| panic!("{} is not in a target folder", exe.display()))
}

fn fetch_kafka(into: &Path) {
    let one = |(group, artifact, version): (&str, &str, &str)| {
        let id = format!("<groupId>{group}</groupId><artifactId>{artifact}</artifactId><version>{version}</version>");
        format!("<dependency>{id}</dependency>")
    };
    let dependencies: String = kafka_coordinates().into_iter().map(one).collect();
    let own = "<groupId>relay</groupId><artifactId>broker</artifactId><version>1</version>";
    let pom = format!("<project><modelVersion>4.0.0</modelVersion>{own}<dependencies>{dependencies}</dependencies></project>");
    let file = into.join("pom.xml");
    std::fs::write(&file, pom).expect("write the broker's pom.xml");
    let (from, to) = (file.display().to_string(), format!("-DoutputDirectory={}", into.display()));
    maven(&["copy-dependencies", "-f", &from, "-DincludeScope=runtime", &to], into);
}

/// Makes a cache folder whole before anybody sees it: built beside its place, then renamed, under a lock file.
pub(crate) fn once(name: &str, build: impl FnOnce(&Path)) -> PathBuf {
    let cache = cache();
    let done = cache.join(name);
    if done.is_dir() {
        return done;
    }
    std::fs::create_dir_all(&cache).unwrap_or_else(|e| panic!("create the cache {}: {e}", cache.display()));
    let lock = File::create(cache.join(format!("{name}.lock"))).expect("create the cache's lock file");
    flock(&lock, FlockOperation::LockExclusive).expect("lock the cache");
    if done.is_dir() {
        return done;
    }
    let start = Instant::now();
    let half = cache.join(format!("{name}.half"));
    let _ = std::fs::remove_dir_all(&half);
    std::fs::create_dir(&half).expect("create a folder in the cache");
    std::fs::set_permissions(&half, std::fs::Permissions::from_mode(0o755)).expect("open the folder to the servers' user");
    build(&half);
    std::fs::rename(&half, &done).expect("give the fetched folder its name");
    println!("fetched {name} in {:.1?} into {}", start.elapsed(), done.display());
    done
}

/// Runs a goal of Maven's dependency plugin in a folder of its own.
pub(crate) fn maven(args: &[&str], work: &Path) {
    let (goal, rest) = args.split_first().expect("a goal");
    let mut command = Command::new("mvn");
    command.args(["-q", "-B", &format!("{MAVEN_DEPENDENCY_PLUGIN}:{goal}")]).args(rest).current_dir(work).stdin(Stdio::null());
    let output = command.output().unwrap_or_else(|e| {
        panic!(
            "cannot start `mvn` ({e}): these tests fetch PostgreSQL and Kafka through Maven; install Maven and a JDK 17 or newer"
        )
    });
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(
        output.status.success(),
        "`mvn {}` ended with {}: is the artifact repository reachable, and is Java 17 or newer installed?\n{text}",
        args.join(" "),
        output.status
    );
}

fn untar(txz: &Path, into: &Path) {
    let file = File::open(txz).unwrap_or_else(|e| panic!("open {}: {e}", txz.display()));
    let mut tar = Command::new("tar")
        .args(["-x", "-f", "-", "-C"])
        .arg(into)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("cannot start `tar`, which unpacks PostgreSQL: {e}"));
    let mut pipe = tar.stdin.take().expect("tar's standard input is a pipe");
    let mut reader = lzma_rust2::XzReader::new(std::io::BufReader::new(file), false);
    let mut buffer = vec![0; 1 << 16];
    loop {
        let n = reader.read(&mut buffer).unwrap_or_else(|e| panic!("decompress {}: {e}", txz.display()));
        if n == 0 {
            break;
        }
        pipe.write_all(&buffer[..n]).expect("write to tar");
    }
    drop(pipe);
    let status = tar.wait().expect("wait for tar");
    assert!(status.success(), "`tar` ended with {status} on {}", txz.display());
}

/// Whether every existing folder above lets other users through.
fn can_all_enter(path: &Path) -> bool {
    path.ancestors().filter_map(|p| p.metadata().ok()).all(|m| m.permissions().mode() & 0o001 != 0)
}
