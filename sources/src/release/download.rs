//! One file of a release comes: resumed where it broke off, compared with what it has to be, brought once for all who want it.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use reqwest::header::{CONTENT_RANGE, CONTENT_TYPE, ETAG, LAST_MODIFIED};
use url::Url;

use super::Asset;
use super::shelf::{Finished, Part, Shelf};
use crate::error::{Error, Result};
use crate::http::{Answer, Fault, Get, Http, Range, address};
use crate::sha256::Sha256;
use crate::watch::Watch;

/// Longest file, in bytes.
const FILE_LEN_MAX: u64 = 16 << 30;
/// Bytes after which a download that breaks off again does so for the first time.
const PROGRESS_BYTES: u64 = 1 << 20;
/// How often it is begun again because others had the file meanwhile.
const ROUNDS_MAX: u32 = 100;

/// Brings files.
#[derive(Clone, Copy)]
pub(super) struct Downloads<'a> {
    pub(super) http: &'a Http,
    pub(super) shelf: Shelf<'a>,
    pub(super) watch: &'a dyn Watch,
    /// Bytes that came.
    pub(super) wire_bytes: &'a AtomicU64,
}

/// How far the watch was told what is to come.
#[derive(Default)]
struct Told {
    expected: u64,
    came: u64,
}

