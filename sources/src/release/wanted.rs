//! Which files of a release are wanted, by the configuration alone.

use std::collections::BTreeMap;

use cairn_store::Version;

use super::{Ask, Given};
use crate::archive::Format;
use crate::error::{Error, Result};
use crate::template::{Template, Words};

/// Longest name of a file, in bytes: that of file systems.
const NAME_LEN_MAX: usize = 255;

/// A file that is wanted, whether or not the release has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    /// Its name.
    pub(super) name: String,
    /// What it has.
    pub(super) gives: Vec<Given>,
}

impl Wanted {
    /// Its programs, for errors: `(for the program validator)`.
    pub(super) fn purpose(&self) -> String {
        let names: Vec<_> = self.gives.iter().map(|given| given.binary.as_str()).collect();
        let word = if names.len() == 1 { "program" } else { "programs" };
        format!("(for the {word} {})", super::absent::listed(&names, 4))
    }
}

impl<'a> Ask<'a> {
    /// What the words of templates stand for, those of a file apart.
    pub(super) fn words(&self) -> Words<'a> {
        Words {
            name: Some(self.package.name.as_str()),
            version: Some(self.version),
            platform: self.package.platforms.get(self.platform).map(String::as_str),
            binary: None,
            asset: None,
        }
    }

    /// A template with all its words replaced.
    ///
    /// # Errors
    /// `Usage` where it has a word that nobody said, such as a platform that the project has no name for.
    pub(super) fn fill(&self, template: &Template, words: &Words<'_>) -> Result<String> {
        let missing = [
            ("platform", words.platform.is_none()),
            ("binary", words.binary.is_none()),
            ("asset", words.asset.is_none()),
        ];
        let name = &self.package.name;
        match missing.into_iter().find(|(word, is_missing)| *is_missing && template.has(word)) {
            None => Ok(template.fill(words)),
            Some(("platform", _)) => Err(Error::Usage {
                problem: format!("nothing says what the releases of {name} call {}", self.platform),
                hint: format!("say it in [packages.{name}.platforms]: \"{}\" = \"…\"", self.platform),
            }),
            Some((word, _)) => Err(Error::Usage {
                problem: format!("{{{word}}} stands for nothing in \"{template}\" of {name}"),
                hint: format!("see [packages.{name}.release]"),
            }),
        }
    }
}

/// The files that are wanted, in the order of the programs, each once.
pub(super) fn wanted(ask: &Ask<'_>) -> Result<Vec<Wanted>> {
    let name = &ask.package.name;
    if let Err(error) = ask.version.parse::<Version>() {
        return Err(Error::Usage {
            problem: format!(
                "{:?} cannot be a version of {name}: {error}",
                super::absent::clean(ask.version)
            ),
            hint: "give a version such as 1.2.3".to_owned(),
        });
    }
    let mut wanted: Vec<Wanted> = Vec::new();
    for binary in &ask.package.binaries {
        check_name("a program", binary)?;
        let words = Words { binary: Some(binary), ..ask.words() };
        let asset = ask.fill(&ask.source.asset, &words)?;
        check_name("a file of a release", &asset)?;
        let member = match Format::of_name(&asset) {
            Some(_) => Some(ask.fill(&ask.source.member, &Words { asset: Some(&asset), ..words })?),
            None => None,
        };
        let given = Given { binary: binary.clone(), member };
        match wanted.iter_mut().find(|wanted| wanted.name == asset) {
            Some(same) => same.gives.push(given),
            None => wanted.push(Wanted { name: asset, gives: vec![given] }),
        }
    }
    check_programs(ask, &wanted)?;
    Ok(wanted)
}

fn check_programs(ask: &Ask<'_>, wanted: &[Wanted]) -> Result<()> {
    let name = &ask.package.name;
    if wanted.is_empty() {
        return Err(Error::Usage {
            problem: format!("{name} has no programs"),
            hint: format!("name them in [packages.{name}]: binaries = [\"…\"]"),
        });
    }
    for file in wanted {
        let mut members = BTreeMap::new();
        for given in &file.gives {
            if let Some(other) = members.insert(&given.member, &given.binary) {
                return Err(Error::Usage {
                    problem: format!(
                        "{} and {} of {name} are the same of {}",
                        other, given.binary, file.name
                    ),
                    hint: "write {binary} where their names differ: in asset, or in member".to_owned(),
                });
            }
        }
    }
    Ok(())
}

/// Whether something can be the name of a file, and nothing but that.
pub(super) fn check_name(what: &str, name: &str) -> Result<()> {
    let is_bad = |c: char| c == '/' || c.is_control();
    if name.is_empty() || name == "." || name == ".." || name.len() > NAME_LEN_MAX || name.contains(is_bad) {
        return Err(Error::Usage {
            problem: format!("{:?} cannot be the name of {what}", super::absent::clean(name)),
            hint: "a name has no slash and no control characters, and at most 255 bytes".to_owned(),
        });
    }
    Ok(())
}
