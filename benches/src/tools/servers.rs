//! Programs that serve what others fetch, each at a port of its own on loopback, and the programs that fetch.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::time::Duration;

use super::{Cairn, Repo};
use crate::error::{Error, Result};
use crate::harness::{Janitor, Line, Service};

const READY_WITHIN: Duration = Duration::from_secs(30);

/// A server that answers.
pub(crate) struct Server {
    service: Service,
    address: SocketAddr,
}

impl Server {
    /// `cairn serve` of a store.
    pub(crate) fn cairn(cairn: &Cairn, repo: &Repo, janitor: &Janitor) -> Result<Server> {
        let address = free_address()?;
        Server::start(cairn.serve(repo, address), address, janitor)
    }

    /// The same, with deltas made ahead from so many versions.
    pub(crate) fn cairn_prepared(
        cairn: &Cairn,
        repo: &Repo,
        janitor: &Janitor,
        versions: u32,
    ) -> Result<Server> {
        let address = free_address()?;
        Server::start(cairn.serve_prepared(repo, address, versions), address, janitor)
    }

    /// `cairn serve` of a store with the stream of a network.
    pub(crate) fn cairn_of_a_network(cairn: &Cairn, repo: &Repo, janitor: &Janitor) -> Result<Server> {
        let address = free_address()?;
        Server::start(cairn.serve_network(repo, address), address, janitor)
    }

    /// nginx that serves the files of `folder`, with the settings that a distribution gives it.
    pub(crate) fn nginx(folder: &Path, state: &Path, janitor: &Janitor) -> Result<Server> {
        let address = free_address()?;
        std::fs::create_dir_all(state).map_err(Error::io("make the folder", state))?;
        let (folder, state_text) = (folder.display(), state.display());
        let config = format!(
            "user root; worker_processes auto; pid {state_text}/pid; error_log {state_text}/error.log;\n\
             events {{ worker_connections 1024; }}\n\
             http {{\n  access_log off; sendfile on; tcp_nopush on; default_type application/octet-stream;\n  \
             client_body_temp_path {state_text}/body; proxy_temp_path {state_text}/proxy;\n  \
             fastcgi_temp_path {state_text}/fastcgi; uwsgi_temp_path {state_text}/uwsgi; \
             scgi_temp_path {state_text}/scgi;\n  \
             server {{ listen {address}; root {folder}; }}\n}}\n"
        );
        let path = state.join("nginx.conf");
        std::fs::write(&path, config).map_err(Error::io("write", &path))?;
        let line = Line::new("nginx").arg("-c").arg(&path).arg("-p").arg(state).args(["-g", "daemon off;"]);
        Server::start(line, address, janitor)
    }

    /// An rsync daemon whose module `tree` is `folder`.
    pub(crate) fn rsync(folder: &Path, state: &Path, janitor: &Janitor) -> Result<Server> {
        let address = free_address()?;
        std::fs::create_dir_all(state).map_err(Error::io("make the folder", state))?;
        let config = format!(
            "use chroot = no\nuid = root\ngid = root\n[tree]\npath = {}\nread only = yes\n",
            folder.display()
        );
        let path = state.join("rsyncd.conf");
        std::fs::write(&path, config).map_err(Error::io("write", &path))?;
        let mut config = std::ffi::OsString::from("--config=");
        config.push(&path);
        let line = Line::new("rsync").args(["--daemon", "--no-detach"]).arg(config);
        let line = line.arg(format!("--address={}", address.ip())).arg(format!("--port={}", address.port()));
        Server::start(line, address, janitor)
    }

    /// An `sshd` for root with keys of its own, in `keys`; `keys/config` is what its clients need, for the host `builder`.
    pub(crate) fn sshd(keys: &Path, janitor: &Janitor) -> Result<Server> {
        let address = free_address()?;
        std::fs::create_dir_all(keys).map_err(Error::io("make the folder", keys))?;
        for name in ["host", "user"] {
            let line =
                Line::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(keys.join(name));
            line.run()?;
        }
        let text = |name: &str| {
            let path = keys.join(name);
            std::fs::read_to_string(&path).map_err(Error::io("read", &path))
        };
        let known = format!("builder {}", text("host.pub")?);
        let (dir, user) = (keys.display(), text("user.pub")?);
        let client = format!(
            "Host builder\n  HostName {}\n  User root\n  IdentityFile {dir}/user\n  IdentitiesOnly yes\n  \
             UserKnownHostsFile {dir}/known\n  HostKeyAlias builder\n",
            address.ip()
        );
        let server = format!(
            "ListenAddress {address}\nHostKey {dir}/host\nAuthorizedKeysFile {dir}/authorized\nPidFile none\n\
             PermitRootLogin prohibit-password\nStrictModes no\nUsePAM no\n"
        );
        for (name, content) in [("authorized", user), ("known", known), ("config", client), ("sshd", server)]
        {
            let path = keys.join(name);
            std::fs::write(&path, content).map_err(Error::io("write", &path))?;
        }
        // Where it gives up its rights; the distribution makes it with the service.
        std::fs::create_dir_all("/run/sshd").map_err(Error::io("make the folder", Path::new("/run/sshd")))?;
        let line = Line::new("/usr/sbin/sshd").args(["-D", "-e", "-f"]).arg(keys.join("sshd"));
        Server::start(line, address, janitor)
    }

    fn start(line: Line, address: SocketAddr, janitor: &Janitor) -> Result<Server> {
        let mut service = Service::start(line, janitor)?;
        service.wait_until(READY_WITHIN, || TcpStream::connect(address).is_ok())?;
        Ok(Server { service, address })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn service(&self) -> &Service {
        &self.service
    }
}

/// One that nobody listens at; somebody may before it is used, and then the server says so.
fn free_address() -> Result<SocketAddr> {
    let free = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr();
    free().map_err(Error::io("find a port for", Path::new("a server")))
}

/// Downloads each address, one after the other over one connection, and throws the bytes away.
pub(crate) fn curl(urls: impl IntoIterator<Item = String>) -> Line {
    let line = Line::new("curl").args(["--silent", "--show-error", "--fail"]);
    urls.into_iter().fold(line, |line, url| line.arg(url).args(["--output", "/dev/null"]))
}

/// Downloads one address so many times side by side.
pub(crate) fn curl_at_once(url: &str, times: usize) -> Line {
    let line = Line::new("curl").args(["--silent", "--show-error", "--fail", "--parallel"]);
    let line = line.arg("--parallel-immediate").args(["--parallel-max", &times.to_string()]);
    (0..times).fold(line, |line, _| line.arg(url).args(["--output", "/dev/null"]))
}

/// Brings the module `tree` of a daemon into a folder, compressed, only what differs.
pub(crate) fn rsync(server: SocketAddr, into: &Path) -> Line {
    // Times differ and sizes may be the same: what is compared is content.
    let line = Line::new("rsync").args(["--archive", "--compress", "--checksum", "--delete"]);
    line.arg(format!("rsync://{server}/tree/")).arg(into)
}
