//! `POST /v1/control/run`: a command, answered with its events; `DELETE /v1/control/jobs/N`: the wish that it stops.

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http_body_util::BodyExt;
use hyper::StatusCode;
use hyper::body::Body as _;
use hyper::header::{CONTENT_TYPE, HeaderValue};

use crate::app::Shared;
use crate::error::Refusal;
use crate::events::{JOB_HEADER, MEDIA_TYPE, Request};
use crate::job::{self, Rest};
use crate::run::{Caller, Commands, Jobs};

pub(crate) async fn run<C: Commands>(
    State(shared): State<Arc<Shared<C>>>,
    Extension(caller): Extension<Caller>,
    body: Body,
) -> Result<Response, Refusal> {
    let limits = &shared.limits;
    let reading = first_line(body, limits.request_bytes_max);
    let (line, rest) = match limits.request_time_max {
        Some(time) => tokio::time::timeout(time, reading)
            .await
            .map_err(|_| Refusal::TooSlow { seconds: time.as_secs() })??,
        None => reading.await?,
    };
    let request: Request<C::Command> = serde_json::from_slice(&line).map_err(|error| {
        Refusal::NotUnderstood { version: shared.about.version, detail: error.to_string() }
    })?;
    let admitted = shared.jobs.admit(Duration::from_millis(request.wait_ms), caller.uid).await?;
    let (io, events) = job::connect(rest, limits.alive_every, Arc::clone(&admitted.cancel));
    let number = Jobs::start(admitted, Arc::clone(&shared.commands), request, caller, io)?;
    let mut response = Response::new(events);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
    headers.insert(JOB_HEADER, HeaderValue::from(number));
    Ok(response)
}

pub(crate) async fn cancel<C: Commands>(
    State(shared): State<Arc<Shared<C>>>,
    Extension(caller): Extension<Caller>,
    Path(number): Path<String>,
) -> Result<Response, Refusal> {
    let number = number.parse().map_err(|_| Refusal::NoJob(number))?;
    shared.jobs.cancel(number, caller.uid)?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Reads to the first end of a line, or of the body.
async fn first_line(mut body: Body, max: usize) -> Result<(Vec<u8>, Rest), Refusal> {
    let mut line: Vec<u8> = Vec::new();
    loop {
        let bytes: Bytes = match body.frame().await {
            None => return Ok((line, Rest { begun: Bytes::new(), body: None })),
            Some(Err(error)) => return Err(Refusal::CutOff { detail: error.to_string() }),
            Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
        };
        let end = bytes.iter().position(|byte| *byte == b'\n');
        let part = &bytes[..end.unwrap_or(bytes.len())];
        if line.len() + part.len() > max {
            return Err(Refusal::TooLong { max });
        }
        line.extend_from_slice(part);
        if let Some(end) = end {
            let begun = bytes.slice(end + 1..);
            let body = (!body.is_end_stream()).then_some(body);
            return Ok((line, Rest { begun, body }));
        }
    }
}
