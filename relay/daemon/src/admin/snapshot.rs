//! `/api/v1/snapshot`: how far snapshots are, and asking for one or calling them off, by whoever has the token.

use super::routes::State;
use crate::stream::Control;
use crate::stream::snapshot::{Answer, Request};
use axum::Json;
use axum::body::Bytes;
use axum::extract;
use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use relay_core::Kind;
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

/// The body of a request for a snapshot.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    /// `schema.table`.
    tables: Vec<String>,
    /// SQL condition.
    #[serde(default, rename = "where")]
    filter: Option<String>,
}

/// How long an answer may take: the tables are looked at, and a checkpoint is stored.
const ANSWER_WAIT: Duration = Duration::from_secs(30);
const VERSION: &str = env!("CARGO_PKG_VERSION");

pub(super) async fn show(extract::State(state): extract::State<Arc<State>>) -> Response {
    Json(summary(&state)).into_response()
}

/// What `/status` and the API say of snapshots; null when none is owed.
pub(super) fn in_work(state: &crate::status::Progress) -> Value {
    let Some(snapshot) = &state.snapshot else { return Value::Null };
    json!({
        "number": snapshot.job, "initial": snapshot.is_initial, "waiting": snapshot.waiting, "table": snapshot.table.as_deref(),
        "tables": snapshot.tables, "tables_remaining": snapshot.tables_remaining, "blocks": snapshot.blocks,
        "blocks_done": snapshot.blocks_done, "exported": snapshot.is_export,
    })
}

fn summary(state: &State) -> Value {
    let progress = state.status.progress();
    json!({
        "version": VERSION, "snapshot": in_work(&progress), "rows": progress.snapshot_rows, "rereads": progress.snapshot_rereads,
    })
}

pub(super) async fn start(extract::State(state): extract::State<Arc<State>>, headers: HeaderMap, body: Bytes) -> Response {
    if let Err(refused) = authorized(&state, &headers) {
        return refused;
    }
    let wanted = match serde_json::from_slice::<Wanted>(&body) {
        Ok(wanted) if !wanted.tables.is_empty() => wanted,
        Ok(_) => return error(StatusCode::BAD_REQUEST, "bad_request", "`tables` is empty", "name tables as schema.table"),
        Err(fault) => {
            let hint = "send {\"tables\": [\"schema.table\"], \"where\": \"SQL condition\" or null}";
            return error(StatusCode::BAD_REQUEST, "bad_request", &format!("the body cannot be read: {fault}"), hint);
        }
    };
    let (reply, answer) = channel();
    ask(&state, Request::Start { tables: wanted.tables, filter: wanted.filter, reply }, answer).await
}

pub(super) async fn stop(extract::State(state): extract::State<Arc<State>>, headers: HeaderMap) -> Response {
    if let Err(refused) = authorized(&state, &headers) {
        return refused;
    }
    let (reply, answer) = channel();
    ask(&state, Request::Stop { reply }, answer).await
}

async fn ask(state: &State, request: Request, answer: Receiver<Answer>) -> Response {
    let is_sent = state.control.as_ref().is_some_and(|control| control.send(Control::Snapshot(request)).is_ok());
    let answer = match is_sent {
        true => tokio::task::spawn_blocking(move || answer.recv_timeout(ANSWER_WAIT).ok()).await.ok().flatten(),
        false => None,
    };
    match answer {
        Some(Answer::Started(number)) => {
            (StatusCode::ACCEPTED, Json(json!({ "version": VERSION, "number": number }))).into_response()
        }
        Some(Answer::Stopped(count)) => Json(json!({ "version": VERSION, "stopped": count })).into_response(),
        Some(Answer::NotHere(message)) => {
            error(StatusCode::CONFLICT, Kind::SlotBusy.directive().code, &message, "ask the instance that streams")
        }
        Some(Answer::Refused(fault)) => {
            let directive = fault.kind.directive();
            error(StatusCode::UNPROCESSABLE_ENTITY, directive.code, &fault.message, directive.hint)
        }
        None => {
            let hint = "GET /api/v1/snapshot tells whether it was taken up";
            error(StatusCode::GATEWAY_TIMEOUT, "timeout", "the pipeline did not answer in time", hint)
        }
    }
}

/// Whoever changes something shows the token, over a unix socket, too.
fn authorized(state: &State, headers: &HeaderMap) -> Result<(), Response> {
    let forbidden = |message: &str, hint: &str| Err(error(StatusCode::FORBIDDEN, "forbidden", message, hint));
    let Some(token) = &state.config.token else {
        return forbidden("no token is configured, so nothing can be changed here", "set admin.token_file");
    };
    let Ok(token) = token.reveal() else {
        return forbidden("the configured token cannot be read", "check the file that admin.token_file names");
    };
    let shown = headers.get(AUTHORIZATION).and_then(|value| value.as_bytes().strip_prefix(b"Bearer "));
    if shown.is_some_and(|shown| is_same(shown, token.as_bytes())) {
        return Ok(());
    }
    let hint = "send `Authorization: Bearer TOKEN` with the content of admin.token_file";
    Err(error(StatusCode::UNAUTHORIZED, "unauthorized", "the token is missing or wrong", hint))
}

/// In a time that tells nothing of where they differ.
fn is_same(one: &[u8], other: &[u8]) -> bool {
    one.len() == other.len() && one.iter().zip(other).fold(0, |differs, (one, other)| differs | (one ^ other)) == 0
}

fn error(status: StatusCode, code: &str, message: &str, hint: &str) -> Response {
    (status, Json(json!({ "version": VERSION, "code": code, "message": message, "hint": hint }))).into_response()
}
