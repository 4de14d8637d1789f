//! The files that a member becomes, made where nothing is.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use crate::archive::{Unpacked, gauge::Gauge};
use crate::error::{Error, Result};
use crate::sha256::Hasher;

/// Bytes that are copied at once.
const COPY_BYTES: usize = 128 << 10;

/// Copies a member to files that are made for it, which may be none; they are programs once they are whole. `made` gets the path of
/// each as soon as it is there.
pub(super) fn write(
    body: &mut dyn Read,
    shown: &str,
    to: &[&Path],
    gauge: &Gauge<'_>,
    made: &mut Vec<PathBuf>,
) -> Result<Unpacked> {
    let mut files = Vec::with_capacity(to.len());
    for path in to {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::open(*path, flags, Mode::RUSR | Mode::WUSR)
            .map_err(|errno| Error::io("create", path)(errno.into()))?;
        made.push((*path).to_owned());
        files.push(File::from(file));
    }
    let (mut hasher, mut buffer, mut size) = (Hasher::default(), vec![0; COPY_BYTES], 0_u64);
    loop {
        let read = match body.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(gauge.error(&error, &format!("in {shown}"))),
        };
        size += read as u64;
        if size > gauge.bounds().member_bytes_max {
            let max = gauge.bounds().member_bytes_max;
            return Err(gauge.refuse(format!("{shown} is longer than {max} bytes")));
        }
        hasher.update(&buffer[..read]);
        for (file, path) in files.iter_mut().zip(to) {
            file.write_all(&buffer[..read]).map_err(Error::io("write", path))?;
        }
    }
    for (file, path) in files.iter().zip(to) {
        rustix::fs::fchmod(file, Mode::from_raw_mode(0o755))
            .map_err(|errno| Error::io("set the mode of", path)(errno.into()))?;
    }
    let (sha256, size) = hasher.finish();
    Ok(Unpacked { sha256, size })
}
