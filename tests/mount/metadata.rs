//! Extended attributes and special files, as `--metadata full` and `--special-files` keep them.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use cairn_store::MetadataPolicy;
use harness::bytes::noise;
use harness::mount::Mount;
use harness::plan::special;
use harness::user::skip;
use rustix::fs::{FileType, OFlags, XattrFlags, lgetxattr, lgetxattr_query, llistxattr, lsetxattr};
use rustix::io::Errno;

use crate::mounted::{LARGE, Mounted, SMALL};

/// The longest value that Linux takes, and the longest name.
const VALUE_MAX: usize = 64 << 10;
const NAME_MAX: usize = 255;

/// The value of an attribute, for a caller with so much room.
fn value(path: &Path, name: &str, room: usize) -> Result<Vec<u8>, Errno> {
    let mut buffer = vec![0; room];
    let len = lgetxattr(path, name, buffer.as_mut_slice())?;
    buffer.truncate(len);
    Ok(buffer)
}

fn len(path: &Path, name: &str) -> Result<usize, Errno> {
    lgetxattr_query(path, name)
}

/// The names of the attributes, sorted.
fn names(path: &Path, room: usize) -> Result<Vec<String>, Errno> {
    let mut buffer = vec![0; room];
    let len = llistxattr(path, buffer.as_mut_slice())?;
    let list = buffer[..len].split(|byte| *byte == 0).filter(|name| !name.is_empty());
    let mut names: Vec<_> = list.map(|name| String::from_utf8_lossy(name).into_owned()).collect();
    names.sort_unstable();
    Ok(names)
}

#[test]
fn extended_attributes_are_those_that_were_added() {
    const TEST: &str = "extended attributes of a mount";
    let Some(mounted) = Mounted::new(TEST) else { return };
    // A file system that takes values as long as Linux does.
    let image = match Mount::image("xfs") {
        Ok(image) => image,
        Err(why) => return skip(TEST, &why),
    };
    let tree = image.path().join("tree");
    fs::create_dir_all(tree.join("dir")).unwrap();
    for (file, content) in [("dir/small", noise(1, SMALL)), ("large", noise(2, LARGE)), ("none", noise(3, 5))]
    {
        fs::write(tree.join(file), content).unwrap();
    }
    std::os::unix::fs::symlink("large", tree.join("link")).unwrap();
    let long_name = format!("user.{}", "n".repeat(NAME_MAX - 5));
    let big = noise(4, VALUE_MAX);
    let attributes: [(&str, &str, &[u8]); 8] = [
        ("dir/small", "user.big", &big),
        ("dir/small", "user.nearly", &big[1..]),
        ("dir/small", "user.empty", b""),
        ("dir/small", "user.zeros", &[0; 5]),
        ("large", &long_name, b"value"),
        ("large", "trusted.root", b"only root sees it"),
        ("dir", "user.of a directory", b"\xff\xfe"),
        ("", "user.of the root", b"yes"),
    ];
    for (path, name, value) in attributes {
        lsetxattr(tree.join(path), name, value, XattrFlags::empty()).unwrap();
    }
    mounted.add_tree("data", "1", &tree, MetadataPolicy::Full);
    let at = |path: &str| mounted.at("data/1").join(path);
    for (path, name, wanted) in attributes {
        assert_eq!(len(&at(path), name), Ok(wanted.len()), "{path} {name}");
        assert!(value(&at(path), name, VALUE_MAX).as_deref() == Ok(wanted), "{path} {name}");
        if wanted.len() > 1 {
            assert!(value(&at(path), name, wanted.len()).as_deref() == Ok(wanted), "{path} {name}");
            assert_eq!(value(&at(path), name, wanted.len() - 1), Err(Errno::RANGE), "{path} {name}");
        }
    }
    for path in ["dir/small", "large", "dir", "", "none", "link"] {
        let of_it = attributes.iter().filter(|(of, ..)| *of == path);
        let mut wanted: Vec<_> = of_it.map(|(_, name, _)| (*name).to_owned()).collect();
        wanted.sort_unstable();
        assert_eq!(names(&at(path), VALUE_MAX).unwrap(), wanted, "{path}");
        if !wanted.is_empty() {
            assert_eq!(names(&at(path), 3), Err(Errno::RANGE), "{path}");
        }
        assert_eq!(value(&at(path), "user.nothing", VALUE_MAX), Err(Errno::NODATA), "{path}");
    }
    for (path, name) in
        [("none", "user.big"), ("dir", "user.big"), ("large", "user.bi"), ("large", "user.bigg")]
    {
        assert_eq!(value(&at(path), name, VALUE_MAX), Err(Errno::NODATA), "{path} {name}");
    }
    let set = lsetxattr(at("none"), "user.new", b"value", XattrFlags::empty());
    assert_eq!(set, Err(Errno::ROFS));
}

