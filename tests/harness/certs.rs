//! Turns nothing into a CA and the certificates, good and bad, that TLS tests need.

use std::path::PathBuf;

use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, date_time_ymd};

use crate::scratch::Scratch;

/// A certificate and its key, in PEM; the key is PKCS #8, which Kafka wants.
#[derive(Clone)]
pub struct Pair {
    /// The certificate.
    pub cert_pem: String,
    /// Its private key.
    pub key_pem: String,
}

/// A certificate authority and what it has signed, also as files.
#[derive(Debug)]
pub struct Certs {
    /// The CA's own certificate.
    pub ca_pem: String,
    /// A server on `localhost` and 127.0.0.1.
    pub server: Pair,
    /// A server on another name.
    pub wrong_host: Pair,
    /// A server whose certificate ended in 2021.
    pub expired: Pair,
    /// A client with common name `relay`.
    pub client: Pair,
    /// A client and server of a CA that nobody believes.
    pub foreign: Pair,
    folder: Scratch,
}

// === impl Certs ===

impl Certs {
    /// Makes all of them.
    pub fn new() -> Certs {
        let (ca_pem, ca) = authority("relay test CA");
        let (_, other) = authority("a CA that nobody believes");
        let certs = Certs {
            server: sign(&ca, "localhost", &["localhost", "127.0.0.1"], false),
            wrong_host: sign(&ca, "elsewhere", &["elsewhere.test"], false),
            expired: sign(&ca, "localhost", &["localhost", "127.0.0.1"], true),
            client: sign(&ca, "relay", &[], false),
            foreign: sign(&other, "relay", &["localhost", "127.0.0.1"], false),
            ca_pem,
            folder: Scratch::new("certs"),
        };
        certs.folder.write("ca.pem", &certs.ca_pem);
        for (name, pair) in [("server", &certs.server), ("client", &certs.client), ("foreign", &certs.foreign)] {
            certs.folder.write(&format!("{name}.pem"), &pair.cert_pem);
            certs.folder.write(&format!("{name}.key"), &pair.key_pem);
        }
        certs
    }

    /// The path of `ca.pem`, or of `server`, `client` or `foreign` with `.pem` or `.key`.
    pub fn file(&self, name: &str) -> PathBuf {
        let path = self.folder.join(name);
        assert!(path.is_file(), "no such file among the certificates: {name}");
        path
    }
}

impl Default for Certs {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Pair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pair(certificate and key)")
    }
}

fn authority(name: &str) -> (String, Issuer<'static, KeyPair>) {
    let mut params = CertificateParams::new([]).expect("no names to check");
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign, rcgen::KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate().expect("make a key");
    let pem = params.self_signed(&key).expect("sign the CA").pem();
    (pem, Issuer::new(params, key))
}

fn sign(ca: &Issuer<'_, KeyPair>, name: &str, hosts: &[&str], is_expired: bool) -> Pair {
    let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
    let mut params = CertificateParams::new(hosts).expect("plain host names");
    params.distinguished_name.push(DnType::CommonName, name);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    (params.not_before, params.not_after) = match is_expired {
        true => (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 1, 1)),
        false => (date_time_ymd(2024, 1, 1), date_time_ymd(2090, 1, 1)),
    };
    let key = KeyPair::generate().expect("make a key");
    let cert = params.signed_by(&key, ca).expect("sign a certificate");
    Pair { cert_pem: cert.pem(), key_pem: key.serialize_pem() }
}
