//! Servers of releases on loopback: one that plays GitHub's API with its real answers, and one of plain files, such as
//! bitcoincore.org is. Both break off, stall and lie where a test says so, and remember what they were asked.
//!
//! Of the standard library alone, since tests of several crates include this file.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

const RELEASE: &str = include_str!("../../sources/tests/fixtures/github/release.json");
const ASSET: &str = include_str!("../../sources/tests/fixtures/github/asset.json");
const NOT_FOUND: &str = include_str!("../../sources/tests/fixtures/github/not-found.json");
const BAD_CREDENTIALS: &str = include_str!("../../sources/tests/fixtures/github/bad-credentials.json");
const RATE_LIMIT: &str = include_str!("../../sources/tests/fixtures/github/rate-limit.json");
const SECONDARY_RATE_LIMIT: &str =
    include_str!("../../sources/tests/fixtures/github/secondary-rate-limit.json");

/// How often a thread that waits for a client looks whether it is to end.
const TICK: Duration = Duration::from_millis(20);
/// Longest head of a request, in bytes.
const HEAD_LEN_MAX: u64 = 64 << 10;

/// A server that ends when it is dropped.
pub struct ReleaseServer {
    address: SocketAddr,
    state: Arc<State>,
}

/// What was asked.
#[derive(Debug, Clone)]
pub struct Seen {
    /// `GET` or `HEAD`.
    pub method: String,
    /// With its query.
    pub path: String,
    /// With names in lower case.
    pub headers: BTreeMap<String, String>,
}

/// What is answered.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// Besides the length.
    pub headers: Vec<(String, String)>,
    /// The body; part of it where a range is asked for and the status is 200.
    pub body: Arc<Vec<u8>>,
}

/// What goes wrong with one answer.
#[derive(Debug, Clone)]
pub enum Fault {
    /// Another answer comes.
    Answer(Answer),
    /// The connection is closed before an answer.
    Close,
    /// The connection is closed after so many bytes of the body.
    Truncate(usize),
    /// Nothing comes after so many bytes of the body, until the client has enough.
    Stall(usize),
    /// After so many bytes of the body, 20 bytes a second come.
    Trickle(usize),
    /// A byte of the body is another one.
    Corrupt,
    /// The whole file comes where a range is asked for.
    IgnoreRange,
    /// Another range comes than is asked for.
    WrongRange,
    /// The length is not said, and so many bytes come after the last.
    Longer(usize),
    /// The length is not said, and so many bytes of the body come.
    Shorter(usize),
}

type Play = dyn Fn(&Seen) -> Option<Answer> + Send + Sync;

#[derive(Default)]
struct State {
    answers: Mutex<HashMap<String, Answer>>,
    faults: Mutex<HashMap<String, VecDeque<Fault>>>,
    seen: Mutex<Vec<Seen>>,
    token: Mutex<Option<String>>,
    play: Mutex<Option<Arc<Play>>>,
    is_stopping: AtomicBool,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Answer {
    /// With no headers of its own.
    #[must_use]
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: Vec::new(), body: Arc::new(body.into()) }
    }

    /// With a header more.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// A file: with an `ETag`, and in ranges.
    #[must_use]
    pub fn file(body: impl Into<Vec<u8>>) -> Self {
        let body = body.into();
        let etag = tag_of(&body);
        Self::new(200, body)
            .with("ETag", etag)
            .with("Last-Modified", "Mon, 04 May 2026 09:29:51 GMT")
            .with("Accept-Ranges", "bytes")
            .with("Content-Type", "application/octet-stream")
    }

    /// JSON, with an `ETag` that is weak as GitHub's are.
    #[must_use]
    pub fn json(status: u16, body: impl Into<Vec<u8>>) -> Self {
        let body = body.into();
        let etag = format!("W/{}", tag_of(&body));
        let answer = Self::new(status, body).with("Content-Type", "application/json; charset=utf-8");
        if status == 200 { answer.with("ETag", etag) } else { answer }
    }

    /// Somewhere else it is.
    #[must_use]
    pub fn redirect(to: impl Into<String>) -> Self {
        Self::new(302, "").with("Location", to)
    }

    /// GitHub's answer to whom it has enough of, until a second since 1970.
    #[must_use]
    pub fn rate_limit(reset: u64) -> Self {
        Self::json(403, RATE_LIMIT)
            .with("x-ratelimit-limit", "60")
            .with("x-ratelimit-remaining", "0")
            .with("x-ratelimit-reset", reset.to_string())
            .with("x-ratelimit-used", "60")
            .with("x-ratelimit-resource", "core")
    }

    /// GitHub's answer to whom it has enough of for some seconds, or, if it does not say for how many, a minute.
    #[must_use]
    pub fn secondary_rate_limit(seconds: Option<u64>) -> Self {
        let answer = Self::json(403, SECONDARY_RATE_LIMIT);
        match seconds {
            Some(seconds) => answer.with("retry-after", seconds.to_string()),
            None => answer,
        }
    }

    fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }
}

