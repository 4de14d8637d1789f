//! Whether pulls ask for deltas.

use std::time::Duration;

use cairn_net::DeltaUse;
use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};

use crate::text;

/// Whether what lacks is told in terms of what is here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum DeltaMode {
    /// Where a peer tells it so in time
    #[default]
    Auto,
    /// Chunks as they are
    Never,
}

/// How a pull uses deltas.
#[derive(Debug, Clone, Default, Args, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct DeltaArgs {
    /// Whether chunks that lack may come in terms of a version that is here [default: auto]
    #[arg(long, env = "CAIRN_DELTA", value_name = "WHEN", hide_env_values = true)]
    delta: Option<DeltaMode>,
    /// How long to wait for a peer that has to make the delta first [default: 30s]
    #[arg(long, env = "CAIRN_DELTA_WAIT", value_name = "DURATION", value_parser = text::parse_duration, hide_env_values = true)]
    delta_wait: Option<Duration>,
}

impl DeltaArgs {
    pub(crate) fn wanted(&self) -> DeltaUse {
        let usual = DeltaUse::default();
        DeltaUse {
            is_wanted: self.delta.unwrap_or_default() == DeltaMode::Auto,
            wait: self.delta_wait.unwrap_or(usual.wait),
        }
    }
}
