//! Requests to a running node, by a Unix socket beside its directory: one line there, one line back.
//!
//! | request | answer |
//! |---|---|
//! | `put KEY VALUE`, `delete KEY` | the round that made it |
//! | `get KEY` | `none`, or `some VALUE` |
//! | `round` | the round and the state's hash |
//! | `freeze MS`, `thaw` | the same |
//!
//! Keys and values are in hexadecimal digits. What fails is answered with `error` and why.

use std::io::{BufRead, BufReader, Read, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::batch::{KEY_LEN_MAX, VALUE_LEN_MAX, Write};
use crate::db::At;
use crate::error::Error;
use crate::node::{Node, Wish};

/// Longest request, in bytes.
const LINE_LEN_MAX: u64 = 2 * (KEY_LEN_MAX as u64 + VALUE_LEN_MAX as u64) + 64;
/// How long a write may take to get into the stream.
const WISH_TIME_MAX: Duration = Duration::from_secs(30);

/// Where the socket of the node with this state is. It is beside the state and not in it, so that copies of the state are
/// the database alone.
pub(crate) fn beside(dir: &Path) -> PathBuf {
    let mut path = dir.components().as_path().as_os_str().to_owned();
    path.push(".sock");
    path.into()
}

/// A socket that goes when this is dropped.
pub(crate) struct Socket(PathBuf);

impl Drop for Socket {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Answers requests for as long as the process lives.
pub(crate) fn listen(path: &Path, node: &Arc<Node>, produces: bool) -> Result<Socket, Error> {
    let failed = |source| Error::Io { what: path.into(), source };
    if UnixStream::connect(path).is_ok() {
        return Err(Error::Refused(format!("{}: another node answers there", path.display())));
    }
    // One that was killed leaves its socket. Whether there is one shows when it is bound.
    let _ = std::fs::remove_file(path);
    let listener = UnixListener::bind(path).map_err(failed)?;
    let node = Arc::clone(node);
    std::thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            let node = Arc::clone(&node);
            // Whoever goes away before the answer does not want it.
            std::thread::spawn(move || serve(&connection, &node, produces).ok());
        }
    });
    Ok(Socket(path.to_owned()))
}

fn serve(connection: &UnixStream, node: &Node, produces: bool) -> std::io::Result<()> {
    let mut line = String::new();
    BufReader::new(connection.take(LINE_LEN_MAX)).read_line(&mut line)?;
    let answer = answer(line.trim_end(), node, produces);
    let text = answer.unwrap_or_else(|error| format!("error {}", crate::run::chain(&error)));
    let mut connection = connection;
    connection.write_all(format!("{text}\n").as_bytes())
}

fn answer(line: &str, node: &Node, produces: bool) -> Result<String, Error> {
    let words: Vec<_> = line.split(' ').collect();
    match words[..] {
        ["put", key, value] => wish(node, produces, Write::put(&unhex(key)?, &unhex(value)?)?),
        ["delete", key] => wish(node, produces, Write::delete(&unhex(key)?)?),
        ["get", key] => {
            let value = node.get(&unhex(key)?)?;
            Ok(value.map_or_else(|| "none".to_owned(), |value| format!("some {}", hex(&value))))
        }
        ["round"] => Ok(at_line(&node.at())),
        ["freeze", ms] => {
            let ms = ms.parse().map_err(|_| Error::Refused("freeze wants milliseconds".to_owned()))?;
            node.freeze(Duration::from_millis(ms)).map(|at| at_line(&at))
        }
        ["thaw"] => node.thaw().map(|at| at_line(&at)),
        _ => Err(Error::Refused("no such request".to_owned())),
    }
}

fn wish(node: &Node, produces: bool, write: Write) -> Result<String, Error> {
    if !produces {
        return Err(Error::Refused("a listener takes no writes: ask a validator".to_owned()));
    }
    let (done, made) = std::sync::mpsc::channel();
    node.wish(Wish { write, done });
    let round = made.recv_timeout(WISH_TIME_MAX).map_err(|_| {
        Error::Refused(format!("not in the stream within {} s; it may still come", WISH_TIME_MAX.as_secs()))
    })?;
    Ok(round.to_string())
}

/// `156 3f…`: a round and the hash of the state after it.
pub(crate) fn at_line(at: &At) -> String {
    format!("{} {}", at.round, at.hash())
}

/// Asks a running node.
pub(crate) fn ask(socket: &Path, request: &str) -> Result<String, Error> {
    let talk = || -> std::io::Result<String> {
        let mut stream = UnixStream::connect(socket)?;
        stream.write_all(format!("{request}\n").as_bytes())?;
        let mut answer = String::new();
        stream.take(LINE_LEN_MAX).read_to_string(&mut answer)?;
        Ok(answer)
    };
    let answer = talk().map_err(|source| Error::Io { what: socket.into(), source })?;
    match answer.trim_end() {
        "" => Err(Error::Refused(format!("{}: the node ended before it answered", socket.display()))),
        answer => match answer.strip_prefix("error ") {
            Some(why) => Err(Error::Refused(why.to_owned())),
            None => Ok(answer.to_owned()),
        },
    }
}

/// Bytes as they stand in requests.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Bytes of a request.
pub(crate) fn unhex(text: &str) -> Result<Vec<u8>, Error> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let byte = |pair: &[u8]| match pair {
        [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    };
    let bytes: Option<Vec<_>> = text.as_bytes().chunks(2).map(byte).collect();
    bytes.ok_or_else(|| Error::Refused("bytes are given as pairs of hexadecimal digits".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_back() {
        for bytes in [&b""[..], b"\0\xff", b"key"] {
            assert_eq!(unhex(&hex(bytes)).unwrap(), bytes);
        }
        for bad in ["0", "0g", "é"] {
            unhex(bad).unwrap_err();
        }
        assert_eq!(beside(Path::new("a/kv1/")), Path::new("a/kv1.sock"));
    }
}
