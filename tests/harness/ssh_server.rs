//! A real `sshd` on loopback, with keys and a configuration of its own, for tests and benches of any crate: it needs nothing but the
//! standard library, and is taken in with `#[path]`.
//!
//! It listens on a port that was free, is told by its own words when it is ready, and is killed with all its connections when
//! it is dropped. Whoever connects is in a home of the test's choosing, with a `PATH` of the test's choosing.

#![allow(dead_code, reason = "each test takes what it needs")]

use std::fs;
use std::io::{self, BufRead, BufReader};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How long it has until it listens.
const START_MAX: Duration = Duration::from_secs(20);
/// How often another port is tried when somebody else was faster.
const PORTS_MAX: usize = 5;

/// A running server.
pub struct SshServer {
    folder: PathBuf,
    sshd: Child,
    port: u16,
    log: Arc<Mutex<Vec<String>>>,
}

impl SshServer {
    /// What the client's configuration calls it.
    pub const HOST: &str = "build";

    /// Whether the programs are installed; else it is said that a test is skipped.
    pub fn is_installed() -> bool {
        let is_there = sshd().is_some() && ["ssh", "ssh-keygen"].iter().all(|name| find(name).is_some());
        if !is_there {
            eprintln!("SKIPPED: openssh-server or openssh-client is not installed");
        }
        is_there
    }

    /// Starts one that keeps its files in `folder`, an empty folder that is there. Its home is `folder/home`.
    pub fn start(folder: &Path) -> io::Result<Self> {
        let path = std::env::var("PATH").unwrap_or_else(|_| "/usr/bin:/bin".to_owned());
        Self::start_with_path(folder, &path)
    }

    /// Starts one whose sessions have this `PATH`.
    pub fn start_with_path(folder: &Path, path: &str) -> io::Result<Self> {
        let missing = |what: &str| io::Error::other(format!("{what} is not installed"));
        let program = sshd().ok_or_else(|| missing("sshd"))?;
        fs::create_dir_all(folder.join("home"))?;
        for key in ["host", "client"] {
            let file = folder.join(key);
            let made = Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-C", key, "-f"])
                .arg(&file)
                .stdin(Stdio::null())
                .output()?;
            if !made.status.success() {
                return Err(io::Error::other(String::from_utf8_lossy(&made.stderr).into_owned()));
            }
        }
        fs::copy(folder.join("client.pub"), folder.join("authorized_keys"))?;
        // Where sshd, run by root, goes before anybody is known.
        let _ = fs::create_dir_all("/run/sshd");
        let entry = folder.join("entry");
        let home = quoted(&folder.join("home"));
        fs::write(
            &entry,
            format!(
                "#!/bin/sh\ncd {home} || exit\nHOME={home}\nPATH={}\nexport HOME PATH\nexec /bin/sh -c \"$SSH_ORIGINAL_COMMAND\"\n",
                quote(path)
            ),
        )?;
        fs::set_permissions(&entry, fs::Permissions::from_mode(0o755))?;
        let mut failure = io::Error::other("no port is free");
        for _ in 0..PORTS_MAX {
            let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
            match Self::listen(&program, folder, port) {
                Ok(server) => return Ok(server),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    /// The client and its options: `ssh -F FILE`.
    pub fn client(&self) -> Vec<String> {
        vec!["ssh".to_owned(), "-F".to_owned(), self.client_config().display().to_string()]
    }

    /// The client's configuration, in which the server is [`HOST`](Self::HOST).
    pub fn client_config(&self) -> PathBuf {
        self.folder.join("ssh_config")
    }

    /// Where whoever connects is.
    pub fn home(&self) -> PathBuf {
        self.folder.join("home")
    }

    /// Where it listens, on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What it said so far, a line each.
    pub fn log(&self) -> Vec<String> {
        self.log.lock().expect("nobody panics with it").clone()
    }

    /// Connections that it took.
    pub fn connections(&self) -> usize {
        self.log().iter().filter(|line| line.starts_with("Accepted publickey")).count()
    }

    /// Ends the connections that are open now, as a network does that breaks; says how many there were.
    pub fn break_connections(&self) -> usize {
        let children = children(self.sshd.id());
        children.iter().for_each(|pid| kill_tree(*pid));
        children.len()
    }

    fn listen(program: &Path, folder: &Path, port: u16) -> io::Result<Self> {
        let file = |name: &str| folder.join(name).display().to_string();
        let user = output(Command::new("id").arg("-un"))?;
        // With that level, bash does not take itself for one that sshd has started, and leaves ~/.bashrc unread.
        let config = format!(
            "ListenAddress 127.0.0.1:{port}\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\nStrictModes no\nUsePAM no\n\
             PasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\nPermitUserRC no\n\
             SetEnv SHLVL=2\nPrintMotd no\nMaxStartups 100\nLogLevel INFO\nForceCommand {}\n",
            file("host"),
            file("authorized_keys"),
            quoted(&folder.join("entry")),
        );
        fs::write(folder.join("sshd_config"), config)?;
        let key = fs::read_to_string(folder.join("host.pub"))?;
        fs::write(folder.join("known_hosts"), format!("[127.0.0.1]:{port} {key}"))?;
        let config = format!(
            "Host {}\n HostName 127.0.0.1\n Port {port}\n User {user}\nHost 127.0.0.1\n Port {port}\nHost *\n IdentityFile {}\n \
             IdentitiesOnly yes\n IdentityAgent none\n UserKnownHostsFile {}\n GlobalKnownHostsFile none\n \
             StrictHostKeyChecking yes\n BatchMode yes\n",
            Self::HOST,
            file("client"),
            file("known_hosts"),
        );
        fs::write(folder.join("ssh_config"), config)?;
        let mut sshd = Command::new(program)
            .args(["-D", "-e", "-f", &file("sshd_config")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let said = BufReader::new(sshd.stderr.take().expect("it is piped"));
        let log = Arc::new(Mutex::new(Vec::new()));
        let server = Self { folder: folder.to_owned(), sshd, port, log: Arc::clone(&log) };
        let (ready, is_ready) = mpsc::channel();
        std::thread::spawn(move || {
            for line in said.lines().map_while(Result::ok) {
                let is_listening = line.starts_with("Server listening on");
                log.lock().expect("nobody panics with it").push(line);
                if is_listening {
                    let _ = ready.send(());
                }
            }
        });
        match is_ready.recv_timeout(START_MAX) {
            Ok(()) => Ok(server),
            Err(_) => Err(io::Error::other(format!("sshd does not listen: {:?}", server.log()))),
        }
    }
}

impl Drop for SshServer {
    fn drop(&mut self) {
        self.break_connections();
        let _ = self.sshd.kill();
        let _ = self.sshd.wait();
    }
}

fn sshd() -> Option<PathBuf> {
    let usual = ["/usr/sbin/sshd", "/usr/local/sbin/sshd", "/usr/bin/sshd"].map(PathBuf::from);
    usual.into_iter().find(|path| path.exists()).or_else(|| find("sshd"))
}

fn find(program: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?).map(|dir| dir.join(program)).find(|path| path.exists())
}

fn output(command: &mut Command) -> io::Result<String> {
    let output = command.stdin(Stdio::null()).output()?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn quoted(path: &Path) -> String {
    quote(&path.display().to_string())
}

fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

fn children(pid: u32) -> Vec<u32> {
    let listed = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    listed.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

/// Ends a process that this one started through others, and all below it.
fn kill_tree(pid: u32) {
    for child in children(pid) {
        kill_tree(child);
    }
    let _ = Command::new("kill").args(["-9", &pid.to_string()]).stderr(Stdio::null()).status();
}