/// Different for different bytes, as an `ETag` is (FNV-1a).
fn tag_of(bytes: &[u8]) -> String {
    let start = 0xcbf2_9ce4_8422_2325_u64;
    let hash =
        bytes.iter().fold(start, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
    format!("\"{hash:016x}\"")
}

impl Default for ReleaseServer {
    fn default() -> Self {
        Self::start()
    }
}

impl ReleaseServer {
    /// Starts one that has nothing, on a free port of 127.0.0.1.
    #[must_use]
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let address = listener.local_addr().expect("a listener has an address");
        let state = Arc::new(State::default());
        let accepting = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if accepting.is_stopping.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let state = Arc::clone(&accepting);
                // A client that goes away is nothing to tell.
                std::thread::spawn(move || drop(state.serve(stream)));
            }
        });
        Self { address, state }
    }

    /// Without a slash at the end.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Answers what is asked for by this path, with or without its query, from now on.
    pub fn answer(&self, path: &str, answer: Answer) {
        locked(&self.state.answers).insert(path.to_owned(), answer);
    }

    /// Has a file.
    pub fn file(&self, path: &str, body: impl Into<Vec<u8>>) {
        self.answer(path, Answer::file(body));
    }

    /// Has it no longer.
    pub fn remove(&self, path: &str) {
        locked(&self.state.answers).remove(path);
    }

    /// Answers what no path is known of.
    pub fn play(&self, play: impl Fn(&Seen) -> Option<Answer> + Send + Sync + 'static) {
        *locked(&self.state.play) = Some(Arc::new(play));
    }

    /// Answers nobody who does not have this token: 404 to whom has none, as GitHub does for a private repository, and 401 to whom
    /// has another one.
    pub fn require(&self, token: &str) {
        *locked(&self.state.token) = Some(token.to_owned());
    }

    /// Goes wrong with the next answer to this path that has no fault yet. Faults come in the order in which they are told.
    pub fn fail(&self, path: &str, fault: Fault) {
        locked(&self.state.faults).entry(path.to_owned()).or_default().push_back(fault);
    }

    /// All that was asked.
    #[must_use]
    pub fn seen(&self) -> Vec<Seen> {
        locked(&self.state.seen).clone()
    }

    /// All that was asked of a path, with any query.
    #[must_use]
    pub fn asked(&self, path: &str) -> Vec<Seen> {
        self.seen().into_iter().filter(|seen| seen.path.split('?').next() == Some(path)).collect()
    }

    /// Forgets what was asked.
    pub fn forget(&self) {
        locked(&self.state.seen).clear();
    }
}

impl Drop for ReleaseServer {
    fn drop(&mut self) {
        self.state.is_stopping.store(true, Ordering::Relaxed);
        // Wakes the thread that accepts; it is gone if this fails.
        drop(TcpStream::connect(self.address));
    }
}

