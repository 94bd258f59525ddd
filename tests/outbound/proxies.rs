//! Proxies: that requests go through them, what stays refused, and whose fault it is.

use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::Arc;

use groupmq::outbound::{AddressPolicy, FailureKind, Outbound};
use groupmq_test_support::tls::Certificates;
use hickory_resolver::proto::op::ResponseCode;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::dns::{Dns, Reply};
use crate::servers::{Server, nobody, request};
use crate::{AMPLE, SHORT, answered, client, egress, failed, local, post, whole};

/// A proxy that makes every connection to the same server, and notes what it was asked.
async fn leading_to(target: SocketAddr) -> (Server, Arc<Mutex<Vec<String>>>) {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let noted = asked.clone();
    let server = Server::start(move |mut stream| {
        let noted = noted.clone();
        async move {
            let mut first = [0];
            stream.peek(&mut first).await?;
            if first == [5] {
                let told = socks(&mut stream).await?;
                noted.lock().push(told);
            } else {
                let head = request(&mut stream).await?;
                let tunnel = head.starts_with("connect");
                noted.lock().push(head);
                let text = if tunnel {
                    "HTTP/1.1 200 Connection established\r\n\r\n"
                } else {
                    "HTTP/1.1 203 By proxy\r\nContent-Length: 0\r\n\r\n"
                };
                stream.write_all(text.as_bytes()).await?;
            }
            let mut onward = TcpStream::connect(target).await?;
            tokio::io::copy_bidirectional(&mut stream, &mut onward)
                .await
                .map(drop)
        }
    })
    .await;
    (server, asked)
}

/// SOCKS 5 (RFC 1928) without a password; tells where it was to go.
async fn socks(stream: &mut TcpStream) -> std::io::Result<String> {
    let [_, methods] = [stream.read_u8().await?, stream.read_u8().await?];
    stream.read_exact(&mut vec![0; methods.into()]).await?;
    stream.write_all(&[5, 0]).await?;
    let mut head = [0; 4];
    stream.read_exact(&mut head).await?;
    let length = match head[3] {
        1 => 4,
        4 => 16,
        _ => stream.read_u8().await?.into(),
    };
    let mut host = vec![0; length];
    stream.read_exact(&mut host).await?;
    stream.read_u16().await?;
    stream.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).await?;
    Ok(match head[3] {
        3 => String::from_utf8(host).unwrap(),
        _ => format!("{host:?}"),
    })
}

fn through(proxy: &str, more: &[(&str, &str)]) -> Outbound {
    let mut settings = vec![("proxy", proxy)];
    settings.extend(more);
    client(&settings)
}

#[tokio::test]
async fn requests_to_the_public_go_through_the_proxy_wherever_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let ours = Certificates::generate(folder.path()).unwrap();
    let server = Server::good().await;
    let (proxy, asked) = leading_to(server.address).await;
    let port = proxy.address.port();
    for host in ["127.0.0.1", "localhost"] {
        let setting = format!("http://me:word@{host}:{port}");
        let client = through(&setting, &[("tls.ca_file", ours.ca.to_str().unwrap())]);
        // Plain requests are passed on, with their names: the proxy resolves them.
        assert_eq!(
            answered(&client, "http://hooks.example.com/a").await.status,
            203
        );
        let head = asked.lock().pop().unwrap();
        assert!(
            head.starts_with("post http://hooks.example.com/a "),
            "{head}"
        );
        assert!(head.contains("proxy-authorization: basic"), "{head}");
        // Others get a tunnel, through which TLS finds no TLS.
        let failure = failed(&client, "https://hooks.example.com/a", AMPLE).await;
        assert_eq!(failure.kind, FailureKind::Tls, "{}", whole(&failure));
        let head = asked.lock().pop().unwrap();
        assert!(head.starts_with("connect hooks.example.com:443 "), "{head}");
        assert!(head.contains("proxy-authorization: basic"), "{head}");
    }
}

#[tokio::test]
async fn a_socks_proxy_is_given_addresses_or_names() {
    let server = Server::good().await;
    let (proxy, asked) = leading_to(server.address).await;
    let dns = Dns::leading_to(&["127.0.0.2"]).await;
    let more = [("dns", &*dns.setting()), ("allow", "127.0.0.2")];
    for (scheme, told) in [
        ("socks5", "[127, 0, 0, 2]"),
        ("socks5h", "hooks.example.com"),
    ] {
        let client = through(&format!("{scheme}://{}", proxy.address), &more);
        assert_eq!(
            answered(&client, "http://hooks.example.com/").await.status,
            200
        );
        assert_eq!(asked.lock().pop().unwrap(), told);
    }
}

