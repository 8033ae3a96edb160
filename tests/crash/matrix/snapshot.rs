//! A table is read as a whole, under writers, and relay dies at its chunks and marks.

use super::{Book, Kill};
use crate::snapshot::killed_at;
use crate::story::Mode;

pub(super) fn run(mode: Mode, kills: &[Kill], book: &mut Book) {
    if kills.is_empty() {
        return;
    }
    let name = format!("chunks{}", mode.name());
    let plan: Vec<(&'static str, u64)> = kills.iter().map(|kill| (kill.point, kill.passes)).collect();
    let toml = format!("{}\n[snapshot]\nmode = \"never\"\nchunk = 500", mode.toml());
    for (point, fired) in killed_at(&name, &toml, &plan) {
        book.killed(mode, point, &fired);
    }
}
