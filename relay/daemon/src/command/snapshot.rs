//! `relay snapshot`: asks the running pipeline, over its admin listener, to take a snapshot of tables, and how far it is.

use super::refusal::{EXIT_BUSY, Refusal};
use super::run::load_or_report;
use crate::cli::{Flags, SnapshotAction, SnapshotArgs, SnapshotStartArgs};
use crate::settings::Settings;
use relay_core::Kind;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// How long the pipeline may take to answer.
const ANSWER_WAIT: Duration = Duration::from_secs(40);
const CONNECT_WAIT: Duration = Duration::from_secs(5);

/// Runs the command. Returns the exit code.
pub(crate) fn snapshot(flags: &Flags, args: &SnapshotArgs) -> u8 {
    let settings = match load_or_report(flags) {
        Ok(loaded) => loaded.settings,
        Err(code) => return code,
    };
    let answer = match &args.action {
        SnapshotAction::Start(start) => ask_start(&settings, start),
        SnapshotAction::Status => ask(&settings, "GET", None),
        SnapshotAction::Stop => ask(&settings, "DELETE", None),
    };
    match answer {
        Ok(answer) => {
            let text = if flags.is_json() { answer.to_string() } else { sentence(&answer) };
            // A reader that has gone away wants no more.
            let _ = writeln!(std::io::stdout(), "{text}");
            0
        }
        Err(refusal) => refusal.report(),
    }
}

fn ask_start(settings: &Settings, start: &SnapshotStartArgs) -> Result<Value, Refusal> {
    if start.tables.is_empty() {
        return Err(Refusal::usage("no table is named", "name tables as schema.table"));
    }
    ask(settings, "POST", Some(json!({ "tables": start.tables, "where": start.filter })))
}

fn sentence(answer: &Value) -> String {
    if let Some(number) = answer["number"].as_u64() {
        return format!("snapshot {number} is taken up; `relay snapshot status` tells how far it is");
    }
    if let Some(stopped) = answer["stopped"].as_u64() {
        return format!("{stopped} snapshots are called off");
    }
    let snapshot = &answer["snapshot"];
    let (rows, rereads) = (&answer["rows"], &answer["rereads"]);
    if snapshot.is_null() {
        return format!("no snapshot is under way; {rows} rows since the process began");
    }
    let percent = snapshot["blocks_done"].as_f64().unwrap_or(0.0) * 100.0 / snapshot["blocks"].as_f64().unwrap_or(1.0).max(1.0);
    format!(
        "snapshot {}: {percent:.0} % of the {} tables that remain, now {}; {rows} rows, {rereads} chunks read again, {} snapshots wait",
        snapshot["number"],
        snapshot["tables_remaining"],
        snapshot["table"].as_str().unwrap_or("being listed"),
        snapshot["waiting"]
    )
}

fn ask(settings: &Settings, method: &str, body: Option<Value>) -> Result<Value, Refusal> {
    let listen = settings.admin.listen.split(',').map(str::trim).find(|address| !address.is_empty());
    let Some(address) = listen else {
        return Err(Refusal::refused("the admin listener is off: a running pipeline cannot be asked", "set admin.listen"));
    };
    let token = match &settings.admin.token {
        Some(token) => Some(token.reveal().map_err(|error| Refusal::config(error.to_string()))?),
        None => None,
    };
    let body = body.map(|body| body.to_string()).unwrap_or_default();
    let authorization = token.map_or_else(String::new, |token| format!("Authorization: Bearer {}\r\n", token.as_str()));
    let request = format!(
        "{method} /api/v1/snapshot HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n{authorization}\r\n{body}",
        body.len()
    );
    let unreached = |error: std::io::Error| {
        Refusal::of(Kind::AdminListen, format!("the pipeline does not answer on {address}: {error}"))
            .hint("start `relay run` with this configuration first")
            .code(super::refusal::EXIT_UNREACHED)
    };
    let text = exchange(address, &request).map_err(unreached)?;
    let status = text.split(' ').nth(1).and_then(|status| status.parse::<u16>().ok()).unwrap_or(0);
    let answer = text.split_once("\r\n\r\n").and_then(|(_, body)| serde_json::from_str::<Value>(body).ok());
    let Some(answer) = answer else {
        return Err(Refusal::refused(
            format!("{address} answered what relay does not understand"),
            "is it relay's admin.listen?",
        ));
    };
    match status {
        200..=299 => Ok(answer),
        status => {
            let text = |name: &str| answer[name].as_str().unwrap_or_default().to_owned();
            let refusal = Refusal::refused(text("message"), text("hint"));
            Err(if status == 409 { refusal.code(EXIT_BUSY) } else { refusal })
        }
    }
}

fn exchange(address: &str, request: &str) -> std::io::Result<String> {
    let mut text = String::new();
    if let Some(path) = address.strip_prefix("unix:") {
        let mut stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(ANSWER_WAIT))?;
        stream.write_all(request.as_bytes())?;
        stream.read_to_string(&mut text)?;
        return Ok(text);
    }
    // Whoever listens on every address answers on this machine's own.
    let address = address.replace("0.0.0.0:", "127.0.0.1:").replace("[::]:", "[::1]:");
    let mut last = std::io::Error::new(std::io::ErrorKind::AddrNotAvailable, "the name has no address");
    for socket in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&socket, CONNECT_WAIT) {
            Ok(mut stream) => {
                stream.set_read_timeout(Some(ANSWER_WAIT))?;
                stream.write_all(request.as_bytes())?;
                stream.read_to_string(&mut text)?;
                return Ok(text);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}
