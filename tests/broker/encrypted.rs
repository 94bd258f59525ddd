//! TLS: whom the worker trusts, and logging in by certificate.

mod own_node {
    use groupmq_test_support::rabbitmq::{Options, RabbitMq};
    use groupmq_test_support::tls::{CLIENT_NAME, Certificates};
    use groupmq_test_support::worker::Worker;
    use std::path::Path;

    use super::super::scene::{PATIENCE, Scene, options};

    #[tokio::test]
    async fn the_worker_trusts_its_own_authority_and_may_log_in_by_certificate() {
        let folder = tempfile::tempdir().unwrap();
        let ours = Certificates::generate(folder.path()).unwrap();
        let broker = RabbitMq::start(
            Options::default()
                .tls(&ours)
                .plugin("rabbitmq_auth_mechanism_ssl")
                .config("auth_mechanisms.1 = PLAIN")
                .config("auth_mechanisms.2 = EXTERNAL")
                .config("ssl_cert_login_from = common_name"),
        )
        .await
        .unwrap();

        // Its own authority.
        let scene = Scene::split(&broker.tls_url(), &broker.url(), |options| {
            options.set("amqp.tls.ca_file", path(&ours.ca))
        })
        .await;
        scene.assert_works("by-password").await;

        // By certificate: the user is its common name and has no password.
        broker
            .ctl(&["add_user", CLIENT_NAME, "unused"])
            .await
            .unwrap();
        broker.ctl(&["clear_password", CLIENT_NAME]).await.unwrap();
        broker
            .ctl(&["set_permissions", CLIENT_NAME, ".*", ".*", ".*"])
            .await
            .unwrap();
        let external = Scene::split(&broker.tls_url(), &broker.url(), |options| {
            options
                .set("amqp.tls.ca_file", path(&ours.ca))
                .set("amqp.tls.certificate_file", path(&ours.client))
                .set("amqp.tls.key_file", path(&ours.client_key))
                .set("amqp.tls.external", "true")
        })
        .await;
        external.assert_works("by-certificate").await;
        let connections = broker
            .ctl(&["list_connections", "user", "auth_mechanism"])
            .await
            .unwrap();
        let by_certificate = format!("{CLIENT_NAME}\tEXTERNAL");
        assert!(connections.contains(&by_certificate), "{connections}");

        // Another authority: nothing is sent to a broker that cannot show who it is.
        let elsewhere = tempfile::tempdir().unwrap();
        let theirs = Certificates::generate(elsewhere.path()).unwrap();
        assert_refused(&broker.tls_url(), &theirs.ca).await;
        // A port that speaks no TLS.
        let plain = broker.address().port();
        let plain = format!("amqps://guest:guest@localhost:{plain}/%2f");
        assert_refused(&plain, &ours.ca).await;
    }

    #[tokio::test]
    async fn a_broker_that_wants_a_certificate_refuses_a_worker_without_one() {
        let folder = tempfile::tempdir().unwrap();
        let ours = Certificates::generate(folder.path()).unwrap();
        let strict = Options::default()
            .tls(&ours)
            .config("ssl_options.fail_if_no_peer_cert = true");
        let broker = RabbitMq::start(strict).await.unwrap();
        assert_refused(&broker.tls_url(), &ours.ca).await;
        let scene = Scene::split(&broker.tls_url(), &broker.url(), |options| {
            options
                .set("amqp.tls.ca_file", path(&ours.ca))
                .set("amqp.tls.certificate_file", path(&ours.client))
                .set("amqp.tls.key_file", path(&ours.client_key))
        })
        .await;
        scene.assert_works("with-a-certificate").await;
    }

    fn path(path: &Path) -> String {
        path.to_str().unwrap().to_owned()
    }

    /// A worker that trusts this authority, and has no certificate, stops and says what to look at.
    async fn assert_refused(url: &str, authority: &Path) {
        let settings = options(url, &groupmq_test_support::prefix());
        let settings = settings.set("amqp.tls.ca_file", path(authority));
        let mut worker = Worker::spawn(&settings).unwrap();
        let code = worker.until_ended(PATIENCE).await.unwrap();
        let log = worker.log();
        assert_eq!(code, 5, "{log}");
        // Not always the last line: what ends beside the worker may still log.
        let ours = log.lines().find(|line| line.starts_with("groupmq: "));
        let ours = ours.unwrap_or_else(|| panic!("the worker says nothing itself\n{log}"));
        assert!(ours.contains("TLS with the broker failed"), "{log}");
        assert!(ours.contains("amqp.tls"), "{log}");
    }
}
