//! What is lost or damaged under a mount is an error for who reads it, said once in the log, and shown by `status`.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use harness::program::text;

use crate::world::{World, skip};

/// Takes a mount away when a test ends, however it ends.
struct Unmounted<'a>(&'a Path);

impl Drop for Unmounted<'_> {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = Command::new("umount").arg("--lazy").arg(self.0).stderr(Stdio::null()).status();
    }
}

#[test]
fn a_lost_pack_is_logged_once_for_each_chunk_and_shown() {
    const TEST: &str = "a lost pack under a daemon's mount";
    if !rustix::process::geteuid().is_root() || !Path::new("/dev/fuse").exists() {
        return skip(TEST, "it needs root and /dev/fuse");
    }
    let mut world = World::alone();
    let dir = world.path("bins");
    fs::create_dir(&dir).unwrap();
    world.good(&["add", "one", "--name", "kept", "--version", "1"]);
    let before = packs(&world);
    let lost: Vec<u8> =
        (0..5000_u32).flat_map(|number| number.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    world.file("lost/file", &lost, 0o644);
    world.good(&["add", "lost", "--name", "lost", "--version", "1"]);
    // Of the two packs that came, the greater one has the data.
    let new = packs(&world).into_iter().filter(|pack| !before.contains(pack));
    let pack = new.max_by_key(|pack| fs::metadata(pack).unwrap().len()).unwrap();
    fs::remove_file(&pack).unwrap();
    let log = world.path("log");
    let mut daemon = world.command(&["daemon", "--mount", dir.to_str().unwrap()]);
    world.begin(&mut daemon, fs::File::create(&log).unwrap().into());
    let _unmounted = Unmounted(&dir);
    for _ in 0..5 {
        let error = fs::read(dir.join("lost/1/file")).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(rustix::io::Errno::IO.raw_os_error()));
        assert!(!fs::read(dir.join("kept/1/share/text")).unwrap().is_empty());
    }
    let status = world.good(&["status"]);
    let shown = status.lines().find(|line| line.contains("damage") && line.contains("lost/1/file"));
    let chunk = shown.and_then(|line| line.split_once("chunk ")).map(|(_, rest)| rest[..64].to_owned());
    let chunk = chunk.unwrap_or_else(|| panic!("{status}"));
    let lines = text(&fs::read(&log).unwrap());
    let said: Vec<&str> = lines.lines().filter(|line| line.contains(&chunk)).collect();
    assert!(said.len() == 1 && said[0].contains("lost/1/file"), "{lines}");
}

fn packs(world: &World) -> Vec<std::path::PathBuf> {
    let packs = fs::read_dir(world.path("store/packs")).unwrap();
    packs
        .map(|pack| pack.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "pack"))
        .collect()
}
