//! What machine an executable is for, as its ELF header says (gABI 4.1, "ELF Header").

use crate::refs::Platform;

/// `e_machine` of an executable or a shared object; 0 for anything else.
pub(super) fn machine(head: &[u8]) -> u16 {
    let half = |at: usize| {
        let bytes = [head[at], head[at + 1]];
        if head[5] == 2 { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) }
    };
    if head.len() < 20 || head[..4] != *b"\x7fELF" || !matches!(half(16), 2 | 3) { 0 } else { half(18) }
}

/// The platform that a machine number stands for, where it is one that cairn has a name for.
pub(super) fn platform(machine: u16) -> Option<Platform> {
    let arch = match machine {
        3 => "x86",
        8 => "mips",
        20 => "powerpc",
        21 => "powerpc64",
        22 => "s390x",
        40 => "arm",
        62 => "x86_64",
        183 => "aarch64",
        243 => "riscv64",
        258 => "loongarch64",
        _ => return None,
    };
    format!("linux/{arch}").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_headers_of_executables_count() {
        let mut head = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x03\0\x3e\0".to_vec();
        assert_eq!(machine(&head), 62);
        assert_eq!(platform(62).map(|platform| platform.to_string()), Some("linux/x86_64".to_owned()));
        head[16] = 1;
        assert_eq!(machine(&head), 0, "an object file");
        head[16] = 3;
        for len in 0..head.len() {
            assert_eq!(machine(&head[..len]), 0);
        }
        assert_eq!(platform(0), None);
    }
}
