//! What the journal says at one sequence number.

use std::collections::{BTreeMap, BTreeSet};

use super::{Changes, Channel, ChannelKey, Name, Origin, Platform, ProfileName, RefKey, RefRecord};
use super::{Spec, Version, Witnessed};
use crate::generation::Profile;
use crate::id::ArtifactId;
use crate::shared::Shared;
use crate::{Error, Result};

/// The most candidates that an ambiguity names.
const CANDIDATES_MAX: usize = 10;

/// Every ref, channel and profile, as of one journal record. A clone shares what is the same.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct View {
    /// What each ref names.
    pub refs: Shared<BTreeMap<RefKey, RefRecord>>,
    /// The version that each channel names.
    pub channels: Shared<BTreeMap<ChannelKey, Version>>,
    /// The profiles, each with its generations.
    pub profiles: BTreeMap<ProfileName, Profile>,
    /// What this store is called in statements, and the change that gave it that name; none before it is asked for.
    pub origin: Option<(Origin, u64)>,
    /// What other stores said of names.
    pub witnessed: Witnessed,
    /// Artifacts that are named and known not to be whole here yet.
    pub partial: Shared<BTreeSet<ArtifactId>>,
    /// The sequence number of the last journal record in it; 0 before the first.
    pub seq: u64,
    /// When refs and channels became what they are, of those that did since statements were first made.
    pub(crate) changes: Changes,
}

/// Names that are about to go.
pub(crate) enum Gone<'a> {
    /// A ref.
    Ref(&'a RefKey),
    /// Generations of a profile.
    Generations(&'a ProfileName, &'a [u64]),
}

impl View {
    /// The artifact that `spec` means, and the ref by which it is known. The ref is absent only for a whole artifact
    /// id that no ref names: the artifact may still be in the store.
    ///
    /// A version wins over a channel of the same text. Of several platforms the one asked for is taken and no other;
    /// if none is asked for, this machine's, else `any/any`, else the only one there is.
    ///
    /// # Errors
    /// [`Error::Absent`] if nothing fits, [`Error::Ambiguous`] with what fits if several do.
    pub fn resolve(&self, spec: &Spec, platform: Option<&Platform>) -> Result<(Option<RefKey>, ArtifactId)> {
        match spec {
            Spec::Version { name, version_or_channel } => {
                let (key, record) = self.by_tag(name, version_or_channel, platform)?;
                Ok((Some(key.clone()), record.artifact))
            }
            Spec::Artifact(prefix) => self.by_id(prefix, platform),
        }
    }

    /// The refs of one name, in the order of their versions.
    pub fn refs_of<'a>(&'a self, name: &Name) -> impl Iterator<Item = (&'a RefKey, &'a RefRecord)> {
        let name = name.clone();
        self.refs.range(RefKey::least_of(&name)..).take_while(move |(key, _)| key.name == name)
    }

    /// Whether a version of `name` has the text `channel` on any platform; such a channel could not be reached.
    #[must_use]
    pub fn shadows(&self, name: &Name, channel: &Channel) -> bool {
        self.refs_of(name).any(|(key, _)| key.version.as_str() == channel.as_str())
    }

    /// The refs that name `artifact`.
    pub fn refs_to<'a>(&'a self, artifact: &ArtifactId) -> impl Iterator<Item = &'a RefKey> {
        self.refs.iter().filter(move |(_, record)| record.artifact == *artifact).map(|(key, _)| key)
    }

    /// Every artifact that a ref or a generation names.
    #[must_use]
    pub fn artifacts(&self) -> BTreeSet<ArtifactId> {
        let generations = self.profiles.values().flat_map(|profile| profile.generations.values());
        let packages = generations.flat_map(|generation| generation.packages.values());
        let named = self.refs.values().map(|record| record.artifact);
        named.chain(packages.map(|package| package.artifact)).collect()
    }

    /// Whether a ref or a generation names `artifact`.
    #[must_use]
    pub fn names(&self, artifact: &ArtifactId) -> bool {
        self.refs.values().any(|record| record.artifact == *artifact) || self.artifacts().contains(artifact)
    }

    /// The partial artifacts that nothing names any more once `gone` is away: nobody has to bring the rest of them.
    pub(crate) fn partial_without(&self, gone: &Gone<'_>) -> Vec<ArtifactId> {
        let refs = self.refs.iter().filter(|(key, _)| !matches!(gone, Gone::Ref(gone) if gone == key));
        let mut left: BTreeSet<ArtifactId> = refs.map(|(_, record)| record.artifact).collect();
        for (name, profile) in &self.profiles {
            let stays = |number: &u64| !matches!(gone, Gone::Generations(of, gone) if *of == name && gone.contains(number));
            let generations = profile.generations.iter().filter(|(number, _)| stays(number));
            left.extend(
                generations.flat_map(|(_, found)| found.packages.values()).map(|package| package.artifact),
            );
        }
        self.partial.iter().filter(|artifact| !left.contains(artifact)).copied().collect()
    }

    fn by_tag(&self, name: &Name, tag: &str, platform: Option<&Platform>) -> Result<(&RefKey, &RefRecord)> {
        let spec = format!("{name}@{tag}");
        let versions: BTreeMap<&Platform, (&RefKey, &RefRecord)> = self
            .refs_of(name)
            .filter(|(key, _)| key.version.as_str() == tag)
            .map(|(key, record)| (&key.platform, (key, record)))
            .collect();
        if let Some(found) = choose(&spec, &versions, platform)? {
            return Ok(*found);
        }
        let channels: BTreeMap<&Platform, (&ChannelKey, &Version)> = self
            .channels
            .iter()
            .filter(|(key, _)| key.name == *name && key.channel.as_str() == tag)
            .map(|(key, version)| (&key.platform, (key, version)))
            .collect();
        let Some((channel, version)) = choose(&spec, &channels, platform)? else {
            let what = platform.map_or(spec.clone(), |platform| format!("{spec} for {platform}"));
            return Err(Error::Absent { what });
        };
        // The channel's own platform: a channel never leads to a version for another.
        let platform = channel.platform.clone();
        let key = RefKey { name: name.clone(), version: (*version).clone(), platform };
        self.refs
            .get_key_value(&key)
            .ok_or_else(|| Error::Absent { what: format!("{name}@{version}, which channel {tag} names,") })
    }

    fn by_id(&self, prefix: &str, platform: Option<&Platform>) -> Result<(Option<RefKey>, ArtifactId)> {
        let mut found: BTreeMap<ArtifactId, &RefKey> = BTreeMap::new();
        for (key, record) in &self.refs {
            if has_prefix(&record.artifact, prefix) {
                let known_by = found.entry(record.artifact).or_insert(key);
                if platform == Some(&key.platform) && platform != Some(&known_by.platform) {
                    *known_by = key;
                }
            }
        }
        let mut found = found.into_iter();
        match (found.next(), found.len()) {
            (Some((artifact, key)), 0) => Ok((Some(key.clone()), artifact)),
            (Some(first), _) => {
                let name = |(artifact, key): (ArtifactId, &RefKey)| format!("{} ({key})", artifact.short());
                let candidates = std::iter::once(first).chain(found).map(name).take(CANDIDATES_MAX).collect();
                Err(Error::Ambiguous { given: format!("artifact {prefix}"), candidates })
            }
            (None, _) => match prefix.parse() {
                Ok(whole) => Ok((None, whole)),
                Err(_) => Err(Error::Absent { what: format!("artifact {prefix}") }),
            },
        }
    }
}

