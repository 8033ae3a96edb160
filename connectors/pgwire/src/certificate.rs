//! What relay reads out of the server's certificate: channel binding hash, expiry, authority mark, common name.

use rustls_pki_types::CertificateDer;
use sha2::{Digest, Sha256, Sha384, Sha512};
use x509_cert::Certificate;
use x509_cert::der::asn1::ContextSpecific;
use x509_cert::der::oid::ObjectIdentifier;
use x509_cert::der::{Decode, Reader, SliceReader, TagNumber};
use x509_cert::ext::pkix::{BasicConstraints, SubjectAltName, name::GeneralName};
use x509_cert::spki::AlgorithmIdentifierOwned;

const RSASSA_PSS: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.10");
const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");

/// `tls-server-end-point` (RFC 5929): the certificate hashed with the hash of its signature; SHA-256 in place of MD5 and
/// SHA-1. `None` for signatures without a separate hash such as Ed25519, for which PostgreSQL has no binding either.
pub(crate) fn end_point(certificate: &CertificateDer<'_>) -> Option<Vec<u8>> {
    let parsed = Certificate::from_der(certificate).ok()?;
    let algorithm = &parsed.signature_algorithm;
    let oid = match algorithm.oid {
        RSASSA_PSS => pss_hash(algorithm)?,
        oid => oid,
    };
    match oid.to_string().as_str() {
        // MD5, SHA-1 and SHA-256: with RSA, ECDSA and DSA, then as a bare hash.
        "1.2.840.113549.1.1.4" | "1.2.840.113549.1.1.5" | "1.2.840.10045.4.1" | "1.2.840.10040.4.3" | "1.3.14.3.2.26" => {
            Some(Sha256::digest(certificate).to_vec())
        }
        "1.2.840.113549.1.1.11" | "1.2.840.10045.4.3.2" | "2.16.840.1.101.3.4.3.2" | "2.16.840.1.101.3.4.2.1" => {
            Some(Sha256::digest(certificate).to_vec())
        }
        "1.2.840.113549.1.1.12" | "1.2.840.10045.4.3.3" | "2.16.840.1.101.3.4.3.3" | "2.16.840.1.101.3.4.2.2" => {
            Some(Sha384::digest(certificate).to_vec())
        }
        "1.2.840.113549.1.1.13" | "1.2.840.10045.4.3.4" | "2.16.840.1.101.3.4.3.4" | "2.16.840.1.101.3.4.2.3" => {
            Some(Sha512::digest(certificate).to_vec())
        }
        _ => None,
    }
}

/// The hash of RSASSA-PSS parameters: `[0]` of the sequence, SHA-1 by default.
fn pss_hash(algorithm: &AlgorithmIdentifierOwned) -> Option<ObjectIdentifier> {
    let parameters = algorithm.parameters.as_ref()?;
    let mut reader = SliceReader::new(parameters.value()).ok()?;
    let hash = ContextSpecific::<AlgorithmIdentifierOwned>::decode_explicit(&mut reader, TagNumber::new(0)).ok()?;
    let _ = reader.remaining_len();
    Some(hash.map_or(ObjectIdentifier::new_unwrap("1.3.14.3.2.26"), |hash| hash.value.oid))
}

/// When it runs out, in seconds since 1970.
pub(crate) fn not_after(certificate: &CertificateDer<'_>) -> Option<i64> {
    let parsed = Certificate::from_der(certificate).ok()?;
    i64::try_from(parsed.tbs_certificate.validity.not_after.to_unix_duration().as_secs()).ok()
}

/// Whether it is marked as a certificate authority (`CA:TRUE`).
pub(crate) fn is_authority(certificate: &CertificateDer<'_>) -> bool {
    let Ok(parsed) = Certificate::from_der(certificate) else { return false };
    matches!(parsed.tbs_certificate.get::<BasicConstraints>(), Ok(Some((_, constraints))) if constraints.ca)
}

/// Whether subject and issuer are one.
pub(crate) fn is_self_signed(certificate: &CertificateDer<'_>) -> bool {
    Certificate::from_der(certificate).is_ok_and(|parsed| parsed.tbs_certificate.subject == parsed.tbs_certificate.issuer)
}

/// The names it is for, for people: the alternative names, else the common name.
pub(crate) fn names(certificate: &CertificateDer<'_>) -> Vec<String> {
    match alternative_names(certificate) {
        Some(names) => names,
        None => common_name(certificate).into_iter().collect(),
    }
}

/// Whether the common name stands for `host`. As in libpq it counts only where the certificate has no alternative names;
/// a `*` stands for the whole first label.
pub(crate) fn common_name_matches(certificate: &CertificateDer<'_>, host: &str) -> bool {
    if alternative_names(certificate).is_some() {
        return false;
    }
    let Some(name) = common_name(certificate) else { return false };
    if name.is_empty() || name.contains('\0') {
        return false;
    }
    if name.eq_ignore_ascii_case(host) {
        return true;
    }
    let is_address = host.parse::<std::net::IpAddr>().is_ok();
    match (name.strip_prefix("*."), host.split_once('.')) {
        (Some(domain), Some((label, rest))) => {
            !is_address && !label.is_empty() && domain.contains('.') && domain.eq_ignore_ascii_case(rest)
        }
        _ => false,
    }
}

fn alternative_names(certificate: &CertificateDer<'_>) -> Option<Vec<String>> {
    let parsed = Certificate::from_der(certificate).ok()?;
    let (_, names) = parsed.tbs_certificate.get::<SubjectAltName>().ok()??;
    let text = |name: &GeneralName| match name {
        GeneralName::DnsName(name) => Some(name.to_string()),
        GeneralName::IpAddress(bytes) => match bytes.as_bytes().len() {
            4 => <[u8; 4]>::try_from(bytes.as_bytes()).ok().map(|bytes| std::net::Ipv4Addr::from(bytes).to_string()),
            _ => <[u8; 16]>::try_from(bytes.as_bytes()).ok().map(|bytes| std::net::Ipv6Addr::from(bytes).to_string()),
        },
        _ => None,
    };
    Some(names.0.iter().filter_map(text).collect())
}

fn common_name(certificate: &CertificateDer<'_>) -> Option<String> {
    let parsed = Certificate::from_der(certificate).ok()?;
    let mut attributes = parsed.tbs_certificate.subject.0.iter().flat_map(|set| set.0.iter());
    let value = attributes.rfind(|attribute| attribute.oid == COMMON_NAME)?.value.clone();
    String::from_utf8(value.value().to_vec()).ok()
}
