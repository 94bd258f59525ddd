//! Throw-away certificates for brokers and clients.
//!
//! PEM files only, since that is what RabbitMQ reads and what rustls takes.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

/// The common name of the client certificate: with `rabbitmq_auth_mechanism_ssl` and
/// `ssl_cert_login_from = common_name`, the RabbitMQ user that it logs in as.
pub const CLIENT_NAME: &str = "groupmq-client";

/// PEM files in one folder. Every key is unencrypted PKCS #8.
#[derive(Debug, Clone)]
pub struct Certificates {
    /// The authority that signed both certificates; each side trusts it.
    pub ca: PathBuf,
    /// For `localhost` and `127.0.0.1`.
    pub server: PathBuf,
    /// The server certificate's key.
    pub server_key: PathBuf,
    /// In the name of [`CLIENT_NAME`].
    pub client: PathBuf,
    /// The client certificate's key.
    pub client_key: PathBuf,
}

impl Certificates {
    /// Makes a new authority and its two certificates, and writes them into `folder`.
    ///
    /// # Errors
    ///
    /// When a file cannot be written, or a certificate cannot be made.
    pub fn generate(folder: &Path) -> Result<Self> {
        let write = |name: &str, pem: String| -> Result<PathBuf> {
            let path = folder.join(name);
            fs::write(&path, pem).with_context(|| format!("writing {}", path.display()))?;
            Ok(path)
        };

        let mut authority = CertificateParams::default();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        authority
            .distinguished_name
            .push(DnType::CommonName, "groupmq test authority");
        let authority_key = KeyPair::generate()?;
        let ca = write("ca.pem", authority.self_signed(&authority_key)?.pem())?;
        let issuer = Issuer::new(authority, authority_key);

        let sign = |name: &str, hosts: &[&str], usage| -> Result<(PathBuf, PathBuf)> {
            let hosts: Vec<String> = hosts.iter().map(ToString::to_string).collect();
            let mut leaf = CertificateParams::new(hosts)?;
            leaf.distinguished_name.push(DnType::CommonName, name);
            leaf.use_authority_key_identifier_extension = true;
            leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
            leaf.extended_key_usages = vec![usage];
            let key = KeyPair::generate()?;
            let certificate = leaf.signed_by(&key, &issuer)?;
            Ok((
                write(&format!("{name}.pem"), certificate.pem())?,
                write(&format!("{name}-key.pem"), key.serialize_pem())?,
            ))
        };
        let (server, server_key) = sign(
            "localhost",
            &["localhost", "127.0.0.1"],
            ExtendedKeyUsagePurpose::ServerAuth,
        )?;
        let (client, client_key) = sign(CLIENT_NAME, &[], ExtendedKeyUsagePurpose::ClientAuth)?;

        Ok(Self {
            ca,
            server,
            server_key,
            client,
            client_key,
        })
    }
}
