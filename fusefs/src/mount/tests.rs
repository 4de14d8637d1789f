//! Real mounts, where this machine lets the tests mount.

#![expect(clippy::disallowed_methods, reason = "what is mounted is used as any program would")]

use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cairn_store::View;

use super::*;
use crate::files::CacheOptions;
use crate::testing::names::{Item, Scratch, add_generation, add_ref, file, package};
use crate::testing::noise;

/// A store, its view, and a place to mount it.
struct World {
    scratch: Scratch,
    view: View,
    files: Arc<Files>,
}

const BIG: usize = 3 << 20;

fn is_root() -> bool {
    if attach::is_root() && Path::new("/dev/fuse").exists() {
        return true;
    }
    eprintln!("SKIPPED: mounts: they need root and /dev/fuse");
    false
}

impl World {
    /// Versions 1 and 2 of `tool`, each with a small and a great file; generation 1 shows version 1.
    fn new() -> Self {
        let scratch = Scratch::new();
        let mut view = View::default();
        for (version, seed) in [("1", 1), ("2", 2)] {
            let items = [
                ("bin/tool", Item::File(format!("#!/bin/sh\necho {version}\n").into_bytes(), 0o755)),
                ("small", file(version)),
                ("middle", Item::File(noise(seed + 10, 20_000), 0o644)),
                ("great", Item::File(noise(seed, BIG), 0o644)),
                ("link", Item::Link("small".to_owned())),
            ];
            let artifact = scratch.artifact("tool", version, &items);
            add_ref(&mut view, "tool", version, "linux/x86_64", artifact);
            add_generation(&mut view, &[("tool", package(version, "linux/x86_64", artifact, &["tool"]))]);
        }
        let files =
            Files::open(scratch.store().clone(), CacheOptions::new(scratch.path().join("cache"))).unwrap();
        let mut world = Self { scratch, view, files };
        world.switch(1);
        world
    }

    fn switch(&mut self, to: u64) -> Arc<View> {
        self.view.profiles.get_mut(&cairn_store::ProfileName::default()).unwrap().current = to;
        self.view.seq += 1;
        Arc::new(self.view.clone())
    }

    fn dir(&self) -> PathBuf {
        let dir = self.scratch.path().join("mnt");
        std::fs::create_dir_all(&dir).unwrap();
        dir
    }

    fn options(&self) -> MountOptions {
        let platform = Some("linux/x86_64".parse().unwrap());
        MountOptions { platform, ..MountOptions::new(self.dir(), cairn_store::ProfileName::default()) }
    }

    fn mount(&self) -> Mount {
        self.mount_with(self.options()).unwrap()
    }

    fn mount_with(&self, options: MountOptions) -> Result<Mount, MountError> {
        let view = Arc::new(self.view.clone());
        Mount::new(self.scratch.store().clone(), view, Arc::clone(&self.files), options)
    }
}

fn text(path: PathBuf) -> String {
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn everything_is_there_and_flips() {
    if !is_root() {
        return;
    }
    let mut world = World::new();
    let mount = world.mount();
    let dir = mount.dir().to_owned();
    assert_eq!(text(dir.join("current/tool/small")), "1");
    assert_eq!(text(dir.join("tool/2/link")), "2");
    assert_eq!(std::fs::read(dir.join("tool/1/great")).unwrap(), noise(1, BIG));
    assert_eq!(std::fs::read(dir.join("tool/1/middle")).unwrap(), noise(11, 20_000));
    let run = || {
        String::from_utf8(std::process::Command::new(dir.join("bin/tool")).output().unwrap().stdout).unwrap()
    };
    assert_eq!(run(), "1\n");
    assert!(mount.publish(&world.switch(2)).is_some(), "the kernel had to be told");
    assert_eq!(run(), "2\n");
    assert_eq!(text(dir.join("current/tool/small")), "2");
    assert_eq!(std::fs::read_link(dir.join("current")).unwrap(), Path::new("generations/2"));
    assert_eq!(mount.publish(&Arc::new(world.view.clone())), None);
    let mut names: Vec<_> =
        std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["bin", "current", "generations", "tool"]);
    mount.unmount(false).unwrap();
    assert_eq!(mount.wait(), End::Unmounted);
    assert!(std::fs::read_dir(&dir).unwrap().next().is_none());
}