impl State {
    fn serve(&self, stream: TcpStream) -> std::io::Result<()> {
        stream.set_read_timeout(Some(TICK))?;
        stream.set_nodelay(true)?;
        let mut reader = BufReader::new(stream.try_clone()?);
        while let Some(seen) = self.request(&mut reader)? {
            locked(&self.seen).push(seen.clone());
            let bare = seen.path.split('?').next().unwrap_or_default().to_owned();
            let fault = {
                let mut faults = locked(&self.faults);
                let key = if faults.contains_key(&seen.path) { &seen.path } else { &bare };
                faults.get_mut(key).and_then(VecDeque::pop_front)
            };
            let answer = match &fault {
                Some(Fault::Answer(answer)) => answer.clone(),
                Some(Fault::Close) => return Ok(()),
                _ => self.choose(&seen, &bare),
            };
            if !self.send(&stream, &seen, answer, fault)? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// The next request of a connection; nothing where there is none any more.
    fn request(&self, reader: &mut BufReader<TcpStream>) -> std::io::Result<Option<Seen>> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let left = HEAD_LEN_MAX.saturating_sub(head.len() as u64);
            match reader.take(left).read_until(b'\n', &mut head) {
                Ok(0) => return Ok(None),
                Ok(_) => {}
                Err(error) if is_timeout(&error) && !self.is_stopping.load(Ordering::Relaxed) => {}
                Err(error) => return Err(error),
            }
        }
        let text = String::from_utf8_lossy(&head);
        let mut lines = text.lines();
        let mut words = lines.next().unwrap_or_default().split(' ').map(str::to_owned);
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let headers = lines.filter_map(|line| line.split_once(':'));
        let headers = headers.map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()));
        Ok(Some(Seen { method, path, headers: headers.collect() }))
    }

    fn choose(&self, seen: &Seen, bare: &str) -> Answer {
        if let Some(token) = &*locked(&self.token) {
            match seen.headers.get("authorization") {
                None => return Answer::json(404, NOT_FOUND),
                Some(given) if *given == format!("Bearer {token}") => {}
                Some(_) => return Answer::json(401, BAD_CREDENTIALS),
            }
        }
        let answers = locked(&self.answers);
        if let Some(answer) = answers.get(&seen.path).or_else(|| answers.get(bare)) {
            return answer.clone();
        }
        drop(answers);
        let play = locked(&self.play).clone();
        play.and_then(|play| play(seen)).unwrap_or_else(|| Answer::json(404, NOT_FOUND))
    }

    /// Sends an answer; says whether the connection can go on.
    fn send(
        &self,
        mut stream: &TcpStream,
        seen: &Seen,
        answer: Answer,
        fault: Option<Fault>,
    ) -> std::io::Result<bool> {
        let (mut status, mut headers) = (answer.status, answer.headers.clone());
        let mut body = answer.body.to_vec();
        let etag = answer.header("etag");
        if status == 200 && etag.is_some() && seen.headers.get("if-none-match").map(String::as_str) == etag {
            (status, body) = (304, Vec::new());
        }
        if status == 200
            && !matches!(fault, Some(Fault::IgnoreRange))
            && answer.header("accept-ranges").is_some()
            && let Some(from) = range(seen, &answer)
        {
            if from >= body.len() {
                headers.push(("Content-Range".to_owned(), format!("bytes */{}", body.len())));
                (status, body) = (416, Vec::new());
            } else {
                let told = if matches!(fault, Some(Fault::WrongRange)) { from - 1 } else { from };
                let range = format!("bytes {told}-{}/{}", body.len() - 1, body.len());
                headers.push(("Content-Range".to_owned(), range));
                (status, body) = (206, body.split_off(from));
            }
        }
        if matches!(fault, Some(Fault::Corrupt))
            && let Some(byte) = body.first_mut()
        {
            *byte ^= 1;
        }
        let mut head = format!("HTTP/1.1 {status} {}\r\n", reason(status));
        for (name, value) in &headers {
            head += &format!("{name}: {value}\r\n");
        }
        if let Some(Fault::Longer(_) | Fault::Shorter(_)) = fault {
            head += "Transfer-Encoding: chunked\r\n\r\n";
            match fault {
                Some(Fault::Longer(more)) => body.extend(std::iter::repeat_n(b'x', more)),
                Some(Fault::Shorter(bytes)) => body.truncate(bytes),
                _ => {}
            }
            stream.write_all(head.as_bytes())?;
            stream.write_all(format!("{:x}\r\n", body.len()).as_bytes())?;
            stream.write_all(&body)?;
            stream.write_all(b"\r\n0\r\n\r\n")?;
            return Ok(true);
        }
        if status != 304 {
            head += &format!("Content-Length: {}\r\n", body.len());
        }
        head += "\r\n";
        stream.write_all(head.as_bytes())?;
        if seen.method == "HEAD" {
            return Ok(true);
        }
        match fault {
            Some(Fault::Truncate(bytes)) => {
                stream.write_all(&body[..bytes.min(body.len())])?;
                Ok(false)
            }
            Some(Fault::Stall(bytes) | Fault::Trickle(bytes)) => {
                let (first, rest) = body.split_at(bytes.min(body.len()));
                stream.write_all(first)?;
                let trickle = if matches!(fault, Some(Fault::Trickle(_))) { rest } else { &[] };
                self.hold(stream, trickle)?;
                Ok(false)
            }
            _ => {
                stream.write_all(&body)?;
                Ok(true)
            }
        }
    }

    /// Keeps a connection open until the client closes it, and sends some bytes one by one.
    fn hold(&self, mut stream: &TcpStream, trickle: &[u8]) -> std::io::Result<()> {
        let mut bytes = trickle.iter();
        let mut last = std::time::Instant::now();
        while !self.is_stopping.load(Ordering::Relaxed) {
            match stream.read(&mut [0]) {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(error) if is_timeout(&error) => {}
                Err(error) => return Err(error),
            }
            if last.elapsed() >= Duration::from_millis(50)
                && let Some(byte) = bytes.next()
            {
                last = std::time::Instant::now();
                stream.write_all(&[*byte])?;
            }
        }
        Ok(())
    }
}

