//! What the files of a release have to hash to, and who says so.
//!
//! A hash of the configuration goes before a waiver, and that before the release's own checksums. Where the configuration names
//! who has to sign, only checksums count that they signed: what is compared is the signed text itself.

use std::collections::{BTreeMap, BTreeSet};

use super::Ask;
use super::absent::{clean, closest};
use super::wanted::Wanted;
use crate::checksum;
use crate::error::{Error, Result};
use crate::sha256::Sha256;
use crate::signature::{self, Keys};
use crate::template::{Template, Words};
use crate::watch::Watch;

/// Longest file of checksums or signatures, in bytes.
pub(super) const TEXT_LEN_MAX: usize = 4 << 20;

/// What is believed of the files that are wanted.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Trusted {
    /// In their order; nothing where a hash is waived.
    pub(super) hashes: Vec<Option<Sha256>>,
    /// For people.
    pub(super) verified: String,
    /// Fingerprints, sorted.
    pub(super) signers: Vec<String>,
}

/// The small files of a release.
pub(super) trait Texts {
    /// What it is called in errors: `the release v1.2 of app`.
    fn label(&self) -> String;

    /// A file of at most [`TEXT_LEN_MAX`] bytes by its name, for the file that is wanted.
    ///
    /// # Errors
    /// `Absent`, that says what there is instead, where there is none.
    fn text(&self, name: &str, wanted: &Wanted) -> Result<Vec<u8>>;

    /// The error of a file that `sums` has no checksum of, though it has those of `names`.
    fn unlisted(&self, wanted: &Wanted, sums: &str, names: &[&str]) -> Error;
}

/// Checksums that are believed.
struct Sums {
    /// By name.
    hashes: BTreeMap<String, Sha256>,
    /// Whether it is of one file alone.
    is_single: bool,
    /// The fingerprints of those who signed it; nothing where nobody has to.
    signers: Option<BTreeSet<String>>,
}

/// Finds out what the files have to hash to.
pub(super) fn trusted(
    ask: &Ask<'_>,
    texts: &dyn Texts,
    wanted: &[Wanted],
    watch: &dyn Watch,
) -> Result<Trusted> {
    let mut files: BTreeMap<String, Sums> = BTreeMap::new();
    let (mut hashes, mut ways) = (Vec::new(), Vec::<Way>::new());
    for file in wanted {
        let way = way(ask, file)?;
        hashes.push(match &way {
            Way::Pinned(hash) => Some(*hash),
            Way::Waived => None,
            Way::Listed { sums, .. } => {
                if !files.contains_key(sums) {
                    files.insert(sums.clone(), read(ask, texts, file, sums, watch)?);
                }
                let listed = files.get(sums).and_then(|found| found.hash(&file.name));
                Some(listed.ok_or_else(|| missing(texts, file, sums, &files[sums]))?)
            }
        });
        ways.push(way);
    }
    let signers: BTreeSet<_> =
        files.values().flat_map(|sums| sums.signers.iter().flatten().cloned()).collect();
    // Of several files, each was signed by as many at least.
    let least = files.values().filter_map(|sums| sums.signers.as_ref()).map(BTreeSet::len).min();
    let mut said: Vec<String> = Vec::new();
    for way in &ways {
        let line = way.label(least);
        if !said.contains(&line) {
            said.push(line);
        }
    }
    Ok(Trusted { hashes, verified: said.join(", "), signers: signers.into_iter().collect() })
}

/// By what a file is verified.
enum Way {
    Pinned(Sha256),
    Waived,
    Listed {
        /// The file of checksums.
        sums: String,
        /// What it is called where there are several of its kind.
        label: String,
    },
}

impl Way {
    fn label(&self, signers: Option<usize>) -> String {
        match (self, signers) {
            (Self::Pinned(_), _) => "pinned".to_owned(),
            (Self::Waived, _) => "waived".to_owned(),
            (Self::Listed { label, .. }, None) => label.clone(),
            (Self::Listed { label, .. }, Some(1)) => format!("{label} signed by 1 key"),
            (Self::Listed { label, .. }, Some(count)) => format!("{label} signed by {count} keys"),
        }
    }
}

