//! Flips against look-ups in orders that a scheduler chooses. The kernel is a model: it keeps each name with the epoch in
//! which it asked for it, and believes it while that is the epoch.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};

use cairn_store::View;

use super::Fs;
use crate::attr::{Ino, Lookup};
use crate::sync::Mutex;
use crate::testing::names::{Scratch, add_generation, add_ref, file, options, package};

/// Orders that are tried.
const ORDERS: usize = 3000;
/// Steps of a look-up and of a flip that may be far apart.
const DEPTH: usize = 3;
const LINUX: &str = "linux/x86_64";
/// Look-ups of each who looks.
const LOOKS: usize = 3;

/// What the kernel keeps of names, and whose who looks tell one another.
struct Kernel {
    fs: Fs,
    epoch: Mutex<u64>,
    /// The links, by directory: the epoch in which each was asked for, and what it led to.
    kept: Mutex<HashMap<Ino, (u64, u64)>>,
    /// The newest that anybody saw, or that a flip that has ended has shown. No order of steps depends on it.
    newest: AtomicU64,
}

impl Kernel {
    /// What the link `current` of a directory leads to, as the kernel finds out.
    fn look(&self, parent: Ino, of: impl Fn(&[u8]) -> u64) {
        let newest = self.newest.load(Ordering::SeqCst);
        // As fuse_lookup_name() and fuse_dentry_revalidate() do: the epoch is that of before the question.
        let epoch = *lock(&self.epoch);
        let kept = lock(&self.kept).get(&parent).copied();
        let seen = match kept {
            Some((at, number)) if at == epoch => number,
            _ => {
                let found = self.fs.lookup(parent, b"current").unwrap();
                let Lookup::Found { attr, cacheable } = found else { panic!("it is not there") };
                let number = of(&self.fs.readlink(attr.ino).unwrap());
                if cacheable {
                    lock(&self.kept).insert(parent, (epoch, number));
                }
                number
            }
        };
        assert!(seen >= newest, "{parent:?} leads to {seen} after somebody saw {newest}");
        self.newest.fetch_max(seen, Ordering::SeqCst);
    }

    fn flip(&self, view: &Arc<View>, number: u64) {
        let told = self.fs.publish(Arc::clone(view), || (), || *lock(&self.epoch) += 1);
        assert!(told, "names have changed");
        self.newest.fetch_max(number, Ordering::SeqCst);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> crate::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What generation a link in the root leads to: `generations/2`.
fn of_root(target: &[u8]) -> u64 {
    number(target.rsplit(|byte| *byte == b'/').next().unwrap())
}

/// What version a package's link leads to: they are numbered as the generations that show them.
fn number(digits: &[u8]) -> u64 {
    str::from_utf8(digits).unwrap().parse().unwrap()
}

/// Views of which each shows the next version.
fn views(scratch: &Scratch, count: u64) -> Vec<Arc<View>> {
    let mut view = View::default();
    let mut all = Vec::new();
    for version in 1..=count {
        let version = version.to_string();
        let artifact = scratch.artifact("tool", &version, &[("version", file(&version))]);
        add_ref(&mut view, "tool", &version, LINUX, artifact);
        add_generation(&mut view, &[("tool", package(&version, LINUX, artifact, &[]))]);
        all.push(Arc::new(view.clone()));
    }
    all
}

fn package_dir(fs: &Fs) -> Ino {
    match fs.lookup(Ino::ROOT, b"tool").unwrap() {
        Lookup::Found { attr, .. } => attr.ino,
        Lookup::Absent { .. } => panic!("the package is not there"),
    }
}

#[test]
fn nobody_sees_an_old_name_after_a_new_one() {
    let scratch = Scratch::new();
    let views = Arc::new(views(&scratch, 3));
    let store = scratch.store().clone();
    let body = move || {
        let fs = Fs::new(store.clone(), Arc::clone(&views[0]), options());
        let dir = package_dir(&fs);
        let (epoch, kept) = (Mutex::new(0), Mutex::new(HashMap::new()));
        let kernel = Arc::new(Kernel { fs, epoch, kept, newest: AtomicU64::new(1) });
        let mut threads = Vec::new();
        for first_by_root in [true, false] {
            let kernel = Arc::clone(&kernel);
            threads.push(shuttle::thread::spawn(move || {
                for look in 0..LOOKS {
                    if (look % 2 == 0) == first_by_root {
                        kernel.look(Ino::ROOT, of_root);
                    } else {
                        kernel.look(dir, number);
                    }
                }
            }));
        }
        let (flipper, views) = (Arc::clone(&kernel), Arc::clone(&views));
        threads.push(shuttle::thread::spawn(move || {
            flipper.flip(&views[1], 2);
            flipper.flip(&views[2], 3);
        }));
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        kernel.look(Ino::ROOT, of_root);
        kernel.look(dir, number);
        assert_eq!(kernel.newest.load(Ordering::SeqCst), 3);
    };
    shuttle::check_random(body.clone(), ORDERS);
    shuttle::check_pct(body, ORDERS, DEPTH);
}