/// Where the range begins that is asked for, if it is one of these bytes.
fn range(seen: &Seen, answer: &Answer) -> Option<usize> {
    let from = seen.headers.get("range")?.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()?;
    let validator = seen.headers.get("if-range").map(String::as_str);
    let is_same = validator.is_none()
        || validator == answer.header("etag")
        || validator == answer.header("last-modified");
    is_same.then_some(from)
}

fn is_timeout(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut)
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        206 => "Partial Content",
        302 => "Found",
        304 => "Not Modified",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        416 => "Range Not Satisfiable",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        _ => "Something",
    }
}

/// A release that is there.
#[derive(Debug, Clone, Default)]
pub struct Published {
    /// Its tag.
    pub tag: String,
    /// Whether only its authors see it.
    pub is_draft: bool,
    /// Whether it is marked as one before a release.
    pub is_prerelease: bool,
    /// Its files.
    pub files: Vec<PublishedFile>,
}

/// A file of a release.
#[derive(Debug, Clone, Default)]
pub struct PublishedFile {
    /// Its name.
    pub name: String,
    /// What is in it.
    pub body: Vec<u8>,
    /// What GitHub counted, as `sha256:` and digits.
    pub digest: Option<String>,
    /// Whether it is still coming.
    pub is_uploading: bool,
}

impl Published {
    /// One with some files.
    #[must_use]
    pub fn new(tag: &str, files: &[(&str, &[u8])]) -> Self {
        let files = files.iter().map(|(name, body)| PublishedFile {
            name: (*name).to_owned(),
            body: body.to_vec(),
            ..PublishedFile::default()
        });
        Self { tag: tag.to_owned(), files: files.collect(), ..Self::default() }
    }
}

