//! Restoring is all or nothing: the destination is the artifact, or what it was.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use cairn_store::{ArtifactId, Error, MetadataPolicy, Progress, RestoreOptions, Restored, Result, Writer};
use harness::bytes::noise;
use harness::compare::Snapshot;
use harness::plan::{Fill, Folder, Plan, make, special};
use harness::scratch::Scratch;
use harness::stores::{add, options, restore, restore_with_seed, writer};
use harness::watch::CancelAt;
use rustix::fs::FileType;

struct Setting {
    scratch: Scratch,
    writer: Writer,
    source: PathBuf,
    artifact: ArtifactId,
    /// Where it is restored to: alone in its folder.
    dest: PathBuf,
}

impl Setting {
    fn new() -> Self {
        let scratch = Scratch::new();
        let writer = writer(&scratch.join("store"));
        let source = scratch.join("source");
        let below = Folder::from([(b"inline".to_vec(), Plan::Bytes(b"few".to_vec()))]);
        make(
            &source,
            &Folder::from([
                (b"below".to_vec(), Plan::Dir(below, 0o555)),
                (b"link".to_vec(), Plan::Link(b"below/inline".to_vec())),
                (b"long".to_vec(), Plan::File(Fill::Noise(1), 12 << 20, 0o644)),
                (b"small".to_vec(), Plan::File(Fill::Text(1), 50_000, 0o755)),
                (b"sparse".to_vec(), Plan::File(Fill::Sparse(1), 3 << 20, 0o600)),
            ]),
        );
        let artifact = add(&writer, &source, &options("app", "1")).artifact;
        let dest = scratch.folder("place").join("dest");
        Self { scratch, writer, source, artifact, dest }
    }

    fn restore(&self, force: bool, progress: &dyn Progress) -> Result<Restored> {
        let options = RestoreOptions { force, no_sync: true, ..RestoreOptions::default() };
        self.writer.restore(&self.artifact, &self.dest, &options, progress)
    }

    fn expect_restored(&self) {
        Snapshot::of(&self.source).assert_restored(&self.dest, MetadataPolicy::Portable);
        self.expect_alone(true);
    }

    /// Beside the destination there is nothing.
    fn expect_alone(&self, is_there: bool) {
        let names = Scratch::names(self.dest.parent().unwrap());
        assert_eq!(names, if is_there { &["dest"][..] } else { &[] });
    }
}

#[test]
fn an_empty_folder_is_taken_and_a_full_one_only_by_force() {
    let setting = Setting::new();
    fs::create_dir(&setting.dest).unwrap();
    setting.restore(false, &()).unwrap();
    setting.expect_restored();
    let before = Snapshot::of(&setting.dest);
    let refused = setting.restore(false, &()).unwrap_err();
    assert!(matches!(&refused, Error::Conflict { what, .. } if *what == setting.dest.display().to_string()));
    assert_eq!(Snapshot::of(&setting.dest), before);
    fs::write(setting.dest.join("more"), b"of the user's").unwrap();
    fs::remove_file(setting.dest.join("small")).unwrap();
    let restored = setting.restore(true, &()).unwrap();
    setting.expect_restored();
    assert!(restored.seeded_bytes >= 12 << 20, "what was there is used: {restored:?}");
}

#[test]
fn what_is_no_folder_is_never_replaced() {
    for force in [false, true] {
        let setting = Setting::new();
        fs::write(&setting.dest, b"a file").unwrap();
        assert!(matches!(setting.restore(force, &()), Err(Error::Conflict { .. })));
        assert_eq!(fs::read(&setting.dest).unwrap(), b"a file");
        fs::remove_file(&setting.dest).unwrap();
        symlink("elsewhere", &setting.dest).unwrap();
        assert!(matches!(setting.restore(force, &()), Err(Error::Conflict { .. })));
        setting.expect_alone(true);
    }
}

#[test]
fn destinations_that_cannot_be() {
    let setting = Setting::new();
    let options = RestoreOptions::default();
    for dest in ["/", "..", "."] {
        let refused = setting.writer.restore(&setting.artifact, Path::new(dest), &options, &());
        assert!(refused.is_err(), "{dest}");
    }
    let nowhere = setting.scratch.join("nowhere/at/all");
    let refused = setting.writer.restore(&setting.artifact, &nowhere, &options, &()).unwrap_err();
    assert!(
        matches!(&refused, Error::Tree { path, .. } if path.starts_with(setting.scratch.path())),
        "{refused}"
    );
    let absent = setting.writer.restore(&ArtifactId::of(b"nothing"), &setting.dest, &options, &());
    assert!(matches!(absent, Err(Error::Absent { .. })), "{absent:?}");
    setting.expect_alone(false);
}

