//! The packages that are switched: one whose every version says its number in all that a reader can look at, and many
//! small ones that only make a profile large.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::error::{Error, Result};
use crate::harness::remove;

/// The package that readers watch. Its version N is the one of generation N.
pub(super) const PACKAGE: &str = "flip";
/// Several pages, and more than is read at a time, so that a file with bytes of two versions would show.
const PAYLOAD_WORDS: usize = 32 << 10;

/// `payload` is the number, as a little-endian word, again and again; `stamp` says it as text; `bin/flip` prints it.
pub(super) fn version(tree: &Path, number: u64) -> Result<()> {
    remove(tree)?;
    let bin = tree.join("bin");
    fs::create_dir_all(&bin).map_err(Error::io("make the folder", &bin))?;
    put(&tree.join("payload"), &number.to_le_bytes().repeat(PAYLOAD_WORDS))?;
    put(&tree.join("stamp"), format!("{number}\n").as_bytes())?;
    put_program(&bin.join(PACKAGE), &number.to_string())
}

/// One that offers a command of its own.
pub(super) fn small(tree: &Path, name: &str) -> Result<()> {
    remove(tree)?;
    let bin = tree.join("bin");
    fs::create_dir_all(&bin).map_err(Error::io("make the folder", &bin))?;
    put_program(&bin.join(name), name)
}

fn put_program(path: &Path, says: &str) -> Result<()> {
    put(path, &program(says))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
        .map_err(Error::io("change the mode of", path))
}

fn put(path: &Path, bytes: &[u8]) -> Result<()> {
    fs::write(path, bytes).map_err(Error::io("write", path))
}

/// A static program that writes `says` to its standard output and ends: nothing is loaded beside it.
#[cfg(target_arch = "x86_64")]
fn program(says: &str) -> Vec<u8> {
    const BASE: u64 = 0x40_0000;
    const HEADERS_BYTES: u64 = 64 + 56;
    let length = u32::try_from(says.len()).unwrap_or(0).to_le_bytes();
    let mut code = vec![0xb8, 1, 0, 0, 0, 0xbf, 1, 0, 0, 0]; // mov eax, 1 (write); mov edi, 1
    code.extend([0x48, 0x8d, 0x35, 16, 0, 0, 0]); // lea rsi, [rip + 16]: behind the code
    code.push(0xba); // mov edx, length
    code.extend(length);
    code.extend([0x0f, 0x05]); // syscall
    code.extend([0xb8, 60, 0, 0, 0, 0x31, 0xff, 0x0f, 0x05]); // mov eax, 60 (exit); xor edi, edi; syscall
    let bytes = HEADERS_BYTES + (code.len() + says.len()) as u64;
    // The ELF header: 64 bits, little-endian, version 1; an executable for x86-64.
    let mut elf = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x3e\0\x01\0\0\0".to_vec();
    elf.extend((BASE + HEADERS_BYTES).to_le_bytes()); // entry
    elf.extend(64_u64.to_le_bytes()); // where program headers are
    elf.extend([0; 12]); // no section headers, no flags
    elf.extend([64, 0, 56, 0, 1, 0, 64, 0, 0, 0, 0, 0]); // sizes and counts of headers
    // The one program header: all of the file, loaded to be read and executed.
    elf.extend([1, 0, 0, 0, 5, 0, 0, 0]);
    for word in [0, BASE, BASE, bytes, bytes, 0x1000] {
        elf.extend(word.to_le_bytes());
    }
    elf.extend(code);
    elf.extend(says.as_bytes());
    elf
}

#[cfg(not(target_arch = "x86_64"))]
fn program(says: &str) -> Vec<u8> {
    format!("#!/bin/sh\necho {says}\n").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::harness::Line;

    #[test]
    fn a_version_says_its_number() {
        let folder = tempfile::tempdir().unwrap();
        version(folder.path(), 12).unwrap();
        assert_eq!(Line::new(folder.path().join("bin/flip")).output().unwrap(), "12");
        assert_eq!(fs::read_to_string(folder.path().join("stamp")).unwrap(), "12\n");
        let payload = fs::read(folder.path().join("payload")).unwrap();
        assert_eq!((payload.len(), payload[0], payload[8]), (8 * PAYLOAD_WORDS, 12, 12));
    }
}
