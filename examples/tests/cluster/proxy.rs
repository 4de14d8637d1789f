//! A peer that is a real daemon but for what a test has it say instead: a proxy that changes answers on their way.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};

use harness::program::DEADLINE;
use serde_json::Value;

/// What of an answer is another's.
pub(crate) enum Way {
    /// Nothing.
    Pass,
    /// Something in the message.
    Json(Box<dyn Fn(&mut Value)>),
    /// Something in the items of a stream of events: for each that comes, those that are sent.
    Items(Box<dyn FnMut(Item) -> Vec<Item>>),
    /// It is not given at all.
    Status(u16),
    /// It comes when the gate is open.
    Wait(Arc<Gate>),
}

/// An item of a stream: its tag and its body.
#[derive(Debug, Clone)]
pub(crate) struct Item(pub(crate) u8, pub(crate) Vec<u8>);

/// The tag of an event.
const EVENT: u8 = 0x11;

impl Item {
    /// Its round, if it is an event.
    pub(crate) fn round(&self) -> Option<u64> {
        let round = self.1.first_chunk().filter(|_| self.0 == EVENT)?;
        Some(u64::from_le_bytes(*round))
    }
}

/// Holds back whoever comes until it is opened.
#[derive(Default)]
pub(crate) struct Gate {
    /// Guards how many wait, and whether it is open.
    state: Mutex<(usize, bool)>,
    changed: Condvar,
}

impl Gate {
    pub(crate) fn open(&self) {
        self.state.lock().unwrap().1 = true;
        self.changed.notify_all();
    }

    /// Waits until somebody waits.
    pub(crate) fn has_somebody(&self) {
        let state = self.state.lock().unwrap();
        let (state, _) =
            self.changed.wait_timeout_while(state, DEADLINE, |(waiting, _)| *waiting == 0).unwrap();
        assert!(state.0 > 0, "nobody came to the gate");
    }

    fn pass(&self) {
        let mut state = self.state.lock().unwrap();
        state.0 += 1;
        self.changed.notify_all();
        let _open = self.changed.wait_timeout_while(state, DEADLINE, |(_, is_open)| !*is_open).unwrap();
    }
}

/// A proxy in front of a daemon, for as long as the test runs.
pub(crate) struct Proxy {
    pub(crate) url: String,
}

impl Proxy {
    /// `way` decides by method and path, the query with it, as in `GET /v1/snapshots/kv`.
    pub(crate) fn to(upstream: &str, way: impl Fn(&str) -> Way + Send + Sync + 'static) -> Self {
        let upstream: SocketAddr = upstream.parse().unwrap();
        Self::start(move |_| upstream, way)
    }

    /// To one daemon or another, as `upstream` decides; nothing of what they say is changed.
    pub(crate) fn to_either(upstream: impl Fn(&str) -> SocketAddr + Send + Sync + 'static) -> Self {
        Self::start(upstream, |_| Way::Pass)
    }

    fn start(
        upstream: impl Fn(&str) -> SocketAddr + Send + Sync + 'static,
        way: impl Fn(&str) -> Way + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let decide = Arc::new((upstream, way));
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let decide = Arc::clone(&decide);
                // Whoever goes away in the middle is not answered.
                std::thread::spawn(move || serve(&client, &decide.0, &decide.1).ok());
            }
        });
        Self { url }
    }
}

/// One request on each connection.
fn serve(
    client: &TcpStream,
    upstream: &dyn Fn(&str) -> SocketAddr,
    way: &dyn Fn(&str) -> Way,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(client);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let request = line.trim_end().trim_end_matches(" HTTP/1.1").to_owned();
    // To HTTP/1.0 nothing is answered in pieces.
    let mut head = format!("{request} HTTP/1.0\r\n");
    let mut len = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let (name, value) = line.trim_end().split_once(':').unwrap_or_default();
        match name.to_ascii_lowercase().as_str() {
            "" => break,
            "connection" | "te" => continue,
            "content-length" => len = value.trim().parse().unwrap(),
            "transfer-encoding" => panic!("this proxy takes no bodies in pieces: {request}"),
            _ => {}
        }
        head += &line;
    }
    let mut body = vec![0; len];
    reader.read_exact(&mut body)?;
    let way = way(&request);
    if let Way::Wait(gate) = &way {
        gate.pass();
    }
    let mut client = client;
    if let Way::Status(status) = way {
        let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        return client.write_all(answer.as_bytes());
    }
    let server = TcpStream::connect(upstream(&request))?;
    (&server).write_all(format!("{head}\r\n").as_bytes())?;
    (&server).write_all(&body)?;
    let closes = Closes(client.try_clone()?, server.try_clone()?);
    let answered = answer(BufReader::new(&server), client, way);
    drop(closes);
    answered
}

/// Two connections that end together.
struct Closes(TcpStream, TcpStream);

impl Drop for Closes {
    fn drop(&mut self) {
        let _ = self.0.shutdown(Shutdown::Both);
        let _ = self.1.shutdown(Shutdown::Both);
    }
}

fn answer(mut server: impl BufRead, mut client: &TcpStream, way: Way) -> std::io::Result<()> {
    let mut head = String::new();
    while server.read_line(&mut head)? > 2 {}
    let is_good = head.split(' ').nth(1) == Some("200");
    match way {
        Way::Json(change) if is_good => {
            let mut body = Vec::new();
            server.read_to_end(&mut body)?;
            let mut message = serde_json::from_slice(&body).unwrap();
            change(&mut message);
            let body = message.to_string();
            client.write_all(shortened(&head).as_bytes())?;
            client.write_all(format!("content-length: {}\r\n\r\n{body}", body.len()).as_bytes())
        }
        Way::Items(mut change) if is_good => {
            client.write_all(format!("{}\r\n", shortened(&head)).as_bytes())?;
            let mut start = [0; 5];
            while server.read_exact(&mut start).is_ok() {
                let len = u32::from_le_bytes(*start.last_chunk().unwrap());
                let mut body = vec![0; len as usize];
                server.read_exact(&mut body)?;
                for Item(tag, body) in change(Item(start[0], body)) {
                    client.write_all(&[tag])?;
                    client.write_all(&u32::try_from(body.len()).unwrap().to_le_bytes())?;
                    client.write_all(&body)?;
                }
            }
            Ok(())
        }
        _ => {
            client.write_all(head.as_bytes())?;
            std::io::copy(&mut server, &mut client)?;
            Ok(())
        }
    }
}

/// The head without what it says of a body that is another now, and without the line that ends it.
fn shortened(head: &str) -> String {
    let stays = |line: &&str| {
        let name = line.split(':').next().unwrap_or_default().to_ascii_lowercase();
        !line.is_empty() && !["content-length", "transfer-encoding", "etag"].contains(&name.as_str())
    };
    head.split("\r\n").filter(stays).map(|line| format!("{line}\r\n")).collect()
}
