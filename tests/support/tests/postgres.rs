//! The private PostgreSQL server does what its tests rely on.

use anyhow::Result;
use groupmq_test_support::postgres::Postgres;

#[test]
fn a_server_stops_and_comes_back() -> Result<()> {
    let mut server = Postgres::start()?;
    server.database()?;
    server.stop()?;
    assert!(server.database().is_err());
    server.start_again()?;
    let first = server.database()?;
    let second = server.database()?;
    assert_ne!(first.url, second.url);
    Ok(())
}
