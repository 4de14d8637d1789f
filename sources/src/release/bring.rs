//! All files of a release at once, and the programs out of them.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::sync::atomic::AtomicU64;

use rustix::fs::OFlags;

use super::download::Downloads;
use super::shelf::{Finished, Shelf};
use super::wanted::check_name;
use super::{Asset, Brought, BroughtFile, Found, Given};
use crate::archive::{self, Bounds, Format, Member, Unpacked};
use crate::config::{Origin, ReleaseSource};
use crate::disk;
use crate::error::{Error, Result};
use crate::http::{Get, Http, address};
use crate::sha256::{Hasher, Sha256};
use crate::together::Together;
use crate::watch::{Held, Watch};

/// Files that are brought at once.
const AT_ONCE: usize = 4;
/// Bytes that are copied at once.
const BUFFER_BYTES: usize = 256 << 10;

/// Where programs are laid, and what is asked for that.
struct Laying<'a> {
    downloads: Downloads<'a>,
    source: &'a ReleaseSource,
    to: &'a Path,
    held: &'a dyn Held,
    watch: &'a dyn Watch,
}

/// An asset whose programs lie there.
type Laid = (Sha256, Vec<Unpacked>);

pub(super) fn bring(
    http: &Http,
    found: &Found,
    source: &ReleaseSource,
    downloads: &Path,
    to: &Path,
    held: &dyn Held,
    watch: &dyn Watch,
) -> Result<Brought> {
    for given in found.assets.iter().flat_map(|asset| &asset.gives) {
        check_name("a program", &given.binary)?;
    }
    disk::make_folder(to)?;
    let wire_bytes = AtomicU64::new(0);
    let watch = &Together::new(watch);
    let shelf = Shelf::open(downloads, watch)?;
    let downloads = Downloads { http, shelf, watch, wire_bytes: &wire_bytes };
    let laying = Laying { downloads, source, to, held, watch };
    let laid = watch.all(found.assets.len(), AT_ONCE, |at| laying.one(&found.assets[at]))?;
    let mut brought = Brought { files: Vec::new(), wire_bytes: wire_bytes.into_inner(), assets: Vec::new() };
    for (asset, (sha256, programs)) in found.assets.iter().zip(laid) {
        brought.assets.push((asset.name.clone(), sha256));
        let files = asset.gives.iter().zip(programs);
        brought.files.extend(files.map(|(given, Unpacked { sha256, size })| BroughtFile {
            binary: given.binary.clone(),
            sha256,
            size,
        }));
    }
    Ok(brought)
}

impl Laying<'_> {
    /// One asset: its hash, and its programs in their order.
    fn one(&self, asset: &Asset) -> Result<Laid> {
        if self.watch.cancelled() {
            return Err(Error::Cancelled);
        }
        let bare = match &asset.gives[..] {
            [Given { binary, member: None }] => Some(self.to.join(binary)),
            _ => None,
        };
        if let (Some(path), Some(hash)) = (&bare, &asset.sha256)
            && let Some(size) = self.held(hash, path)?
        {
            self.watch.say(&format!("{} is held already", asset.name));
            return Ok((*hash, vec![Unpacked { sha256: *hash, size }]));
        }
        let url = address::parse(&asset.url)?;
        let get = match &self.source.origin {
            origin @ Origin::GitHub { .. } => {
                super::github::download(self.downloads.http, origin, url, self.watch)?
            }
            Origin::Http { .. } => Get::of(url),
        };
        let finished = self.downloads.get(asset, &get)?;
        let programs = match &bare {
            Some(path) => vec![self.copy(&finished, path)?],
            None => self.unpack(asset, &finished)?,
        };
        Ok((finished.sha256, programs))
    }

    /// Lays a program that is held; says how long it is. What is held is believed by its hash alone.
    fn held(&self, hash: &Sha256, path: &Path) -> Result<Option<u64>> {
        if !self.held.copy(hash, path).map_err(Error::io("copy what is held to", path))? {
            return Ok(None);
        }
        let found = match disk::open(path, OFlags::RDONLY)? {
            Some(file) => {
                let (found, size) = self.read(&file, path, |_| Ok(()))?;
                disk::make_program(&file, path)?;
                (found == *hash).then_some(size)
            }
            None => None,
        };
        if found.is_none() {
            self.watch.warn(&format!("what is held is not {}, and is brought again", hash.short()));
            disk::remove(path)?;
        }
        Ok(found)
    }

    /// Lays a file that is the program itself.
    fn copy(&self, finished: &Finished, path: &Path) -> Result<Unpacked> {
        let to = disk::create_program(path)?;
        if rustix::fs::ioctl_ficlone(&to, &finished.file).is_ok() {
            return Ok(Unpacked { sha256: finished.sha256, size: finished.size });
        }
        rustix::fs::seek(&finished.file, rustix::fs::SeekFrom::Start(0))
            .map_err(|errno| Error::io("rewind", &finished.path)(errno.into()))?;
        let write = |bytes: &[u8]| (&to).write_all(bytes).map_err(Error::io("write", path));
        let (sha256, size) = self.read(&finished.file, &finished.path, write)?;
        if sha256 != finished.sha256 {
            return Err(Error::Untrusted {
                what: finished.path.display().to_string(),
                reason: format!("it was changed while it was read: it hashes to {sha256} now"),
                hint: "see who else writes into the folder of downloads".to_owned(),
            });
        }
        Ok(Unpacked { sha256, size })
    }

    /// Reads a file to its end, and hashes what it gives on.
    fn read(
        &self,
        mut file: &File,
        path: &Path,
        mut give: impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<(Sha256, u64)> {
        let (mut buffer, mut hasher) = (vec![0; BUFFER_BYTES], Hasher::default());
        loop {
            if self.watch.cancelled() {
                return Err(Error::Cancelled);
            }
            match file.read(&mut buffer).map_err(Error::io("read", path))? {
                0 => return Ok(hasher.finish()),
                read => {
                    hasher.update(&buffer[..read]);
                    give(&buffer[..read])?;
                }
            }
        }
    }

    /// Lays programs out of an archive.
    fn unpack(&self, asset: &Asset, finished: &Finished) -> Result<Vec<Unpacked>> {
        let not_one = || Error::Archive {
            archive: asset.name.clone(),
            reason: "it is no archive by its name, and has to give several programs or a member".to_owned(),
        };
        let format = Format::of_name(&asset.name).ok_or_else(not_one)?;
        let paths: Vec<_> = asset.gives.iter().map(|given| self.to.join(&given.binary)).collect();
        let members = asset.gives.iter().zip(&paths).map(|(given, path)| {
            let member = given.member.as_deref().ok_or_else(not_one)?;
            Ok(Member { path: member, to: path })
        });
        let members = members.collect::<Result<Vec<_>>>()?;
        let strip = self.source.strip;
        archive::unpack(&finished.path, &asset.name, format, strip, &members, &Bounds::default(), self.watch)
    }
}
