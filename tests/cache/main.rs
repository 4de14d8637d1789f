//! The cache of whole files as a whole: disks that are full or read-only, processes that are killed.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use cairn_fusefs::{CacheOptions, FileSpec, Files};
use cairn_store::{Node, Store, tree};
use harness::bytes::noise;
use harness::scratch::Scratch;
use harness::stores::{add, options, writer};

mod disks;
mod far;
mod killed;

/// A store with `count` files of `len` bytes, and how it names them.
fn store(scratch: &Scratch, count: u64, len: usize) -> (Store, Vec<FileSpec>, Vec<Vec<u8>>) {
    let plain: Vec<_> = (0..count).map(|number| noise(number, len)).collect();
    let source = scratch.folder("source");
    for (number, bytes) in plain.iter().enumerate() {
        std::fs::write(source.join(format!("file{number:03}")), bytes).unwrap();
    }
    let path = scratch.join("store");
    add(&writer(&path), &source, &options("files", "1"));
    let (store, specs) = reopen(&path);
    (store, specs, plain)
}

/// The same store, as another process sees it.
fn reopen(path: &Path) -> (Store, Vec<FileSpec>) {
    let store = Store::open(path).unwrap();
    let (_, artifact) = store.view().unwrap().resolve(&"files@1".parse().unwrap(), None).unwrap();
    let root = store.artifact(&artifact).unwrap().root;
    let specs = tree::entries(&root, &store)
        .map(|entry| match entry.unwrap().node {
            Node::File { size, content } => FileSpec { content, size },
            node => panic!("{node:?}"),
        })
        .collect();
    (store, specs)
}

fn open(store: &Store, dir: &Path, bytes_max: u64) -> Arc<Files> {
    let options = CacheOptions { bytes_max: Some(bytes_max), ..CacheOptions::new(dir.to_owned()) };
    Files::open(store.clone(), options).unwrap()
}

fn whole(file: OwnedFd) -> Vec<u8> {
    let mut bytes = Vec::new();
    File::from(file).read_to_end(&mut bytes).unwrap();
    bytes
}
