//! `cairn gc --explain`: what keeps something.

use cairn_store::explain::{Asked, Keeper, Reason};
use cairn_store::{ArtifactId, ChunkId, Error, PackId, Spec, Writer};
use serde::Serialize;

use crate::app::App;
use crate::error::Outcome;
use crate::output::OutputResult;
use crate::text;

/// Artifacts that are told for people; JSON has all.
const SHOWN: usize = 20;

/// The JSON form of an answer.
#[derive(Serialize)]
struct Report {
    asked: String,
    kind: &'static str,
    /// Whether anything keeps it.
    kept: bool,
    keepers: Vec<KeeperReport>,
}

#[derive(Serialize)]
struct KeeperReport {
    artifact: Option<String>,
    chunks: u64,
    /// Others that it needs and that are told in terms of what is asked about.
    standing: u64,
    path: Option<String>,
    reasons: Vec<ReasonReport>,
}

#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum ReasonReport {
    Version { version: String },
    Channel { channel: String },
    Generation { profile: String, generation: u64, package: String, current: bool, pinned: bool },
    Use { by: String },
}

pub(super) fn run(app: &mut App, writer: &Writer, asked: &str) -> anyhow::Result<Outcome> {
    let (what, kind) = resolve(writer, asked)?;
    let holds = writer.what_is_held()?;
    let keepers = writer.explain(what, &holds, &app.meter("looking"))?;
    if app.json() {
        let kept = !keepers.is_empty();
        let keepers = keepers.iter().map(report).collect();
        app.out.object(&Report { asked: asked.to_owned(), kind, kept, keepers })?;
    } else {
        print(app, asked, kind, &keepers)?;
    }
    Ok(Outcome::Done)
}

/// What a SPEC or an id means: names first, then packs, artifacts, and anything else that is stored.
fn resolve(writer: &Writer, asked: &str) -> anyhow::Result<(Asked, &'static str)> {
    if let Ok(id) = asked.parse::<PackId>() {
        if writer.packs()?.iter().any(|pack| pack.id == id) {
            return Ok((Asked::Pack(id), "pack"));
        }
        let (artifact, chunk) = (ArtifactId(id.0), ChunkId(id.0));
        let is_artifact = writer.names().names(&artifact) || writer.local().artifact(&artifact).is_ok();
        return match is_artifact {
            true => Ok((Asked::Artifact(artifact), "artifact")),
            false if writer.place(&chunk)?.is_some() => Ok((Asked::Chunk(chunk), "chunk")),
            false => Err(Error::Absent { what: format!("anything of id {id}") }.into()),
        };
    }
    let spec: Spec = asked.parse()?;
    let (_, artifact) = writer.names().resolve(&spec, None)?;
    Ok((Asked::Artifact(artifact), "artifact"))
}

fn report(keeper: &Keeper) -> KeeperReport {
    let reason = |reason: &Reason| match reason {
        Reason::Ref(key) => ReasonReport::Version { version: key.to_string() },
        Reason::Channel(key) => ReasonReport::Channel { channel: key.to_string() },
        Reason::Generation { profile, number, package, is_current, is_pinned } => ReasonReport::Generation {
            profile: profile.to_string(),
            generation: *number,
            package: package.to_string(),
            current: *is_current,
            pinned: *is_pinned,
        },
        Reason::Use(by) => ReasonReport::Use { by: by.clone() },
    };
    KeeperReport {
        artifact: keeper.artifact.map(|artifact| artifact.to_string()),
        chunks: keeper.chunks,
        standing: keeper.standing,
        path: keeper.path.as_ref().map(|path| String::from_utf8_lossy(path).into_owned()),
        reasons: keeper.reasons.iter().map(reason).collect(),
    }
}

fn print(app: &mut App, asked: &str, kind: &str, keepers: &[Keeper]) -> OutputResult {
    if keepers.is_empty() {
        return app.out.line(format!("nothing keeps {asked}: the next `cairn gc` may take it"));
    }
    app.out.line(format!("{asked} is kept by"))?;
    for keeper in keepers.iter().take(SHOWN) {
        if let Some(artifact) = keeper.artifact.filter(|_| kind != "artifact") {
            let path = keeper.path.as_ref().map(|path| format!(", in {}", text::path(path)));
            let chunks = match (keeper.chunks, keeper.standing) {
                (0, standing) => format!("{} told in terms of that", text::count(standing, "chunk")),
                (chunks, _) => text::count(chunks, "chunk"),
            };
            app.out.line(format!(
                "  artifact {artifact}: {chunks}{}, which is kept by",
                path.unwrap_or_default()
            ))?;
        }
        let indent = if kind == "artifact" { "  " } else { "    " };
        for reason in &keeper.reasons {
            app.out.line(format!("{indent}{}", told(reason)))?;
        }
    }
    if keepers.len() > SHOWN {
        app.out.line(format!("  and {} more (--json has all)", keepers.len() - SHOWN))?;
    }
    Ok(())
}

fn told(reason: &Reason) -> String {
    match reason {
        Reason::Ref(key) => format!("version {key}"),
        Reason::Channel(key) => format!("channel {key}"),
        Reason::Generation { profile, number, package, is_current, is_pinned } => {
            let is = match (is_current, is_pinned) {
                (true, _) => ", which is current",
                (false, true) => ", which is pinned",
                _ => "",
            };
            format!("generation {number} of {profile}{is}: package {package}")
        }
        Reason::Use(by) => text::path(by.as_bytes()),
    }
}
