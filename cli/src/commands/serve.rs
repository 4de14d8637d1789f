//! `cairn serve`: let other machines pull from this store, and push to it. What it takes is what `daemon` takes too.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZero;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use cairn_server::DeltaServing;
use cairn_store::StreamBounds;
use cairn_store::delta::Effort;
use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};

use crate::daemon::{CollectorArgs, ConfigArgs, OptimiserArgs, ScrubArgs};
use crate::text;

const EXAMPLES: &str = "\
This is `cairn daemon` with --listen and without mounts: commands on this store are carried out by it while it runs.
On an address of this machine alone (127.0.0.1, ::1) everybody may read, and who has a token that may publish may push;
with --token-file nobody reads without one either. An address that other machines reach takes TLS and a token, unless
--insecure-public says that neither is wanted.

Examples:
  cairn serve                                      at http://127.0.0.1:7001
  cairn token create --scope read > token
  cairn serve --listen 0.0.0.0:7001 --tls-cert cert.pem --tls-key key.pem
  cairn serve --prepare-deltas 3                   what peers upgrade by is ready before they ask
  cairn serve --bandwidth 50M --bandwidth-client 10M
  cairn daemon --takeover --listen 127.0.0.1:7001  where a daemon runs already";

/// The port where nothing else is said.
const PORT: u16 = 7001;

/// Let peers pull from this store and push to it, until told to stop
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ServeArgs {
    #[command(flatten)]
    pub(crate) serve: ServeOptions,
    #[command(flatten)]
    pub(crate) collector: CollectorArgs,
    #[command(flatten)]
    pub(crate) optimiser: OptimiserArgs,
    #[command(flatten)]
    pub(crate) scrub: ScrubArgs,
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
    /// How long commands and transfers may take to end when it stops or is taken over [default: 10s]
    #[arg(long, env = "CAIRN_GRACE", value_name = "DURATION", value_parser = text::parse_duration, hide_env_values = true)]
    pub(crate) grace: Option<Duration>,
    /// Go on in the background: this command ends when the server is ready
    #[arg(long)]
    pub(crate) detach: bool,
    /// This is the process of its own
    #[arg(long, hide = true)]
    pub(crate) detached: bool,
}

/// How peers are served. What is not said is the usual, or stays as it was at a takeover.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args, Serialize, Deserialize)]
#[command(next_help_heading = "Serving peers")]
#[serde(default)]
pub(crate) struct ServeOptions {
    /// Where peers connect: ADDRESS or ADDRESS:PORT, or `off` [the port is $HTTP_PORT, else 7001]
    #[arg(long, env = "CAIRN_LISTEN", value_name = "ADDRESS", hide_env_values = true)]
    pub(crate) listen: Option<ListenArg>,
    /// The certificate and those that lead from it to a root, PEM; it is read again when it changes
    #[arg(long, env = "CAIRN_TLS_CERT", value_name = "FILE", requires = "tls_key", hide_env_values = true)]
    pub(crate) tls_cert: Option<PathBuf>,
    /// The certificate's private key, PEM
    #[arg(long, env = "CAIRN_TLS_KEY", value_name = "FILE", requires = "tls_cert", hide_env_values = true)]
    pub(crate) tls_key: Option<PathBuf>,
    /// Let only clients in with a certificate that these have signed, PEM
    #[arg(long, env = "CAIRN_CLIENT_CA", value_name = "FILE", requires = "tls_cert", hide_env_values = true)]
    pub(crate) client_ca: Option<PathBuf>,
    /// Let only those in who have a token of this file; `cairn token` makes them [default: tokens.json in the store]
    #[arg(long, env = "CAIRN_TOKENS", value_name = "FILE", hide_env_values = true)]
    pub(crate) token_file: Option<PathBuf>,
    /// Listen where other machines connect even without TLS and tokens: everybody there can read everything
    #[arg(
        long,
        env = "CAIRN_INSECURE_PUBLIC",
        value_parser = clap::builder::FalseyValueParser::new(),
        hide_env_values = true
    )]
    pub(crate) insecure_public: bool,
    /// Proxies in front whose X-Forwarded-For says who asks; separated by commas
    #[arg(
        long,
        env = "CAIRN_PROXIES",
        value_name = "ADDRESS",
        value_delimiter = ',',
        hide_env_values = true
    )]
    pub(crate) proxy: Vec<IpAddr>,
    #[command(flatten)]
    #[serde(flatten)]
    pub(crate) limits: LimitOptions,
    #[command(flatten)]
    #[serde(flatten)]
    pub(crate) deltas: DeltaOptions,
    /// What is kept of each stream of events; the oldest go [default: 1G]
    #[arg(long, env = "CAIRN_STREAM_BYTES_MAX", value_name = "SIZE", value_parser = text::parse_size, hide_env_values = true)]
    pub(crate) stream_bytes_max: Option<u64>,
    /// Serve the programs that lie in this folder as NAME-VERSION-PLATFORM-ARCH by the binary API too
    #[arg(long, env = "BINARIES_DIR", value_name = "DIR", hide_env_values = true)]
    pub(crate) binaries_dir: Option<PathBuf>,
}