/// GitHub: the API, the web pages that downloads without a token begin at, and the host that has the files. Three origins, as there.
pub struct GitHub {
    /// Where `api` of the configuration leads.
    pub api: ReleaseServer,
    /// Where `browser_download_url` leads.
    pub web: ReleaseServer,
    /// Where both of them redirect to. It wants no token, and refuses who has one.
    pub assets: ReleaseServer,
    releases: Arc<Mutex<Vec<Published>>>,
}

impl GitHub {
    /// Starts one with a repository, and no more of anything a page than `per_page_max` (GitHub: 100).
    #[must_use]
    pub fn start(repository: &str, per_page_max: usize) -> Self {
        let [api, web, assets] = [(); 3].map(|()| ReleaseServer::start());
        let releases = Arc::new(Mutex::new(Vec::new()));
        let play = Repository {
            name: repository.to_owned(),
            urls: [api.url(), web.url(), assets.url()],
            releases: Arc::clone(&releases),
            per_page_max,
        };
        let play = Arc::new(play);
        let [of_api, of_web, of_assets] = [(); 3].map(|()| Arc::clone(&play));
        api.play(move |seen| of_api.api(seen));
        web.play(move |seen| of_web.web(seen));
        assets.play(move |seen| of_assets.asset(seen));
        Self { api, web, assets, releases }
    }

    /// Has a release more; the one that comes last is listed first.
    pub fn publish(&self, release: Published) {
        locked(&self.releases).insert(0, release);
    }

    /// The path under which the host of files has one.
    #[must_use]
    pub fn stored(tag: &str, name: &str) -> String {
        format!("/github-production-release-asset/{tag}/{name}")
    }
}

struct Repository {
    name: String,
    /// Of the API, of web pages, of files.
    urls: [String; 3],
    releases: Arc<Mutex<Vec<Published>>>,
    per_page_max: usize,
}

impl Repository {
    fn api(&self, seen: &Seen) -> Option<Answer> {
        let (path, query) = seen.path.split_once('?').unwrap_or((&seen.path, ""));
        let path = path.strip_prefix(&format!("/repos/{}/releases", self.name))?;
        let releases = locked(&self.releases);
        let parts: Vec<_> = path.split('/').skip(1).collect();
        match parts[..] {
            [] => {
                let all: Vec<_> =
                    releases.iter().enumerate().map(|(at, _)| self.release(&releases, at)).collect();
                Some(self.page(seen, query, &all))
            }
            ["tags", tag] => {
                let tag = unescape(tag);
                let at = releases.iter().position(|release| release.tag == tag && !release.is_draft)?;
                Some(Answer::json(200, self.release(&releases, at)))
            }
            ["assets", id] => {
                let (release, file) = id.parse::<usize>().ok().map(|id| (id / 1000, id % 1000))?;
                let release = releases.get(releases.len().checked_sub(release)?)?;
                let file = release.files.get(file)?;
                match seen.headers.get("accept").map(String::as_str) {
                    Some("application/octet-stream") => Some(self.lead(release, file)),
                    _ => Some(Answer::json(200, self.file(release, id.parse().ok()?, file))),
                }
            }
            [id, "assets"] => {
                let number: usize = id.parse().ok()?;
                let release = releases.get(releases.len().checked_sub(number)?)?;
                Some(self.page(seen, query, &self.files(release, number)))
            }
            _ => None,
        }
    }

    fn web(&self, seen: &Seen) -> Option<Answer> {
        let path = seen.path.strip_prefix(&format!("/{}/releases/download/", self.name))?;
        let (tag, name) = path.split_once('/')?;
        let releases = locked(&self.releases);
        let release = releases.iter().find(|release| release.tag == unescape(tag))?;
        let file = release.files.iter().find(|file| file.name == unescape(name))?;
        Some(self.lead(release, file))
    }

    /// To the host of files, with a signature in the query.
    fn lead(&self, release: &Published, file: &PublishedFile) -> Answer {
        let path = GitHub::stored(&release.tag, &file.name);
        Answer::redirect(format!("{}{path}?sp=r&sv=2018-11-09&sig=Zm9v%3D", self.urls[2]))
    }

