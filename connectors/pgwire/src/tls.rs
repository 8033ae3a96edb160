//! How TLS is set up for each `sslmode`, and what its failures mean in words.

use std::path::Path;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::{CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};

use crate::certificate;
use crate::config::{Config, Host, RootCert, SslMode};
use crate::error::Error;

/// How much of the server's certificate is checked.
#[derive(Debug)]
enum Check {
    /// Only that the server holds its key.
    Nothing,
    /// The chain, not the host name.
    Chain(Arc<WebPkiServerVerifier>),
    /// Chain and host name.
    Full(Arc<WebPkiServerVerifier>),
}

/// rustls' view of `sslmode`.
#[derive(Debug)]
struct Verifier {
    check: Check,
    provider: Arc<CryptoProvider>,
}

/// The TLS client for a mode. Files are read anew at each connect, so that renewed certificates count.
pub(crate) fn client_config(config: &Config, mode: SslMode) -> Result<Arc<ClientConfig>, Error> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let check = check(config, mode, &provider)?;
    let verifier = Verifier { check, provider: Arc::clone(&provider) };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::config("sslmode", error.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let client = match (&config.ssl_cert, &config.ssl_key) {
        (Some(certificate), Some(key)) => builder
            .with_client_auth_cert(certificates("sslcert", certificate)?, private_key(key)?)
            .map_err(|error| Error::config("sslkey", format!("not usable with sslcert: {error}")))?,
        _ => builder.with_no_client_auth(),
    };
    Ok(Arc::new(client))
}

/// A session of that client with a host.
pub(crate) fn session(client: Arc<ClientConfig>, host: &Host) -> Result<ClientConnection, Error> {
    let failed = |reason: String| Error::Tls { host: host.name.clone(), reason };
    let name = ServerName::try_from(host.name.clone()).map_err(|_| failed("not a host name that TLS can carry".to_owned()))?;
    ClientConnection::new(client, name).map_err(|error| failed(error.to_string()))
}

fn check(config: &Config, mode: SslMode, provider: &Arc<CryptoProvider>) -> Result<Check, Error> {
    let verifier = || {
        let roots = Arc::new(roots(config)?);
        WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(provider))
            .build()
            .map_err(|error| Error::config("sslrootcert", error.to_string()))
    };
    match mode {
        SslMode::VerifyFull => Ok(Check::Full(verifier()?)),
        SslMode::VerifyCa => Ok(Check::Chain(verifier()?)),
        SslMode::Require if config.ssl_root_cert.is_some() => Ok(Check::Chain(verifier()?)),
        _ => Ok(Check::Nothing),
    }
}

fn roots(config: &Config) -> Result<RootCertStore, Error> {
    let mut store = RootCertStore::empty();
    let found = match &config.ssl_root_cert {
        Some(RootCert::File(path)) => certificates("sslrootcert", path)?,
        Some(RootCert::System) | None => rustls_native_certs::load_native_certs().certs,
    };
    let (added, ignored) = store.add_parsable_certificates(found);
    match (added, &config.ssl_root_cert) {
        (0, Some(RootCert::File(path))) => {
            Err(Error::config("sslrootcert", format!("{}: none of {ignored} certificates is usable", path.display())))
        }
        (0, _) => Err(Error::config("sslrootcert", "the system has no certificate authorities; name a file")),
        _ => Ok(store),
    }
}

fn certificates(parameter: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let failed = |error: &dyn std::fmt::Display| Error::config(parameter, format!("{}: {error}", path.display()));
    let found: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).map_err(|error| failed(&pem(error)))?.collect();
    let found = found.map_err(|error| failed(&pem(error)))?;
    if found.is_empty() {
        return Err(failed(&"no certificate in PEM form"));
    }
    Ok(found)
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, Error> {
    PrivateKeyDer::from_pem_file(path).map_err(|error| {
        let encrypted = std::fs::read_to_string(path).is_ok_and(|text| text.contains("ENCRYPTED"));
        let reason = match encrypted {
            true => "the key is encrypted, which is not supported".to_owned(),
            false => pem(error),
        };
        Error::config("sslkey", format!("{}: {reason}", path.display()))
    })
}

/// PEM failures without a byte of the file in them.
fn pem(error: rustls_pki_types::pem::Error) -> String {
    use rustls_pki_types::pem::Error as Pem;
    match error {
        Pem::Io(error) => error.to_string(),
        Pem::NoItemsFound => "nothing usable in PEM form".to_owned(),
        _ => "not valid PEM".to_owned(),
    }
}

// === impl Verifier ===

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let (verifier, name_counts) = match &self.check {
            Check::Nothing => return Ok(ServerCertVerified::assertion()),
            Check::Chain(verifier) => (verifier, false),
            Check::Full(verifier) => (verifier, true),
        };
        match verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            // The name is compared after the chain, so this says that the chain is good.
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if !name_counts || certificate::common_name_matches(end_entity, &server_name.to_str()) => {
                Ok(ServerCertVerified::assertion())
            }
            // webpki takes no authority's certificate for a server's, not even one that is trusted itself. The words for
            // it are made in `explain`, which sees the certificate only through this error.
            Err(error) if certificate::is_authority(end_entity) && is_role_error(&error) => {
                let own = if certificate::is_self_signed(end_entity) { "self-signed and " } else { "" };
                Err(rustls::Error::General(format!(
                    "the server's certificate is {own}marked CA:TRUE; a certificate authority's certificate cannot serve as \
                     a server's own: issue one without that mark (basicConstraints=CA:FALSE)"
                )))
            }
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => {
                let names = certificate::names(end_entity).join(", ");
                Err(rustls::Error::General(format!(
                    "the server's certificate is not for host `{}`, only for {}",
                    server_name.to_str(),
                    if names.is_empty() { "nobody" } else { &names }
                )))
            }
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Whether webpki refused the certificate for its role; rustls has no word of its own for that.
fn is_role_error(error: &rustls::Error) -> bool {
    match error {
        rustls::Error::InvalidCertificate(CertificateError::Other(other)) => format!("{other:?}").contains("CaUsedAsEndEntity"),
        _ => false,
    }
}

/// A TLS failure in words that name the cure.
pub(crate) fn explain(host: &str, session: &ClientConnection, error: rustls::Error) -> Error {
    use rustls::AlertDescription as Alert;
    let reason = match &error {
        rustls::Error::General(text) => text.clone(),
        rustls::Error::InvalidCertificate(reason) => match reason {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                format!("the server's certificate has expired ({error})")
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                format!("the server's certificate is not valid yet; check the clocks ({error})")
            }
            CertificateError::UnknownIssuer => {
                "the server's certificate comes from an authority that is not trusted; name it in sslrootcert".to_owned()
            }
            CertificateError::UnsupportedSignatureAlgorithmContext { .. }
            | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
                "the server's certificate, or one above it, is signed with an algorithm that is not accepted (SHA-1, a short \
                 key, or an unusual form)"
                    .to_owned()
            }
            _ => error.to_string(),
        },
        rustls::Error::AlertReceived(alert) => match alert {
            Alert::CertificateRequired | Alert::HandshakeFailure if !session.is_handshaking() => {
                "the server demands a client certificate; set sslcert and sslkey".to_owned()
            }
            Alert::UnknownCA | Alert::BadCertificate | Alert::CertificateExpired | Alert::CertificateUnknown => {
                format!("the server does not accept relay's client certificate (alert {alert:?})")
            }
            _ => format!("the server ended TLS with alert {alert:?}"),
        },
        _ => error.to_string(),
    };
    Error::Tls { host: host.to_owned(), reason }
}