/// How versions are told in terms of others to peers that have these.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args, Serialize, Deserialize)]
#[command(next_help_heading = "Deltas for peers")]
#[serde(default)]
pub(crate) struct DeltaOptions {
    /// Make deltas to each latest version, and to each that a channel names, from so many versions before it at once, and
    /// not when the first peer asks [default: 0]
    #[arg(long, env = "CAIRN_PREPARE_DELTAS", value_name = "K", hide_env_values = true)]
    pub(crate) prepare_deltas: Option<usize>,
    /// How hard it is tried to make them small [default: normal]
    #[arg(long, env = "CAIRN_DELTA_EFFORT", value_name = "EFFORT", hide_env_values = true)]
    pub(crate) delta_effort: Option<EffortArg>,
    /// Bytes of deltas that are kept; with 0 none are made [default: 1G]
    #[arg(long, env = "CAIRN_DELTA_CACHE", value_name = "SIZE", value_parser = text::parse_size, hide_env_values = true)]
    pub(crate) delta_cache: Option<u64>,
    /// Memory that making one may take; executables for which it does not do are told without prediction [default: 1G]
    #[arg(long, env = "CAIRN_DELTA_MEMORY", value_name = "SIZE", value_parser = text::parse_size, hide_env_values = true)]
    pub(crate) delta_memory: Option<u64>,
    /// How long making one may take [default: 3m]
    #[arg(long, env = "CAIRN_DELTA_TIME", value_name = "DURATION", value_parser = text::parse_duration, hide_env_values = true)]
    pub(crate) delta_time: Option<Duration>,
}

/// `--delta-effort`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum EffortArg {
    /// Similar chunks alone, found and compressed quickly
    Fast,
    /// Executables are predicted from their older versions
    Normal,
    /// Whatever makes it smaller
    Max,
}

impl From<EffortArg> for Effort {
    fn from(effort: EffortArg) -> Self {
        match effort {
            EffortArg::Fast => Self::Fast,
            EffortArg::Normal => Self::Normal,
            EffortArg::Max => Self::Max,
        }
    }
}

impl DeltaOptions {
    fn or(self, before: Self) -> Self {
        Self {
            prepare_deltas: self.prepare_deltas.or(before.prepare_deltas),
            delta_effort: self.delta_effort.or(before.delta_effort),
            delta_cache: self.delta_cache.or(before.delta_cache),
            delta_memory: self.delta_memory.or(before.delta_memory),
            delta_time: self.delta_time.or(before.delta_time),
        }
    }

