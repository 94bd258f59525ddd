//! TLS of requests: rustls with ring, the system's authorities and the operator's.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use crate::config::EgressTls;

use super::Error;

/// The TLS configuration of all connections.
pub(super) fn config(settings: &EgressTls) -> Result<ClientConfig, Error> {
    let mut roots = RootCertStore::empty();
    // Unreadable certificates of the system are skipped; if the authority of a host is missing, connecting
    // to it fails.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(file) = &settings.ca_file {
        for certificate in certificates(file, "ca_file")? {
            roots.add(certificate).map_err(|source| Error::Tls {
                key: "ca_file",
                source,
            })?;
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|source| Error::Client(source.into()))?
        .with_root_certificates(roots);
    let mut config = match &settings.identity {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = certificates(certificate, "certificate_file")?;
            let key = PrivateKeyDer::from_pem_file(key).map_err(unreadable(key, "key_file"))?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(|source| Error::Tls {
                    key: "key_file",
                    source,
                })?
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

fn certificates(file: &Path, key: &'static str) -> Result<Vec<CertificateDer<'static>>, Error> {
    let all = CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(unreadable(file, key))?;
    if all.is_empty() {
        return Err(unreadable(file, key)(
            rustls::pki_types::pem::Error::NoItemsFound,
        ));
    }
    Ok(all)
}

fn unreadable(
    file: &Path,
    key: &'static str,
) -> impl FnOnce(rustls::pki_types::pem::Error) -> Error {
    let path = file.to_owned();
    move |source| Error::Unreadable { key, path, source }
}
