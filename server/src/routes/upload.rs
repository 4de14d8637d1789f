//! `POST /v1/upload`: frames come in. Each is decoded and every chunk hashed before any of it is kept; one is verified
//! while the next one comes.
//!
//! What was kept is readable at once. It is made durable before a ref names it, by `PUT /v1/refs/…`; what a crash takes
//! before that is said to be missing there, and uploaded again.

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use cairn_net::wire::{Item, ItemDecoder, KeptAnswer};
use cairn_store::Decoder;
use cairn_store::intake::{Intake, Kept, VerifiedFrame};
use cairn_store::pack::PackKind;
use hyper::header::{CACHE_CONTROL, HeaderValue};
use hyper::{HeaderMap, StatusCode};

use crate::auth::Guest;
use crate::error::json;
use crate::incoming::Incoming;
use crate::metrics::Metrics;
use crate::peer_api::PeerApi;
use crate::peer_error::PeerRefusal;
use crate::peer_limits::clients::Place;

pub(crate) async fn upload(
    State(api): State<Arc<PeerApi>>,
    Extension(guest): Extension<Guest>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, PeerRefusal> {
    let _place =
        Place::take(api.uploads(), api.limits().uploads).ok_or(PeerRefusal::Full { limit: "uploads" })?;
    let intake = api.writer().ok_or(PeerRefusal::ReadOnly)?.intake();
    let incoming = Incoming::new(&api, &headers, body, api.limits().upload_bytes_max)?;
    let mut frames = Frames {
        incoming: incoming.paced(Arc::clone(&guest.client)),
        decoder: ItemDecoder::new(),
        rest: Default::default(),
        count: 0,
    };
    let mut kept = KeptAnswer::default();
    let mut next = frames.next().await?;
    while let Some((kind, frame)) = next {
        let number = frames.count;
        let work = keep(&api, Arc::clone(&intake), kind, frame, number);
        let (done, following) = tokio::join!(work, frames.next());
        let Kept { chunks, plain_bytes, stored_bytes } = done?;
        kept.kept += chunks;
        kept.plain_bytes += plain_bytes;
        kept.stored_bytes += stored_bytes;
        next = following?;
    }
    let mut response = json(StatusCode::OK, &kept);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

async fn keep(
    api: &PeerApi,
    intake: Arc<Intake>,
    kind: PackKind,
    frame: Vec<u8>,
    number: u64,
) -> Result<Kept, PeerRefusal> {
    api.promise();
    let keep = move || {
        let frame = VerifiedFrame::verify(frame, &mut Decoder::default()).map_err(|error| {
            PeerRefusal::NotUnderstood(format!("frame {number} does not verify: {error}"))
        })?;
        Ok::<_, PeerRefusal>(intake.keep(kind, &frame)?)
    };
    let kept = api.work.run(keep).await??;
    Metrics::add(&api.metrics().chunks_kept, kept.chunks);
    Ok(kept)
}

/// The frames of a body, one after the other.
struct Frames<'a> {
    incoming: Incoming<'a>,
    decoder: ItemDecoder,
    rest: axum::body::Bytes,
    /// Frames that came.
    count: u64,
}

impl Frames<'_> {
    /// The next frame; none after the end item.
    async fn next(&mut self) -> Result<Option<(PackKind, Vec<u8>)>, PeerRefusal> {
        let not_understood = |detail: String| PeerRefusal::NotUnderstood(detail);
        loop {
            let item =
                self.decoder.next(&mut self.rest).map_err(|error| not_understood(error.to_string()))?;
            match item {
                Some(Item::Metadata(frame)) => {
                    self.count += 1;
                    return Ok(Some((PackKind::Metadata, frame)));
                }
                Some(Item::Data(frame)) => {
                    self.count += 1;
                    return Ok(Some((PackKind::Data, frame)));
                }
                Some(Item::Head(_) | Item::End(_)) => {}
                Some(Item::Unit(_)) => {
                    return Err(not_understood("an upload brings frames, not a delta".to_owned()));
                }
                Some(Item::Absent(_)) => {
                    return Err(not_understood("an upload brings frames, not what is absent".to_owned()));
                }
                Some(Item::Failure(text)) => return Err(PeerRefusal::CutOff(text)),
                None => match self.incoming.next().await? {
                    Some(bytes) => self.rest = bytes,
                    None => {
                        self.decoder.finish().map_err(|error| PeerRefusal::CutOff(error.to_string()))?;
                        return Ok(None);
                    }
                },
            }
        }
    }
}