    /// As the server takes them.
    pub(crate) fn serving(&self) -> DeltaServing {
        let usual = DeltaServing::default();
        DeltaServing {
            effort: self.delta_effort.map_or(usual.effort, Effort::from),
            prepare: self.prepare_deltas.unwrap_or(usual.prepare),
            kept_bytes_max: self.delta_cache.unwrap_or(usual.kept_bytes_max),
            file_max: self.delta_memory.map_or(usual.file_max, |memory| memory / DeltaServing::MEMORY_FACTOR),
            time_max: self.delta_time.unwrap_or(usual.time_max),
        }
    }
}

/// What peers may take.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args, Serialize, Deserialize)]
#[command(next_help_heading = "Limits of peers")]
#[serde(default)]
pub(crate) struct LimitOptions {
    /// Requests of one client in a second, on average [default: 200]
    #[arg(long, env = "CAIRN_RATE", value_name = "N", hide_env_values = true)]
    pub(crate) rate: Option<NonZero<u32>>,
    /// Bytes a second of all transfers together, each way: 50M [default: no limit]
    #[arg(long, env = "CAIRN_BANDWIDTH", value_name = "RATE", value_parser = text::parse_rate, hide_env_values = true)]
    pub(crate) bandwidth: Option<u64>,
    /// Bytes a second of one client's transfers, each way [default: no limit]
    #[arg(long, env = "CAIRN_BANDWIDTH_CLIENT", value_name = "RATE", value_parser = text::parse_rate, hide_env_values = true)]
    pub(crate) bandwidth_client: Option<u64>,
    /// Transfers at a time [default: 256]
    #[arg(long, env = "CAIRN_TRANSFERS", value_name = "N", hide_env_values = true)]
    pub(crate) transfers: Option<NonZero<usize>>,
    /// Transfers of one client at a time [default: 128]
    #[arg(long, env = "CAIRN_TRANSFERS_CLIENT", value_name = "N", hide_env_values = true)]
    pub(crate) transfers_client: Option<NonZero<usize>>,
    /// Uploads at a time [default: 16]
    #[arg(long, env = "CAIRN_UPLOADS", value_name = "N", hide_env_values = true)]
    pub(crate) uploads: Option<NonZero<usize>>,
    /// Bytes of one upload [default: 1T]
    #[arg(long, env = "CAIRN_UPLOAD_MAX", value_name = "SIZE", value_parser = text::parse_size, hide_env_values = true)]
    pub(crate) upload_max: Option<u64>,
    /// Connections at a time [default: 8192]
    #[arg(long, env = "CAIRN_CONNECTIONS", value_name = "N", hide_env_values = true)]
    pub(crate) connections: Option<NonZero<usize>>,
    /// Requests at a time [default: 2048]
    #[arg(long, env = "CAIRN_REQUESTS", value_name = "N", hide_env_values = true)]
    pub(crate) requests: Option<NonZero<usize>>,
    /// Requests of one client at a time [default: 512]
    #[arg(long, env = "CAIRN_REQUESTS_CLIENT", value_name = "N", hide_env_values = true)]
    pub(crate) requests_client: Option<NonZero<usize>>,
    /// Bytes of a request's head [default: 32K]
    #[arg(long, env = "CAIRN_HEAD_MAX", value_name = "SIZE", value_parser = text::parse_size, hide_env_values = true)]
    pub(crate) head_max: Option<u64>,
    /// How long a client may take for the head of a request [default: 10s]
    #[arg(long, env = "CAIRN_HEAD_TIME", value_name = "DURATION", value_parser = text::parse_duration, hide_env_values = true)]
    pub(crate) head_time: Option<Duration>,
    /// How long an answer may take to begin [default: 60s]
    #[arg(long, env = "CAIRN_REQUEST_TIME", value_name = "DURATION", value_parser = text::parse_duration, hide_env_values = true)]
    pub(crate) request_time: Option<Duration>,
    /// How long a connection may be without a request [default: 60s]
    #[arg(long, env = "CAIRN_IDLE_TIME", value_name = "DURATION", value_parser = text::parse_duration, hide_env_values = true)]
    pub(crate) idle_time: Option<Duration>,
    /// How long a client may take or send next to nothing of a transfer [default: 30s]
    #[arg(long, env = "CAIRN_STALL_TIME", value_name = "DURATION", value_parser = text::parse_duration, hide_env_values = true)]
    pub(crate) stall_time: Option<Duration>,
}

