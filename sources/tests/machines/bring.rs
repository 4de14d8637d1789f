//! Programs come from a machine: as they are there, whatever it has to send them with.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use cairn_sources::config::MachineSource;
use cairn_sources::machine::{Ask, Brought, bring, look};
use cairn_sources::{Held, NothingHeld, Result};

use crate::build::{Ear, Here, Machine, binaries, program};
use crate::look::link;

/// Looks and brings.
pub(crate) fn sync(source: &MachineSource, names: &[&str], to: &Path, held: &dyn Held) -> Result<Brought> {
    let names = binaries(names);
    let ask = Ask { package: "app", binaries: &names, source };
    let ear = Ear::default();
    bring(&look(&ask, &ear)?, &ask, to, held, &ear)
}

/// What is in a folder, by name.
pub(crate) fn listing(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn several_come_over_one_connection() {
    let Some(machine) = Machine::start() else { return };
    let names: Vec<_> = (0..6).map(|at| format!("p{at}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let bytes: Vec<_> = (1..7).map(|at| program(at, 100_000 * at as usize)).collect();
    for (name, bytes) in names.iter().zip(&bytes) {
        machine.put(name, bytes);
    }
    let to = machine.empty("to");
    let brought = sync(&machine.source("{binary}"), &names, &to, &NothingHeld).unwrap();
    assert_eq!(listing(&to), names);
    for (name, (bytes, file)) in names.iter().zip(bytes.iter().zip(&brought.files)) {
        assert!(std::fs::read(to.join(name)).unwrap() == *bytes, "{name}");
        assert_eq!(std::fs::metadata(to.join(name)).unwrap().permissions().mode() & 0o7777, 0o755);
        assert!((&*file.binary, file.size, file.is_new) == (name, bytes.len() as u64, true), "{file:?}");
    }
    assert_eq!(brought.way, "whole, compressed by xz");
    assert!(brought.wire_bytes > 50_000 && brought.wire_bytes < 2_100_000, "{}", brought.wire_bytes);
    assert_eq!(machine.server.connections(), 1, "{:?}", machine.server.log());
}

#[test]
fn what_is_held_does_not_travel() {
    let Some(machine) = Machine::start() else { return };
    let (one, two) = (program(1, 300_000), program(2, 50_000));
    machine.put("one", &one);
    machine.put("two", &two);
    // Under another name, as from another package.
    let here = Here(vec![("other".to_owned(), one.clone())]);
    let to = machine.empty("to");
    let brought = sync(&machine.source("{binary}"), &["one", "two"], &to, &here).unwrap();
    assert!(std::fs::read(to.join("one")).unwrap() == one && std::fs::read(to.join("two")).unwrap() == two);
    let is_new: Vec<_> = brought.files.iter().map(|file| file.is_new).collect();
    assert_eq!(is_new, [false, true]);
    let here = Here(vec![("one".to_owned(), one), ("two".to_owned(), two)]);
    let brought = sync(&machine.source("{binary}"), &["one", "two"], &machine.empty("again"), &here).unwrap();
    assert_eq!(brought.way, "held");
    assert!(brought.wire_bytes < 4_000, "{}", brought.wire_bytes);
}

#[test]
fn new_builds_come_as_blocks() {
    let Some(machine) = Machine::start() else { return };
    let old = program(1, 1_000_000);
    type Edit = Box<dyn Fn(&mut Vec<u8>)>;
    let edits: [(&str, Edit); 8] = [
        ("inserted", Box::new(|bytes| drop(bytes.splice(500_000..500_000, program(9, 77))))),
        ("removed", Box::new(|bytes| drop(bytes.drain(300_001..400_002)))),
        ("in front", Box::new(|bytes| drop(bytes.splice(0..0, [1, 2, 3])))),
        ("behind", Box::new(|bytes| bytes.extend([9; 5]))),
        ("cut", Box::new(|bytes| bytes.truncate(777_777))),
        ("swapped", Box::new(|bytes| bytes.rotate_left(333_333))),
        ("twice", Box::new(|bytes| bytes.extend_from_within(..))),
        ("empty", Box::new(Vec::clear)),
    ];
    for (what, edit) in edits {
        let mut new = old.clone();
        edit(&mut new);
        machine.put("node", &new);
        let to = machine.empty(what);
        let brought = sync(&machine.source("{binary}"), &["node"], &to, &Here::one("node", &old)).unwrap();
        assert!(std::fs::read(to.join("node")).unwrap() == new, "{what}");
        assert_eq!((&*brought.way, listing(&to)), ("blocks", binaries(&["node"])), "{what}");
        assert!(brought.wire_bytes < 16_000, "{what}: {}", brought.wire_bytes);
    }
}

#[test]
fn sums_that_are_alike_are_noticed() {
    let Some(machine) = Machine::start() else { return };
    let new = program(3, 1_000_000);
    let mut old = new.clone();
    // Each block of 2 KiB differs, so that those of 256 bytes are looked for; one of these is another of the same sum.
    for at in (0..old.len()).step_by(2048) {
        old[at] ^= 1;
    }
    let at = 2048 * 100 + 256;
    let twin = twin(&new[at..at + 256]);
    old[at..at + 256].copy_from_slice(&twin);
    machine.put("node", &new);
    let to = machine.empty("to");
    let brought = sync(&machine.source("{binary}"), &["node"], &to, &Here::one("node", &old)).unwrap();
    assert!(std::fs::read(to.join("node")).unwrap() == new);
    assert!(brought.way == "blocks" && brought.wire_bytes < 200_000, "{brought:?}");
}

/// Other bytes with the same CRC-32 and the same first byte of the SHA-256.
fn twin(block: &[u8]) -> Vec<u8> {
    let table: Vec<u32> = (0..256_u32)
        .map(|byte| (0..8).fold(byte, |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 }))
        .collect();
    let register =
        |bytes: &[u8]| bytes.iter().fold(!0_u32, |crc, byte| crc >> 8 ^ table[(crc as u8 ^ byte) as usize]);
    let aim = register(block);
    for draw in 0_u32.. {
        let mut twin = block.to_vec();
        twin[..4].copy_from_slice(&draw.to_le_bytes());
        // Four bytes that lead from where the register is before them to where it should be.
        let (mut state, mut places) = (aim, [0; 4]);
        for place in places.iter_mut().rev() {
            *place = table.iter().position(|entry| entry >> 24 == state >> 24).unwrap();
            state = (state ^ table[*place]) << 8;
        }
        let mut state = register(&twin[..252]);
        for (byte, place) in twin[252..].iter_mut().zip(places) {
            *byte = state as u8 ^ place as u8;
            state = state >> 8 ^ table[place];
        }
        assert_eq!(register(&twin), aim);
        let first = |bytes: &[u8]| cairn_sources::Sha256::of(bytes).0[0];
        if twin != block && first(&twin) == first(block) {
            return twin;
        }
    }
    unreachable!("one in 256 is one")
}

#[test]
fn machines_without_python_send_all_of_it() {
    let basic = ["sh", "dd", "wc", "uname", "cat", "head", "sed", "ls", "sha256sum"];
    let new = program(4, 700_000);
    for (packer, way) in [
        ("xz", "whole, compressed by xz"),
        ("zstd", "whole, compressed by zstd"),
        ("gzip", "whole, compressed by gzip"),
        ("", "whole, not compressed"),
    ] {
        let tools = tempfile::tempdir().unwrap();
        link(tools.path(), &basic);
        if !packer.is_empty() {
            link(tools.path(), &[packer]);
            if listing(tools.path()).len() == basic.len() {
                eprintln!("SKIPPED: {packer} is not installed");
                continue;
            }
        }
        // One that does not work, as where a version is to be chosen first.
        let python = tools.path().join("python3");
        std::fs::write(&python, "#!/bin/sh\necho no version is chosen >&2\nexit 127\n").unwrap();
        std::fs::set_permissions(&python, std::fs::Permissions::from_mode(0o755)).unwrap();
        let Some(machine) = Machine::start_with_path(tools.path().to_str().unwrap()) else { return };
        machine.put("node", &new);
        let to = machine.empty("to");
        let brought =
            sync(&machine.source("{binary}"), &["node"], &to, &Here::one("node", b"older")).unwrap();
        assert!(std::fs::read(to.join("node")).unwrap() == new, "{packer}");
        assert_eq!(brought.way, way);
    }
}
