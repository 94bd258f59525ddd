//! Names: what DNS may lead to, what it may not, and whose fault it is when it leads nowhere.

use groupmq::outbound::{FailureKind, Outbound};
use hickory_resolver::proto::op::ResponseCode;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::dns::{Dns, Reply, to};
use crate::servers::{Server, nobody};
use crate::{AMPLE, SHORT, answered, client, empty, failed, local, post, whole};

/// A client that asks this server, and may connect to this network.
fn asking(dns: &str, allow: &str) -> Outbound {
    client(&[("dns", dns), ("allow", allow)])
}

fn at(host: &str, server: &Server) -> String {
    format!("http://{host}:{}/", server.address.port())
}

#[tokio::test]
async fn a_name_leads_to_its_address() {
    let server = Server::good().await;
    let dns = Dns::leading_to(&["127.0.0.1"]).await;
    let client = asking(&dns.setting(), "127.0.0.1");
    // The last one is no host name by the letter, and yet people have such.
    for host in [
        "hooks.example.com",
        "hooks.example.com.",
        "waha",
        "waha_server",
    ] {
        let told = answered(&client, &at(host, &server)).await.text();
        assert!(told.contains(&format!("\"host\": \"{host}:")), "{told}");
    }
}

#[tokio::test]
async fn a_name_that_leads_somewhere_else_the_second_time_gains_nothing() {
    // Both addresses listen, so that a connection would be made.
    let closing = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    let inner = Server::good().await;
    let port = inner.address.port();
    let listener = TcpListener::bind(("127.0.0.2", port)).await.unwrap();
    let outer = Server::on(listener, move |mut stream| async move {
        crate::servers::request(&mut stream).await?;
        tokio::io::AsyncWriteExt::write_all(&mut stream, closing.as_bytes()).await
    });
    let dns = Dns::start(|_, before| {
        to(&[if before == 0 {
            "127.0.0.2"
        } else {
            "127.0.0.1"
        }])
    })
    .await;
    let client = asking(&dns.setting(), "127.0.0.2");
    let url = at("rebinding.example.com", &outer);

    assert_eq!(answered(&client, &url).await.status, 200);
    let failure = failed(&client, &url, AMPLE).await;
    assert_eq!(
        failure.kind,
        FailureKind::AddressRefused,
        "{}",
        whole(&failure)
    );
    assert!(!failure.was_sent() && !failure.is_own_fault());
    assert_eq!((outer.connections(), inner.connections()), (1, 0));
}

#[tokio::test]
async fn of_a_names_addresses_only_those_that_are_permitted_are_tried() {
    let inner = Server::good().await;
    let port = inner.address.port();
    let listener = TcpListener::bind(("127.0.0.2", port)).await.unwrap();
    let outer = Server::on(listener, |mut stream| async move {
        crate::servers::request(&mut stream).await?;
        let text = b"HTTP/1.1 202 OK\r\nContent-Length: 0\r\n\r\n";
        tokio::io::AsyncWriteExt::write_all(&mut stream, text).await
    });
    let dns = Dns::leading_to(&["127.0.0.1", "169.254.169.254", "::1", "127.0.0.2"]).await;
    let client = asking(&dns.setting(), "127.0.0.2");
    assert_eq!(
        answered(&client, &at("both.example.com", &outer))
            .await
            .status,
        202
    );
    assert_eq!(inner.connections(), 0);
}

#[tokio::test]
async fn a_name_that_leads_inside_is_refused() {
    let server = Server::good().await;
    for address in [
        "127.0.0.1",
        "10.0.0.1",
        "169.254.169.254",
        "::1",
        "fd00:ec2::254",
        "::ffff:127.0.0.1",
    ] {
        let dns = Dns::leading_to(&[address]).await;
        let client = client(&[("dns", &dns.setting())]);
        for request in [
            post(&at("inside.example.com", &server), AMPLE),
            empty(&at("inside.example.com", &server), AMPLE),
        ] {
            let failure = client.send(request).await.unwrap_err();
            assert_eq!(
                failure.kind,
                FailureKind::AddressRefused,
                "{address}: {}",
                whole(&failure)
            );
            assert!(!failure.was_sent());
        }
    }
    assert_eq!(server.connections(), 0);
}

#[tokio::test]
async fn addresses_in_urls_are_refused_in_every_spelling_and_localhost_too() {
    let server = Server::good().await;
    let client = client(&[]);
    for host in [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "127.0.0.1.",
        "0",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::ffff:10.0.0.1]",
        "[64:ff9b::7f00:1]",
        "%31%32%37.0.0.1",
        "１２７.0.0.1",
        "localhost",
        "localhost.",
        "LOCALHOST",
    ] {
        let failure = failed(&client, &at(host, &server), AMPLE).await;
        assert_eq!(
            failure.kind,
            FailureKind::AddressRefused,
            "{host}: {}",
            whole(&failure)
        );
    }
    assert_eq!(server.connections(), 0);
    // Allowed, it is reached in every spelling.
    for host in ["127.1", "2130706433", "[::ffff:127.0.0.1]", "localhost"] {
        assert_eq!(
            answered(&local(), &at(host, &server)).await.status,
            200,
            "{host}"
        );
    }
}

