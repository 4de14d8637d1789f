//! TLS of the listener: certificate and key from PEM files, and the certificates of clients if they have to have one.
//!
//! The files are read again when they change, so that a renewed certificate needs no restart. Files that do not fit then
//! leave the old ones in use, and are reported.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio_rustls::TlsAcceptor;

use crate::files::{self, Identity};

/// How often it is looked whether the files changed.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Bytes of a PEM file, at most.
const PEM_BYTES_MAX: u64 = 1 << 20;

/// The files of a listener that speaks TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate and those that lead from it to a root, PEM.
    pub cert: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
    /// Who signs the certificates of clients, PEM; then every client has to show one.
    pub client_ca: Option<PathBuf>,
}

/// Why TLS cannot be spoken.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file holds something else.
    #[error("{} holds no {what}", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// `certificate`, `private key`.
        what: &'static str,
    },
    /// They do not fit together, or are not taken.
    #[error("the certificate in {} cannot be used: {detail}", path.display())]
    Unusable {
        /// The certificate's file.
        path: PathBuf,
        /// Why.
        detail: String,
    },
}

/// What TLS is spoken with.
pub(crate) struct Tls {
    files: TlsFiles,
    /// Guards what was read of the files. A leaf lock.
    current: Mutex<Current>,
}

struct Current {
    config: Arc<ServerConfig>,
    identities: Vec<Option<Identity>>,
    looked: Instant,
}

impl Tls {
    pub(crate) fn open(files: &TlsFiles) -> Result<Self, TlsError> {
        let current =
            Current { identities: identities(files), config: config(files)?, looked: Instant::now() };
        Ok(Self { files: files.clone(), current: Mutex::new(current) })
    }

    /// For a connection that begins now.
    pub(crate) fn acceptor(&self, now: Instant) -> TlsAcceptor {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if now.duration_since(current.looked) >= LOOK_EVERY {
            current.looked = now;
            let identities = identities(&self.files);
            if identities != current.identities {
                match config(&self.files) {
                    Ok(config) => {
                        tracing::info!(cert = %self.files.cert.display(), "the certificate was read again");
                        current.config = config;
                    }
                    Err(error) => {
                        tracing::error!(%error, "the certificate that was read before stays in use")
                    }
                }
                current.identities = identities;
            }
        }
        TlsAcceptor::from(Arc::clone(&current.config))
    }
}

fn identities(files: &TlsFiles) -> Vec<Option<Identity>> {
    let paths = [Some(&files.cert), Some(&files.key), files.client_ca.as_ref()];
    paths.into_iter().flatten().map(|path| files::identity(path)).collect()
}

fn config(files: &TlsFiles) -> Result<Arc<ServerConfig>, TlsError> {
    let unusable = |error: &dyn std::fmt::Display| TlsError::Unusable {
        path: files.cert.clone(),
        detail: error.to_string(),
    };
    let certs = certificates(&files.cert)?;
    let key = PrivateKeyDer::from_pem_slice(&read(&files.key)?)
        .map_err(|_| TlsError::Pem { path: files.key.clone(), what: "private key" })?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(&error))?;
    let builder = match &files.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for cert in certificates(path)? {
                roots
                    .add(cert)
                    .map_err(|error| TlsError::Unusable { path: path.clone(), detail: error.to_string() })?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            builder.with_client_cert_verifier(verifier.map_err(|error| unusable(&error))?)
        }
    };
    let mut config = builder.with_single_cert(certs, key).map_err(|error| unusable(&error))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let bytes = read(path)?;
    let none = || TlsError::Pem { path: path.to_owned(), what: "certificate" };
    let certs: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    certs.ok().filter(|certs| !certs.is_empty()).ok_or_else(none)
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    files::read(path, PEM_BYTES_MAX).map_err(|source| TlsError::Read { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    fn write(path: &Path, text: &str) {
        let part = path.with_extension("part");
        let mut file = std::fs::File::options().write(true).create(true).truncate(true).open(&part).unwrap();
        std::io::Write::write_all(&mut file, text.as_bytes()).unwrap();
        rustix::fs::rename(&part, path).unwrap();
        assert!(std::fs::metadata(path).unwrap().size() > 0);
    }

    #[test]
    fn a_renewed_certificate_is_taken_and_a_broken_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let (cert, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
        let renew = || {
            let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
            write(&key, &made.signing_key.serialize_pem());
            write(&cert, &made.cert.pem());
        };
        renew();
        let tls = Tls::open(&TlsFiles { cert: cert.clone(), key: key.clone(), client_ca: None }).unwrap();
        let start = Instant::now();
        let at = |looks: u32| Arc::clone(tls.acceptor(start + looks * 2 * LOOK_EVERY).config());
        let first = at(1);
        renew();
        // It is not looked at each time.
        assert!(Arc::ptr_eq(&first, tls.acceptor(start + 2 * LOOK_EVERY).config()));
        let second = at(2);
        assert!(!Arc::ptr_eq(&first, &second));
        write(&cert, "no certificate");
        assert!(Arc::ptr_eq(&second, &at(3)));
        renew();
        assert!(!Arc::ptr_eq(&second, &at(4)));
    }
}
