//! A content-addressed store for releases and state directories: chunked by content, deduplicated, compressed, verified
//! on every read, durable before it is acknowledged.
//!
//! One process writes a store ([`Writer`]); any number read it beside that one ([`Store`]), without a lock, from the
//! journal and the packs alone. Everything here is synchronous; long work takes a [`Progress`] to report to and to be
//! cancelled by. There is no network, no terminal and no daemon in this crate.
//!
//! ```
//! use std::io::Read;
//! use std::time::Duration;
//!
//! use cairn_store::{IngestOptions, Input, PublishOptions, Spec, Store, Writer, WriterOptions};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let scratch = tempfile::tempdir()?;
//! # let (folder, release) = (scratch.path().join("store"), scratch.path().join("release"));
//! # std::fs::create_dir(&release)?;
//! # std::fs::write(release.join("hello"), "#!/bin/sh\necho hello\n")?;
//! // Write: store a tree, then give it a name. Nobody sees it before that.
//! let options = WriterOptions {
//!     wait: Duration::from_secs(10),
//!     command: "example".to_owned(),
//!     who: "me@here".to_owned(),
//! };
//! let writer = Writer::open(&folder, &options, &())?;
//! let package = IngestOptions::package("hello".parse()?, "1.0.0".parse()?);
//! let ingested = writer.ingest(Input::Paths(vec![release]), &package, &())?;
//! writer.publish(&ingested, &PublishOptions::default())?;
//!
//! // Read: what is named, any range of any file, everything verified.
//! let store = Store::open(&folder)?;
//! let spec: Spec = "hello@1.0.0".parse()?;
//! let (_, artifact) = store.view()?.resolve(&spec, None)?;
//! let mut text = String::new();
//! store.open_file(&artifact, b"hello")?.read_to_string(&mut text)?;
//! assert!(text.ends_with("echo hello\n"));
//!
//! // Restore: complete beside the destination, then renamed into place.
//! store.restore(&artifact, &scratch.path().join("out"), &Default::default(), &())?;
//! assert!(store.verify(&Default::default(), &())?.is_clean());
//! # Ok(())
//! # }
//! ```
//!
//! What is where: [`store`] and [`writer`] are the front doors; [`ingest`], [`restore`], [`read`], [`verify`], [`diff`],
//! [`usage`], [`stats`], [`collect`] and [`archive`] are what they do; [`refs`] and [`journal`] are names and their history; [`artifact`],
//! [`tree`], [`content`] and [`object`] are what names lead to; [`chunker`], [`block`], [`pack`] and [`index`] are how
//! bytes lie on disk; [`io`] is the disk, real or simulated. docs/format.md has every byte of it.

pub mod archive;
pub mod artifact;
pub mod block;
pub mod blocks;
pub mod catalogue;
pub mod chunker;
pub mod collect;
pub mod commands;
pub mod content;
mod cursor;
pub mod delta;
pub mod diff;
pub mod error;
pub mod event;
pub mod explain;
pub mod fetch;
mod fetcher;
#[doc(hidden)]
pub mod fuzzing;
pub mod generation;
mod hash;
mod holds;
pub mod id;
pub mod index;
pub mod ingest;
pub mod intake;
pub mod io;
pub mod journal;
pub mod lease;
pub mod lock;
pub mod object;
pub mod optimise;
pub mod pack;
mod pool;
pub mod presence;
pub mod progress;
pub mod read;
mod references;
pub mod refs;
pub mod repair;
mod reserve;
pub mod restore;
pub mod retention;
pub mod scrub;
pub mod sending;
mod shared;
pub mod snapshots;
mod standing;
pub mod stats;
pub mod store;
pub mod streams;
mod sync;
#[cfg(test)]
mod testing;
pub mod time;
pub mod tree;
pub mod usage;
pub mod verify;
pub mod writer;

pub use archive::{ArchiveReader, ArchiveRequest};
pub use artifact::{Artifact, ArtifactKind, MetadataPolicy};
pub use blocks::{BlockBuffers, BlockId, Decoder, KeptBlock};
pub use collect::{CollectOptions, CollectPlan, Collected};
pub use content::{ChunkRef, Content, ContentBuilder};
pub use error::{Error, Kind, Result};
pub use event::{Event, EventHash, EventHead, StateHash};
pub use fetch::{Fetch, Why};
pub use generation::{Generation, Package, PackageChange, Profile, Prune, Switched, UseOptions};
pub use holds::HoldGuard;
pub use id::{ArtifactId, ChunkId, ContentId, PackId, TreeId};
pub use ingest::{IngestOptions, Ingested, Input, Stamps};
pub use intake::{Intake, Kept, VerifiedFrame};
pub use journal::{Journal, Op, Record};
pub use lease::{Held, Hold, Holder, Lease};
pub use object::{MemoryObjects, ObjectSink, ObjectSource};
pub use optimise::{OptimiseOptions, OptimisePlan, OptimiseVersion, Optimised};
pub use pack::PackKind;
pub use presence::Missing;
pub use progress::Progress;
pub use read::FileReader;
pub use references::references;
pub use refs::{Channel, ChannelKey, Name, Platform, ProfileName, RefKey, RefRecord, Spec, Version, View};
pub use refs::{Origin, RefStatement, Subject, SubjectName, Witness};
pub use repair::{DamagedPack, Foundations, RepairPlan, Repaired};
pub use restore::{Checked, FileWriter, RestoreOptions, Restored, Written};
pub use retention::{Retention, RetentionPlan, Retired};
pub use sending::{Lacking, PackFile, Piece, Sending};
pub use shared::Shared;
pub use snapshots::{KeptSnapshots, SnapshotInfo, SnapshotSeries};
pub use store::Store;
pub use streams::{EventLog, Span, StreamBounds, Streams};
pub use tree::{Entry, FullMeta, Node, TreeBuilder};
pub use verify::{Depth, VerifyOptions, VerifyReport};
pub use writer::{Observer, PublishOptions, Published, PulledOptions, Writer, WriterOptions};