#[tokio::test]
async fn a_name_without_addresses_is_the_receivers_fault() {
    for reply in [Reply::Code(ResponseCode::NXDomain), to(&[])] {
        let dns = Dns::always(reply.clone()).await;
        let client = asking(&dns.setting(), "127.0.0.1");
        let failure = failed(&client, "http://nowhere.example.com/", AMPLE).await;
        assert_eq!(
            failure.kind,
            FailureKind::UnknownHost,
            "{reply:?}: {}",
            whole(&failure)
        );
        assert!(!failure.was_sent() && !failure.is_own_fault());
    }
}

#[tokio::test]
async fn names_that_no_dns_can_have_are_unknown() {
    let dns = Dns::leading_to(&["127.0.0.1"]).await;
    let client = asking(&dns.setting(), "127.0.0.1");
    let long = format!("http://{}.example.com/", "x".repeat(64));
    let longer = format!("http://{}example.com/", "x.".repeat(130));
    for url in [long, longer] {
        let failure = failed(&client, &url, AMPLE).await;
        assert_eq!(
            failure.kind,
            FailureKind::UnknownHost,
            "{url}: {}",
            whole(&failure)
        );
    }
}

#[tokio::test]
async fn dns_that_fails_is_our_own_fault() {
    for code in [
        ResponseCode::ServFail,
        ResponseCode::Refused,
        ResponseCode::NotImp,
    ] {
        let dns = Dns::always(Reply::Code(code)).await;
        let client = asking(&dns.setting(), "127.0.0.1");
        let failure = failed(&client, "http://hooks.example.com/", AMPLE).await;
        assert_eq!(
            failure.kind,
            FailureKind::OwnEgress,
            "{code}: {}",
            whole(&failure)
        );
        assert!(!failure.was_sent() && failure.is_own_fault());
    }
}

#[tokio::test]
async fn a_dns_server_that_is_down_is_our_own_fault() {
    let client = asking(&nobody().await.to_string(), "127.0.0.1");
    let failure = failed(&client, "http://hooks.example.com/", AMPLE).await;
    assert_eq!(failure.kind, FailureKind::OwnEgress, "{}", whole(&failure));
    assert!(!failure.was_sent());
}

#[tokio::test]
async fn a_dns_server_that_is_silent_is_our_own_fault_whatever_ends_first() {
    let dns = Dns::always(Reply::Silence).await;
    // The request's deadline; half of the time for connecting; the resolver's own patience.
    let mut waiting = JoinSet::new();
    for (connect_timeout, deadline) in [("10s", SHORT), ("600ms", AMPLE), ("30s", AMPLE)] {
        let client = client(&[
            ("dns", &dns.setting()),
            ("connect_timeout", connect_timeout),
        ]);
        let url = "http://hooks.example.com/";
        for request in [post(url, deadline), empty(url, deadline)] {
            let client = client.clone();
            waiting.spawn(async move { client.send(request).await });
        }
    }
    for result in waiting.join_all().await {
        let failure = result.unwrap_err();
        assert_eq!(failure.kind, FailureKind::OwnEgress, "{}", whole(&failure));
        assert!(!failure.was_sent());
    }
}

#[tokio::test]
async fn a_slow_answer_of_one_receiver_is_not_taken_for_the_silence_of_dns() {
    let dns = Dns::start(|name, _| match name {
        "slow.example.com" => to(&["127.0.0.1"]),
        _ => Reply::Silence,
    })
    .await;
    let silent = Server::start(|stream| async move {
        tokio::time::sleep(AMPLE).await;
        drop(stream);
        Ok(())
    })
    .await;
    let client = asking(&dns.setting(), "127.0.0.1");
    let (lost, slow) = (
        post("http://lost.example.com/", SHORT),
        post(&at("slow.example.com", &silent), SHORT),
    );
    let (lost, slow) = tokio::join!(client.send(lost), client.send(slow));
    assert_eq!(lost.unwrap_err().kind, FailureKind::OwnEgress);
    assert_eq!(slow.unwrap_err().kind, FailureKind::TimedOut { sent: true });
}

#[tokio::test]
async fn answers_of_dns_are_kept_as_long_as_they_say() {
    let server =
        Server::says("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").await;
    let both = ["127.0.0.1", "::1"];
    let kept = Reply::Addresses(both.map(|ip| ip.parse().unwrap()).to_vec(), 3600);
    for (reply, again) in [(kept, false), (to(&both), true)] {
        let dns = Dns::always(reply).await;
        let client = asking(&dns.setting(), "127.0.0.1");
        answered(&client, &at("kept.example.com", &server)).await;
        let first = dns.questions();
        answered(&client, &at("kept.example.com", &server)).await;
        assert_eq!(dns.questions() > first, again);
    }
}
