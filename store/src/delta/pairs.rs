//! Which old file goes with which new one: the one of the same path; else the only one whose path differs in digits
//! alone, as versions in paths do; else the only one of that name in any folder, digits aside.
//!
//! A wrong pair costs size, never more.

use std::collections::HashMap;

use super::gap::Gap;

/// The number of the old file for each new one.
pub(super) fn pairs(gap: &Gap) -> Vec<Option<usize>> {
    let olds = || gap.old_files.iter().enumerate().map(|(number, file)| (number, &*file.path));
    let by_path: HashMap<&[u8], usize> = olds().map(|(number, path)| (path, number)).collect();
    let by_shape = unique(olds().map(|(number, path)| (shape(path), number)));
    let by_name = unique(olds().map(|(number, path)| (shape(name(path)), number)));
    let find = |path: &[u8]| {
        by_path
            .get(path)
            .or_else(|| by_shape.get(&shape(path))?.as_ref())
            .or_else(|| by_name.get(&shape(name(path)))?.as_ref())
            .copied()
    };
    gap.new_files.iter().map(|file| find(&file.path)).collect()
}

/// What each key stands for; nothing where it is several.
fn unique(keys: impl Iterator<Item = (Vec<u8>, usize)>) -> HashMap<Vec<u8>, Option<usize>> {
    let mut found: HashMap<Vec<u8>, Option<usize>> = HashMap::new();
    for (key, number) in keys {
        found.entry(key).and_modify(|known| *known = None).or_insert(Some(number));
    }
    found
}

fn name(path: &[u8]) -> &[u8] {
    path.rsplit(|byte| *byte == b'/').next().unwrap_or(path)
}

/// A path with each run of digits and dots between them put as one digit.
fn shape(path: &[u8]) -> Vec<u8> {
    let mut shape: Vec<u8> = Vec::with_capacity(path.len());
    for (at, &byte) in path.iter().enumerate() {
        let is_inner_dot =
            byte == b'.' && shape.last() == Some(&b'0') && path.get(at + 1).is_some_and(u8::is_ascii_digit);
        match byte {
            b'0'..=b'9' if shape.last() == Some(&b'0') => {}
            b'0'..=b'9' => shape.push(b'0'),
            _ if is_inner_dot => {}
            _ => shape.push(byte),
        }
    }
    shape
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_in_paths_have_one_shape() {
        assert_eq!(shape(b"uv-0.13.1.data/scripts/uv"), shape(b"uv-0.13.12.data/scripts/uv"));
        assert_eq!(shape(b"lib/libssl.so.3"), b"lib/libssl.so.0");
        assert_ne!(shape(b"a1b"), shape(b"ab"));
        assert_eq!(shape(b"1.2.3"), b"0");
        assert_eq!(shape(b"x.1.y"), b"x.0.y");
    }
}