#[test]
fn it_says_what_it_is() {
    if !is_root() {
        return;
    }
    let world = World::new();
    let mount = world.mount();
    let mounts = text("/proc/mounts".into());
    let line = mounts.lines().find(|line| line.contains(&*mount.dir().to_string_lossy())).unwrap();
    for word in ["cairn ", " fuse.cairn ", "ro,", "nosuid", "nodev", "default_permissions", "allow_other"] {
        assert!(line.contains(word), "{word} is not in {line}");
    }
    let status = mount.status();
    assert!(status.place.is_some() && status.passthrough && status.end.is_none(), "{status:?}");
    let device = std::fs::metadata(mount.dir()).unwrap().dev();
    let device = table::device_name(rustix::fs::major(device), rustix::fs::minor(device));
    let ahead = text(format!("/sys/class/bdi/{device}/read_ahead_kb").into());
    assert_eq!(ahead, "1024\n");
}

#[test]
fn nothing_can_be_written() {
    if !is_root() {
        return;
    }
    let world = World::new();
    let mount = world.mount();
    let file = mount.dir().join("tool/1/small");
    let dir = mount.dir().join("tool/1");
    let long = dir.join("x".repeat(256));
    let tries = [
        std::fs::OpenOptions::new().write(true).open(&file).map(|_| ()),
        std::fs::OpenOptions::new().append(true).open(&file).map(|_| ()),
        std::fs::File::create(dir.join("new")).map(|_| ()),
        std::fs::remove_file(&file),
        std::fs::remove_dir(&dir),
        std::fs::create_dir(dir.join("new")),
        std::fs::rename(&file, dir.join("new")),
        std::fs::hard_link(&file, dir.join("new")),
        symlink("small", dir.join("new")),
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)),
        std::os::unix::fs::chown(&file, Some(1), Some(1)),
    ];
    for (number, result) in tries.into_iter().enumerate() {
        assert_eq!(result.unwrap_err().raw_os_error(), Some(Errno::ROFS.raw_os_error()), "try {number}");
    }
    assert_eq!(std::fs::metadata(&long).unwrap_err().raw_os_error(), Some(Errno::NAMETOOLONG.raw_os_error()));
    assert_eq!(text(file), "1");
}

#[test]
fn what_is_open_stays_what_it_is() {
    if !is_root() {
        return;
    }
    let mut world = World::new();
    let mount = world.mount();
    let dir = mount.dir().to_owned();
    let mut great = std::fs::File::open(dir.join("current/tool/great")).unwrap();
    let mut small = std::fs::File::open(dir.join("current/tool/small")).unwrap();
    assert_eq!(mount.status().open_files, 2);
    mount.publish(&world.switch(2)).unwrap();
    let mut bytes = Vec::new();
    great.read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes, noise(1, BIG));
    bytes.clear();
    small.read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes, b"1");
    drop((great, small));
    // Releases come after the close.
    let begun = std::time::Instant::now();
    while mount.status().open_files > 0 {
        assert!(begun.elapsed() < Duration::from_secs(30));
        std::thread::yield_now();
    }
}

#[test]
fn opens_of_one_file_agree() {
    if !is_root() {
        return;
    }
    let world = World::new();
    let mount = world.mount();
    let path = mount.dir().join("tool/1/great");
    let expected = noise(1, BIG);
    for _ in 0..20 {
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| assert!(std::fs::read(&path).unwrap() == expected));
            }
        });
    }
}

#[test]
fn in_use_it_is_busy_and_lazily_it_goes() {
    if !is_root() {
        return;
    }
    let world = World::new();
    let mount = world.mount();
    let open = std::fs::File::open(mount.dir().join("tool/1/small")).unwrap();
    let error = mount.unmount(false).unwrap_err();
    assert!(matches!(error, MountError::Busy { .. }), "{error}");
    assert_eq!(error.to_string(), format!("{} is in use", mount.dir().display()));
    mount.unmount(true).unwrap();
    assert!(mount.place().is_none() && mount.is_alive());
    assert!(matches!(mount.unmount(true), Err(MountError::NotMounted { .. })));
    drop(open);
    assert_eq!(mount.wait(), End::Unmounted);
}

