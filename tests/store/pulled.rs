//! Names that came from another store: what is published of them, when, and what is refused.

use cairn_store::{
    ArtifactId, ChannelKey, Error, Kind, Origin, ProfileName, PublishOptions, PulledOptions, RefKey,
    RefStatement, Store, Subject, UseOptions, Writer,
};
use cairn_trust::{Envelope, Signature};
use harness::bytes::noise;
use harness::neighbour::{copy_data, copy_metadata, statements};
use harness::plan::{Fill, Folder, Plan, make};
use harness::scratch::Scratch;
use harness::stores::{add, assert_sound, at, options, read_file, verify, writer};

struct Setting {
    scratch: Scratch,
    from: Writer,
    to: Writer,
    key: RefKey,
    artifact: ArtifactId,
}

impl Setting {
    fn new() -> Self {
        let scratch = Scratch::new();
        let (from, to) = (writer(&scratch.join("from")), writer(&scratch.join("to")));
        let source = scratch.join("source");
        let bin = Folder::from([(b"app".to_vec(), Plan::File(Fill::Noise(1), 300_000, 0o755))]);
        make(&source, &Folder::from([(b"bin".to_vec(), Plan::Dir(bin, 0o755))]));
        let ingested = from.ingest(at(&source), &options("app", "1.0"), &()).unwrap();
        let channel = Some("stable".parse().unwrap());
        from.publish(&ingested, &PublishOptions { channel, ..PublishOptions::default() }).unwrap();
        Self { scratch, from, to, key: ingested.key, artifact: ingested.artifact }
    }

    fn statements(&self) -> Vec<Envelope> {
        statements(&self.from, &self.key)
    }

    fn stable(&self) -> ChannelKey {
        let (name, platform) = (self.key.name.clone(), self.key.platform.clone());
        ChannelKey { name, channel: "stable".parse().unwrap(), platform }
    }

    fn copy(&self) {
        copy_metadata(&self.from, &self.to, &self.artifact);
        copy_data(&self.from, &self.to, &self.artifact);
    }

    fn publish(&self, options: &PulledOptions) -> Result<bool, Error> {
        let published = self.to.publish_pulled(&self.artifact, &self.statements(), options)?;
        Ok(published.seq.is_some())
    }
}

const PARTIAL: PulledOptions = PulledOptions { replace: false, partial: true, new_bytes: 0, stored_bytes: 0 };

#[test]
fn a_name_comes_when_all_of_it_is_here() {
    let setting = Setting::new();
    let plain = PulledOptions { new_bytes: 7, stored_bytes: 5, ..PulledOptions::default() };
    assert_eq!(setting.publish(&plain).unwrap_err().kind(), Kind::Absent);
    copy_metadata(&setting.from, &setting.to, &setting.artifact);
    assert!(matches!(setting.publish(&plain), Err(Error::Incomplete { .. })));
    assert!(setting.to.names().refs.is_empty());
    copy_data(&setting.from, &setting.to, &setting.artifact);
    setting.to.check_pulled(&setting.artifact, &setting.statements(), &plain).unwrap();
    assert!(setting.publish(&plain).unwrap());
    let view = setting.to.names();
    let (record, theirs) = (&view.refs[&setting.key], &setting.from.names().refs[&setting.key]);
    assert_eq!(
        (record.artifact, record.files, record.bytes, record.chunks),
        (theirs.artifact, theirs.files, theirs.bytes, theirs.chunks)
    );
    assert_eq!((record.new_bytes, record.stored_bytes), (7, 5));
    assert_eq!(view.channels[&setting.stable()], setting.key.version);
    assert!(view.partial.is_empty());
    // A second time nothing changes.
    assert!(!setting.publish(&plain).unwrap());
    assert_eq!(*setting.to.names(), *view);
    drop(view);
    let store = Store::open(&setting.scratch.join("to")).unwrap();
    assert_sound(&store);
    assert_eq!(read_file(&store, &setting.artifact, b"bin/app").unwrap(), noise(1, 300_000));
}