#[test]
fn special_files_are_shown_and_do_nothing() {
    let Some(mounted) = Mounted::new("special files of a mount") else { return };
    let tree = mounted.scratch.folder("tree");
    let devices = [
        ("null", FileType::CharacterDevice, 1, 3),
        ("far", FileType::CharacterDevice, 0xfff, 0xf_ffff),
        ("disk", FileType::BlockDevice, 7, 250),
    ];
    for (name, kind, major, minor) in devices {
        special(&tree.join(name), kind, major, minor);
    }
    fs::create_dir(tree.join("sub")).unwrap();
    for pipe in ["pipe", "sub/pipe"] {
        special(&tree.join(pipe), FileType::Fifo, 0, 0);
        fs::set_permissions(tree.join(pipe), PermissionsExt::from_mode(0o644)).unwrap();
    }
    mounted.add_tree("data", "1", &tree, MetadataPolicy::Full);
    let at = |path: &str| mounted.at("data/1").join(path);
    for (name, kind, major, minor) in devices {
        let found = fs::symlink_metadata(at(name)).unwrap();
        let is_it = match kind {
            FileType::BlockDevice => found.file_type().is_block_device(),
            _ => found.file_type().is_char_device(),
        };
        assert!(is_it, "{name}");
        assert_eq!(
            (rustix::fs::major(found.rdev()), rustix::fs::minor(found.rdev())),
            (major, minor),
            "{name}"
        );
        assert_eq!(found.permissions().mode() & 0o7777, 0o640, "{name}");
        let wanted = fs::symlink_metadata(tree.join(name)).unwrap();
        assert_eq!((found.rdev(), found.mode(), found.uid()), (wanted.rdev(), wanted.mode(), wanted.uid()));
        for options in [OpenOptions::new().read(true), OpenOptions::new().write(true)] {
            let error = options.open(at(name)).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(Errno::ACCESS.raw_os_error()), "{name}");
        }
    }
    for pipe in ["pipe", "sub/pipe"] {
        assert!(fs::symlink_metadata(at(pipe)).unwrap().file_type().is_fifo());
    }
    // A pipe is one for whoever opens it by its path, as on any file system, and nobody meets through two paths.
    let listen = |path: &str| {
        let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap();
        OpenOptions::new().read(true).custom_flags(flags).open(at(path)).unwrap()
    };
    let (mut here, mut there): (File, File) = (listen("pipe"), listen("sub/pipe"));
    OpenOptions::new().write(true).open(at("pipe")).unwrap().write_all(b"said").unwrap();
    let mut heard = [0; 8];
    assert_eq!(here.read(&mut heard).unwrap(), 4);
    assert_eq!(there.read(&mut heard).unwrap(), 0, "nobody has written");
    let listed = fs::read_dir(at("")).unwrap().map(|entry| {
        let entry = entry.unwrap();
        (entry.file_name().into_string().unwrap(), entry.file_type().unwrap().is_fifo())
    });
    assert_eq!(listed.filter(|(_, is_fifo)| *is_fifo).map(|(name, _)| name).collect::<Vec<_>>(), ["pipe"]);
}
