//! Turns a test's wish for a folder into one that the servers' user owns and that is gone when the test ends.

use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::watchdog;

/// The user that servers run as when the tests run as root: PostgreSQL refuses root. It is `nobody` everywhere.
pub const SERVER_UID: u32 = 65534;

/// A temporary folder with a short path, because a unix socket's path holds 107 bytes at most.
///
/// Gone on drop; when the test process is killed, its watchdog removes it. `RELAY_TEST_KEEP=1` keeps it.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
}

// === impl Scratch ===

impl Scratch {
    /// A new, empty folder, named after what it is for.
    pub fn new(purpose: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("relay-{purpose}-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        watchdog::remove_at_end(&path);
        // A folder of an earlier process with our id can only be left over.
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap_or_else(|e| panic!("create {}: {e}", path.display()));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("set the folder's mode");
        give(&path);
        Self { path }
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A path inside it.
    pub fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Writes a file that the servers can read, private to them and us, and answers its path.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.join(name);
        std::fs::write(&path, text).unwrap_or_else(|e| panic!("write {}: {e}", path.display()));
        // PostgreSQL and libpq refuse private keys that others can read.
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("set the file's mode");
        give(&path);
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if !keep() {
            let _ = std::fs::remove_dir_all(&self.path);
            watchdog::already_removed(&self.path);
        } else {
            println!("kept {}", self.path.display());
        }
    }
}

/// Whether folders stay for a look after a failure.
pub fn keep() -> bool {
    std::env::var_os("RELAY_TEST_KEEP").is_some()
}

/// Whether the tests run as root, so that servers need another user.
pub fn are_we_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Makes the servers' user own a path, where that is another user than ours.
pub fn give(path: &Path) {
    if are_we_root() {
        chown(path, Some(SERVER_UID), Some(SERVER_UID)).unwrap_or_else(|e| panic!("chown {}: {e}", path.display()));
    }
}