fn way(ask: &Ask<'_>, file: &Wanted) -> Result<Way> {
    let checksums = &ask.source.checksums;
    if let Some(hash) = checksums.pinned.get(&file.name) {
        return Ok(Way::Pinned(*hash));
    }
    let words = words(ask, file);
    for waived in &checksums.waived {
        // A waiver for another program has words that are not those of this file.
        if ask.fill(waived, &words)? == file.name {
            return Ok(Way::Waived);
        }
    }
    let Some(template) = &checksums.file else {
        return Err(Error::Usage {
            problem: format!("nothing says what {} has to hash to", file.name),
            hint: "name the release's file of checksums, pin the hash, or waive it by name".to_owned(),
        });
    };
    let star = Words { asset: Some("*"), binary: Some("*"), ..words };
    let label = ask.fill(template, &star)?;
    let label = label.rsplit('/').next().unwrap_or_default().to_owned();
    Ok(Way::Listed { sums: ask.fill(template, &words)?, label })
}

fn words<'a>(ask: &Ask<'a>, file: &'a Wanted) -> Words<'a> {
    let binary = file.gives.first().map(|given| given.binary.as_str());
    Words { binary, asset: Some(&file.name), ..ask.words() }
}

/// Reads a file of checksums and, if it has to be signed, has its signatures verified.
fn read(ask: &Ask<'_>, texts: &dyn Texts, file: &Wanted, sums: &str, watch: &dyn Watch) -> Result<Sums> {
    let bytes = texts.text(sums, file)?;
    // A text within its own signature is read as that also where nobody has to have signed.
    let inner = signature::signed_text(&bytes, sums)?;
    let signers = match &ask.source.signatures {
        None => None,
        Some(signatures) => {
            let name = ask.fill(&signatures.file, &words(ask, file))?;
            let keys = Keys::read(signatures)?;
            let verify = |data: &[u8], signature: &[u8]| {
                signature::verify(&keys, data, signature, signatures.required, ask.now, &name)
            };
            let found = match &inner {
                Some(text) if name == *sums => verify(text, &bytes)?,
                _ => verify(&bytes, &texts.text(&name, file)?)?,
            };
            // Others are many: builders whose keys are not trusted here. Bad ones are not.
            for line in found.others.iter().filter(|line| line.starts_with("bad signature")) {
                watch.warn(&format!("{name} of {}: {line}", texts.label()));
            }
            Some(found.valid.into_iter().map(|signer| signer.fingerprint).collect())
        }
    };
    let hashes =
        checksum::parse(inner.as_deref().unwrap_or(&bytes)).map_err(|malformed| Error::Untrusted {
            what: format!("{sums} of {}", texts.label()),
            reason: malformed.to_string(),
            hint: "it has to be a file of SHA-256 checksums: see whether its name is right".to_owned(),
        })?;
    let template: Option<&Template> = ask.source.checksums.file.as_ref();
    let is_single = template.is_some_and(|template| template.has("asset") || template.has("binary"));
    Ok(Sums { hashes, is_single, signers })
}

impl Sums {
    /// What a file has to hash to: by its exact name, or by its name without folders where that is told of one file alone. In a file of
    /// checksums that is for one file, the hash may stand alone.
    fn hash(&self, name: &str) -> Option<Sha256> {
        if let Some(hash) = self.hashes.get(name) {
            return Some(*hash);
        }
        if let Some(hash) = self.hashes.get("").filter(|_| self.is_single && self.hashes.len() == 1) {
            return Some(*hash);
        }
        let mut same = self.hashes.iter().filter(|(path, _)| path.rsplit('/').next() == Some(name));
        let (_, hash) = same.next()?;
        same.next().is_none().then_some(*hash)
    }
}

fn missing(texts: &dyn Texts, file: &Wanted, sums: &str, found: &Sums) -> Error {
    let names: Vec<_> = found.hashes.keys().map(String::as_str).filter(|name| !name.is_empty()).collect();
    texts.unlisted(file, sums, &names)
}

/// The error of a file of the release that its checksums leave out.
pub(super) fn without_checksum(label: &str, file: &Wanted, sums: &str, names: &[&str]) -> Error {
    let hint = match names {
        [] => "it has a hash without a name, which counts only in a file like {asset}.sha256".to_owned(),
        names => closest(&file.name, names.iter().copied()),
    };
    Error::Untrusted {
        what: format!("{} of {label}", file.name),
        reason: format!("{} has no checksum of it", clean(sums)),
        hint,
    }
}
