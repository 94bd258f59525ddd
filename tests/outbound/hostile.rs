//! Receivers that mean harm cost one request until its deadline, and nothing else.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use groupmq::outbound::{FailureKind, Method, RETRY_AFTER_MAX, Request};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::servers::{Server, nobody, request};
use crate::{AMPLE, LIMIT, SHORT, answered, empty, failed, local, post, whole};

/// Says the first text, then the second one again and again, as fast as it goes or at intervals. Counts
/// what it wrote, and tells when nobody reads any more.
struct Endless {
    server: Server,
    written: Arc<AtomicUsize>,
    given_up: Arc<Notify>,
}

impl Endless {
    async fn start(first: &'static str, again: &'static str, pause: Option<Duration>) -> Self {
        let written = Arc::new(AtomicUsize::new(0));
        let given_up = Arc::new(Notify::new());
        let (counted, told) = (written.clone(), given_up.clone());
        let server = Server::start(move |mut stream: TcpStream| {
            let (counted, told) = (counted.clone(), told.clone());
            async move {
                request(&mut stream).await?;
                stream.write_all(first.as_bytes()).await?;
                while stream.write_all(again.as_bytes()).await.is_ok() {
                    counted.fetch_add(again.len(), Ordering::SeqCst);
                    if let Some(pause) = pause {
                        tokio::time::sleep(pause).await;
                    }
                }
                told.notify_one();
                Ok(())
            }
        })
        .await;
        Self {
            server,
            written,
            given_up,
        }
    }

    /// The connection was closed, and not much was taken from it: what lies in the kernel's buffers and
    /// a client's window.
    async fn assert_dropped(&self) {
        tokio::time::timeout(AMPLE, self.given_up.notified())
            .await
            .unwrap();
        let written = self.written.load(Ordering::SeqCst);
        assert!(written < 32 << 20, "{written} bytes were taken");
    }
}

#[tokio::test]
async fn an_endless_body_is_cut_and_its_connection_closed() {
    let block: &'static str = "x".repeat(4096).leak();
    let chunk: &'static str = format!("1000\r\n{block}\r\n").leak();
    for (head, again) in [
        ("HTTP/1.1 200 OK\r\n\r\n", block),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551000\r\n\r\n",
            block,
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            chunk,
        ),
    ] {
        let endless = Endless::start(head, again, None).await;
        let answer = answered(&local(), &endless.server.url()).await;
        assert_eq!(answer.status, 200);
        assert!(answer.truncated);
        assert_eq!(answer.body, "x".repeat(LIMIT).as_bytes());
        endless.assert_dropped().await;
    }
}

#[tokio::test]
async fn endless_headers_are_no_answer() {
    let long: &'static str = format!("X-More: {}\r\n", "x".repeat(1000)).leak();
    let one: &'static str = format!("X-{}", "x".repeat(1000)).leak();
    for (first, again) in [
        ("HTTP/1.1 200 OK\r\n", "X-More: 1\r\n"),
        ("HTTP/1.1 200 OK\r\n", long),
        ("HTTP/1.1 200 OK\r\nX", one),
        ("HTTP/1.1 200 ", one),
    ] {
        let endless = Endless::start(first, again, None).await;
        let failure = failed(&local(), &endless.server.url(), AMPLE).await;
        assert_eq!(failure.kind, FailureKind::Broken, "{}", whole(&failure));
        assert!(failure.was_sent());
        endless.assert_dropped().await;
    }
}

#[tokio::test]
async fn endless_trailers_and_chunk_extensions_end_at_the_deadline_at_the_latest() {
    for (first, again) in [
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n",
            "X-More: 1\r\n",
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;",
            "extension",
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            "1\r\nx\r\n",
        ),
    ] {
        let endless = Endless::start(first, again, None).await;
        match local()
            .send(post(&endless.server.url(), Duration::from_secs(10)))
            .await
        {
            Ok(answer) => assert!(answer.truncated && answer.body.len() == LIMIT, "{answer:?}"),
            Err(failure) => assert!(failure.was_sent(), "{}", whole(&failure)),
        }
        endless.assert_dropped().await;
    }
}

