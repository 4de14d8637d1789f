//! TLS and HTTP/2.

use std::path::PathBuf;

use cairn_server::{PeerLimits, TlsFiles};
use harness::program::until;
use harness::scratch::Scratch;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use reqwest::{Certificate, Client, Identity, StatusCode, Version};

use crate::served::{Folder, Served, Setup};

/// An authority, and who it vouches for.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        Self { issuer }
    }

    /// Certificate and key, PEM.
    fn issue(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new([name.to_owned()]).unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }

    fn pem(&self) -> String {
        self.issuer.pem()
    }
}

fn write(scratch: &Scratch, name: &str, text: &str) -> PathBuf {
    let path = scratch.join(name);
    std::fs::write(&path, text).unwrap();
    path
}

fn files(scratch: &Scratch, authority: &Authority, client_ca: Option<&Authority>) -> TlsFiles {
    let (cert, key) = authority.issue("localhost");
    TlsFiles {
        cert: write(scratch, "cert.pem", &cert),
        key: write(scratch, "key.pem", &key),
        client_ca: client_ca.map(|ca| write(scratch, "client-ca.pem", &ca.pem())),
    }
}

fn builder(served: &Served, authority: &Authority) -> reqwest::ClientBuilder {
    // Another test may have been first.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let root = Certificate::from_pem(authority.pem().as_bytes()).unwrap();
    Client::builder().tls_certs_only([root]).resolve("localhost", served.address).no_proxy()
}

async fn ask(client: Client, served: &Served) -> Result<(StatusCode, Version), reqwest::Error> {
    let answer = client.get(format!("https://localhost:{}/v1/peer", served.address.port())).send().await?;
    Ok((answer.status(), answer.version()))
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

#[test]
fn both_versions_of_http_over_tls() {
    let (folder, authority) = (Folder::new(), Authority::new());
    let tls = Some(files(&folder.scratch, &authority, None));
    let served = folder.serve(Setup { tls, ..Setup::default() });
    block_on(async {
        let client = builder(&served, &authority).build().unwrap();
        assert_eq!(ask(client, &served).await.unwrap(), (StatusCode::OK, Version::HTTP_2));
        let client = builder(&served, &authority).http1_only().build().unwrap();
        assert_eq!(ask(client, &served).await.unwrap(), (StatusCode::OK, Version::HTTP_11));
        let stranger = builder(&served, &Authority::new()).build().unwrap();
        ask(stranger, &served).await.unwrap_err();
    });
    // Who speaks no TLS gets none of it.
    let mut plain = crate::http::connect(served.address);
    crate::http::send(&mut plain, "GET", "/v1/peer", &[], b"");
    crate::http::receive(&mut plain, false).unwrap_err();
}

#[test]
fn a_client_without_its_certificate_is_not_heard() {
    let (folder, authority, clients) = (Folder::new(), Authority::new(), Authority::new());
    let tls = Some(files(&folder.scratch, &authority, Some(&clients)));
    let served = folder.serve(Setup { tls, ..Setup::default() });
    let identity = |(cert, key): (String, String)| Identity::from_pem((cert + &key).as_bytes()).unwrap();
    block_on(async {
        let client = builder(&served, &authority).identity(identity(clients.issue("a"))).build().unwrap();
        assert_eq!(ask(client, &served).await.unwrap().0, StatusCode::OK);
        let nobody = builder(&served, &authority).build().unwrap();
        ask(nobody, &served).await.unwrap_err();
        let other = identity(Authority::new().issue("a"));
        let stranger = builder(&served, &authority).identity(other).build().unwrap();
        ask(stranger, &served).await.unwrap_err();
    });
}

#[test]
fn http_2_without_tls_and_many_requests_on_one_connection() {
    let folder = Folder::new();
    let artifact = folder.add("tool", "1.0", 1, 3_000_000);
    let served = folder.serve(Setup::default());
    let expected = crate::http::get(served.address, &format!("/v1/delta/none/{artifact}")).body;
    block_on(async {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder().http2_prior_knowledge().no_proxy().build().unwrap();
        let url = format!("http://{}/v1/delta/none/{artifact}", served.address);
        let before = served.metric("cairn_connections_total");
        let asked = (0..20).map(|_| async {
            let answer = client.get(&url).send().await.unwrap();
            assert_eq!(answer.version(), Version::HTTP_2);
            answer.bytes().await.unwrap()
        });
        for body in futures_util::future::join_all(asked).await {
            assert!(body == expected);
        }
        assert!(served.metric("cairn_connections_total") - before <= 4.0);
    });
}

#[test]
fn who_takes_nothing_over_http_2_is_cut_off() {
    let folder = Folder::new();
    let artifact = folder.add("tool", "1.0", 1, 32 << 20);
    let stall_time_max = std::time::Duration::from_millis(300);
    let limits = PeerLimits { stall_time_max, ..PeerLimits::default() };
    let served = folder.serve(Setup { limits, ..Setup::default() });
    // The client's connection lives on threads of its own, and answers all but for the window.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = Client::builder().http2_prior_knowledge().no_proxy().build().unwrap();
    let url = format!("http://{}/v1/delta/none/{artifact}", served.address);
    let answer = runtime.block_on(client.get(&url).send()).unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    until("it is cut off", || served.metric("cairn_connections_closed_total{why=\"stalled\"}") >= 1.0);
    runtime.block_on(answer.bytes()).unwrap_err();
    assert_eq!(served.metric("cairn_transfers_running"), 0.0);
}

#[test]
fn files_that_do_not_fit_are_named() {
    let (folder, authority) = (Folder::new(), Authority::new());
    let good = files(&folder.scratch, &authority, None);
    let open = |tls: TlsFiles| {
        let address = "127.0.0.1:0".parse().unwrap();
        let listen = cairn_server::Listen { address, tls: Some(tls), insecure_public: false };
        let opened = cairn_server::Serving::open(&listen, &cairn_server::Access::open());
        opened.map(drop).unwrap_err().to_string()
    };
    let absent = folder.scratch.join("absent.pem");
    assert!(open(TlsFiles { cert: absent.clone(), ..good.clone() }).contains("absent.pem"));
    assert!(open(TlsFiles { cert: good.key.clone(), ..good.clone() }).contains("no certificate"));
    assert!(open(TlsFiles { key: good.cert.clone(), ..good.clone() }).contains("no private key"));
    let (_, other) = authority.issue("localhost");
    let key = write(&folder.scratch, "other.pem", &other);
    assert!(open(TlsFiles { key, ..good.clone() }).contains("cannot be used"));
    assert!(open(TlsFiles { client_ca: Some(good.key.clone()), ..good }).contains("no certificate"));
}
