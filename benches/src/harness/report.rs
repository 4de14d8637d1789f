//! The table of bars, and its two forms: Markdown for people, JSON with every sample.

mod markdown;

use std::fs;
use std::path::Path;

use serde::Serialize;
use serde_json::{Value, json};

use super::machine::Machine;
use super::sample::{Limit, Outcome, Unit, Verdict};
use crate::error::{Error, Result};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Role {
    Candidate,
    Reference,
    Peer,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct Score {
    pub(crate) name: String,
    pub(crate) role: Role,
    pub(crate) outcome: Outcome,
}

impl Score {
    pub(crate) fn new(name: impl Into<String>, role: Role, outcome: Outcome) -> Score {
        Score { name: name.into(), role, outcome }
    }

    fn median(&self) -> Option<f64> {
        self.outcome.series().map(super::sample::Series::median)
    }
}

/// One line of the table.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    /// The bar's number.
    pub(crate) bar: u8,
    pub(crate) what: &'static str,
    pub(crate) corpus: &'static str,
    pub(crate) unit: Unit,
    pub(crate) limit: Limit,
    pub(crate) scores: Vec<Score>,
}

impl Row {
    pub(crate) fn one(&self, role: Role) -> Option<&Score> {
        self.scores.iter().find(|score| score.role == role)
    }

    /// A score's median as a multiple of the reference's.
    pub(crate) fn ratio(&self, score: &Score) -> Option<f64> {
        Some(score.median()? / self.one(Role::Reference)?.median()?)
    }

    pub(crate) fn verdict(&self) -> Verdict {
        let median = |role| self.one(role).and_then(Score::median);
        self.limit.judge(median(Role::Candidate), median(Role::Reference))
    }

    fn to_json(&self) -> Value {
        let score = |score: &Score| {
            json!({
                "name": score.name,
                "role": score.role,
                "median": score.median(),
                "spread": score.outcome.series().map(super::sample::Series::spread),
                "ratio": self.ratio(score),
                "outcome": score.outcome,
            })
        };
        json!({
            "bar": self.bar,
            "what": self.what,
            "corpus": self.corpus,
            "unit": self.unit,
            "limit": self.limit,
            "verdict": self.verdict(),
            "scores": self.scores.iter().map(score).collect::<Vec<_>>(),
        })
    }
}

/// A corpus as it was measured.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Subject {
    pub(crate) corpus: &'static str,
    pub(crate) files: u64,
    pub(crate) bytes: u64,
}

pub(crate) struct Report {
    pub(crate) machine: Machine,
    pub(crate) repetitions: usize,
    /// The inputs were tiny: nothing was measured in earnest.
    pub(crate) quick: bool,
    pub(crate) subjects: Vec<Subject>,
    pub(crate) rows: Vec<Row>,
    /// Paths that the report must not show, each with the word to put in its place: they say something of one machine
    /// and nothing of cairn.
    pub(crate) hidden: Vec<(String, &'static str)>,
}

impl Report {
    pub(crate) fn to_markdown(&self) -> String {
        self.hide(markdown::document(self))
    }

    /// Writes `stem`.md and `stem`.json, and the folder that they are in.
    pub(crate) fn write(&self, stem: &Path) -> Result<()> {
        if let Some(folder) = stem.parent() {
            fs::create_dir_all(folder).map_err(Error::io("make the folder", folder))?;
        }
        for (extension, text) in [("md", self.to_markdown()), ("json", self.to_json())] {
            // Not `with_extension`: a stem may have dots of its own.
            let mut path = stem.as_os_str().to_owned();
            path.push(".");
            path.push(extension);
            fs::write(&path, text).map_err(Error::io("write", Path::new(&path)))?;
        }
        Ok(())
    }

    fn to_json(&self) -> String {
        let document = json!({
            "machine": self.machine,
            "repetitions": self.repetitions,
            "quick": self.quick,
            "corpora": self.subjects,
            "rows": self.rows.iter().map(Row::to_json).collect::<Vec<_>>(),
        });
        self.hide(format!("{document:#}\n"))
    }

    fn hide(&self, text: String) -> String {
        self.hidden.iter().fold(text, |text, (path, word)| text.replace(path.as_str(), word))
    }
}
