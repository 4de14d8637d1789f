//! A command's results, on their way to the client's standard output: lines and tables for people, one JSON object a
//! line for programs. A client that goes away is [`OutputError`] with `BrokenPipe`, which ends the command quietly.

use std::ffi::OsStr;
use std::io::{self, BufWriter, Write};
use std::os::unix::ffi::OsStrExt;

use anyhow::Context;
use cairn_server::JobIo;
use serde::Serialize;
use serde::ser::SerializeMap;

use crate::text;

/// Standard output took no more.
#[derive(Debug, thiserror::Error)]
#[error("cannot write to standard output")]
pub(crate) struct OutputError(#[from] pub(crate) io::Error);

/// Bytes that are collected before they become an event, and that one event has at most.
const BUFFER_BYTES: usize = 64 << 10;
const EVENT_BYTES_MAX: usize = 256 << 10;

/// The result of writing to standard output.
pub(crate) type OutputResult = Result<(), OutputError>;

/// Buffered results.
pub(crate) struct Output {
    out: BufWriter<Events>,
}

/// Bytes as events.
struct Events(JobIo);

impl Write for Events {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let len = bytes.len().min(EVENT_BYTES_MAX);
        self.0.out(&bytes[..len])?;
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Output {
    pub(crate) fn new(io: JobIo) -> Self {
        Self { out: BufWriter::with_capacity(BUFFER_BYTES, Events(io)) }
    }

    /// One line for people.
    pub(crate) fn line(&mut self, line: impl AsRef<str>) -> OutputResult {
        self.out.write_all(line.as_ref().as_bytes())?;
        Ok(self.out.write_all(b"\n")?)
    }

    /// One JSON object on a line of its own.
    pub(crate) fn object(&mut self, object: &impl Serialize) -> OutputResult {
        serde_json::to_writer(&mut self.out, object).map_err(io::Error::from)?;
        Ok(self.out.write_all(b"\n")?)
    }

    /// Bytes as they are.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> OutputResult {
        Ok(self.out.write_all(bytes)?)
    }

    /// A table; nothing when it has no rows.
    pub(crate) fn table(&mut self, table: &Table) -> OutputResult {
        for line in table.lines() {
            self.line(line)?;
        }
        Ok(())
    }

    /// Hands everything to the client.
    pub(crate) fn flush(&mut self) -> OutputResult {
        Ok(self.out.flush()?)
    }
}

/// Writes to standard output from the command line's own process. A reader that went away is no failure.
pub(crate) fn print_all(bytes: &[u8]) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        printed => printed.context("cannot write to standard output"),
    }
}

/// How a column's cells stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Align {
    Left,
    Right,
}

/// Rows of text under a heading, in columns two spaces apart.
#[derive(Debug)]
pub(crate) struct Table {
    heading: Vec<(&'static str, Align)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these columns: `("SIZE", Right)`. Empty titles everywhere leave the heading out.
    pub(crate) fn new(heading: &[(&'static str, Align)]) -> Self {
        Self { heading: heading.to_vec(), rows: Vec::new() }
    }

    /// Names and values, without a heading.
    pub(crate) fn facts() -> Self {
        Self::new(&[("", Align::Left), ("", Align::Left)])
    }

    /// Adds a row, one cell a column.
    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        debug_assert_eq!(N, self.heading.len(), "one cell a column");
        self.rows.push(cells.into());
    }

    /// Adds a name and its value.
    pub(crate) fn fact(&mut self, name: &str, value: impl Into<String>) {
        self.row([name.to_owned(), value.into()]);
    }

    /// All of it, a line a row.
    pub(crate) fn text(&self) -> String {
        self.lines().into_iter().map(|line| line + "\n").collect()
    }

    fn lines(&self) -> Vec<String> {
        if self.rows.is_empty() {
            return Vec::new();
        }
        let titled = self.heading.iter().any(|(title, _)| !title.is_empty());
        let mut widths: Vec<usize> = self.heading.iter().map(|(title, _)| title.len()).collect();
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let titles = titled.then(|| self.heading.iter().map(|(title, _)| (*title).to_owned()).collect());
        titles.iter().chain(&self.rows).map(|row: &Vec<String>| self.align(row, &widths)).collect()
    }

    fn align(&self, row: &[String], widths: &[usize]) -> String {
        let mut line = String::new();
        for (((_, align), width), cell) in self.heading.iter().zip(widths).zip(row) {
            if !line.is_empty() {
                line.push_str("  ");
            }
            let padding = " ".repeat(width - cell.chars().count());
            match align {
                Align::Left => line.extend([cell.as_str(), &padding]),
                Align::Right => line.extend([padding.as_str(), cell]),
            }
        }
        line.truncate(line.trim_end().len());
        line
    }
}

/// A path in JSON: `"path"` holds it as text; a path that is not UTF-8 has U+FFFD for what is not text there, and its
/// exact bytes as hexadecimal digits in `"path_hex"`. Flatten it into the object that it belongs to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct JsonPath<'a>(pub(crate) &'a [u8]);

impl<'a> JsonPath<'a> {
    pub(crate) fn of(path: &'a (impl AsRef<OsStr> + ?Sized)) -> Self {
        Self(path.as_ref().as_bytes())
    }
}

impl Serialize for JsonPath<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("path", &String::from_utf8_lossy(self.0))?;
        if std::str::from_utf8(self.0).is_err() {
            map.serialize_entry("path_hex", &text::hex(self.0))?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_align_and_leave_no_trailing_space() {
        let mut table = Table::new(&[("NAME", Align::Left), ("SIZE", Align::Right), ("NOTE", Align::Left)]);
        table.row(["uv".into(), "1.0 MiB".into(), String::new()]);
        table.row(["esbuild".into(), "9 B".into(), "x".into()]);
        assert_eq!(table.lines(), ["NAME        SIZE  NOTE", "uv       1.0 MiB", "esbuild      9 B  x"]);
        assert!(Table::facts().lines().is_empty());
    }

    #[test]
    fn json_paths_keep_every_byte() {
        let text = serde_json::to_string(&JsonPath(b"a\xffb")).unwrap();
        assert_eq!(text, "{\"path\":\"a\u{fffd}b\",\"path_hex\":\"61ff62\"}");
        assert_eq!(serde_json::to_string(&JsonPath(b"bin/uv")).unwrap(), r#"{"path":"bin/uv"}"#);
    }
}