    fn asset(&self, seen: &Seen) -> Option<Answer> {
        // As storage does, which takes a token for a second signature.
        if seen.headers.contains_key("authorization") {
            return Some(Answer::new(400, "InvalidAuthenticationInfo"));
        }
        let (path, query) = seen.path.split_once('?')?;
        if !query.contains("sig=") {
            return Some(Answer::new(403, "AuthenticationFailed"));
        }
        let releases = locked(&self.releases);
        let files = releases.iter().flat_map(|release| release.files.iter().map(move |file| (release, file)));
        let mut found = files.filter(|(release, file)| GitHub::stored(&release.tag, &file.name) == path);
        found.next().map(|(_, file)| Answer::file(file.body.clone()))
    }

    /// One page, and where the others are.
    fn page(&self, seen: &Seen, query: &str, all: &[String]) -> Answer {
        let number = |key: &str| {
            let pair = query.split('&').find_map(|pair| pair.strip_prefix(key)?.strip_prefix('='));
            pair.and_then(|value| value.parse::<usize>().ok())
        };
        let per_page = number("per_page").unwrap_or(30).clamp(1, self.per_page_max);
        let (page, last) = (number("page").unwrap_or(1).max(1), all.len().div_ceil(per_page).max(1));
        let items: Vec<_> = all.iter().skip((page - 1) * per_page).take(per_page).cloned().collect();
        let answer = Answer::json(200, format!("[{}]", items.join(",")));
        let path = seen.path.split('?').next().unwrap_or_default();
        let link = |page: usize, rel: &str| {
            format!("<{}{path}?per_page={per_page}&page={page}>; rel=\"{rel}\"", self.urls[0])
        };
        let mut links = Vec::new();
        if page > 1 {
            links.extend([link(page - 1, "prev"), link(1, "first")]);
        }
        if page < last {
            links.extend([link(page + 1, "next"), link(last, "last")]);
        }
        if links.is_empty() { answer } else { answer.with("Link", links.join(", ")) }
    }

    fn fill(&self, template: &str, release: &Published, id: usize) -> String {
        let words = [
            ("{api}", &self.urls[0]),
            ("{web}", &self.urls[1]),
            ("{uploads}", &self.urls[0]),
            ("{repository}", &self.name),
            ("{tag}", &release.tag),
            ("{id}", &id.to_string()),
        ];
        words.iter().fold(template.trim().to_owned(), |text, (word, value)| text.replace(word, value))
    }

    /// The number of a release is how many there were with it.
    fn release(&self, releases: &[Published], at: usize) -> String {
        let release = &releases[at];
        let id = releases.len() - at;
        self.fill(RELEASE, release, id)
            .replace("{draft}", &release.is_draft.to_string())
            .replace("{prerelease}", &release.is_prerelease.to_string())
            .replace("{assets}", &self.files(release, id).join(","))
    }

    fn files(&self, release: &Published, id: usize) -> Vec<String> {
        let files = release.files.iter().enumerate();
        files.map(|(number, file)| self.file(release, id * 1000 + number, file)).collect()
    }

    fn file(&self, release: &Published, id: usize, file: &PublishedFile) -> String {
        let digest = file.digest.as_ref().map_or("null".to_owned(), |digest| format!("\"{digest}\""));
        self.fill(ASSET, release, id)
            .replace("{name}", &file.name)
            .replace("{size}", &file.body.len().to_string())
            .replace("{state}", if file.is_uploading { "starter" } else { "uploaded" })
            .replace("{digest}", &digest)
    }
}

fn unescape(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [byte, behind @ ..] = rest {
        let escaped = (*byte == b'%').then(|| behind.get(..2)).flatten();
        let digits = escaped.and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(escaped) => {
                bytes.push(escaped);
                rest = &behind[2..];
            }
            None => {
                bytes.push(*byte);
                rest = behind;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