#[tokio::test]
async fn what_drips_ends_at_the_deadline() {
    let pause = Some(Duration::from_millis(20));
    let mut waiting = JoinSet::new();
    for (first, again, pause, status) in [
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n",
            "x",
            pause,
            Some(200),
        ),
        ("HTTP/1.1 200 OK\r\nX: ", "x", pause, None),
        ("H", "", Some(AMPLE), None),
        ("", "", Some(AMPLE), None),
        // Interim answers, one after the other.
        ("", "HTTP/1.1 103 Early Hints\r\n\r\n", pause, None),
    ] {
        waiting.spawn(async move {
            let endless = Endless::start(first, again, pause).await;
            let url = endless.server.url();
            let client = local();
            let (full, bare) = (post(&url, SHORT), empty(&url, SHORT));
            let (full, bare) = tokio::join!(client.send(full), client.send(bare));
            for result in [full, bare] {
                let failure = result.unwrap_err();
                let kind = FailureKind::TimedOut { sent: true };
                assert_eq!(failure.kind, kind, "{first}{again}: {}", whole(&failure));
                assert!(failure.was_sent());
                assert_eq!(failure.begun.map(|it| it.status), status);
            }
        });
    }
    waiting.join_all().await;
}

#[tokio::test]
async fn interim_answers_as_fast_as_they_go_end_at_the_deadline() {
    let endless = Endless::start("", "HTTP/1.1 103 Early Hints\r\n\r\n", None).await;
    let failure = failed(&local(), &endless.server.url(), SHORT).await;
    assert!(failure.was_sent(), "{}", whole(&failure));
}

#[tokio::test]
async fn a_request_that_never_got_a_connection_was_not_sent() {
    // It accepts, and says nothing: there is no TLS to send a request over.
    let silent = Endless::start("", "", Some(AMPLE)).await;
    let url = format!("https://{}/", silent.server.address);
    for request in [post(&url, SHORT), empty(&url, SHORT)] {
        let failure = local().send(request).await.unwrap_err();
        assert_eq!(failure.kind, FailureKind::TimedOut { sent: false });
        assert!(!failure.was_sent());
    }
    // The same when it is the time for connecting that is over first.
    let hasty = crate::client(&[("allow", "127.0.0.1"), ("connect_timeout", "300ms")]);
    let failure = failed(&hasty, &url, AMPLE).await;
    assert_eq!(
        failure.kind,
        FailureKind::TimedOut { sent: false },
        "{}",
        whole(&failure)
    );
}

#[tokio::test]
async fn nobody_there_is_no_connection() {
    let failure = failed(&local(), &format!("http://{}/", nobody().await), AMPLE).await;
    assert_eq!(failure.kind, FailureKind::Connect, "{}", whole(&failure));
    assert!(!failure.was_sent());
    assert!(!failure.is_own_fault());
}

#[tokio::test]
async fn an_early_close_is_a_broken_answer_to_a_request_that_was_sent() {
    for text in [
        "",
        "HTTP/1.1 20",
        "HTTP/1.1 200 OK\r\nContent-",
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nxxx",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nxx",
    ] {
        let server = Server::says(text).await;
        for request in [post(&server.url(), AMPLE), empty(&server.url(), AMPLE)] {
            let failure = local().send(request).await.unwrap_err();
            assert_eq!(
                failure.kind,
                FailureKind::Broken,
                "{text}: {}",
                whole(&failure)
            );
            assert!(failure.was_sent(), "{text}");
        }
    }
}

#[tokio::test]
async fn what_is_not_http_is_a_broken_answer() {
    for text in [
        &b"SSH-2.0-OpenSSH_9.2\r\n\r\n"[..],
        b"HTTP/9.9 200 OK\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nxxxx",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nmany\r\n",
        b"HTTP/1.1 200 OK\r\nbad header\r\n\r\n",
        &[0xff; 4096],
        &[0; 4096],
    ] {
        let server = Server::says(text).await;
        let failure = failed(&local(), &server.url(), AMPLE).await;
        assert_eq!(failure.kind, FailureKind::Broken, "{}", whole(&failure));
    }
}

