//! Connections that are kept, HTTP/2, certificates, and what is sent.

use std::path::Path;
use std::sync::Arc;

use groupmq::outbound::{
    AddressPolicy, FailureKind, HeaderName, HeaderValue, Method, Outbound, Request,
};
use groupmq_test_support::tls::Certificates;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::task::JoinSet;

use crate::servers::Server;
use crate::{AMPLE, LIMIT, answered, client, egress, empty, failed, local, post, whole};

/// A TLS server's configuration; with `asks`, it wants to see a certificate of the same authority.
fn tls(ours: &Certificates, asks: bool, alpn: &[&str]) -> ServerConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap();
    let builder = if asks {
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_file(&ours.ca).unwrap())
            .unwrap();
        let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
        builder.with_client_cert_verifier(verifier.build().unwrap())
    } else {
        builder.with_no_client_auth()
    };
    let certificate = CertificateDer::from_pem_file(&ours.server).unwrap();
    let key = PrivateKeyDer::from_pem_file(&ours.server_key).unwrap();
    let mut config = builder.with_single_cert(vec![certificate], key).unwrap();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    config
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn trusting(ours: &Certificates) -> Outbound {
    client(&[("allow", "127.0.0.1"), ("tls.ca_file", path(&ours.ca))])
}

#[tokio::test]
async fn a_connection_is_used_again() {
    let server = Server::good().await;
    let client = local();
    for _ in 0..5 {
        let answer = answered(&client.clone(), &format!("{}204", server.url())).await;
        assert_eq!((answer.status, answer.truncated), (204, false));
        assert!(answer.text().is_empty());
    }
    for _ in 0..5 {
        answered(&client, &server.url()).await;
    }
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn a_body_of_exactly_the_limit_is_whole() {
    for (extra, truncated) in [(0, false), (1, true)] {
        let server = Server::says(format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}",
            length = LIMIT + extra,
            body = "x".repeat(LIMIT + extra)
        ))
        .await;
        let answer = answered(&local(), &server.url()).await;
        assert_eq!((answer.body.len(), answer.truncated), (LIMIT, truncated));
    }
}

#[tokio::test]
async fn http_2_is_spoken_where_the_receiver_does_and_one_connection_carries_all() {
    let folder = tempfile::tempdir().unwrap();
    let ours = Certificates::generate(folder.path()).unwrap();
    let server = Server::secure(tls(&ours, false, &["h2", "http/1.1"])).await;
    let url = format!("https://localhost:{}/", server.address.port());
    let client = client(&[("allow", "127.0.0.1,::1"), ("tls.ca_file", path(&ours.ca))]);
    assert!(
        answered(&client, &url)
            .await
            .text()
            .starts_with("HTTP/2.0 POST")
    );
    let mut many = JoinSet::new();
    for _ in 0..50 {
        let (client, url) = (client.clone(), url.clone());
        many.spawn(async move { answered(&client, &url).await.status });
    }
    assert_eq!(many.join_all().await, vec![200; 50]);
    let answer = client.send(empty(&url, AMPLE)).await.unwrap();
    assert!(
        answer.text().contains("\"content-length\": \"0\""),
        "{}",
        answer.text()
    );
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn over_http_2_too_answers_are_cut_and_the_connection_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let ours = Certificates::generate(folder.path()).unwrap();
    let server = Server::secure(tls(&ours, false, &["h2"])).await;
    let url = format!("https://127.0.0.1:{}", server.address.port());
    let client = trusting(&ours);
    for _ in 0..20 {
        let answer = answered(&client, &format!("{url}/endless")).await;
        assert!(answer.truncated);
        assert_eq!(answer.body.len(), LIMIT);
    }
    assert_eq!(server.connections(), 1);
    let failure = failed(&client, &format!("{url}/headers"), AMPLE).await;
    assert_eq!(failure.kind, FailureKind::Broken, "{}", whole(&failure));
    assert!(failure.was_sent());
    assert_eq!(answered(&client, &format!("{url}/204")).await.status, 204);
}

#[tokio::test]
async fn a_receiver_that_speaks_http_1_over_tls_gets_it() {
    let folder = tempfile::tempdir().unwrap();
    let ours = Certificates::generate(folder.path()).unwrap();
    for alpn in [&["http/1.1"][..], &[]] {
        let server = Server::secure(tls(&ours, false, alpn)).await;
        let url = format!("https://127.0.0.1:{}/", server.address.port());
        let answer = answered(&trusting(&ours), &url).await;
        assert!(
            answer.text().starts_with("HTTP/1.1 POST"),
            "{}",
            answer.text()
        );
    }
}

#[tokio::test]
async fn an_authority_that_is_not_trusted_is_a_fault_of_tls() {
    let folder = tempfile::tempdir().unwrap();
    let ours = Certificates::generate(folder.path()).unwrap();
    let server = Server::secure(tls(&ours, false, &[])).await;
    let url = format!("https://127.0.0.1:{}/", server.address.port());
    let failure = failed(&local(), &url, AMPLE).await;
    assert_eq!(failure.kind, FailureKind::Tls, "{}", whole(&failure));
    assert!(!failure.was_sent());
}

