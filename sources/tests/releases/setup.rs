//! A package, a client that does not wait for long, and a watch that remembers.

use std::collections::BTreeMap;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use cairn_sources::config::{Checksums, Origin, Package, ReleaseSource, Strategy};
use cairn_sources::release::{self, Ask, Brought, Found};
use cairn_sources::{Error, Http, HttpOptions, HttpTimeouts, NothingHeld, Result, Retries, Sha256, Watch};
use cairn_store::Platform;
use tempfile::TempDir;

/// The repository that tests play.
pub(crate) const REPOSITORY: &str = "acme/app";
/// The token that is right.
pub(crate) const TOKEN: &str = "ghp_0123456789abcdefghijABCDEFGHIJ012345";

/// Remembers what it is told.
#[derive(Default)]
pub(crate) struct Recorder {
    pub(crate) said: Mutex<Vec<String>>,
    pub(crate) warned: Mutex<Vec<String>>,
    pub(crate) expected: AtomicU64,
    pub(crate) came: AtomicI64,
    pub(crate) is_cancelled: AtomicBool,
}

impl Watch for Recorder {
    fn expect(&self, bytes: u64) {
        self.expected.fetch_add(bytes, Ordering::Relaxed);
    }

    fn came(&self, bytes: i64) {
        self.came.fetch_add(bytes, Ordering::Relaxed);
    }

    fn say(&self, line: &str) {
        self.said.lock().unwrap().push(line.to_owned());
    }

    fn warn(&self, line: &str) {
        self.warned.lock().unwrap().push(line.to_owned());
    }

    fn cancelled(&self) -> bool {
        self.is_cancelled.load(Ordering::Relaxed)
    }
}

/// What a test has: folders, options, a package.
pub(crate) struct Setup {
    pub(crate) folder: TempDir,
    pub(crate) options: HttpOptions,
    pub(crate) package: Package,
    pub(crate) watch: Recorder,
}

pub(crate) fn template(text: &str) -> cairn_sources::Template {
    text.parse().unwrap()
}

pub(crate) fn platform() -> Platform {
    "linux/x86_64".parse().unwrap()
}

/// Bytes that look like nothing else, different for each seed.
pub(crate) fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let words = std::iter::from_fn(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        Some(state.to_le_bytes())
    });
    words.flatten().take(len).collect()
}

/// `SHA256SUMS` of some files.
pub(crate) fn sums(files: &[(&str, &[u8])]) -> Vec<u8> {
    let lines = files.iter().map(|(name, bytes)| format!("{}  {name}\n", Sha256::of(bytes)));
    lines.collect::<String>().into_bytes()
}

impl Setup {
    /// A package `app` with programs of these names, from an origin, each a file `{binary}-{platform}` listed in `SHA256SUMS`.
    pub(crate) fn new(origin: Origin, binaries: &[&str]) -> Self {
        let source = ReleaseSource {
            origin,
            asset: template("{binary}-{platform}"),
            member: template("{binary}"),
            strip: 0,
            checksums: Checksums { file: Some(template("SHA256SUMS")), ..Checksums::default() },
            signatures: None,
        };
        let package = Package {
            name: "app".parse().unwrap(),
            binaries: binaries.iter().map(|&binary| binary.to_owned()).collect(),
            platforms: BTreeMap::from([(platform(), "linux-amd64".to_owned())]),
            platform: None,
            strategy: Strategy::Release,
            channel: None,
            release: Some(source),
            vm: None,
            ssh: None,
            dir: None,
            peer: None,
        };
        let options = HttpOptions {
            cache: None,
            timeouts: HttpTimeouts {
                connect: Duration::from_secs(5),
                answer: Duration::from_secs(5),
                idle: Duration::from_millis(400),
            },
            retries: Retries { tries: 5, first: Duration::from_millis(1), max: Duration::from_millis(5) },
            rate_wait_max: Duration::from_secs(5),
            tokens: Arc::new(|_| None),
        };
        Self { folder: tempfile::tempdir().unwrap(), options, package, watch: Recorder::default() }
    }

    /// From GitHub, with tags `v{version}`.
    pub(crate) fn github(api: &str, binaries: &[&str]) -> Self {
        let origin = Origin::GitHub {
            api: api.to_owned(),
            repository: REPOSITORY.to_owned(),
            tag: template("v{version}"),
            token_env: vec!["APP_TOKEN".to_owned(), "GITHUB_TOKEN".to_owned()],
        };
        Self::new(origin, binaries)
    }

    /// From a web server, without a list of versions.
    pub(crate) fn plain(url: &str, binaries: &[&str]) -> Self {
        let url = template(&format!("{url}/app-{{version}}/{{asset}}"));
        Self::new(Origin::Http { url, versions: None }, binaries)
    }

    pub(crate) fn source(&mut self) -> &mut ReleaseSource {
        self.package.release.as_mut().unwrap()
    }

    /// Has this in `$GITHUB_TOKEN`.
    pub(crate) fn token(&mut self, token: &'static str) {
        self.options.tokens = Arc::new(move |name| (name == "GITHUB_TOKEN").then(|| token.to_owned()));
    }

    pub(crate) fn http(&self) -> Arc<Http> {
        Http::start(self.options.clone()).unwrap()
    }

    pub(crate) fn downloads(&self) -> PathBuf {
        self.folder.path().join("downloads")
    }

    pub(crate) fn to(&self) -> PathBuf {
        self.folder.path().join("to")
    }

    pub(crate) fn find(&self, version: &str) -> Result<Found> {
        self.find_at(version, SystemTime::now())
    }

    pub(crate) fn find_at(&self, version: &str, now: SystemTime) -> Result<Found> {
        let source = self.package.release.as_ref().unwrap();
        let ask = Ask { package: &self.package, source, version, platform: &platform(), now };
        release::find(&self.http(), &ask, &self.watch)
    }

    pub(crate) fn versions(&self, max: usize) -> Result<Vec<String>> {
        let source = self.package.release.as_ref().unwrap();
        release::versions(&self.http(), source, &self.package, max, &self.watch)
    }

    /// Brings into a new folder.
    pub(crate) fn bring(&self, found: &Found) -> Result<Brought> {
        self.bring_to(found, &self.to())
    }

    pub(crate) fn bring_to(&self, found: &Found, to: &Path) -> Result<Brought> {
        let source = self.package.release.as_ref().unwrap();
        release::bring(&self.http(), found, source, &self.downloads(), to, &NothingHeld, &self.watch)
    }

    /// What lies there, by name.
    pub(crate) fn laid(&self) -> BTreeMap<String, Vec<u8>> {
        files(&self.to())
    }
}

pub(crate) fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let Ok(entries) = std::fs::read_dir(folder) else { return BTreeMap::new() };
    let paths = entries.map(|entry| entry.unwrap().path());
    paths
        .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), std::fs::read(&path).unwrap()))
        .collect()
}

pub(crate) fn count(number: usize) -> NonZero<usize> {
    NonZero::new(number).unwrap()
}

/// An error as it is printed, with its hint; no token is in it.
pub(crate) fn told<T: std::fmt::Debug>(result: Result<T>) -> String {
    let error = result.unwrap_err();
    let text = format!("{error} | {}", error.hint().unwrap_or_default());
    assert!(!format!("{text}{error:?}").contains(TOKEN), "{text}");
    assert!(!matches!(error, Error::Cancelled), "{text}");
    text
}