/// `--listen`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) enum ListenArg {
    /// Nowhere.
    Off,
    /// Here; the port is another's to say where there is none.
    At(IpAddr, Option<u16>),
}

impl FromStr for ListenArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let host = |text: &str| match text {
            "localhost" => Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            other => other.trim_start_matches('[').trim_end_matches(']').parse().ok(),
        };
        if text == "off" {
            return Ok(Self::Off);
        }
        if let Some(address) = host(text) {
            return Ok(Self::At(address, None));
        }
        let malformed = || "an address looks like 127.0.0.1:7001, [::1]:7001 or 0.0.0.0".to_owned();
        let (address, port) = text.rsplit_once(':').ok_or_else(malformed)?;
        let port = port.parse().map_err(|_| malformed())?;
        host(address).map(|address| Self::At(address, Some(port))).ok_or_else(malformed)
    }
}

impl std::fmt::Display for ListenArg {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::At(address, None) => address.fmt(f),
            Self::At(address, Some(port)) => SocketAddr::new(*address, *port).fmt(f),
        }
    }
}

impl From<SocketAddr> for ListenArg {
    fn from(address: SocketAddr) -> Self {
        Self::At(address.ip(), Some(address.port()))
    }
}

impl TryFrom<String> for ListenArg {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<ListenArg> for String {
    fn from(listen: ListenArg) -> Self {
        listen.to_string()
    }
}

impl ServeOptions {
    /// Where to listen, if anywhere. `is_wanted`: on this machine if nothing is said. `port` is what `HTTP_PORT` says.
    pub(crate) fn address(&self, is_wanted: bool, port: Option<u16>) -> Option<SocketAddr> {
        let here = ListenArg::At(Ipv4Addr::LOCALHOST.into(), None);
        match self.listen.or_else(|| (is_wanted || port.is_some()).then_some(here))? {
            ListenArg::Off => None,
            ListenArg::At(address, said) => Some(SocketAddr::new(address, said.or(port).unwrap_or(PORT))),
        }
    }

    /// These, and where they say nothing those of `before`.
    pub(crate) fn or(self, before: &Self) -> Self {
        let before = before.clone();
        // Certificate, key and authority go together.
        let tls = if self.tls_cert.is_some() { &self } else { &before };
        let (tls_cert, tls_key, client_ca) =
            (tls.tls_cert.clone(), tls.tls_key.clone(), tls.client_ca.clone());
        Self {
            // Who names another place says anew whether it may be an open one.
            insecure_public: self.insecure_public || self.listen.is_none() && before.insecure_public,
            listen: self.listen.or(before.listen),
            tls_cert,
            tls_key,
            client_ca,
            token_file: self.token_file.or(before.token_file),
            proxy: if self.proxy.is_empty() { before.proxy } else { self.proxy },
            limits: self.limits.or(before.limits),
            deltas: self.deltas.or(before.deltas),
            stream_bytes_max: self.stream_bytes_max.or(before.stream_bytes_max),
            binaries_dir: self.binaries_dir.or(before.binaries_dir),
        }
    }

    /// How much is kept of each stream.
    pub(crate) fn stream_bounds(&self) -> StreamBounds {
        self.stream_bytes_max.map_or_else(StreamBounds::default, |bytes_max| StreamBounds { bytes_max })
    }

