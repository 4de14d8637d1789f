//! Development builds: from a machine, or from a folder of this one.

use std::collections::BTreeMap;
use std::path::Path;

use cairn_sources::config::{FolderSource, MachineSource};
use cairn_sources::machine::Commit;
use cairn_sources::{Sha256, folder, machine};
use cairn_store::{Platform, Version};

use super::facts::{development_version, shorten, tell_commit};
use super::package::{Build, Row, Run, Status};
use super::shelf::BIN;
use crate::text;

impl Run<'_> {
    pub(super) fn machine(&self, source: &MachineSource, row: &mut Row) -> anyhow::Result<Status> {
        let package = self.package;
        let mut source = source.clone();
        if let Some(machines) = &self.choice.machines {
            source.machines.clone_from(machines);
        }
        let ask =
            machine::Ask { package: package.name.as_str(), binaries: &package.binaries, source: &source };
        let build = machine::look(&ask, &self.watch)?;
        let files: BTreeMap<_, _> =
            build.files.iter().map(|file| (file.binary.clone(), file.sha256)).collect();
        let mut facts = BTreeMap::from([("machine".to_owned(), shorten(&build.machine))]);
        tell_commit(&mut facts, build.commit.as_ref());
        let sizes = build.files.iter().map(|file| (file.binary.as_str(), file.size)).collect();
        self.develop(row, files, facts, sizes, build.commit.as_ref(), |to| {
            let brought = machine::bring(&build, &ask, to, &self.work.shelf, &self.watch)?;
            Ok((
                brought.files.into_iter().map(|file| (file.binary, file.sha256)).collect(),
                brought.wire_bytes,
            ))
        })
    }

    pub(super) fn folder(&self, source: &FolderSource, row: &mut Row) -> anyhow::Result<Status> {
        let package = self.package;
        let ask = folder::Ask { package: package.name.as_str(), binaries: &package.binaries, source };
        let build = folder::look(&ask, &self.watch)?;
        let files: BTreeMap<_, _> =
            build.files.iter().map(|file| (file.binary.clone(), file.sha256)).collect();
        let mut facts = BTreeMap::new();
        tell_commit(&mut facts, build.commit.as_ref());
        let sizes = build.files.iter().map(|file| (file.binary.as_str(), file.size)).collect();
        self.develop(row, files, facts, sizes, build.commit.as_ref(), |to| {
            let brought = folder::bring(&build, &ask, to, &self.work.shelf, &self.watch)?;
            Ok((brought.files.into_iter().map(|file| (file.binary, file.sha256)).collect(), 0))
        })
    }

    /// A development build: named after its commit and its bytes where nobody names it, and the same as long as these are.
    fn develop(
        &self,
        row: &mut Row,
        files: BTreeMap<String, Sha256>,
        mut facts: BTreeMap<String, String>,
        sizes: Vec<(&str, u64)>,
        commit: Option<&Commit>,
        bring: impl FnOnce(&Path) -> anyhow::Result<(BTreeMap<String, Sha256>, u64)>,
    ) -> anyhow::Result<Status> {
        let package = self.package;
        let platform = self.work.platform.or(package.platform.as_ref()).cloned();
        let here = platform.clone().unwrap_or_else(Platform::current);
        let strategy = self.choice.strategy.as_str();
        row.verified = "SHA-256 of the source".to_owned();
        row.platform = Some(here.clone());
        let named: Option<Version> = self.choice.version.as_deref().map(str::parse).transpose()?;
        let same = self.work.shelf.version_with(&package.name, &here, &files, strategy);
        if let Some((version, artifact)) =
            same.filter(|(version, _)| named.as_ref().is_none_or(|named| named == version))
        {
            row.facts.clone_from(&artifact.provenance);
            return self.current(row, &version, &here, artifact.id().to_string());
        }
        let version = match named {
            Some(named) => named,
            None => development_version(&files, commit).parse()?,
        };
        row.version = version.to_string();
        if self.work.args.dry_run {
            row.new_bytes = sizes.iter().map(|(_, size)| size).sum();
            row.plan =
                sizes.iter().map(|(binary, size)| format!("{binary}, {}", text::size(*size))).collect();
            return Ok(Status::Planned);
        }
        let staged = self.work.staging.begin(package.name.as_str())?;
        let bin = staged.make(BIN)?;
        let (files, wire_bytes) = bring(&bin)?;
        facts.insert("development".to_owned(), "true".to_owned());
        self.add(Build { package, version, platform, files, facts, wire_bytes }, &staged, row)
    }
}