#[test]
fn a_stop_at_any_time_leaves_the_destination_as_it_was() {
    let setting = Setting::new();
    let mut stops = 0;
    for asked in 0.. {
        let cancel = CancelAt::new(asked);
        match setting.restore(false, &cancel) {
            Err(Error::Cancelled) => setting.expect_alone(false),
            other => {
                other.unwrap();
                break;
            }
        }
        stops += 1;
    }
    assert!(stops > 3, "{stops}");
    setting.expect_restored();
    fs::write(setting.dest.join("more"), b"of the user's").unwrap();
    let before = Snapshot::of(&setting.dest);
    for asked in 0..stops {
        assert!(matches!(setting.restore(true, &CancelAt::new(asked)), Err(Error::Cancelled)));
        setting.expect_alone(true);
        assert_eq!(Snapshot::of(&setting.dest), before);
    }
}

#[test]
fn damage_that_is_met_on_the_way_leaves_the_destination_as_it_was() {
    let setting = Setting::new();
    let packs = setting.writer.packs().unwrap();
    let largest = packs.iter().max_by_key(|pack| pack.file_bytes).unwrap();
    let path = setting.scratch.join(format!("store/packs/{}.pack", largest.id));
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, bytes).unwrap();
    let store = cairn_store::Store::open(&setting.scratch.join("store")).unwrap();
    for force in [false, true] {
        let options = RestoreOptions { force, no_sync: true, ..RestoreOptions::default() };
        let refused = store.restore(&setting.artifact, &setting.dest, &options, &());
        assert!(
            matches!(&refused, Err(Error::Damaged { pack: Some(pack), .. }) if *pack == largest.id),
            "{refused:?}"
        );
        setting.expect_alone(force);
        if !force {
            fs::create_dir(&setting.dest).unwrap();
            fs::write(setting.dest.join("mine"), b"kept").unwrap();
        }
    }
    assert_eq!(Scratch::names(&setting.dest), ["mine"]);
    // A seed that has the bytes makes up for it.
    let dest = setting.scratch.join("helped");
    restore_with_seed(&store, &setting.artifact, &dest, &setting.source);
    Snapshot::of(&setting.source).assert_restored(&dest, MetadataPolicy::Portable);
}

type Act<'a> = &'a dyn Fn(&Path);

