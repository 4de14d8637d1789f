//! Tar archives made entry by entry, as no honest program makes them.

/// An entry: its header, and what is behind it.
pub(crate) fn entry(name: &[u8], kind: u8, link: &[u8], body: &[u8]) -> Vec<u8> {
    sized(name, kind, link, body, body.len() as u64)
}

/// One that says to be of another length.
pub(crate) fn sized(name: &[u8], kind: u8, link: &[u8], body: &[u8], size: u64) -> Vec<u8> {
    let mut header = vec![0; 512];
    header[..name.len()].copy_from_slice(name);
    header[100..108].copy_from_slice(b"0000755\0");
    header[124..136].copy_from_slice(format!("{size:011o}\0").as_bytes());
    header[156] = kind;
    header[157..157 + link.len()].copy_from_slice(link);
    header[257..265].copy_from_slice(b"ustar\x0000");
    seal(&mut header);
    header.extend(body);
    header.resize(header.len().next_multiple_of(512), 0);
    header
}

/// Makes the checksum of a header hold.
pub(crate) fn seal(header: &mut [u8]) {
    header[148..156].fill(b' ');
    let sum: u32 = header[..512].iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

/// A regular file.
pub(crate) fn file(name: &str, body: &[u8]) -> Vec<u8> {
    entry(name.as_bytes(), b'0', b"", body)
}

/// A symbolic link.
pub(crate) fn symlink(name: &str, to: &str) -> Vec<u8> {
    entry(name.as_bytes(), b'2', to.as_bytes(), b"")
}

/// A hard link.
pub(crate) fn hardlink(name: &str, to: &str) -> Vec<u8> {
    entry(name.as_bytes(), b'1', to.as_bytes(), b"")
}

/// Records of pax for the next entry.
pub(crate) fn pax(records: &[(&str, &str)]) -> Vec<u8> {
    let line = |(key, value): &(&str, &str)| {
        let rest = format!(" {key}={value}\n");
        let mut len = rest.len() + 1;
        while len != rest.len() + len.to_string().len() {
            len = rest.len() + len.to_string().len();
        }
        format!("{len}{rest}")
    };
    entry(b"pax", b'x', b"", records.iter().map(line).collect::<String>().as_bytes())
}

/// Entries, and the mark of the end.
pub(crate) fn tar(entries: &[Vec<u8>]) -> Vec<u8> {
    [&entries.concat()[..], &[0; 1024]].concat()
}