#[tokio::test]
async fn private_addresses_stay_refused_as_far_as_they_can_be_seen() {
    let server = Server::good().await;
    let (proxy, asked) = leading_to(server.address).await;
    let dns = Dns::leading_to(&["10.0.0.1"]).await;
    let port = proxy.address.port();
    let mut refused = Vec::new();
    for scheme in ["http", "socks5", "socks5h"] {
        let setting = format!("{scheme}://localhost:{port}");
        for url in [
            "http://10.0.0.1/",
            "https://10.0.0.1/",
            "http://[::ffff:a00:1]/",
        ] {
            refused.push((setting.clone(), url));
        }
        // Its own name would lead past the check.
        refused.push((setting.clone(), "http://localhost/"));
        refused.push((setting, "https://LOCALHOST/"));
    }
    // Who resolves names here can refuse what they lead to.
    let setting = format!("socks5://localhost:{port}");
    refused.push((setting.clone(), "http://hooks.example.com/"));
    refused.push((setting, "https://hooks.example.com/"));
    for (setting, url) in refused {
        let client = through(&setting, &[("dns", &dns.setting())]);
        let failure = failed(&client, url, AMPLE).await;
        assert_eq!(
            failure.kind,
            FailureKind::AddressRefused,
            "{url}: {}",
            whole(&failure)
        );
    }
    assert_eq!(*asked.lock(), Vec::<String>::new());
}

#[tokio::test]
async fn a_proxy_that_is_down_is_our_own_fault() {
    let nobody = nobody().await;
    for scheme in ["http", "https", "socks5", "socks5h"] {
        let dns = Dns::leading_to(&["8.8.8.8"]).await;
        let client = through(&format!("{scheme}://{nobody}"), &[("dns", &dns.setting())]);
        for url in ["http://hooks.example.com/", "https://hooks.example.com/"] {
            let failure = failed(&client, url, AMPLE).await;
            let text = whole(&failure);
            assert_eq!(
                failure.kind,
                FailureKind::OwnEgress,
                "{scheme}, {url}: {text}"
            );
            assert!(!failure.was_sent());
        }
    }
}

#[tokio::test]
async fn a_proxy_whose_name_is_unknown_is_our_own_fault() {
    for (reply, deadline) in [
        (Reply::Code(ResponseCode::NXDomain), AMPLE),
        (Reply::Silence, SHORT),
    ] {
        let dns = Dns::always(reply).await;
        let client = through("http://proxy.example.com:3128", &[("dns", &dns.setting())]);
        for url in ["http://hooks.example.com/", "https://hooks.example.com/"] {
            let failure = failed(&client, url, deadline).await;
            let text = whole(&failure);
            assert_eq!(failure.kind, FailureKind::OwnEgress, "{url}: {text}");
        }
    }
}

#[tokio::test]
async fn a_proxy_that_does_not_let_us_in_is_our_own_fault() {
    let proxy = Server::says(
        "HTTP/1.1 407 Who\r\nProxy-Authenticate: Basic realm=x\r\nContent-Length: 0\r\n\r\n",
    )
    .await;
    let client = through(&proxy.url(), &[]);
    for url in ["http://hooks.example.com/", "https://hooks.example.com/"] {
        let failure = failed(&client, url, AMPLE).await;
        assert_eq!(
            failure.kind,
            FailureKind::OwnEgress,
            "{url}: {}",
            whole(&failure)
        );
        assert!(!failure.was_sent());
    }
    // Without a proxy, it is the receiver's own answer.
    assert_eq!(answered(&local(), &proxy.url()).await.status, 407);
}

#[tokio::test]
async fn a_proxy_that_breaks_is_our_own_fault_and_one_that_cannot_get_through_is_not() {
    let url = "https://hooks.example.com/";
    for text in ["", "HTTP/1.1 20"] {
        let proxy = Server::says(text).await;
        let failure = failed(&through(&proxy.url(), &[]), url, AMPLE).await;
        assert_eq!(failure.kind, FailureKind::OwnEgress, "{}", whole(&failure));
    }
    for text in [
        "HTTP/1.1 502 Bad Gateway\r\n\r\n",
        "HTTP/1.1 403 Forbidden\r\n\r\n",
    ] {
        let proxy = Server::says(text).await;
        let failure = failed(&through(&proxy.url(), &[]), url, AMPLE).await;
        assert_eq!(failure.kind, FailureKind::Connect, "{}", whole(&failure));
        assert!(!failure.was_sent());
    }
}

#[tokio::test]
async fn servers_that_the_operator_named_are_reached_directly() {
    let server = Server::good().await;
    let proxy = format!("http://{}", nobody().await);
    let anywhere = Outbound::new(&egress(&[("proxy", &proxy)]), AddressPolicy::Any).unwrap();
    let answer = anywhere.send(post(&server.url(), AMPLE)).await.unwrap();
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn proxies_of_the_environment_are_ignored() {
    let server = Server::good().await;
    let nobody = format!("http://{}", nobody().await);
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_groupmq"));
    for name in ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"] {
        command.env(name, &nobody);
    }
    let output = command
        .arg("healthcheck")
        .env("GROUPMQ_OPS__LISTEN", server.address.to_string())
        .stdin(Stdio::null())
        .output()
        .await
        .unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    assert!(told.contains("GET /readyz"), "{told}");
}
