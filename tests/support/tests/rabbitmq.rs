//! The test support itself: what other tests rely on without checking it.

use std::time::Duration;

use groupmq_test_support::rabbitmq::RabbitMq;
use lapin::options::{
    BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(20);

async fn connect(url: &str) -> lapin::Result<Connection> {
    Connection::connect(url, ConnectionProperties::default()).await
}

async fn declare_quorum(channel: &Channel, queue: &str) -> lapin::Result<()> {
    let mut arguments = FieldTable::default();
    arguments.insert(
        "x-queue-type".into(),
        AMQPValue::LongString("quorum".into()),
    );
    let durable = QueueDeclareOptions {
        durable: true,
        ..QueueDeclareOptions::default()
    };
    channel
        .queue_declare(queue.into(), durable, arguments)
        .await
        .map(drop)
}

async fn publish_confirmed(channel: &Channel, queue: &str, body: &[u8]) -> lapin::Result<bool> {
    channel
        .confirm_select(ConfirmSelectOptions::default())
        .await?;
    let options = BasicPublishOptions::default();
    let persistent = BasicProperties::default().with_delivery_mode(2);
    let confirm = channel
        .basic_publish("".into(), queue.into(), options, body, persistent)
        .await?;
    Ok(confirm.await?.is_ack())
}

#[tokio::test]
async fn the_shared_node_takes_connections_and_commands() {
    let broker = RabbitMq::shared().await.unwrap();
    let queue = format!("support.{}", std::process::id());
    let connection = connect(&broker.url()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    let options = QueueDeclareOptions::default();
    channel
        .queue_declare(queue.as_str().into(), options, FieldTable::default())
        .await
        .unwrap();
    assert!(publish_confirmed(&channel, &queue, b"hello").await.unwrap());

    assert_eq!(broker.queue_depths().await.unwrap().get(&queue), Some(&1));
    channel
        .queue_delete(
            queue.as_str().into(),
            lapin::options::QueueDeleteOptions::default(),
        )
        .await
        .unwrap();
}

mod own_node {
    use std::fs;
    use std::net::TcpStream;

    use groupmq_test_support::proxy::Proxy;
    use groupmq_test_support::rabbitmq::Options;
    use groupmq_test_support::tls::Certificates;
    use lapin::tcp::{OwnedIdentity, OwnedTLSConfig};

    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn links_break_and_a_quorum_queue_survives_a_stop_and_a_kill() {
        let mut broker = RabbitMq::start(Options::default()).await.unwrap();
        let proxy = Proxy::start(broker.address()).await.unwrap();
        let through = broker.url_through(proxy.address());

        let connection = connect(&through).await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        declare_quorum(&channel, "kept").await.unwrap();
        assert!(publish_confirmed(&channel, "kept", b"first").await.unwrap());

        proxy.pause();
        let held = publish_confirmed(&channel, "kept", b"second");
        let mut held = std::pin::pin!(held);
        assert!(
            timeout(Duration::from_millis(500), &mut held)
                .await
                .is_err()
        );
        proxy.resume();
        assert!(timeout(PATIENCE, held).await.unwrap().unwrap());

        proxy.cut();
        let after = timeout(PATIENCE, publish_confirmed(&channel, "kept", b"lost"))
            .await
            .unwrap();
        assert!(after.is_err());

        proxy.refuse();
        let mut refused = TcpStream::connect(proxy.address()).unwrap();
        refused.set_read_timeout(Some(PATIENCE)).unwrap();
        assert!(!matches!(
            std::io::Read::read(&mut refused, &mut [0]),
            Ok(1..)
        ));
        proxy.accept();

        broker.stop().await.unwrap();
        assert!(TcpStream::connect(broker.address()).is_err());
        broker.start_again().await.unwrap();
        broker.kill().await.unwrap();
        broker.start_again().await.unwrap();

        let connection = connect(&through).await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        for expected in [b"first".as_slice(), b"second"] {
            let options = BasicGetOptions { no_ack: true };
            let got = channel
                .basic_get("kept".into(), options)
                .await
                .unwrap()
                .unwrap();
            assert_eq!(got.data, expected);
        }
    }

    #[tokio::test]
    async fn a_client_with_a_certificate_is_let_in_over_tls() {
        let folder = tempfile::tempdir().unwrap();
        let certificates = Certificates::generate(folder.path()).unwrap();
        let options = Options::default()
            .tls(&certificates)
            .config("ssl_options.fail_if_no_peer_cert = true");
        let broker = RabbitMq::start(options).await.unwrap();

        let config = OwnedTLSConfig {
            identity: Some(OwnedIdentity::PKCS8 {
                pem: fs::read(&certificates.client).unwrap(),
                key: fs::read(&certificates.client_key).unwrap(),
            }),
            cert_chain: Some(fs::read_to_string(&certificates.ca).unwrap()),
        };
        let runtime = lapin::runtime::default_runtime().unwrap();
        let url = broker.tls_url();
        let connection =
            Connection::connect_with_config(&url, ConnectionProperties::default(), config, runtime);
        assert!(
            timeout(PATIENCE, connection)
                .await
                .unwrap()
                .unwrap()
                .status()
                .connected()
        );
    }
}