#[test]
fn words_are_passed_on_as_they_came() {
    let setting = Setting::new();
    let mut signed = setting.statements();
    signed[0].signatures.push(Signature { keyid: "somebody".to_owned(), sig: vec![9; 64] });
    setting.copy();
    setting.to.publish_pulled(&setting.artifact, &signed, &PulledOptions::default()).unwrap();
    assert_eq!(statements(&setting.to, &setting.key), signed);
    // The first store's word is that of a third one too.
    let third = writer(&setting.scratch.join("third"));
    copy_metadata(&setting.to, &third, &setting.artifact);
    copy_data(&setting.to, &third, &setting.artifact);
    let passed_on = statements(&setting.to, &setting.key);
    third.publish_pulled(&setting.artifact, &passed_on, &PulledOptions::default()).unwrap();
    assert_eq!(statements(&third, &setting.key), signed);
    let origins: Vec<Origin> =
        signed.iter().map(|envelope| RefStatement::of(envelope).unwrap().origin).collect();
    assert_eq!(origins, [setting.from.origin().unwrap(); 2]);
    assert_ne!(third.origin().unwrap(), origins[0]);
    assert_eq!(setting.from.origin().unwrap(), origins[0], "it is drawn once");
    // Back where it came from it says nothing new.
    let back =
        setting.from.publish_pulled(&setting.artifact, &setting.statements(), &PulledOptions::default());
    assert!(back.unwrap().unchanged);
}

#[test]
fn a_partial_artifact_is_known_as_such_until_it_is_whole() {
    let setting = Setting::new();
    let (to, artifact) = (&setting.to, &setting.artifact);
    let error = to.publish_pulled(artifact, &setting.statements(), &PARTIAL).unwrap_err();
    assert_eq!(error.kind(), Kind::Absent, "the lists of its files have to be here");
    copy_metadata(&setting.from, to, artifact);
    assert!(setting.publish(&PARTIAL).unwrap());
    assert!(to.names().partial.contains(artifact));
    let report = verify(to);
    assert!(report.is_clean(), "{:?} {:?}", report.damage, report.affected);
    assert_eq!((report.partial.len(), report.partial[0].artifact), (1, *artifact));
    assert_eq!(report.partial[0].refs, std::slice::from_ref(&setting.key));
    assert_eq!(report.partial[0].missing, to.missing(artifact, &()).unwrap());
    assert_eq!(report.partial[0].missing.bytes, 300_000);

    let set = vec![(setting.key.clone(), *artifact)];
    let platform = Some("linux/x86_64".parse().unwrap());
    let mut options = UseOptions { set, platform, ..UseOptions::default() };
    assert!(matches!(to.use_packages(&options), Err(Error::Incomplete { .. })));
    options.allow_partial = true;
    to.use_packages(&options).unwrap();
    let profile = &to.names().profiles[&ProfileName::default()];
    let commands = &profile.current().unwrap().packages[&setting.key.name].commands;
    assert!(commands.contains_key(&b"app"[..]));
    assert!(matches!(to.set_whole(artifact), Err(Error::Incomplete { .. })));
    assert!(!setting.publish(&PARTIAL).unwrap(), "nothing new");

    copy_data(&setting.from, to, artifact);
    to.set_whole(artifact).unwrap();
    to.set_whole(artifact).unwrap();
    assert!(to.names().partial.is_empty());
    assert!(verify(to).partial.is_empty());
    assert_sound(to);
}

#[test]
fn what_is_lost_of_a_whole_artifact_is_damage_and_of_a_partial_one_is_not_here() {
    let setting = Setting::new();
    setting.copy();
    assert!(setting.publish(&PARTIAL).unwrap());
    assert!(setting.to.names().partial.is_empty(), "it is all here");
    let data = setting.to.packs().unwrap().into_iter().find(|pack| !pack.metadata).unwrap();
    std::fs::remove_file(setting.scratch.join("to/packs").join(format!("{}.pack", data.id))).unwrap();
    let report = verify(&Store::open(&setting.scratch.join("to")).unwrap());
    assert_eq!((report.affected.len(), report.partial.len()), (1, 0));
}

