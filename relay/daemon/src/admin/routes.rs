//! Answers each path of the admin listener from the shared status.

use std::sync::Arc;

use axum::extract::{self, Request};
use axum::http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HOST, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderValue, Method, StatusCode, Uri};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::json;

use super::Config;
use super::host;
use super::readiness::{self, Verdict};
use super::snapshot;
use super::summary::Summary;
use crate::metrics::Metrics;
use crate::status::Status;
use crate::stream::Control;
use std::sync::mpsc::Sender;

/// Paths that a kubelet or Prometheus asks for by whatever name it has for us.
const OPEN_PATHS: [&str; 4] = ["/livez", "/readyz", "/startupz", "/metrics"];

/// Snapshots of captured tables.
const SNAPSHOT: &str = "/api/v1/snapshot";

/// What the answers are made of.
#[derive(Debug)]
pub(super) struct State {
    pub(super) config: Config,
    pub(super) status: Status,
    pub(super) metrics: Arc<Metrics>,
    /// The way to the pipeline, for what changes something.
    pub(super) control: Option<Sender<Control>>,
}

/// The paths. Nobody comes to a unix socket by a name, so there `Host` says nothing.
pub(super) fn router(state: &Arc<State>, is_unix: bool) -> Router {
    let mut router = Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/startupz", get(startupz))
        .route("/metrics", get(metrics))
        .route("/status", get(status))
        .route("/healthz", get(status))
        .route(SNAPSHOT, get(snapshot::show).post(snapshot::start).delete(snapshot::stop))
        .fallback(unknown);
    if !is_unix {
        router = router.layer(middleware::from_fn_with_state(Arc::clone(state), only_ours));
    }
    router.layer(middleware::from_fn(only_get)).with_state(Arc::clone(state))
}

async fn livez(extract::State(state): extract::State<Arc<State>>, uri: Uri) -> Response {
    probe(&readiness::live(&state.status), &uri)
}

async fn readyz(extract::State(state): extract::State<Arc<State>>, uri: Uri) -> Response {
    probe(&readiness::ready(&state.status, state.config.not_ready_after), &uri)
}

async fn startupz(extract::State(state): extract::State<Arc<State>>, uri: Uri) -> Response {
    probe(&readiness::started(&state.status), &uri)
}

async fn metrics(extract::State(state): extract::State<Arc<State>>) -> Response {
    let text = state.metrics.render(&state.status);
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}

async fn status(extract::State(state): extract::State<Arc<State>>) -> Response {
    Json(Summary::of(&state.config, &state.status)).into_response()
}

async fn unknown() -> Response {
    let message = "there is /status, /metrics, /livez, /readyz, /startupz and /api/v1/snapshot";
    (StatusCode::NOT_FOUND, Json(json!({ "message": message }))).into_response()
}

fn probe(verdict: &Verdict, uri: &Uri) -> Response {
    let code = if verdict.is_good() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let is_verbose = uri.query().is_some_and(|query| query.split('&').any(|each| each.split('=').next() == Some("verbose")));
    if is_verbose {
        return (code, verdict.verbose()).into_response();
    }
    let word = if verdict.is_good() { "ok" } else { "unavailable" };
    (code, Json(json!({ "status": word, "reasons": verdict.reasons() }))).into_response()
}

/// Nothing but snapshots can be changed here, so nothing but GET is understood elsewhere.
async fn only_get(request: Request, next: Next) -> Response {
    let changes = request.uri().path() == SNAPSHOT && matches!(*request.method(), Method::POST | Method::DELETE);
    let mut response = if changes || request.method() == Method::GET {
        next.run(request).await
    } else {
        let body = Json(json!({ "message": "only GET is understood" }));
        (StatusCode::METHOD_NOT_ALLOWED, [(ALLOW, "GET")], body).into_response()
    };
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// Refuses a request that came by a name that is not ours.
async fn only_ours(extract::State(state): extract::State<Arc<State>>, request: Request, next: Next) -> Response {
    let is_open = OPEN_PATHS.contains(&request.uri().path());
    // A target in absolute form carries the host itself. HTTP/1.0 may have none, and no browser speaks it.
    let target = request.uri().authority().map(|authority| authority.host());
    let is_ours = request
        .headers()
        .get_all(HOST)
        .iter()
        .map(|value| value.to_str().unwrap_or_default())
        .chain(target)
        .all(|value| host::is_ours(value, &state.config.hosts));
    if is_open || is_ours {
        return next.run(request).await;
    }
    let body =
        json!({ "message": "this host name is not known here", "hint": "ask by IP address, or name the host in admin.hosts" });
    (StatusCode::FORBIDDEN, Json(body)).into_response()
}