#[tokio::test]
async fn a_certificate_for_another_name_is_a_fault_of_tls() {
    let folder = tempfile::tempdir().unwrap();
    let ours = Certificates::generate(folder.path()).unwrap();
    let server = Server::secure(tls(&ours, false, &[])).await;
    // The certificate is for localhost and 127.0.0.1.
    let listed = client(&[("allow", "127.0.0.0/8"), ("tls.ca_file", path(&ours.ca))]);
    let elsewhere = tokio::net::TcpListener::bind("127.0.0.2:0").await.unwrap();
    let target = server.address;
    let bridge = Server::on(elsewhere, move |mut stream| async move {
        let mut onward = tokio::net::TcpStream::connect(target).await?;
        tokio::io::copy_bidirectional(&mut stream, &mut onward)
            .await
            .map(drop)
    });
    let url = format!("https://{}/", bridge.address);
    let failure = failed(&listed, &url, AMPLE).await;
    assert_eq!(failure.kind, FailureKind::Tls, "{}", whole(&failure));
}

#[tokio::test]
async fn a_client_certificate_is_shown_to_who_asks_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let ours = Certificates::generate(folder.path()).unwrap();
    let known = client(&[
        ("allow", "127.0.0.1"),
        ("tls.ca_file", path(&ours.ca)),
        ("tls.certificate_file", path(&ours.client)),
        ("tls.key_file", path(&ours.client_key)),
    ]);
    for (alpn, kind) in [("h2", FailureKind::Broken), ("http/1.1", FailureKind::Tls)] {
        let server = Server::secure(tls(&ours, true, &[alpn])).await;
        let url = format!("https://127.0.0.1:{}/", server.address.port());
        assert_eq!(answered(&known, &url).await.status, 200);
        let failure = failed(&trusting(&ours), &url, AMPLE).await;
        assert_eq!(failure.kind, kind, "{alpn}: {}", whole(&failure));
        assert!(whole(&failure).contains("CertificateRequired"));
    }
}

#[tokio::test]
async fn files_that_cannot_be_used_are_named_by_their_setting() {
    let folder = tempfile::tempdir().unwrap();
    let ours = Certificates::generate(folder.path()).unwrap();
    let nothing = folder.path().join("nothing.pem");
    std::fs::write(&nothing, "nothing").unwrap();
    for (settings, key) in [
        (vec![("tls.ca_file", "/nowhere.pem")], "ca_file"),
        (vec![("tls.ca_file", path(&nothing))], "ca_file"),
        (
            vec![
                ("tls.certificate_file", path(&ours.client)),
                ("tls.key_file", path(&nothing)),
            ],
            "key_file",
        ),
        (
            vec![
                ("tls.certificate_file", path(&ours.client)),
                ("tls.key_file", path(&ours.server_key)),
            ],
            "key_file",
        ),
    ] {
        let error = Outbound::new(&egress(&settings), AddressPolicy::PublicOnly).unwrap_err();
        assert!(
            error.to_string().starts_with(&format!("egress.tls.{key}")),
            "{error}"
        );
    }
}

#[tokio::test]
async fn headers_arrive_as_they_were_given_and_users_become_one() {
    let server = Server::good().await;
    let request = Request {
        method: Method::PUT,
        headers: vec![
            (
                HeaderName::from_static("webhook-id"),
                HeaderValue::from_static("msg_1"),
            ),
            (
                HeaderName::from_static("x-twice"),
                HeaderValue::from_static("1"),
            ),
            (
                HeaderName::from_static("x-twice"),
                HeaderValue::from_static("2"),
            ),
        ],
        ..post(&format!("http://user:word@{}/a?b=c", server.address), AMPLE)
    };
    let told = local().send(request).await.unwrap().text();
    for part in [
        "HTTP/1.1 PUT /a?b=c",
        "\"webhook-id\": \"msg_1\"",
        "\"x-twice\": \"1\"",
        "\"x-twice\": \"2\"",
        "\"authorization\": \"Basic dXNlcjp3b3Jk\"",
        "\"content-length\": \"17\"",
        concat!(
            "\"user-agent\": \"groupmq/",
            env!("CARGO_PKG_VERSION"),
            "\""
        ),
    ] {
        assert!(told.contains(part), "{part} is not in {told}");
    }
    let told = local()
        .send(empty(&server.url(), AMPLE))
        .await
        .unwrap()
        .text();
    assert!(told.contains("\"content-length\": \"0\""), "{told}");
    let get = Request {
        method: Method::GET,
        ..empty(&server.url(), AMPLE)
    };
    let told = local().send(get).await.unwrap().text();
    assert!(!told.contains("content-length"), "{told}");
}

#[tokio::test]
async fn other_schemes_are_not_sent() {
    for url in [
        "ftp://example.com/",
        "file:///etc/passwd",
        "gopher://127.0.0.1:6379/_x",
        "data:,x",
    ] {
        let failure = failed(&local(), url, AMPLE).await;
        assert_eq!(failure.kind, FailureKind::Unusable, "{url}");
        assert!(!failure.was_sent());
    }
}