#[test]
fn a_partial_artifact_that_nothing_names_any_more_is_forgotten() {
    let setting = Setting::new();
    let (to, artifact) = (&setting.to, &setting.artifact);
    copy_metadata(&setting.from, to, artifact);
    setting.publish(&PARTIAL).unwrap();
    let set = vec![(setting.key.clone(), *artifact)];
    let platform = Some("linux/x86_64".parse().unwrap());
    let options = UseOptions { set, platform, allow_partial: true, ..UseOptions::default() };
    to.use_packages(&options).unwrap();
    to.remove_ref(&setting.key, true).unwrap();
    assert!(to.names().partial.contains(artifact), "a generation names it");
    let name = setting.key.name.clone();
    to.use_packages(&UseOptions { set: Vec::new(), remove: vec![name], ..options }).unwrap();
    to.prune(&to.plan_prune(&ProfileName::default(), 1).unwrap()).unwrap();
    assert!(to.names().partial.is_empty());
    setting.publish(&PARTIAL).unwrap();
    to.remove_ref(&setting.key, true).unwrap();
    assert!(to.names().partial.is_empty());
}

#[test]
fn adding_the_files_makes_a_partial_artifact_whole() {
    let setting = Setting::new();
    copy_metadata(&setting.from, &setting.to, &setting.artifact);
    setting.publish(&PARTIAL).unwrap();
    let added = add(&setting.to, &setting.scratch.join("source"), &options("app", "1.0"));
    assert_eq!(added.artifact, setting.artifact);
    assert!(setting.to.names().partial.is_empty());
    assert_sound(&setting.to);
}

#[test]
fn a_set_of_a_partial_artifact_that_nobody_pulled_says_so() {
    let setting = Setting::new();
    copy_metadata(&setting.from, &setting.to, &setting.artifact);
    let set = vec![(setting.key.clone(), setting.artifact)];
    let platform = Some("linux/x86_64".parse().unwrap());
    let options = UseOptions { set, platform, allow_partial: true, ..UseOptions::default() };
    setting.to.use_packages(&options).unwrap();
    assert!(setting.to.names().partial.contains(&setting.artifact));
}

/// Another content of the same version, in the first store.
fn replace(setting: &mut Setting) {
    let source = setting.scratch.join("source");
    std::fs::write(source.join("bin/app"), noise(2, 200_000)).unwrap();
    let ingested = setting.from.ingest(at(&source), &options("app", "1.0"), &()).unwrap();
    setting.from.publish(&ingested, &PublishOptions { replace: true, channel: None }).unwrap();
    setting.artifact = ingested.artifact;
    setting.copy();
}

#[test]
fn what_was_taken_back_does_not_come_again() {
    let mut setting = Setting::new();
    setting.copy();
    let (old_artifact, old) = (setting.artifact, setting.statements());
    setting.publish(&PulledOptions::default()).unwrap();
    replace(&mut setting);
    // A version that changes is not taken unasked.
    let error = setting.publish(&PulledOptions::default()).unwrap_err();
    assert!(matches!(error, Error::Conflict { .. }), "{error}");
    let options = PulledOptions { replace: true, ..PulledOptions::default() };
    let published = setting.to.publish_pulled(&setting.artifact, &setting.statements(), &options).unwrap();
    assert_eq!(published.replaced, Some(old_artifact));
    let before = setting.to.names();
    for check in [
        setting.to.publish_pulled(&old_artifact, &old, &options).map(drop),
        setting.to.publish_pulled(&old_artifact, &old[..1], &options).map(drop),
        setting.to.check_pulled(&old_artifact, &old, &options),
    ] {
        assert!(matches!(check, Err(Error::RolledBack { .. })), "{check:?}");
    }
    // Nor after the name went, nor in another process.
    drop(before);
    setting.to.remove_ref(&setting.key, true).unwrap();
    let Setting { scratch, to, .. } = setting;
    drop(to);
    let to = writer(&scratch.join("to"));
    let again = to.publish_pulled(&old_artifact, &old, &options);
    assert!(matches!(again, Err(Error::RolledBack { .. })), "{again:?}");
}

