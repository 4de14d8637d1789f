//! Answers that are kept with their `ETag`, so that a server need not send them again, and does not count it where it counts.
//!
//! An answer is never served without the server having said that it is still good. A file that cannot be read or written, or is not what
//! was written, is as good as none. One key is for one address and one token: what a private repository answered is nobody else's.
//! The folder has at most [`FILES_MAX`] answers and [`BYTES_MAX`] bytes; those go first that were of use longest ago.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use rustix::fs::{AtFlags, Mode, OFlags};
use serde::{Deserialize, Serialize};
use url::Url;

use super::exchange::Get;
use super::whole::Text;
use crate::disk;
use crate::sha256::Sha256;

/// Answers that are kept, at most.
const FILES_MAX: usize = 256;
/// Bytes of them, at most.
const BYTES_MAX: u64 = 64 << 20;
/// Longest first line of a file, in bytes.
const HEAD_LEN_MAX: usize = 64 << 10;
/// How file names of answers end.
const ENDING: &str = ".answer";

/// A folder of answers.
#[derive(Debug)]
pub(super) struct Cache<'a> {
    folder: &'a Path,
}

/// An answer that is here.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) text: Text,
    pub(super) etag: String,
}

/// What stands before the body, on a line of its own.
#[derive(Serialize, Deserialize)]
struct Head {
    url: String,
    etag: String,
    link: Option<String>,
    sha256: Sha256,
}

impl<'a> Cache<'a> {
    pub(super) fn new(folder: &'a Path) -> Self {
        Self { folder }
    }

    /// What the answer to a question is kept under.
    pub(super) fn key(get: &Get) -> String {
        let mark = get.token.as_ref().map_or("", |token| &token.mark);
        Sha256::of(format!("{}\n{mark}\n{}", get.url, get.is_api).as_bytes()).to_string()
    }

    /// What is kept, of at most `max` bytes.
    pub(super) fn find(&self, key: &str, max: usize) -> Option<Kept> {
        let path = self.folder.join(format!("{key}{ENDING}"));
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let file = File::from(rustix::fs::open(&path, flags, Mode::empty()).ok()?);
        let mut bytes = Vec::new();
        let longest = (max + HEAD_LEN_MAX) as u64;
        (&file).take(longest + 1).read_to_end(&mut bytes).ok().filter(|&read| read as u64 <= longest)?;
        let line = bytes.iter().take(HEAD_LEN_MAX).position(|&byte| byte == b'\n')?;
        let head: Head = serde_json::from_slice(&bytes[..line]).ok()?;
        let body = bytes.split_off(line + 1);
        if Sha256::of(&body) != head.sha256 {
            return None;
        }
        disk::touch(&file);
        let text = Text { body, link: head.link, url: Url::parse(&head.url).ok()? };
        Some(Kept { text, etag: head.etag })
    }

    /// Keeps an answer, if that can be done.
    pub(super) fn keep(&self, key: &str, text: &Text, etag: &str) {
        if let Err(error) = self.write(key, text, etag).and_then(|()| self.prune()) {
            let folder = self.folder.display().to_string();
            tracing::warn!(folder, %error, "an answer cannot be kept");
        }
    }

    fn write(&self, key: &str, text: &Text, etag: &str) -> io::Result<()> {
        let head = Head {
            url: text.url.to_string(),
            etag: etag.to_owned(),
            link: text.link.clone(),
            sha256: Sha256::of(&text.body),
        };
        let mut bytes = serde_json::to_vec(&head)?;
        bytes.push(b'\n');
        if bytes.len() > HEAD_LEN_MAX {
            return Ok(());
        }
        bytes.extend_from_slice(&text.body);
        disk::make_folder(self.folder).map_err(io::Error::other)?;
        // Its own name for each writer, so that two do not write into one.
        let thread = rustix::thread::gettid().as_raw_nonzero();
        let beside = self.folder.join(format!("{key}.{thread}.new"));
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let mut file = File::from(rustix::fs::open(&beside, flags, Mode::RUSR | Mode::WUSR)?);
        file.write_all(&bytes)?;
        rustix::fs::rename(&beside, self.folder.join(format!("{key}{ENDING}")))?;
        Ok(())
    }

    /// Removes what was of use longest ago, and what writers left that were killed.
    fn prune(&self) -> io::Result<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::open(self.folder, flags, Mode::empty())?;
        let mut files = Vec::new();
        for entry in rustix::fs::Dir::read_from(&folder)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().to_str() else { continue };
            if !name.ends_with(ENDING) && !name.ends_with(".new") {
                continue;
            }
            // Another process may have removed it.
            let Ok(stat) = rustix::fs::statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
            files.push((stat.st_mtime, u64::try_from(stat.st_size).unwrap_or(0), name.to_owned()));
        }
        files.sort_by(|one, other| other.cmp(one));
        let mut bytes = 0;
        for (place, (_, size, name)) in files.iter().enumerate() {
            bytes += size;
            if place >= FILES_MAX || bytes > BYTES_MAX {
                let _ = rustix::fs::unlinkat(&folder, name.as_str(), AtFlags::empty());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "files of a test")]
mod tests {
    use rustix::fs::Timestamps;

    use super::*;

    fn text(body: &[u8]) -> Text {
        Text {
            body: body.to_vec(),
            link: Some("<a>; rel=\"next\"".to_owned()),
            url: Url::parse("https://a.b/c").unwrap(),
        }
    }

    #[test]
    fn what_is_kept_is_found_unless_it_was_damaged() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("answers");
        let cache = Cache::new(&folder);
        let key = Cache::key(&Get::of(Url::parse("https://a.b/c").unwrap()));
        assert_eq!(cache.find(&key, 100), None);
        cache.keep(&key, &text(b"one\ntwo"), "\"e\"");
        let kept = Kept { text: text(b"one\ntwo"), etag: "\"e\"".to_owned() };
        assert_eq!(cache.find(&key, 100), Some(kept));
        let path = folder.join(format!("{key}{ENDING}"));
        let whole = std::fs::read(&path).unwrap();
        for damaged in [&whole[..whole.len() - 1], &whole[..10], b"", b"{}\n", &[0xff; 70_000]] {
            std::fs::write(&path, damaged).unwrap();
            assert_eq!(cache.find(&key, 100), None);
        }
        std::fs::write(&path, &whole).unwrap();
        assert!(cache.find(&key, 100).is_some());
    }

    #[test]
    fn the_folder_is_bounded_and_the_last_used_stay() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::new(folder.path());
        for number in 0..FILES_MAX + 5 {
            cache.keep(&format!("{number:064}"), &text(&[7; 10]), "\"e\"");
            let time = rustix::fs::Timespec { tv_sec: number as i64, tv_nsec: 0 };
            let times = Timestamps { last_access: time, last_modification: time };
            let path = folder.path().join(format!("{number:064}{ENDING}"));
            rustix::fs::utimensat(rustix::fs::CWD, &path, &times, AtFlags::empty()).unwrap();
        }
        cache.keep("last", &text(b""), "\"e\"");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), FILES_MAX);
        assert!(cache.find("last", 10).is_some() && cache.find(&format!("{:064}", 0), 10).is_none());
        assert!(cache.find(&format!("{:064}", FILES_MAX), 10).is_some());
        let big = text(&vec![0; 40 << 20]);
        cache.keep("big", &big, "\"e\"");
        cache.keep("bigger", &big, "\"e\"");
        let bytes: u64 = std::fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().metadata().unwrap().len())
            .sum();
        assert!(bytes <= BYTES_MAX && bytes > 40 << 20, "{bytes}");
    }
}
