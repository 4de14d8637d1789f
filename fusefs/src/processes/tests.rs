//! Real processes that use files of a folder; a folder is to the scan what a mount is.

#![expect(clippy::disallowed_methods, reason = "a test makes its files as their owner would")]

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::*;

const DEADLINE: Duration = Duration::from_secs(30);

/// A process of a test's own, killed when it goes out of scope.
struct Running(Child);

impl Running {
    fn new(command: &mut Command) -> Self {
        command.arg("600").stdout(Stdio::null()).stderr(Stdio::null());
        let start = Instant::now();
        loop {
            match command.spawn() {
                Ok(child) => return Self(child),
                // Another test's child that has not yet called exec holds the copy open for writing.
                Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy => {
                    assert!(start.elapsed() < DEADLINE, "{error}");
                    std::thread::yield_now();
                }
                Err(error) => panic!("{command:?}: {error}"),
            }
        }
    }

    /// What the scan says of it, once it uses `count` files.
    fn uses(&self, mount: &MountPoint, count: usize) -> Vec<FileUse> {
        self.uses_when(mount, |uses| uses.len() >= count)
    }

    /// What the scan says of it, once that is `enough`, and twice the same: a program that is just being executed may be
    /// looked at half before and half after.
    fn uses_when(&self, mount: &MountPoint, enough: impl Fn(&[FileUse]) -> bool) -> Vec<FileUse> {
        let start = Instant::now();
        let mut before = None;
        loop {
            let found = users(mount).unwrap().processes.into_iter().find(|one| one.pid == self.0.id());
            let mut uses = found.map(|one| one.uses).unwrap_or_default();
            uses.iter_mut().for_each(|one| one.ino = None);
            if enough(&uses) && before.as_ref() == Some(&uses) {
                return uses;
            }
            assert!(start.elapsed() < DEADLINE, "only {uses:?}");
            before = Some(uses);
            std::thread::yield_now();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct Folder {
    dir: tempfile::TempDir,
}

impl Folder {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn mount(&self) -> MountPoint {
        MountPoint::at(self.dir.path()).unwrap()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn copy(&self, from: &Path, name: &str) -> PathBuf {
        let to = self.path(name);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(from, &to).unwrap();
        to
    }

    /// `sleep` under this name.
    fn program(&self, name: &str) -> PathBuf {
        self.copy(&sleep(), name)
    }
}

fn sleep() -> PathBuf {
    let found = ["/usr/bin/sleep", "/bin/sleep"].into_iter().map(PathBuf::from).find(|path| path.exists());
    fs::canonicalize(found.unwrap()).unwrap()
}

fn file(kind: UseKind, path: &str) -> FileUse {
    FileUse { kind, path: path.into(), gone: false, ino: None }
}

/// A shared library that every program can load: the one that has the C library, as this process has it mapped.
fn library() -> Option<PathBuf> {
    let maps = fs::read("/proc/self/maps").unwrap();
    let mut paths = maps.split(|byte| *byte == b'\n').filter_map(Mapping::parse).map(|one| one.path());
    paths
        .find(|path| path.windows(8).any(|part| part == b"/libc.so"))
        .map(|path| OsString::from_vec(path).into())
}

#[test]
fn a_program_a_descriptor_and_a_directory_are_each_found() {
    let folder = Folder::new();
    let program = folder.program("uv/1.0/bin/uv");
    fs::write(folder.path("data"), b"x").unwrap();
    let data = fs::File::open(folder.path("data")).unwrap();
    let running = Running::new(Command::new(program).current_dir(folder.path("uv")).stdin(data));
    let uses = [file(UseKind::Exe, "uv/1.0/bin/uv"), file(UseKind::Open, "data"), file(UseKind::Cwd, "uv")];
    assert_eq!(running.uses(&folder.mount(), 3), uses, "the program is not also a mapping");
    let users = users(&folder.mount()).unwrap();
    assert_eq!(users.processes.len(), 1, "{users:?}");
    assert_eq!(users.processes[0].command, "uv");
}

#[test]
fn a_mapping_without_a_descriptor_is_found() {
    let Some(library) = library() else {
        eprintln!("SKIPPED: this program has no shared C library");
        return;
    };
    let folder = Folder::new();
    let copy = folder.copy(&library, "lib/a\nb.so");
    let other = folder.copy(&library, "lib/a\\012b.so");
    for (path, name) in [(copy, "lib/a\nb.so"), (other, "lib/a\\012b.so")] {
        let running = Running::new(Command::new(sleep()).env("LD_PRELOAD", path));
        assert_eq!(running.uses(&folder.mount(), 1), [file(UseKind::Map, name)]);
    }
}

#[test]
fn a_root_directory_is_found() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: only root changes a root directory");
        return;
    }
    // What `sleep` maps is what it needs; without the symbolic links of a real root its loader is told where.
    let folder = Folder::new();
    let is_library = |one: &FileUse| one.path.to_string_lossy().contains("/libc.");
    let model = Running::new(&mut Command::new(sleep()));
    let needed: BTreeSet<_> = model
        .uses_when(&MountPoint::at(Path::new("/")).unwrap(), |uses| uses.iter().any(is_library))
        .into_iter()
        .filter(|one| matches!(one.kind, UseKind::Exe | UseKind::Map))
        .map(|one| one.path)
        .collect();
    for path in &needed {
        folder.copy(&Path::new("/").join(path), path.to_str().unwrap());
    }
    let of = |start: &str| {
        let named = |path: &&PathBuf| path.file_name().unwrap().as_bytes().starts_with(start.as_bytes());
        needed.iter().find(named).map(|path| Path::new("/").join(path))
    };
    let (Some(loader), Some(library)) = (of("ld-"), of("libc.")) else {
        eprintln!("SKIPPED: no loader and C library among {needed:?}");
        return;
    };
    let mut chroot = Command::new("chroot");
    chroot
        .arg(folder.dir.path())
        .arg(loader)
        .arg("--library-path")
        .arg(library.parent().unwrap())
        .arg(sleep());
    let running = Running::new(&mut chroot);
    let uses = running.uses(&folder.mount(), 4);
    assert!(uses.contains(&file(UseKind::Root, "")) && uses.contains(&file(UseKind::Cwd, "")), "{uses:?}");
}

#[test]
fn names_are_kept_as_they_are() {
    let folder = Folder::new();
    for name in ["p/1/new\nline", "p/1/space and ) (", "p/1/back\\012slash", "p/1/-"] {
        let running = Running::new(&mut Command::new(folder.program(name)));
        assert_eq!(running.uses(&folder.mount(), 1), [file(UseKind::Exe, name)]);
    }
    let odd = folder.path("p").join(OsStr::from_bytes(b"\xff\xfe"));
    fs::copy(sleep(), &odd).unwrap();
    let running = Running::new(&mut Command::new(&odd));
    assert_eq!(running.uses(&folder.mount(), 1)[0].path.as_os_str().as_bytes(), b"p/\xff\xfe");
}

#[test]
fn a_file_without_a_name_is_marked() {
    let folder = Folder::new();
    let removed = folder.program("uv/1.0/uv");
    let kept = folder.program("uv/1.0/uv (deleted)");
    let running = Running::new(&mut Command::new(&removed));
    fs::remove_file(removed).unwrap();
    let gone = FileUse { gone: true, ..file(UseKind::Exe, "uv/1.0/uv") };
    let gone = [gone];
    assert_eq!(running.uses(&folder.mount(), 1), gone);
    let alike = Running::new(&mut Command::new(kept));
    assert_eq!(alike.uses(&folder.mount(), 1), gone, "nothing tells the two apart");
}

#[test]
fn a_neighbour_with_a_longer_name_is_not_taken_for_the_mount() {
    let folder = Folder::new();
    let program = folder.program("bins-old/sleep");
    fs::create_dir(folder.path("bins")).unwrap();
    let running = Running::new(&mut Command::new(program));
    let mount = MountPoint { is_whole: false, ..folder.mount() };
    let mount = MountPoint { dir: fs::canonicalize(folder.path("bins")).unwrap(), ..mount };
    assert!(users(&mount).unwrap().processes.iter().all(|one| one.pid != running.0.id()));
}

#[test]
fn what_lay_under_the_mount_point_before_is_not_of_the_mount() {
    let folder = Folder::new();
    let data = fs::File::open(folder.dir.path()).unwrap();
    let running = Running::new(Command::new(sleep()).current_dir(folder.dir.path()).stdin(data));
    // Another device than that of the folder: something mounted over it.
    let device = fs::metadata(folder.dir.path()).unwrap().dev() ^ 1;
    let mount = MountPoint::new(device, folder.mount().dir().to_owned());
    assert!(users(&mount).unwrap().processes.iter().all(|one| one.pid != running.0.id()));
}

#[test]
fn a_mapping_counts_by_its_path_and_by_its_device() {
    let mount = MountPoint::new(7, "/opt/bins".into());
    let seen = |kind, path: &str, device| mount.recognise(kind, path.as_bytes(), device, None);
    let path = "/opt/bins/uv/1/uv";
    assert_eq!(seen(UseKind::Map, path, Some(7)), Some(file(UseKind::Map, "uv/1/uv")));
    assert_eq!(seen(UseKind::Map, path, Some(8)), Some(file(UseKind::Map, "uv/1/uv")), "the backing device");
    assert_eq!(seen(UseKind::Open, path, Some(8)), None);
    assert_eq!(seen(UseKind::Open, path, None), Some(file(UseKind::Open, "uv/1/uv")));
    assert_eq!(seen(UseKind::Open, "/else/uv", Some(7)), Some(file(UseKind::Open, "/else/uv")));
    assert_eq!(seen(UseKind::Cwd, "/opt/bins", Some(7)), Some(file(UseKind::Cwd, "")));
    assert_eq!(seen(UseKind::Map, "/opt/binsy", Some(8)), None);
}

#[test]
fn lines_of_maps_are_read_as_the_kernel_writes_them() {
    let line = b"7f1c8a400000-7f1c8a428000 r--p 00001000 fd:01 1705                       /usr/lib/a b.so";
    let mapping = Mapping::parse(line).unwrap();
    assert_eq!(mapping.device, makedev(0xfd, 1));
    assert_eq!(mapping.path(), b"/usr/lib/a b.so");
    assert_eq!(mapping.exact_link(), None);
    let escaped = Mapping::parse(b"00400000-0040b000 r-xp 00000000 00:2a 12   /a\\012b").unwrap();
    assert_eq!(escaped.path(), b"/a\nb");
    assert_eq!(escaped.exact_link().unwrap(), "map_files/400000-40b000");
    for other in [
        b"7ffd0000-7ffd1000 rw-p 00000000 00:00 0                          [stack]".as_slice(),
        b"7ffd0000-7ffd1000 rw-p 00000000 00:00 0 ",
        b"7ffd0000-7ffd1000 rw-p",
        b"",
        b"\xff - - - - /x",
    ] {
        assert_eq!(Mapping::parse(other), None, "{}", other.escape_ascii());
    }
}

#[test]
fn processes_that_end_meanwhile_do_no_harm() {
    let folder = Folder::new();
    let program = folder.program("uv/1.0/bin/uv");
    let mount = folder.mount();
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            while stopped.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
                let _ = Command::new(&program).arg("0").stdin(Stdio::null()).status();
            }
        });
        for _ in 0..50 {
            for process in users(&mount).unwrap().processes {
                assert!(process.uses.iter().all(|one| one.path.starts_with("uv/1.0/bin/uv")), "{process:?}");
            }
        }
        drop(stop);
    });
}

