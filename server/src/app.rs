//! The router: every path that there is, and what they share.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::routing::{delete, get, post};
use hyper::{Method, Uri};

use crate::error::Refusal;
use crate::limits::Limits;
use crate::routes::{control, health};
use crate::run::{Commands, Jobs};

/// What a server says of itself.
#[derive(Debug, Clone)]
pub struct About {
    /// The version of the program.
    pub version: &'static str,
    /// The store that it serves.
    pub store: PathBuf,
    /// When it began.
    pub started: Instant,
}

/// What the routes share.
pub(crate) struct Shared<C> {
    pub(crate) commands: Arc<C>,
    pub(crate) jobs: Arc<Jobs>,
    pub(crate) limits: Limits,
    pub(crate) about: About,
}

/// The router of all there is. Whoever calls it puts the [`Caller`](crate::Caller) into each request's extensions.
pub fn router<C: Commands>(commands: Arc<C>, jobs: Arc<Jobs>, limits: Limits, about: About) -> Router {
    let shared = Arc::new(Shared { commands, jobs, limits, about });
    Router::new()
        .route("/v1/control/run", post(control::run::<C>))
        .route("/v1/control/jobs/{number}", delete(control::cancel::<C>))
        .route("/v1/health", get(health::health::<C>))
        .fallback(|uri: Uri| async move { Refusal::NoRoute(uri.path().to_owned()) })
        .method_not_allowed_fallback(|method: Method, uri: Uri| async move {
            Refusal::WrongMethod { method: method.to_string(), path: uri.path().to_owned() }
        })
        .with_state(shared)
}