fn has_prefix(id: &ArtifactId, prefix: &str) -> bool {
    let digit = |index: usize| {
        let nibble =
            id.0.get(index / 2).map(|byte| if index.is_multiple_of(2) { byte >> 4 } else { byte & 15 });
        nibble.and_then(|nibble| char::from_digit(nibble.into(), 16))
    };
    prefix.chars().enumerate().all(|(index, given)| digit(index) == Some(given))
}

/// The one of `there` that `asked` means; `None` if none does.
fn choose<'a, T>(
    spec: &str,
    there: &'a BTreeMap<&Platform, T>,
    asked: Option<&Platform>,
) -> Result<Option<&'a T>> {
    if let Some(asked) = asked {
        return Ok(there.get(asked));
    }
    if let Some(found) = there.get(&Platform::current()).or_else(|| there.get(&Platform::any())) {
        return Ok(Some(found));
    }
    if there.len() > 1 {
        let candidates = there.keys().map(ToString::to_string).take(CANDIDATES_MAX).collect();
        return Err(Error::Ambiguous { given: spec.to_owned(), candidates });
    }
    Ok(there.values().next())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn platform(text: &str) -> Platform {
        text.parse().unwrap()
    }

    fn key(name: &str, version: &str, on: &str) -> RefKey {
        RefKey { name: name.parse().unwrap(), version: version.parse().unwrap(), platform: platform(on) }
    }

    fn artifact(first: [u8; 3]) -> ArtifactId {
        let mut id = [7; 32];
        id[..3].copy_from_slice(&first);
        ArtifactId(id)
    }

    fn record(artifact: ArtifactId) -> RefRecord {
        RefRecord { artifact, files: 1, bytes: 2, chunks: 3, new_bytes: 4, stored_bytes: 5, time_ms: 6 }
    }

    fn view(refs: &[(&str, &str, &str, [u8; 3])], channels: &[(&str, &str, &str, &str)]) -> View {
        let refs = refs.iter().map(|(n, v, p, id)| (key(n, v, p), record(artifact(*id)))).collect();
        let channels = channels
            .iter()
            .map(|(n, c, p, v)| {
                let channel = c.parse().unwrap();
                (ChannelKey { name: n.parse().unwrap(), channel, platform: platform(p) }, v.parse().unwrap())
            })
            .collect();
        View { refs, channels, seq: 1, ..View::default() }
    }

    fn resolve(view: &View, spec: &str, on: Option<&str>) -> Result<String> {
        let on = on.map(platform);
        let (key, artifact) = view.resolve(&spec.parse().unwrap(), on.as_ref())?;
        Ok(key.map_or_else(|| artifact.to_string(), |key| key.to_string()))
    }

    /// Neither is the machine that the tests run on.
    const A: &str = "plan9/pdp11";
    const B: &str = "plan9/vax";

    #[test]
    fn the_platform_is_the_asked_one_else_this_machines_else_the_only_one() {
        let here = Platform::current().to_string();
        let view = view(
            &[
                ("one", "1", A, [1, 0, 0]),
                ("two", "1", A, [2, 0, 0]),
                ("two", "1", B, [3, 0, 0]),
                ("all", "1", A, [4, 0, 0]),
                ("all", "1", "any/any", [5, 0, 0]),
                ("all", "1", &here, [6, 0, 0]),
                ("data", "1", A, [7, 0, 0]),
                ("data", "1", "any/any", [8, 0, 0]),
            ],
            &[],
        );
        assert_eq!(resolve(&view, "one@1", None).unwrap(), format!("one@1 for {A}"));
        assert_eq!(resolve(&view, "all@1", None).unwrap(), format!("all@1 for {here}"));
        assert_eq!(resolve(&view, "data@1", None).unwrap(), "data@1 for any/any");
        assert_eq!(resolve(&view, "two@1", Some(B)).unwrap(), format!("two@1 for {B}"));
        let error = resolve(&view, "two@1", None).unwrap_err();
        assert_eq!(error.to_string(), format!("two@1 fits more than one: {A}, {B}"));
        let error = resolve(&view, "one@1", Some(B)).unwrap_err();
        assert_eq!(error.to_string(), format!("one@1 for {B} is not in the store"));
    }

    #[test]
    fn a_version_wins_over_a_channel_of_the_same_text() {
        let view = view(
            &[("p", "1.0", A, [1, 0, 0]), ("p", "2", A, [2, 0, 0])],
            &[("p", "2", A, "1.0"), ("p", "stable", A, "1.0"), ("p", "edge", A, "3")],
        );
        assert_eq!(resolve(&view, "p@2", None).unwrap(), format!("p@2 for {A}"));
        assert_eq!(resolve(&view, "p@stable", None).unwrap(), format!("p@1.0 for {A}"));
        assert_eq!(resolve(&view, "p@stable", Some(A)).unwrap(), format!("p@1.0 for {A}"));
        assert!(matches!(resolve(&view, "p@stable", Some(B)), Err(Error::Absent { .. })));
        assert!(matches!(resolve(&view, "p@1.0.0", None), Err(Error::Absent { .. })));
        let error = resolve(&view, "p@edge", None).unwrap_err();
        assert_eq!(error.to_string(), "p@3, which channel edge names, is not in the store");
        assert!(view.shadows(&"p".parse().unwrap(), &"2".parse().unwrap()));
        assert!(!view.shadows(&"p".parse().unwrap(), &"stable".parse().unwrap()));
    }

    #[test]
    fn a_channel_leads_to_the_version_of_its_own_platform() {
        let here = Platform::current().to_string();
        let view = view(
            &[("p", "1", A, [1, 0, 0]), ("p", "1", &here, [2, 0, 0]), ("p", "2", &here, [3, 0, 0])],
            &[("p", "stable", A, "1"), ("p", "stable", &here, "2")],
        );
        assert_eq!(resolve(&view, "p@stable", None).unwrap(), format!("p@2 for {here}"));
        assert_eq!(resolve(&view, "p@stable", Some(A)).unwrap(), format!("p@1 for {A}"));
    }

    #[test]
    fn an_id_prefix_must_fit_one_artifact_that_refs_name() {
        let view = view(
            &[
                ("p", "1", A, [0xab, 0xcd, 0x12]),
                ("q", "1", B, [0xab, 0xcd, 0x12]),
                ("p", "2", A, [0xab, 0xcd, 0x34]),
            ],
            &[],
        );
        assert_eq!(resolve(&view, "abcd1", None).unwrap(), format!("p@1 for {A}"));
        assert_eq!(resolve(&view, "abcd1", Some(B)).unwrap(), format!("q@1 for {B}"));
        assert_eq!(resolve(&view, "ABCD3", None).unwrap(), format!("p@2 for {A}"));
        assert!(matches!(resolve(&view, "abcd9", None), Err(Error::Absent { .. })));
        let error = resolve(&view, "abcd", None).unwrap_err();
        assert!(matches!(&error, Error::Ambiguous { candidates, .. } if candidates.len() == 2), "{error}");
        let unknown = "0".repeat(64);
        assert_eq!(resolve(&view, &unknown, None).unwrap(), unknown);
        let refs: Vec<String> =
            view.refs_to(&artifact([0xab, 0xcd, 0x12])).map(ToString::to_string).collect();
        assert_eq!(refs, [format!("p@1 for {A}"), format!("q@1 for {B}")]);
    }

    #[test]
    fn refs_come_in_the_order_of_their_versions() {
        let view = view(&[("p", "10.0", A, [1; 3]), ("p", "9.0", A, [2; 3]), ("o", "11", A, [3; 3])], &[]);
        let versions: Vec<&str> = view.refs.keys().map(|key| key.version.as_str()).collect();
        assert_eq!(versions, ["11", "9.0", "10.0"]);
    }
}
