//! A certificate authority, and a certificate of it for this machine.

use std::path::Path;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio_rustls::rustls::crypto::CryptoProvider;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedCipherSuite};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// An authority that has certified `localhost` and `127.0.0.1`.
pub(crate) struct Authority {
    /// The authority's own certificate.
    pub(crate) pem: String,
    certificate: rcgen::Certificate,
    key: KeyPair,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, "an authority for tests");
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a certificate");
        let names = ["localhost", "127.0.0.1"].map(str::to_owned).to_vec();
        let key = KeyPair::generate().expect("a key");
        let certificate = CertificateParams::new(names).expect("names").signed_by(&key, &issuer).expect("a signature");
        Self { pem: issuer.pem(), certificate, key }
    }

    /// Writes `server.pem`, `server.key` and `ca.pem`.
    pub(super) fn write_to(&self, directory: &Path) {
        for (name, text) in [
            ("server.pem", self.certificate.pem()),
            ("server.key", self.key.serialize_pem()),
            ("ca.pem", self.pem.clone()),
        ] {
            std::fs::write(directory.join(name), text).expect("a file");
        }
    }

    /// The client's side of TLS, which trusts this authority alone. `protocol`: what it offers by ALPN.
    pub(crate) fn connector(&self, protocol: Option<&str>) -> TlsConnector {
        let mut config = self.client(default_provider());
        config.alpn_protocols = protocol.iter().map(|name| name.as_bytes().to_vec()).collect();
        TlsConnector::from(Arc::new(config))
    }

    /// The same for a client that likes these ciphers best, the first one most.
    pub(crate) fn connector_that_prefers(&self, cipher_suites: Vec<SupportedCipherSuite>) -> TlsConnector {
        TlsConnector::from(Arc::new(self.client(CryptoProvider { cipher_suites, ..default_provider() })))
    }

    fn client(&self, provider: CryptoProvider) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.pem.as_bytes()).expect("PEM")).expect("a certificate");
        ClientConfig::builder_with_provider(Arc::new(provider))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth()
    }

    /// The server's side of TLS, HTTP/1.1 only.
    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        let key = PrivateKeyDer::try_from(self.key.serialize_der()).expect("a private key");
        let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![self.certificate.der().clone()], key)
            .expect("a certificate and its key");
        TlsAcceptor::from(Arc::new(config))
    }
}
