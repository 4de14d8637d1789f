//! What the provenance of a synced artifact says, and what that is read back for.

use std::collections::BTreeMap;

use cairn_sources::Sha256;
use cairn_sources::machine::Commit;

/// The key of the strategy in an artifact's provenance.
pub(super) const SOURCE: &str = "source";
/// The key of the files of a release.
pub(super) const ASSETS: &str = "assets";
/// Longest value of provenance, in bytes.
const VALUE_LEN_MAX: usize = cairn_store::artifact::PROVENANCE_VALUE_LEN_MAX;
/// Digits of a commit, and of what the programs hash to, in the version of a development build.
const DIGITS: usize = 10;
/// The key of an artifact's provenance that has its programs, as `sha256sum` lists them; more in `files-2` and so on.
pub(super) const FILES: &str = "files";

/// What was built, as far as git knows it.
pub(super) fn tell_commit(facts: &mut BTreeMap<String, String>, commit: Option<&Commit>) {
    let Some(commit) = commit else { return };
    facts.insert("commit".to_owned(), shorten(&commit.id));
    facts.insert("tree".to_owned(), if commit.is_dirty { "changed" } else { "clean" }.to_owned());
    facts.extend(commit.described.as_deref().map(|described| ("described".to_owned(), shorten(described))));
}

/// `dev-COMMIT-BYTES`: another one where the bytes are others.
pub(super) fn development_version(files: &BTreeMap<String, Sha256>, commit: Option<&Commit>) -> String {
    let all: String = files.iter().map(|(name, sha256)| format!("{sha256}  {name}\n")).collect();
    let bytes = &Sha256::of(all.as_bytes()).to_string()[..DIGITS];
    match commit
        .map(|commit| commit.id.chars().filter(char::is_ascii_hexdigit).take(DIGITS).collect::<String>())
    {
        Some(commit) if !commit.is_empty() => format!("dev-{commit}-{bytes}"),
        _ => format!("dev-{bytes}"),
    }
}

/// As much of a text as a value may have.
pub(super) fn shorten(text: &str) -> String {
    let mut end = text.len().min(VALUE_LEN_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

/// Writes a list of hashes under `key`, as many as there is room for under each key.
pub(super) fn list<'a>(
    facts: &mut BTreeMap<String, String>,
    key: &str,
    files: impl Iterator<Item = (&'a str, Sha256)>,
) -> anyhow::Result<()> {
    let (mut nth, mut text) = (1, String::new());
    let mut put = |nth: usize, text: String| {
        facts.insert(if nth == 1 { key.to_owned() } else { format!("{key}-{nth}") }, text);
    };
    for (name, sha256) in files {
        let line = format!("{sha256}  {name}\n");
        if text.len() + line.len() > VALUE_LEN_MAX {
            put(nth, std::mem::take(&mut text));
            nth += 1;
        }
        text += &line;
    }
    put(nth, text);
    if facts.len() > cairn_store::artifact::PROVENANCE_MAX {
        anyhow::bail!("there are too many programs for one package: their names do not fit its provenance");
    }
    Ok(())
}

/// The list of hashes under `key`, and of those that continue it.
pub(super) fn listed(facts: &BTreeMap<String, String>, key: &str) -> BTreeMap<String, Sha256> {
    let more = (2..).map(|nth| format!("{key}-{nth}")).map_while(|key| facts.get(&key));
    let lines = facts.get(key).into_iter().chain(more).flat_map(|text| text.lines());
    lines
        .filter_map(|line| line.split_once("  "))
        .filter_map(|(hash, name)| Some((name.to_owned(), hash.parse().ok()?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use cairn_store::Version;

    use super::*;

    #[test]
    fn lists_go_on_under_further_keys() {
        let files: BTreeMap<String, Sha256> =
            (0..150).map(|nth| (format!("program-{nth:03}"), Sha256::of(&[nth]))).collect();
        let mut facts = BTreeMap::new();
        list(&mut facts, FILES, files.iter().map(|(name, sha256)| (name.as_str(), *sha256))).unwrap();
        assert!(facts.len() > 2 && facts.values().all(|value| value.len() <= VALUE_LEN_MAX));
        assert_eq!(listed(&facts, FILES), files);
        assert!(listed(&BTreeMap::new(), FILES).is_empty());
    }

    #[test]
    fn a_development_build_is_named_after_commit_and_bytes() {
        let files = BTreeMap::from([("a".to_owned(), Sha256::of(b"a"))]);
        let commit = Commit { id: "0123456789abcdef".to_owned(), is_dirty: true, described: None };
        let version = development_version(&files, Some(&commit));
        assert!(version.starts_with("dev-0123456789-"), "{version}");
        assert!(version.parse::<Version>().is_ok());
        let other = BTreeMap::from([("a".to_owned(), Sha256::of(b"b"))]);
        assert_ne!(development_version(&other, Some(&commit)), version);
        assert!(development_version(&files, None).parse::<Version>().is_ok());
    }
}
