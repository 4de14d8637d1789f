//! A small HTTP/1.1 server whose every byte a test decides: a thread for each connection, one request on each.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use cairn_net::{PeerUrl, Source};

/// How long a connection of a test lives, at most.
const LIFE_MAX: Duration = Duration::from_secs(120);

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// With the query.
    pub(crate) path: String,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
    /// Of all requests that this server got.
    pub(crate) number: u64,
}

/// Where an answer is written.
pub(crate) struct Reply {
    stream: TcpStream,
    stop: Arc<AtomicBool>,
    has_ended: bool,
}

impl Reply {
    /// Writes nothing more.
    pub(crate) fn cut(&mut self) {
        self.has_ended = true;
    }

    /// Bytes as they are. Whether the other side still takes them.
    pub(crate) fn raw(&mut self, bytes: &[u8]) -> bool {
        !self.has_ended && !self.stop.load(Ordering::Relaxed) && self.stream.write_all(bytes).is_ok()
    }

    /// A whole answer.
    pub(crate) fn whole(&mut self, status: u16, kind: &str, body: &[u8]) {
        let head = format!(
            "HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            body.len()
        );
        let _ = self.raw(head.as_bytes()) && self.raw(body);
    }

    /// The head of an answer that ends with its connection.
    pub(crate) fn stream_head(&mut self) -> bool {
        let kind = cairn_net::wire::STREAM_TYPE;
        self.raw(format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\nconnection: close\r\n\r\n").as_bytes())
    }

    /// Waits until the server is told to stop or the other side goes away.
    pub(crate) fn hang(&mut self) {
        let _ = self.stream.set_read_timeout(Some(Duration::from_millis(50)));
        let mut byte = [0];
        while !self.stop.load(Ordering::Relaxed) {
            match self.stream.read(&mut byte) {
                Ok(0) => return,
                Ok(_) => {}
                Err(error)
                    if matches!(
                        error.kind(),
                        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
                    ) => {}
                Err(_) => return,
            }
        }
    }
}

pub(crate) type Handler = Arc<dyn Fn(&Request, &mut Reply) + Send + Sync>;

/// A server until it is dropped.
pub(crate) struct Server {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    log: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    pub(crate) fn start(handler: impl Fn(&Request, &mut Reply) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        Self::start_on(listener, Arc::new(handler))
    }

    pub(crate) fn start_on(listener: TcpListener, handler: Handler) -> Self {
        let address = listener.local_addr().unwrap();
        let (stop, log) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let shared = (Arc::clone(&stop), Arc::clone(&log));
        let thread = std::thread::spawn(move || accept(&listener, &handler, &shared.0, &shared.1));
        Self { address, stop, thread: Some(thread), log }
    }

    pub(crate) fn url(&self) -> PeerUrl {
        format!("http://{}", self.address).parse().unwrap()
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn source(&self) -> Source {
        Source::open(self.url())
    }

    /// What was asked for so far.
    pub(crate) fn log(&self) -> Vec<Request> {
        self.log.lock().unwrap().clone()
    }

    /// Stops serving at once; connections break.
    pub(crate) fn stop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

fn accept(listener: &TcpListener, handler: &Handler, stop: &Arc<AtomicBool>, log: &Arc<Mutex<Vec<Request>>>) {
    let mut threads = Vec::new();
    for stream in listener.incoming() {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let Ok(stream) = stream else { continue };
        let (handler, stop, log) = (Arc::clone(handler), Arc::clone(stop), Arc::clone(log));
        threads.push(std::thread::spawn(move || serve(stream, &handler, stop, &log)));
        threads.retain(|thread: &JoinHandle<()>| !thread.is_finished());
    }
    for thread in threads {
        thread.join().unwrap();
    }
}

fn serve(stream: TcpStream, handler: &Handler, stop: Arc<AtomicBool>, log: &Mutex<Vec<Request>>) {
    stream.set_nodelay(true).unwrap();
    stream.set_write_timeout(Some(LIFE_MAX)).unwrap();
    stream.set_read_timeout(Some(LIFE_MAX)).unwrap();
    let Some(request) = read(&stream, log) else { return };
    handler(&request, &mut Reply { stream, stop, has_ended: false });
}

fn read(stream: &TcpStream, log: &Mutex<Vec<Request>>) -> Option<Request> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split_whitespace();
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let len = headers.get("content-length").and_then(|len| len.parse().ok()).unwrap_or(0);
    let mut body = vec![0; len];
    reader.read_exact(&mut body).ok()?;
    if headers.get("transfer-encoding").is_some_and(|encoding| encoding == "chunked") {
        body = chunked(&mut reader)?;
    }
    let mut log = log.lock().unwrap();
    let request = Request { method, path, headers, body, number: log.len() as u64 };
    log.push(request.clone());
    Some(request)
}

fn chunked(reader: &mut impl BufRead) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let len = usize::from_str_radix(line.trim(), 16).ok()?;
        let start = body.len();
        body.resize(start + len, 0);
        reader.read_exact(&mut body[start..]).ok()?;
        reader.read_line(&mut line).ok()?;
        if len == 0 {
            return Some(body);
        }
    }
}