    /// Makes paths mean the same to whoever takes them over.
    pub(crate) fn make_paths_absolute(&mut self) -> std::io::Result<()> {
        let paths = [
            &mut self.tls_cert,
            &mut self.tls_key,
            &mut self.client_ca,
            &mut self.token_file,
            &mut self.binaries_dir,
        ];
        for path in paths.into_iter().flatten() {
            *path = std::path::absolute(&*path)?;
        }
        Ok(())
    }
}

impl LimitOptions {
    fn or(self, before: Self) -> Self {
        Self {
            rate: self.rate.or(before.rate),
            bandwidth: self.bandwidth.or(before.bandwidth),
            bandwidth_client: self.bandwidth_client.or(before.bandwidth_client),
            transfers: self.transfers.or(before.transfers),
            transfers_client: self.transfers_client.or(before.transfers_client),
            uploads: self.uploads.or(before.uploads),
            upload_max: self.upload_max.or(before.upload_max),
            connections: self.connections.or(before.connections),
            requests: self.requests.or(before.requests),
            requests_client: self.requests_client.or(before.requests_client),
            head_max: self.head_max.or(before.head_max),
            head_time: self.head_time.or(before.head_time),
            request_time: self.request_time.or(before.request_time),
            idle_time: self.idle_time.or(before.idle_time),
            stall_time: self.stall_time.or(before.stall_time),
        }
    }
}

/// The port that `$HTTP_PORT` names.
pub(crate) fn http_port() -> anyhow::Result<Option<u16>> {
    let Some(text) = std::env::var_os("HTTP_PORT").filter(|text| !text.is_empty()) else { return Ok(None) };
    let port = text.to_str().and_then(|text| text.parse().ok());
    port.map(Some).ok_or_else(|| {
        let problem = format!("$HTTP_PORT is {}, which is no port", text.display());
        crate::error::Usage { problem, hint: "it is a number up to 65535" }.into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listen(text: &str) -> Option<ListenArg> {
        text.parse().ok()
    }

    #[test]
    fn addresses_are_read_with_and_without_a_port() {
        for text in ["127.0.0.1:7001", "0.0.0.0", "[::1]:80", "::", "off"] {
            assert_eq!(listen(text).map(|listen| listen.to_string()).as_deref(), Some(text));
        }
        assert_eq!(listen("localhost:1"), listen("127.0.0.1:1"));
        for bad in ["", "7001", ":7001", "host:80", "127.0.0.1:", "127.0.0.1:65536", "1.2.3"] {
            assert_eq!(listen(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_port_is_the_address_s_else_the_environment_s_else_the_usual() {
        let at = |text: &str, is_wanted, port| {
            let options = ServeOptions { listen: listen(text), ..ServeOptions::default() };
            options.address(is_wanted, port).map(|address| address.to_string())
        };
        assert_eq!(at("", true, None).as_deref(), Some("127.0.0.1:7001"));
        assert_eq!(at("", false, None), None);
        assert_eq!(at("", false, Some(80)).as_deref(), Some("127.0.0.1:80"));
        assert_eq!(at("0.0.0.0", true, Some(80)).as_deref(), Some("0.0.0.0:80"));
        assert_eq!(at("[::]:0", true, Some(80)).as_deref(), Some("[::]:0"));
        assert_eq!(at("off", true, Some(80)), None);
    }

    #[test]
    fn what_is_not_said_stays_as_it_was() {
        let before = ServeOptions {
            listen: listen("0.0.0.0:1"),
            insecure_public: true,
            limits: LimitOptions { bandwidth: Some(7), ..LimitOptions::default() },
            ..ServeOptions::default()
        };
        assert_eq!(ServeOptions::default().or(&before), before);
        let elsewhere = ServeOptions { listen: listen("0.0.0.0:2"), ..ServeOptions::default() };
        let after = elsewhere.or(&before);
        assert_eq!((after.insecure_public, after.limits.bandwidth), (false, Some(7)));
        let text = serde_json::to_string(&before).unwrap();
        assert_eq!(serde_json::from_str::<ServeOptions>(&text).unwrap(), before);
    }
}