#[tokio::test]
async fn garbage_in_the_place_of_tls_is_a_fault_of_tls() {
    for garbage in [
        &b"HTTP/1.1 400 Bad Request\r\n\r\n"[..],
        &[0xff; 4096],
        &[0x16; 4096],
    ] {
        let server = Server::start(move |mut stream| async move {
            stream.write_all(garbage).await?;
            tokio::time::sleep(AMPLE).await;
            Ok(())
        })
        .await;
        let url = format!("https://{}/", server.address);
        let failure = failed(&local(), &url, AMPLE).await;
        assert_eq!(failure.kind, FailureKind::Tls, "{}", whole(&failure));
        assert!(!failure.was_sent());
    }
}

#[tokio::test]
async fn a_gigantic_retry_after_is_cut() {
    for value in ["999999999999999999999999", "Fri, 31 Dec 9999 23:59:59 GMT"] {
        let server = Server::says(format!(
            "HTTP/1.1 503 Wait\r\nRetry-After: {value}\r\nContent-Length: 0\r\n\r\n"
        ))
        .await;
        let answer = answered(&local(), &server.url()).await;
        assert_eq!(answer.status, 503);
        assert_eq!(answer.retry_after, Some(RETRY_AFTER_MAX));
    }
}

#[tokio::test]
async fn invalid_utf_8_is_an_answer_like_any_other() {
    let server = Server::says(
        &b"HTTP/1.1 200 \xff\xfe\r\nContent-Type: \xff\r\nRetry-After: \xff\r\nX: \xc3\x28\r\n\r\n\xff\xfeok"[..],
    )
    .await;
    let answer = answered(&local(), &server.url()).await;
    assert_eq!(answer.status, 200);
    assert_eq!(
        (answer.retry_after, answer.content_type.as_deref()),
        (None, None)
    );
    assert_eq!(answer.body, b"\xff\xfeok");
    assert_eq!(answer.text(), "\u{fffd}\u{fffd}ok");
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_nobody_goes_there() {
    let secret = Server::good().await;
    for status in [300, 301, 302, 303, 305, 307, 308] {
        for location in [&secret.url(), "http://169.254.169.254/latest/meta-data/"] {
            let server = Server::says(format!(
                "HTTP/1.1 {status} Go\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n"
            ))
            .await;
            for method in [Method::POST, Method::GET] {
                let request = Request {
                    method,
                    ..empty(&server.url(), AMPLE)
                };
                let answer = local().send(request).await.unwrap();
                assert_eq!(answer.status, status);
                assert!(!answer.is_success());
            }
            let answer = answered(&local(), &server.url()).await;
            assert_eq!(answer.status, status);
        }
    }
    assert_eq!(secret.connections(), 0);
}

#[tokio::test]
async fn a_change_of_protocols_is_no_way_to_stay() {
    let server = Server::says(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nhello",
    )
    .await;
    let answer = answered(&local(), &server.url()).await;
    assert_eq!((answer.status, answer.text().as_str()), (101, ""));
}

#[tokio::test]
async fn a_failure_tells_nothing_of_paths_queries_and_passwords() {
    let server = Server::says("").await;
    let url = format!(
        "http://user:hunter2@{}/path-secret?token=query-secret",
        server.address
    );
    for url in [
        url,
        "https://user:hunter2@10.0.0.1/path-secret?query-secret".to_owned(),
    ] {
        let request = post(&url, AMPLE);
        assert!(!format!("{request:?}").contains("secret"), "{request:?}");
        let failure = local().send(request).await.unwrap_err();
        let text = format!("{} {failure:?}", whole(&failure));
        for secret in ["hunter2", "secret", "user"] {
            assert!(!text.contains(secret), "{secret} in {text}");
        }
    }
}
