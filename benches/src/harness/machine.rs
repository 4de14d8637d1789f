//! What the figures were taken on.

use std::num::NonZero;
use std::path::Path;

use rustix::thread::CpuSet;
use serde::Serialize;

use super::date::today;

#[derive(Clone, Debug, Serialize)]
pub(crate) struct Machine {
    pub(crate) date: String,
    pub(crate) cpu: String,
    pub(crate) cores: usize,
    /// The cores that everything measured was held to.
    pub(crate) cores_used: usize,
    pub(crate) memory_mib: u64,
    pub(crate) kernel: String,
    pub(crate) work_file_system: String,
    /// Name and what it says of its version: cairn first, then references and peers.
    pub(crate) programs: Vec<(String, String)>,
}

impl Machine {
    pub(crate) fn describe(work: &Path, cores: usize, programs: Vec<(String, String)>) -> Machine {
        Machine {
            date: today(),
            cpu: cpu_model(),
            cores,
            cores_used: cores_available(),
            memory_mib: meminfo_kib("MemTotal:").unwrap_or(0) / 1024,
            kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
            work_file_system: file_system(work).to_owned(),
            programs,
        }
    }
}

/// Holds this process and its children to the first two cores that it may use, since the limits are meant for two;
/// returns how many it had.
pub(crate) fn pin_to_two_cores() -> usize {
    let cores = cores_available();
    if cores > 2
        && let Ok(all) = rustix::thread::sched_getaffinity(None)
    {
        let mut two = CpuSet::new();
        (0..CpuSet::MAX_CPU).filter(|core| all.is_set(*core)).take(2).for_each(|core| two.set(core));
        // Without it the figures are still taken, and the report says on how many cores.
        let _ = rustix::thread::sched_setaffinity(None, &two);
    }
    cores
}

/// What is free on the file system of `folder`; for a tmpfs no more than the memory that is available.
pub(super) fn free_bytes(folder: &Path) -> u64 {
    let Ok(stat) = rustix::fs::statvfs(folder) else { return 0 };
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    match meminfo_kib("MemAvailable:") {
        Some(kib) if file_system(folder) == "tmpfs" => free.min(kib.saturating_mul(1024)),
        _ => free,
    }
}

/// The common ones by name; for the report, and to tell a tmpfs.
pub(crate) fn file_system(folder: &Path) -> &'static str {
    // The magics of statfs(2).
    match rustix::fs::statfs(folder).map(|stat| stat.f_type) {
        Ok(0x0102_1994) => "tmpfs",
        Ok(0xef53) => "ext4",
        Ok(0x5846_5342) => "xfs",
        Ok(0x9123_683e) => "btrfs",
        Ok(0x794c_7630) => "overlayfs",
        _ => "another file system",
    }
}

fn cores_available() -> usize {
    std::thread::available_parallelism().map_or(1, NonZero::get)
}

fn cpu_model() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    model.map_or_else(|| std::env::consts::ARCH.to_owned(), |(_, name)| name.trim().to_owned())
}

fn meminfo_kib(key: &str) -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_whitespace().next()?.parse().ok()
}