impl Downloads<'_> {
    /// The file, verified if there is something to compare it with; it is not downloaded if it is here.
    pub(super) fn get(&self, asset: &Asset, get: &Get) -> Result<Finished> {
        for _ in 0..ROUNDS_MAX {
            let found = match &asset.sha256 {
                Some(hash) => self.known(asset, get, hash)?,
                None => self.unknown(asset, get)?,
            };
            if let Some(found) = found {
                return Ok(found);
            }
        }
        Err(Error::Unavailable {
            what: asset.name.clone(),
            reason: "others remove it again and again while it is downloaded".to_owned(),
            hint: "see who else uses the folder of downloads".to_owned(),
        })
    }

    /// A file that has to have a hash.
    fn known(&self, asset: &Asset, get: &Get, hash: &Sha256) -> Result<Option<Finished>> {
        if let Some(finished) = self.shelf.finished(hash)? {
            self.watch.say(&format!("{} is here already", asset.name));
            return Ok(Some(finished));
        }
        let Some(mut part) = self.shelf.part(&hash.to_string())? else { return Ok(None) };
        if part.size == 0
            && let Some(finished) = self.shelf.finished(hash)?
        {
            // It was finished between the two looks.
            part.discard()?;
            return Ok(Some(finished));
        }
        let mut told = Told::default();
        let mut got = self.fill(asset, get, &mut part, &mut told);
        if got.is_ok() && part.hash() != *hash {
            self.watch
                .warn(&format!("{} is not what it has to be, and is downloaded once again", asset.name));
            self.restart(&mut part, &mut told)?;
            got = self.fill(asset, &Get { is_fresh: true, ..get.clone() }, &mut part, &mut told);
        }
        got?;
        let found = part.hash();
        if found != *hash {
            part.discard()?;
            return Err(Error::Untrusted {
                what: asset.name.clone(),
                reason: format!(
                    "it hashes to {found} and has to hash to {hash}, also when it is downloaded again"
                ),
                hint: "do not use it: ask the project whether the file or the checksum is wrong".to_owned(),
            });
        }
        self.told(asset, part.size);
        part.finish(false)
    }

    /// A file that nobody says the hash of. What came of it before is used again only if the server says that it is still that.
    fn unknown(&self, asset: &Asset, get: &Get) -> Result<Option<Finished>> {
        let key = format!("at-{}", Sha256::of(asset.url.as_bytes()));
        let note = self.shelf.note(&key)?;
        if let (Some(hash), Some(etag)) = (note.sha256, note.validator)
            && self.is_unchanged(get, &etag)?
            && let Some(finished) = self.shelf.finished(&hash)?
        {
            self.watch.say(&format!("{} is here already", asset.name));
            return Ok(Some(finished));
        }
        let Some(mut part) = self.shelf.part(&key)? else { return Ok(None) };
        // Nothing would tell whether what an earlier process left is whole.
        part.restart()?;
        self.fill(asset, get, &mut part, &mut Told::default())?;
        self.told(asset, part.size);
        part.finish(true)
    }

    /// Whether the server says that a file is still what it was. It is asked once: else it is downloaded.
    fn is_unchanged(&self, get: &Get, etag: &str) -> Result<bool> {
        let get = Get { etag: Some(etag.to_owned()), ..get.clone() };
        self.http.wait(self.watch, async {
            let answer = self.http.ask(&get).await;
            Ok(answer.is_ok_and(|answer| answer.response.status().as_u16() == 304))
        })
    }

    fn told(&self, asset: &Asset, size: u64) {
        self.watch.say(&format!("downloaded {}, {}", asset.name, in_words(size)));
    }

    /// Downloads what lacks of a part.
    fn fill(&self, asset: &Asset, get: &Get, part: &mut Part, told: &mut Told) -> Result<()> {
        self.http.wait(self.watch, async {
            let (mut tries, mut since) = (self.http.tries(), part.size);
            loop {
                match self.attempt(asset, get, part, told).await {
                    Ok(()) => return Ok(()),
                    Err(fault) => {
                        if part.size >= since.saturating_add(PROGRESS_BYTES) {
                            (since, _) = (part.size, tries.succeed());
                        }
                        tries.wait(fault, get, self.watch).await?;
                    }
                }
            }
        })
    }

    async fn attempt(&self, asset: &Asset, get: &Get, part: &mut Part, told: &mut Told) -> Result<(), Fault> {
        if asset.size.is_some_and(|size| part.size > size) {
            self.restart(part, told).map_err(Fault::Final)?;
        }
        if asset.size == Some(part.size) && part.size > 0 {
            return Ok(());
        }
        let range = Range { from: part.size, validator: part.note.validator.clone() };
        let get = Get { range: (part.size > 0).then_some(range), ..get.clone() };
        let answer = self.http.ask(&get).await?;
        let total = self.start(asset, &get, &answer, part, told)?;
        let mut body = self.http.body(answer);
        while let Some(piece) = body.next().await? {
            let came = piece.len() as u64;
            self.wire_bytes.fetch_add(came, Relaxed);
            if part.size + came > total.unwrap_or(FILE_LEN_MAX) {
                return Err(Fault::Final(wrong_length(&get.url, asset, "longer than", total)));
            }
            part.write(&piece).map_err(Fault::Final)?;
            told.came += came;
            self.watch.came(i64::try_from(came).unwrap_or(i64::MAX));
            if self.watch.cancelled() {
                return Err(Fault::Final(Error::Cancelled));
            }
        }
        match total {
            Some(total) if part.size < total => {
                Err(Fault::Passing(format!("it ended after {} of {total} bytes", part.size)))
            }
            _ => Ok(()),
        }
    }

    /// Sees what an answer is, and makes the part ready for it; says how long the whole file is, if that is known.
    fn start(
        &self,
        asset: &Asset,
        get: &Get,
        answer: &Answer,
        part: &mut Part,
        told: &mut Told,
    ) -> Result<Option<u64>, Fault> {
        let total = match answer.response.status().as_u16() {
            200 => {
                self.restart(part, told).map_err(Fault::Final)?;
                part.begin(validator(answer, asset.sha256.is_some())).map_err(Fault::Final)?;
                answer.length()
            }
            206 if get.range.is_some() => match answer.header(CONTENT_RANGE).and_then(content_range) {
                Some((from, total)) if from == part.size => total,
                _ => {
                    self.restart(part, told).map_err(Fault::Final)?;
                    return Err(Fault::Passing("it sends another range than it was asked for".to_owned()));
                }
            },
            416 => {
                self.restart(part, told).map_err(Fault::Final)?;
                return Err(Fault::Passing("it has no such range".to_owned()));
            }
            404 | 410 => {
                return Err(Fault::Final(Error::Absent {
                    what: format!("there is no {} at {}", asset.name, address::shown(&get.url)),
                    hint: "see whether the release still has it".to_owned(),
                }));
            }
            status => return Err(Fault::Passing(format!("it answers {status} to a request for a file"))),
        };
        let kind = answer.header(CONTENT_TYPE).unwrap_or_default();
        if asset.sha256.is_none() && kind.starts_with("text/html") {
            return Err(Fault::Final(Error::Untrusted {
                what: asset.name.clone(),
                reason: "a page for people came in its place, and nothing says what it has to hash to"
                    .to_owned(),
                hint: format!("see {} in a browser", address::shown(&get.url)),
            }));
        }
        if let (Some(said), Some(total)) = (asset.size, total)
            && said != total
        {
            return Err(Fault::Final(wrong_length(
                &get.url,
                asset,
                &format!("{total} bytes long, not"),
                Some(said),
            )));
        }
        let total = total.or(asset.size);
        if total.is_some_and(|total| total > FILE_LEN_MAX) {
            return Err(Fault::Final(wrong_length(&get.url, asset, "longer than", Some(FILE_LEN_MAX))));
        }
        if let Some(total) = total {
            // What came already is not expected again.
            let expected = total.saturating_sub(part.size) + told.came;
            self.watch.expect(expected.saturating_sub(told.expected));
            told.expected = told.expected.max(expected);
        }
        Ok(total)
    }

    fn restart(&self, part: &mut Part, told: &mut Told) -> Result<()> {
        part.restart()?;
        self.watch.came(-i64::try_from(told.came).unwrap_or(i64::MAX));
        told.came = 0;
        Ok(())
    }
}

