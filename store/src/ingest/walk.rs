//! Walks a source tree in canonical order (depth first, names ascending bytewise) in a thread of its own.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use rustix::fs::FileType;

use super::source::{Folder, Item};
use crate::error::Result;

/// Events that wait to be taken, at most.
const EVENTS_MAX: usize = 1024;

/// What the walk meets, in order.
pub(super) enum Event {
    /// A directory begins; the first is the root, with an empty name.
    Enter(Arc<Folder>, Item),
    /// Anything but a directory; `target` where it is a symbolic link.
    Leaf { folder: Arc<Folder>, item: Item, target: Option<Vec<u8>> },
    /// The directory entered last ends.
    Leave,
}

/// What is to be walked.
#[derive(Clone)]
pub(super) enum Roots {
    /// A directory.
    Folder(PathBuf, Item),
    /// Files, each under its base name at the root.
    Files(Vec<(PathBuf, Item)>),
}

/// Starts the walk. It ends early when the receiver is dropped. What it meets has its change time where these count.
pub(super) fn walk(roots: Roots, change_times: bool) -> Receiver<Result<Event>> {
    let (sender, receiver) = sync_channel(EVENTS_MAX);
    thread::spawn(move || {
        let walked = match roots {
            Roots::Folder(path, item) => walk_folder(path, item, change_times, &sender),
            Roots::Files(files) => walk_files(files, change_times, &sender),
        };
        if let Err(Stop::Failed(error)) = walked {
            // The receiver may be gone, and with it all interest in the error.
            let _ = sender.send(Err(error));
        }
    });
    receiver
}

enum Stop {
    Unheard,
    Failed(crate::Error),
}

impl From<crate::Error> for Stop {
    fn from(error: crate::Error) -> Self {
        Self::Failed(error)
    }
}

fn send(sender: &SyncSender<Result<Event>>, event: Event) -> Result<(), Stop> {
    sender.send(Ok(event)).map_err(|_| Stop::Unheard)
}

fn walk_folder(
    path: PathBuf,
    item: Item,
    change_times: bool,
    sender: &SyncSender<Result<Event>>,
) -> Result<(), Stop> {
    let (folder, items) = Folder::open(path, 0)?;
    let folder = Arc::new(folder);
    send(sender, Event::Enter(Arc::clone(&folder), item.seen_by(change_times)))?;
    let mut open = vec![(folder, items.into_iter())];
    while let Some((folder, items)) = open.last_mut() {
        let Some(item) = items.next() else {
            open.pop();
            send(sender, Event::Leave)?;
            continue;
        };
        let folder = Arc::clone(folder);
        let item = item.seen_by(change_times);
        match item.kind {
            FileType::Directory => {
                let (below, items) = Folder::open(folder.path_of(&item.name), open.len())?;
                let below = Arc::new(below);
                send(sender, Event::Enter(Arc::clone(&below), item))?;
                open.push((below, items.into_iter()));
            }
            FileType::Symlink => {
                let target = Some(folder.read_link(&item.name)?);
                send(sender, Event::Leaf { folder, item, target })?;
            }
            _ => send(sender, Event::Leaf { folder, item, target: None })?,
        }
    }
    Ok(())
}

fn walk_files(
    mut files: Vec<(PathBuf, Item)>,
    change_times: bool,
    sender: &SyncSender<Result<Event>>,
) -> Result<(), Stop> {
    files.sort_by(|a, b| a.1.name.cmp(&b.1.name));
    send(sender, Event::Enter(Arc::new(Folder::none()), Item::root()))?;
    for (path, item) in files {
        let folder = Arc::new(Folder::of_file(path));
        send(sender, Event::Leaf { folder, item: item.seen_by(change_times), target: None })?;
    }
    send(sender, Event::Leave)
}
