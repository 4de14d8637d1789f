//! Refs and channels: publishing, replacing, removing, and what stands in the way.

use std::path::PathBuf;

use cairn_store::{Channel, Error, Ingested, Op, PublishOptions, RefKey, Spec, Store, Writer};
use harness::scratch::Scratch;
use harness::stores::{add, assert_sound, at, options, read_file, writer};

/// A store and two files to publish.
struct Setting {
    scratch: Scratch,
    writer: Writer,
    files: [PathBuf; 2],
}

impl Setting {
    fn new() -> Self {
        let scratch = Scratch::new();
        let writer = writer(&scratch.join("store"));
        let files = ["one", "two"].map(|name| {
            let folder = scratch.folder(name);
            std::fs::write(folder.join("file"), name).unwrap();
            folder
        });
        Self { scratch, writer, files }
    }

    fn ingest(&self, file: usize, version: &str) -> Ingested {
        self.writer.ingest(at(&self.files[file]), &options("app", version), &()).unwrap()
    }

    fn publish(&self, file: usize, version: &str, options: &PublishOptions) -> cairn_store::Result<Ingested> {
        let ingested = self.ingest(file, version);
        self.writer.publish(&ingested, options).map(|_| ingested)
    }
}

fn key(version: &str) -> RefKey {
    RefKey {
        name: "app".parse().unwrap(),
        version: version.parse().unwrap(),
        platform: "linux/x86_64".parse().unwrap(),
    }
}

fn channel(name: &str) -> Channel {
    name.parse().unwrap()
}

fn resolved(store: &Store, spec: &str) -> cairn_store::Result<String> {
    let spec: Spec = spec.parse()?;
    let (_, artifact) = store.view()?.resolve(&spec, Some(&"linux/x86_64".parse()?))?;
    Ok(String::from_utf8(read_file(store, &artifact, b"file")?).unwrap())
}

#[test]
fn what_is_ingested_is_visible_when_it_is_published() {
    let setting = Setting::new();
    let reader = Store::open(&setting.scratch.join("store")).unwrap();
    let ingested = setting.ingest(0, "1.0");
    assert!(reader.view().unwrap().refs.is_empty());
    let published = setting.writer.publish(&ingested, &PublishOptions::default()).unwrap();
    assert_eq!((published.replaced, published.unchanged), (None, false));
    assert_eq!(resolved(&reader, "app@1.0").unwrap(), "one");
    assert_eq!(published.seq, Some(reader.view().unwrap().seq));
    let again = setting.writer.publish(&ingested, &PublishOptions::default()).unwrap();
    assert_eq!((again.seq, again.replaced, again.unchanged), (None, None, true));
}

#[test]
fn other_content_takes_a_version_only_when_it_is_to_be_replaced() {
    let setting = Setting::new();
    let first = setting.publish(0, "1.0", &PublishOptions::default()).unwrap();
    let refused = setting.publish(1, "1.0", &PublishOptions::default()).unwrap_err();
    assert!(matches!(&refused, Error::Conflict { what, .. } if what.contains("app@1.0")), "{refused}");
    assert_eq!(resolved(&setting.writer, "app@1.0").unwrap(), "one");
    let second = setting.ingest(1, "1.0");
    let replaced = setting.writer.publish(&second, &PublishOptions { replace: true, channel: None }).unwrap();
    assert_eq!(replaced.replaced, Some(first.artifact));
    assert_eq!(resolved(&setting.writer, "app@1.0").unwrap(), "two");
    // What was replaced can still be read by its id.
    assert_eq!(read_file(&setting.writer, &first.artifact, b"file").unwrap(), b"one");
}

#[test]
fn channels_follow_their_versions() {
    let setting = Setting::new();
    let stable = PublishOptions { replace: false, channel: Some(channel("stable")) };
    setting.publish(0, "1.0", &stable).unwrap();
    assert_eq!(resolved(&setting.writer, "app@stable").unwrap(), "one");
    setting.publish(1, "2.0", &PublishOptions::default()).unwrap();
    assert_eq!(resolved(&setting.writer, "app@stable").unwrap(), "one");
    let before = setting.writer.tag(&key("2.0"), &channel("stable")).unwrap();
    assert_eq!(before.unwrap().as_str(), "1.0");
    assert_eq!(resolved(&setting.writer, "app@stable").unwrap(), "two");
    let seq = setting.writer.view().unwrap().seq;
    let again = setting.writer.tag(&key("2.0"), &channel("stable")).unwrap();
    assert_eq!(again.unwrap().as_str(), "2.0");
    assert_eq!(setting.writer.view().unwrap().seq, seq, "nothing was to be changed");
}