/// What the server calls these bytes: a strong tag; or, where a hash tells in the end, when they were made.
fn validator(answer: &Answer, is_hashed: bool) -> Option<String> {
    let etag = answer.header(ETAG).filter(|etag| etag.starts_with('"'));
    let found = etag.or_else(|| answer.header(LAST_MODIFIED).filter(|_| is_hashed));
    found.map(str::to_owned)
}

/// `bytes 100-199/200`: where it begins, and how long the whole is if that is said.
fn content_range(text: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (from, to) = range.split_once('-')?;
    let (from, to): (u64, u64) = (from.trim().parse().ok()?, to.trim().parse().ok()?);
    let total = match total.trim() {
        "*" => None,
        total => Some(total.parse::<u64>().ok()?),
    };
    (from <= to && total.is_none_or(|total| to < total)).then_some((from, total))
}

fn wrong_length(url: &Url, asset: &Asset, how: &str, bytes: Option<u64>) -> Error {
    Error::Untrusted {
        what: asset.name.clone(),
        reason: format!("it is {how} {} bytes", bytes.unwrap_or(FILE_LEN_MAX)),
        hint: format!("see what is at {}", address::shown(url)),
    }
}

/// A length for people: `713 B`, `47.1 MiB`.
fn in_words(bytes: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    let mut size = bytes as f64;
    let mut unit = "B";
    for larger in ["KiB", "MiB", "GiB"] {
        if size < 1024.0 {
            break;
        }
        (size, unit) = (size / 1024.0, larger);
    }
    if unit == "B" { format!("{bytes} B") } else { format!("{size:.1} {unit}") }
}

#[cfg(test)]
mod tests {
    use super::content_range;

    #[test]
    fn ranges_are_read_strictly() {
        assert_eq!(content_range("bytes 100-199/200"), Some((100, Some(200))));
        assert_eq!(content_range("bytes 0-0/*"), Some((0, None)));
        for bad in [
            "",
            "bytes */200",
            "bytes 5-4/9",
            "bytes 0-9/9",
            "bytes 0-9",
            "bytes -1-2/9",
            "items 0-1/9",
            "bytes 0-99999999999999999999/*",
        ] {
            assert_eq!(content_range(bad), None, "{bad}");
        }
    }
}
