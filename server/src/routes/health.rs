//! `GET /v1/health`: who answers.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use hyper::StatusCode;
use serde::{Deserialize, Serialize};

use crate::app::Shared;
use crate::error::json;
use crate::run::Commands;

/// Who answers, and how it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// The program's version.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// Milliseconds since it began.
    pub uptime_ms: u64,
    /// The store's folder; U+FFFD stands for what is not text.
    pub store: String,
    /// Commands that run.
    pub jobs: usize,
}

pub(crate) async fn health<C: Commands>(State(shared): State<Arc<Shared<C>>>) -> Response {
    let health = Health {
        version: shared.about.version.to_owned(),
        pid: std::process::id(),
        uptime_ms: u64::try_from(shared.about.started.elapsed().as_millis()).unwrap_or(u64::MAX),
        store: shared.about.store.to_string_lossy().into_owned(),
        jobs: shared.jobs.count(),
    };
    json(StatusCode::OK, &health)
}