#[test]
fn a_channel_keeps_its_version_unless_that_is_forced() {
    let setting = Setting::new();
    setting.publish(0, "1.0", &PublishOptions { replace: false, channel: Some(channel("stable")) }).unwrap();
    let refused = setting.writer.remove_ref(&key("1.0"), false).unwrap_err();
    assert!(matches!(&refused, Error::Conflict { detail, .. } if detail.contains("stable")), "{refused}");
    assert_eq!(resolved(&setting.writer, "app@stable").unwrap(), "one");
    setting.writer.remove_ref(&key("1.0"), true).unwrap();
    let view = setting.writer.view().unwrap();
    assert!(view.refs.is_empty() && view.channels.is_empty());
    assert!(matches!(resolved(&setting.writer, "app@1.0"), Err(Error::Absent { .. })));
}

#[test]
fn what_is_not_there_is_absent() {
    let setting = Setting::new();
    assert!(matches!(setting.writer.remove_ref(&key("1.0"), true), Err(Error::Absent { .. })));
    assert!(matches!(setting.writer.tag(&key("1.0"), &channel("stable")), Err(Error::Absent { .. })));
    let nothing = setting.scratch.folder("nothing");
    assert!(matches!(Store::open(&nothing), Err(Error::Absent { .. })));
    assert!(matches!(Store::open(&setting.scratch.join("nowhere")), Err(Error::Absent { .. })));
}

#[test]
fn a_channel_and_a_version_cannot_share_a_name() {
    let setting = Setting::new();
    setting.publish(0, "beta", &PublishOptions::default()).unwrap();
    setting.publish(1, "1.0", &PublishOptions::default()).unwrap();
    let tagged = setting.writer.tag(&key("1.0"), &channel("beta"));
    assert!(matches!(tagged, Err(Error::Conflict { .. })), "{tagged:?}");
    let options = PublishOptions { replace: false, channel: Some(channel("beta")) };
    let published = setting.publish(1, "2.0", &options);
    assert!(matches!(published, Err(Error::Conflict { .. })), "{published:?}");
    assert_eq!(resolved(&setting.writer, "app@beta").unwrap(), "one");
    // Nor does a version get the name of a channel, be it one that is made with it.
    setting.writer.tag(&key("1.0"), &channel("stable")).unwrap();
    for (version, with) in [("stable", None), ("edge", Some(channel("edge")))] {
        let published = setting.publish(1, version, &PublishOptions { replace: true, channel: with });
        assert!(matches!(published, Err(Error::Conflict { .. })), "{published:?}");
    }
    assert_eq!(resolved(&setting.writer, "app@stable").unwrap(), "two");
}

#[test]
fn a_removed_version_leaves_others_whole() {
    let setting = Setting::new();
    setting.publish(0, "1.0", &PublishOptions::default()).unwrap();
    setting.publish(0, "2.0", &PublishOptions::default()).unwrap();
    setting.writer.remove_ref(&key("1.0"), false).unwrap();
    assert_eq!(resolved(&setting.writer, "app@2.0").unwrap(), "one");
    assert_sound(&setting.writer);
    // And comes back for next to nothing.
    let again = add(&setting.writer, &setting.files[0], &options("app", "1.0"));
    assert_eq!((again.new_chunks, again.metadata_bytes), (0, 0));
}

#[test]
fn the_log_tells_who_did_what() {
    let setting = Setting::new();
    setting.publish(0, "1.0", &PublishOptions { replace: false, channel: Some(channel("stable")) }).unwrap();
    setting.writer.remove_ref(&key("1.0"), true).unwrap();
    let records: Vec<_> = setting.writer.log().unwrap().map(Result::unwrap).collect();
    let told: Vec<_> = records
        .iter()
        .map(|record| match &record.op {
            Op::SetRef { .. } => "set",
            Op::RemoveRef { .. } => "remove",
            Op::SetChannel { .. } => "point",
            Op::RemoveChannel { .. } => "take away",
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(told, ["set", "point", "take away", "remove"]);
    assert!(records.iter().all(|record| record.who == "test@here"));
    assert!(records.is_sorted_by(|a, b| a.seq < b.seq && a.time_ms <= b.time_ms));
}
