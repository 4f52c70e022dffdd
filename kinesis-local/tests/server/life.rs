//! How the server begins and ends.

use super::*;

#[tokio::test]
async fn shutdown_ends_idle_connections_and_cuts_half_open_ones_at_its_deadline() {
    let mut settings = kinesis_local::Settings::default();
    settings.listen = Some(LOOPBACK);
    settings.shutdown_deadline_ms = 100;
    let local = KinesisLocal::builder()
        .settings(settings)
        .start()
        .await
        .unwrap();
    let address = local.local_addr().unwrap();
    let mut idle = TcpStream::connect(address).await.unwrap();
    let mut half = TcpStream::connect(address).await.unwrap();
    half.write_all(b"POST / HTTP/1.1\r\nHost: x\r\n")
        .await
        .unwrap();
    http1(
        &local,
        request(&local, "/", Some("DynamoDB_20120810.ListTables"), "{}"),
    )
    .await;
    tokio::time::timeout(Duration::from_secs(50), local.shutdown())
        .await
        .unwrap();
    let mut end = Vec::new();
    assert_eq!(idle.read_to_end(&mut end).await.unwrap_or(0), 0);
    assert_eq!(half.read_to_end(&mut end).await.unwrap_or(0), 0);
    assert!(TcpStream::connect(address).await.is_err());
    // A second call finds it done.
    local.shutdown().await;
}

#[tokio::test]
async fn a_port_in_use_is_an_error_that_names_it() {
    let local = listening().await;
    let address = local.local_addr().unwrap();
    let refused = KinesisLocal::builder()
        .listen(address)
        .start()
        .await
        .unwrap_err();
    assert_eq!(refused.kind(), kinesis_local::ErrorKind::Listen);
    assert!(refused.to_string().contains(&address.to_string()));
}
