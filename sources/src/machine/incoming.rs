//! Compressed bytes out of a session, as they come: bounded in what they become, and in the memory that this needs.

use std::io::{self, Read};

use flate2::read::MultiGzDecoder;
use lzma_rust2::XzReader;

use super::link::IDLE_MAX;
use super::session::Session;
use crate::error::{Error, Result};
use crate::watch::Watch;

/// Most memory that decompressing may need, in KiB: xz with a dictionary of 64 MiB.
const XZ_MEMORY_KIB_MAX: u32 = 66 << 10;
/// The longest window of zstd, as a power of two.
const ZSTD_WINDOW_LOG_MAX: u32 = 26;
/// Bytes that are decompressed at once.
const BUFFER_BYTES: usize = 128 << 10;

/// How bytes are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Plain,
    Gzip,
    Xz,
    Zstd,
}

/// Where they end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// In frames of a length (u32, little-endian) and that many bytes; the last has none.
    Frames,
    /// With the session.
    Session,
}

/// How much came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Length {
    /// As much as it may be, or less.
    Bounded,
    /// More; the rest was not taken.
    TooLong,
}

/// Gives what comes to `take`, decompressed, at most `bytes_max` bytes.
pub(super) fn receive(
    session: &mut Session,
    watch: &dyn Watch,
    (format, framing): (Format, Framing),
    bytes_max: u64,
    take: impl FnMut(&[u8]) -> Result<()>,
) -> Result<Length> {
    let mut wire = Wire { session, watch, framing, left: 0, is_over: false, failure: None };
    let decoded = decode(&mut wire, format, bytes_max, take);
    let failure = wire.failure.take();
    match (failure, decoded) {
        (Some(failure), _) | (None, Err(Trouble::Own(failure))) => Err(failure),
        (None, Err(Trouble::Decoder(error))) => {
            Err(session.broken(&format!("what came cannot be decompressed: {error}")))
        }
        (None, Ok(length)) => Ok(length),
    }
}

enum Trouble {
    Own(Error),
    Decoder(io::Error),
}

fn decode(
    wire: &mut Wire<'_>,
    format: Format,
    bytes_max: u64,
    mut take: impl FnMut(&[u8]) -> Result<()>,
) -> Result<Length, Trouble> {
    let mut decoder: Box<dyn Read + '_> = match format {
        Format::Plain => Box::new(&mut *wire),
        Format::Gzip => Box::new(MultiGzDecoder::new(&mut *wire)),
        Format::Xz => Box::new(XzReader::new_mem_limit(&mut *wire, true, XZ_MEMORY_KIB_MAX)),
        Format::Zstd => {
            let mut decoder = zstd::Decoder::new(&mut *wire).map_err(Trouble::Decoder)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(Trouble::Decoder)?;
            Box::new(decoder)
        }
    };
    let (mut buffer, mut left) = (vec![0; BUFFER_BYTES], bytes_max);
    loop {
        let read = decoder.read(&mut buffer).map_err(Trouble::Decoder)?;
        if read == 0 {
            break;
        }
        match left.checked_sub(read as u64) {
            Some(less) => left = less,
            None => return Ok(Length::TooLong),
        }
        take(&buffer[..read]).map_err(Trouble::Own)?;
    }
    drop(decoder);
    match wire.read(&mut buffer) {
        Ok(0) => Ok(Length::Bounded),
        Ok(_) => Err(Trouble::Decoder(io::Error::other("there is more behind its end"))),
        Err(error) => Err(Trouble::Decoder(error)),
    }
}

/// A session as a reader. An error of it is kept aside, since the readers above would wrap it.
struct Wire<'a> {
    session: &'a mut Session,
    watch: &'a dyn Watch,
    framing: Framing,
    /// Bytes of the frame that are to come.
    left: usize,
    is_over: bool,
    failure: Option<Error>,
}

impl Wire<'_> {
    fn next(&mut self, buffer: &mut [u8]) -> Result<usize> {
        if self.is_over || buffer.is_empty() {
            return Ok(0);
        }
        if self.framing == Framing::Session {
            let read = self.session.receive(buffer, IDLE_MAX, self.watch)?;
            self.is_over = read == 0;
            return Ok(read);
        }
        if self.left == 0 {
            let mut len = [0; 4];
            let mut filled = 0;
            while filled < len.len() {
                filled += self.some(&mut len[filled..])?;
            }
            self.left = u32::from_le_bytes(len) as usize;
            self.is_over = self.left == 0;
            if self.is_over {
                return Ok(0);
            }
        }
        let room = buffer.len().min(self.left);
        let read = self.some(&mut buffer[..room])?;
        self.left -= read;
        Ok(read)
    }

    fn some(&mut self, buffer: &mut [u8]) -> Result<usize> {
        match self.session.receive(buffer, IDLE_MAX, self.watch)? {
            0 => Err(self.session.broken("it ended too early")),
            read => Ok(read),
        }
    }
}

impl Read for Wire<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.failure.is_some() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        self.next(buffer).map_err(|failure| {
            self.failure = Some(failure);
            io::ErrorKind::BrokenPipe.into()
        })
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "files of a test")]
mod tests {
    use std::process::Command;
    use std::sync::Arc;

    use super::*;
    use crate::watch::NoWatch;

    fn take(script: &str, how: (Format, Framing), bytes_max: u64) -> Result<(Vec<u8>, Length)> {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        let mut session = Session::start(command, "a shell", Arc::default()).unwrap();
        let mut all = Vec::new();
        let length = receive(&mut session, &NoWatch, how, bytes_max, |bytes| {
            all.extend_from_slice(bytes);
            Ok(())
        })?;
        Ok((all, length))
    }

    #[test]
    fn each_format_is_read_to_its_end() {
        let plain: Vec<u8> = (0..300_000_u32).flat_map(|n| (n / 7).to_le_bytes()).collect();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        std::fs::write(&path, &plain).unwrap();
        for (program, format) in [
            ("cat", Format::Plain),
            ("gzip -c", Format::Gzip),
            ("xz -c --x86 --lzma2", Format::Xz),
            ("zstd -cq", Format::Zstd),
        ] {
            let whole = format!("{program} <{}", path.display());
            let came = take(&whole, (format, Framing::Session), plain.len() as u64).unwrap();
            assert!(came == (plain.clone(), Length::Bounded), "{program}");
            // Twice, one behind the other.
            let twice = format!("{whole}; {whole}");
            let came = take(&twice, (format, Framing::Session), 2 * plain.len() as u64).unwrap();
            assert_eq!(came.0.len(), 2 * plain.len(), "{program}");
            let came = take(&whole, (format, Framing::Session), plain.len() as u64 - 1).unwrap();
            assert_eq!(came.1, Length::TooLong, "{program}");
            if format != Format::Plain {
                let error = take(&format!("{whole} | head -c 5000"), (format, Framing::Session), 1 << 30);
                assert!(error.unwrap_err().to_string().contains("cannot be decompressed"), "{program}");
            }
        }
    }

    #[test]
    fn frames_end_where_they_say() {
        let frames = (Format::Plain, Framing::Frames);
        assert_eq!(
            take(r"printf '\002\000\000\000ab\001\000\000\000c\000\000\000\000more'", frames, 9).unwrap().0,
            b"abc"
        );
        for short in [r"printf '\002\000\000\000a'", r"printf '\002\000'", "true"] {
            let error = take(short, frames, 9).unwrap_err();
            assert!(error.to_string().contains("ended too early"), "{error}");
        }
    }
}
