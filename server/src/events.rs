//! What client and server say to each other about a command: a request of one line of JSON, and events, one a line.
//!
//! A request is followed by the command's standard input. The last event is `exit`; an answer that ends without one was
//! cut off, and says nothing about how the command ended.

use std::borrow::Cow;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The media type of events.
pub const MEDIA_TYPE: &str = "application/x-ndjson";
/// The header of an answer that has the job's number, by which it can be cancelled.
pub const JOB_HEADER: &str = "cairn-job";

/// How long a command waits for others if it does not say.
const WAIT_MS: u64 = 10_000;

/// A command and how it is to answer: the first line of a request's body.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request<C> {
    /// The command with what it takes: `{"ls":{}}`.
    pub command: C,
    /// Whether results and errors are wanted as JSON.
    #[serde(default)]
    pub json: bool,
    /// Whether only what was asked for is to be said.
    #[serde(default)]
    pub quiet: bool,
    /// How much is to be logged by whoever runs the command in its own process.
    #[serde(default)]
    pub verbose: u8,
    /// Whether events of progress are wanted.
    #[serde(default)]
    pub progress: bool,
    /// How long to wait for other commands, in milliseconds.
    #[serde(default = "wait_ms")]
    pub wait_ms: u64,
}

fn wait_ms() -> u64 {
    WAIT_MS
}

/// One line of an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event<'a> {
    /// Text for standard output.
    Out(Cow<'a, str>),
    /// Bytes for standard output that are no text: in base64, with padding.
    #[serde(serialize_with = "to_base64", deserialize_with = "from_base64")]
    OutBase64(Cow<'a, [u8]>),
    /// Text for standard error: whole lines.
    Err(Cow<'a, str>),
    /// How far the work is; null when it is over.
    Progress(Option<Task>),
    /// Nothing happened for a second; it shows whether the client is still there.
    Alive {},
    /// The command's exit code. The last event.
    Exit(u8),
}

impl<'a> Event<'a> {
    /// Bytes for standard output, as text where they are.
    pub fn out(bytes: &'a [u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::Out(text.into()),
            Err(_) => Self::OutBase64(bytes.into()),
        }
    }

    /// The event's line, with its end.
    pub(crate) fn line(&self) -> Vec<u8> {
        // Texts and numbers always have a JSON form.
        let mut line = serde_json::to_vec(self).unwrap_or_default();
        line.push(b'\n');
        line
    }
}

/// How far a piece of work is. What is not known yet is 0.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// What is being done: `adding`.
    pub task: String,
    /// Bytes done.
    pub bytes: u64,
    /// Bytes to do.
    pub bytes_expected: u64,
    /// Files done.
    pub files: u64,
    /// Files to do.
    pub files_expected: u64,
    /// Milliseconds since it began.
    pub elapsed_ms: u64,
    /// Bytes a second of late, where it can be told from them when the rest will be done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_per_s: Option<u64>,
}

#[expect(clippy::ptr_arg, reason = "serde hands a reference to the field")]
fn to_base64<S: Serializer>(bytes: &Cow<'_, [u8]>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&BASE64_STANDARD.encode(bytes))
}

fn from_base64<'de, 'a, D: Deserializer<'de>>(deserializer: D) -> Result<Cow<'a, [u8]>, D::Error> {
    let text = String::deserialize(deserializer)?;
    BASE64_STANDARD.decode(text).map(Cow::Owned).map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_have_their_documented_form() {
        let task = Task { task: "adding".into(), bytes: 1, ..Task::default() };
        let table: [(Event<'_>, &str); 7] = [
            (Event::out(b"a\n"), r#"{"out":"a\n"}"#),
            (Event::out(b"\xff\x00"), r#"{"out_base64":"/wA="}"#),
            (Event::Err("error: no\n".into()), r#"{"err":"error: no\n"}"#),
            (
                Event::Progress(Some(task)),
                r#"{"progress":{"task":"adding","bytes":1,"bytes_expected":0,"files":0,"files_expected":0,"elapsed_ms":0}}"#,
            ),
            (Event::Progress(None), r#"{"progress":null}"#),
            (Event::Alive {}, r#"{"alive":{}}"#),
            (Event::Exit(5), r#"{"exit":5}"#),
        ];
        for (event, text) in table {
            assert_eq!(event.line(), format!("{text}\n").as_bytes());
            assert_eq!(serde_json::from_str::<Event<'_>>(text).unwrap(), event);
        }
    }

    #[test]
    fn a_request_needs_no_more_than_its_command() {
        let request: Request<String> = serde_json::from_str(r#"{"command":"ls"}"#).unwrap();
        assert_eq!((request.json, request.wait_ms), (false, 10_000));
        assert!(serde_json::from_str::<Request<String>>(r#"{"command":"ls","jsno":true}"#).is_err());
    }
}