#[test]
fn seeds_are_never_trusted() {
    let setting = Setting::new();
    let long = fs::read(setting.source.join("long")).unwrap();
    let mut changed = long.clone();
    changed[5 << 20] ^= 1;
    let seeds: [(&str, Act<'_>); 10] = [
        ("the same", &|seed| fs::write(seed.join("long"), &long).unwrap()),
        ("changed", &|seed| fs::write(seed.join("long"), &changed).unwrap()),
        ("shorter", &|seed| fs::write(seed.join("long"), &long[..7 << 20]).unwrap()),
        ("longer", &|seed| fs::write(seed.join("long"), [&long[..], b"more"].concat()).unwrap()),
        ("other bytes", &|seed| fs::write(seed.join("long"), noise(9, 12 << 20)).unwrap()),
        ("no zeros", &|seed| fs::write(seed.join("sparse"), noise(9, 3 << 20)).unwrap()),
        ("empty", &|seed| fs::write(seed.join("long"), b"").unwrap()),
        ("a folder", &|seed| fs::create_dir(seed.join("long")).unwrap()),
        ("a link", &|seed| symlink(setting.source.join("long"), seed.join("long")).unwrap()),
        ("a pipe", &|seed| special(&seed.join("long"), FileType::Fifo, 0, 0)),
    ];
    for (number, (what, plant)) in seeds.into_iter().enumerate() {
        let seed = setting.scratch.folder(&format!("seed-{number}"));
        plant(&seed);
        let before = Snapshot::of(&seed);
        let dest = setting.scratch.join(format!("restored-{number}"));
        let restored = restore_with_seed(&setting.writer, &setting.artifact, &dest, &seed);
        Snapshot::of(&setting.source).assert_restored(&dest, MetadataPolicy::Portable);
        assert_eq!(Snapshot::of(&seed), before, "{what}");
        let most = match what {
            "the same" | "longer" => restored.seeded_bytes == 12 << 20,
            "changed" => restored.seeded_bytes > 11 << 20 && restored.seeded_bytes < 12 << 20,
            "shorter" => restored.seeded_bytes > 6 << 20 && restored.seeded_bytes <= 7 << 20,
            _ => restored.seeded_bytes == 0,
        };
        assert!(most, "{what}: {restored:?}");
    }
    let nowhere = setting.scratch.join("no such folder");
    restore_with_seed(&setting.writer, &setting.artifact, &setting.dest, &nowhere);
    setting.expect_restored();
}

#[test]
fn what_was_restored_is_compared_byte_for_byte() {
    use std::os::unix::fs::{FileExt, PermissionsExt};
    let setting = Setting::new();
    setting.restore(false, &()).unwrap();
    let check = || setting.writer.check_restored(&setting.artifact, &setting.dest, &());
    let checked = check().unwrap();
    assert_eq!((checked.files, checked.bytes), (4, 3 + (12 << 20) + 50_000 + (3 << 20)));
    for (name, at) in [("long", 0), ("long", (12 << 20) - 1), ("small", 49_999), ("sparse", 1_500_000)] {
        let file = fs::File::options().read(true).write(true).open(setting.dest.join(name)).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[byte[0] ^ 1], at).unwrap();
        let error = check().unwrap_err();
        assert!(error.to_string().contains(name), "{error}");
        file.write_all_at(&byte, at).unwrap();
        check().unwrap();
    }
    let (small, link) = (setting.dest.join("small"), setting.dest.join("link"));
    let file = fs::File::options().write(true).open(&small).unwrap();
    file.set_len(49_999).unwrap();
    assert!(matches!(check().unwrap_err(), Error::Input { path, .. } if path == small));
    fs::remove_file(&small).unwrap();
    assert!(matches!(check().unwrap_err(), Error::Tree { path, .. } if path == small));
    symlink("below/inline", &small).unwrap();
    assert!(matches!(check().unwrap_err(), Error::Input { path, .. } if path == small));
    fs::remove_file(&link).unwrap();
    symlink("elsewhere", &link).unwrap();
    assert!(matches!(check().unwrap_err(), Error::Input { path, .. } if path == link));
    fs::set_permissions(setting.dest.join("below"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(setting.dest.join("below/inline"), "new").unwrap();
    assert!(matches!(check().unwrap_err(), Error::Input { path, .. } if path.ends_with("below/inline")));
}

#[test]
fn threads_do_not_matter() {
    let setting = Setting::new();
    for threads in [1, 2, 7] {
        let dest = setting.scratch.join(format!("restored-{threads}"));
        let threads = std::num::NonZero::new(threads);
        let options = RestoreOptions { threads, no_sync: true, ..RestoreOptions::default() };
        setting.writer.restore(&setting.artifact, &dest, &options, &()).unwrap();
        Snapshot::of(&setting.source).assert_restored(&dest, MetadataPolicy::Portable);
    }
}

#[test]
fn progress_adds_up_to_the_whole() {
    #[derive(Default)]
    struct Sums([std::sync::atomic::AtomicU64; 4]);
    impl Progress for Sums {
        fn expect(&self, bytes: u64, files: u64) {
            self.0[0].fetch_add(bytes, std::sync::atomic::Ordering::SeqCst);
            self.0[1].fetch_add(files, std::sync::atomic::Ordering::SeqCst);
        }
        fn advance(&self, bytes: u64, files: u64) {
            self.0[2].fetch_add(bytes, std::sync::atomic::Ordering::SeqCst);
            self.0[3].fetch_add(files, std::sync::atomic::Ordering::SeqCst);
        }
    }
    let setting = Setting::new();
    let (ingest, back) = (Sums::default(), Sums::default());
    let again = writer(&setting.scratch.join("other-store"));
    let added = again.ingest(harness::stores::at(&setting.source), &options("app", "1"), &ingest).unwrap();
    setting.restore(false, &back).unwrap();
    for sums in [ingest, back] {
        let [expected_bytes, expected_files, bytes, files] =
            sums.0.map(std::sync::atomic::AtomicU64::into_inner);
        assert_eq!((expected_bytes, expected_files), (added.bytes, added.files));
        assert_eq!((bytes, files), (added.bytes, added.files));
    }
    let dest = setting.scratch.join("and once more");
    restore(&setting.writer, &setting.artifact, &dest);
}