#[test]
fn processes_of_others_are_counted() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: only root can become another user");
        return;
    }
    let folder = Folder::new();
    let program = folder.program("uv/1.0/bin/uv");
    let others = Running::new(&mut Command::new(&program));
    let nobody = Running::new(Command::new(&program).uid(65534).gid(65534).current_dir("/"));
    let mount = folder.mount();
    assert_eq!(others.uses(&mount, 1).len(), 1);
    fs::set_permissions(folder.dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let seen = std::thread::spawn(move || {
        let id = rustix::process::Uid::from_raw(65534);
        rustix::thread::set_thread_res_uid(id, id, id).unwrap();
        users(&mount).unwrap()
    });
    let seen = seen.join().unwrap();
    assert!(seen.hidden >= 1, "{seen:?}");
    assert!(seen.processes.iter().all(|one| one.pid != others.0.id()), "{seen:?}");
    drop(nobody);
}

#[test]
fn a_kernel_thread_is_nobodys_secret() {
    let folder = Folder::new();
    let mount = folder.mount();
    let of = |pid: u32| {
        let path = std::ffi::CString::new(format!("/proc/{pid}")).unwrap();
        open_dir(CWD, &path).ok().map(|folder| Looked {
            mount: &mount,
            folder,
            uses: BTreeSet::new(),
            is_denied: false,
        })
    };
    assert!(!of(std::process::id()).unwrap().is_kernel_thread());
    let listed =
        fs::read_dir("/proc").unwrap().filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
    let kthreadd = listed.filter_map(of).find(|one| one.command() == "kthreadd");
    match kthreadd {
        Some(kthreadd) => assert!(kthreadd.is_kernel_thread()),
        None => eprintln!("SKIPPED: threads of the kernel are not shown here"),
    }
}