#[test]
fn somebody_else_may_unmount_it() {
    if !is_root() {
        return;
    }
    let world = World::new();
    let mount = world.mount();
    rustix::mount::unmount(mount.dir(), rustix::mount::UnmountFlags::empty()).unwrap();
    assert_eq!(mount.wait(), End::Unmounted);
    assert!(!mount.is_alive());
    assert_eq!(mount.status().end, Some(End::Unmounted));
    // There is nothing left to flip, and nothing breaks.
    let mut world = world;
    mount.publish(&world.switch(2));
}

#[test]
fn a_bad_mount_point_is_refused_with_what_to_do() {
    if !is_root() {
        return;
    }
    let world = World::new();
    let mount = world.mount();
    let refused = |dir: PathBuf| {
        world.mount_with(MountOptions { dir, ..world.options() }).map(|_| ()).unwrap_err().to_string()
    };
    let dir = mount.dir().to_owned();
    let expected = format!(
        "{} is a mount of cairn already: unmount it first, or choose another directory",
        dir.display()
    );
    assert_eq!(refused(dir), expected);
    let missing = world.scratch.path().join("missing");
    let expected = format!("there is no directory {}: create it first", missing.display());
    assert_eq!(refused(missing), expected);
    let plain = world.scratch.path().join("file");
    std::fs::write(&plain, "").unwrap();
    assert_eq!(refused(plain.clone()), format!("{} is not a directory", plain.display()));
}

#[test]
fn without_passthrough_it_reads_the_same() {
    if !is_root() {
        return;
    }
    let world = World::new();
    let mount = world.mount_with(MountOptions { passthrough: Passthrough::Off, ..world.options() }).unwrap();
    assert!(!mount.status().passthrough);
    for _ in 0..3 {
        assert!(std::fs::read(mount.dir().join("tool/2/great")).unwrap() == noise(2, BIG));
    }
}

#[test]
fn a_kernel_that_cannot_be_told_of_flips_asks_for_what_may_change() {
    if !is_root() {
        return;
    }
    const FLIPS: u64 = 300;
    let mut world = World::new();
    let options = MountOptions { allow_other: true, ..world.options() };
    let kernel = Kernel::new(Some(stack_depth(world.files.dir())));
    // The last version of the protocol without epochs.
    kernel.pretend(Handshake { abi: (7, 43), capabilities: 0 });
    let attached = attach::attach(&options.dir, true).unwrap();
    let (store, view) = (world.scratch.store().clone(), Arc::new(world.view.clone()));
    let mount = Mount::begin(kernel, store, view, Arc::clone(&world.files), &options, attached).unwrap();
    assert!(!mount.status().epoch && mount.status().passthrough);
    let dir = mount.dir().to_owned();
    let held = std::fs::File::open(dir.join("current/tool/great")).unwrap();
    for flip in 0..FLIPS {
        let shown = 1 + flip % 2;
        mount.publish(&world.switch(shown));
        let (number, shown) = (format!("generations/{shown}"), shown.to_string());
        assert_eq!(std::fs::read_link(dir.join("current")).unwrap(), Path::new(&number), "flip {flip}");
        assert_eq!(std::fs::read_link(dir.join("tool/current")).unwrap(), Path::new(&shown));
        for path in ["current/tool/small", "tool/current/small", "tool/current/link"] {
            assert_eq!(text(dir.join(path)), shown, "{path} after flip {flip}");
        }
        assert!(text(dir.join("bin/tool")).contains(&format!("echo {shown}")));
    }
    let mut bytes = vec![0; BIG];
    rustix::io::pread(&held, &mut bytes, 0).unwrap();
    assert!(bytes == noise(1, BIG), "what is open stays what it was");
    mount.unmount(true).unwrap();
}