#[test]
fn a_channel_is_moved_by_whoever_set_it() {
    let mut setting = Setting::new();
    setting.copy();
    setting.publish(&PulledOptions::default()).unwrap();
    let source = setting.scratch.join("source");
    for (version, content) in [("1.1", 11), ("1.2", 12)] {
        std::fs::write(source.join("bin/app"), noise(content, 100_000)).unwrap();
        let ingested = setting.from.ingest(at(&source), &options("app", version), &()).unwrap();
        let channel = Some("stable".parse().unwrap());
        setting.from.publish(&ingested, &PublishOptions { channel, ..PublishOptions::default() }).unwrap();
        (setting.key, setting.artifact) = (ingested.key, ingested.artifact);
        setting.copy();
        if version == "1.2" {
            // Somebody here has moved it since.
            let here = RefKey { version: "1.0".parse().unwrap(), ..setting.key.clone() };
            setting.to.tag(&here, &"stable".parse().unwrap()).unwrap();
            let error = setting.publish(&PulledOptions::default()).unwrap_err();
            assert!(matches!(error, Error::Conflict { .. }), "{error}");
            assert!(!setting.to.names().refs.contains_key(&setting.key), "all or nothing");
            setting.publish(&PulledOptions { replace: true, ..PulledOptions::default() }).unwrap();
        } else {
            setting.publish(&PulledOptions::default()).unwrap();
        }
        assert_eq!(setting.to.names().channels[&setting.stable()].as_str(), version);
    }
}

#[test]
fn statements_that_contradict_one_another_are_refused() {
    let setting = Setting::new();
    setting.copy();
    let good = setting.statements();
    let word = |subject: Subject| {
        let origin = Origin([3; 16]);
        RefStatement { origin, seq: 1, time_ms: 0, subject }.to_envelope()
    };
    let (key, artifact) = (setting.key.clone(), setting.artifact);
    let other_version = RefKey { version: "9.9".parse().unwrap(), ..key.clone() };
    let other_name = RefKey { name: "other".parse().unwrap(), ..key.clone() };
    let channel = |key: ChannelKey, version: &str| {
        word(Subject::Channel { key, version: version.parse().unwrap(), artifact })
    };
    let elsewhere = ChannelKey { name: "other".parse().unwrap(), ..setting.stable() };
    let shadow = ChannelKey { channel: "1.0".parse().unwrap(), ..setting.stable() };
    let no_statement = Envelope::unsigned("text/plain", b"hello".to_vec()).unwrap();
    let bad: Vec<Vec<Envelope>> = vec![
        vec![],
        good[1..].to_vec(),
        vec![good[0].clone(), good[0].clone()],
        vec![good[0].clone(), good[1].clone(), good[1].clone()],
        vec![word(Subject::Ref { key: key.clone(), artifact: ArtifactId([1; 32]) })],
        vec![word(Subject::Ref { key: other_version, artifact })],
        vec![word(Subject::Ref { key: other_name, artifact })],
        vec![good[0].clone(), channel(setting.stable(), "2.0")],
        vec![good[0].clone(), channel(elsewhere, "1.0")],
        vec![good[0].clone(), channel(shadow, "1.0")],
        vec![good[0].clone(), no_statement],
        vec![good[0].clone(); 17],
    ];
    let before = setting.to.names();
    for (number, envelopes) in bad.iter().enumerate() {
        let options = PulledOptions { replace: true, ..PulledOptions::default() };
        let error = setting.to.publish_pulled(&artifact, envelopes, &options).unwrap_err();
        assert!(matches!(error, Error::Conflict { .. } | Error::Damaged { .. }), "{number}: {error}");
        assert_eq!(setting.to.names(), before, "{number}");
    }
    setting.publish(&PulledOptions::default()).unwrap();
}
