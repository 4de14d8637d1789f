//! Where what is lost may be had: at peers, and in files.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use cairn_net::{PeerUrl, Source};
use clap::Args;
use clap::builder::{PathBufValueParser, TypedValueParser};
use serde::{Deserialize, Serialize};

use crate::exchange::{AccessArgs, FromArgs};
use crate::wire;

/// One of them.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Place {
    Peer(PeerUrl),
    Folder(#[serde(with = "wire::path")] PathBuf),
}

/// Where what is lost is looked for.
#[derive(Debug, Clone, Default, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct MendArgs {
    /// Ask this peer, instead of those that the store knows, or look in the files of this folder, whatever they are called;
    /// may be repeated
    #[arg(long, value_name = "URL|DIR", value_parser = PlaceParser)]
    from: Vec<Place>,
    #[command(flatten)]
    pub(crate) access: AccessArgs,
}

impl MendArgs {
    /// Those who are asked: those named, else those that the store knows.
    pub(crate) fn sources(&self, store: &Path) -> anyhow::Result<Vec<Source>> {
        let peers = self.from.iter().filter_map(|place| match place {
            Place::Peer(url) => Some(url.clone()),
            Place::Folder(_) => None,
        });
        FromArgs { from: peers.collect(), access: self.access.clone() }.sources(store)
    }

    /// The folders that are looked in.
    pub(crate) fn folders(&self) -> impl Iterator<Item = &Path> {
        self.from.iter().filter_map(|place| match place {
            Place::Folder(path) => Some(&**path),
            Place::Peer(_) => None,
        })
    }

    /// Whether a place was named.
    pub(crate) fn has_any(&self) -> bool {
        !self.from.is_empty()
    }

    /// The paths in it.
    pub(crate) fn paths_mut(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        let folders = self.from.iter_mut().filter_map(|place| match place {
            Place::Folder(path) => Some(path),
            Place::Peer(_) => None,
        });
        folders.chain(&mut self.access.ca)
    }
}

/// An URL where it looks like one, else a path.
#[derive(Debug, Clone)]
struct PlaceParser;

impl TypedValueParser for PlaceParser {
    type Value = Place;

    fn parse_ref(
        &self,
        command: &clap::Command,
        argument: Option<&clap::Arg>,
        value: &OsStr,
    ) -> Result<Place, clap::Error> {
        let parse = PathBufValueParser::new().try_map(|path| match path.to_str() {
            Some(text) if text.contains("://") => text.parse().map(Place::Peer),
            _ => Ok(Place::Folder(path)),
        });
        parse.parse_ref(command, argument, value)
    }
}
