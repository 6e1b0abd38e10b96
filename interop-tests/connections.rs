//! Connections below kachery: our swarm and a bare hyperswarm 2.14 find each other and exchange bytes.

use std::time::Duration;

use hyperswarm::Topic;
use hyperswarm::net::v2::{Connection, Network, NetworkConfig, Swarm};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::lab::{Lab, SOON, js};
use crate::process::Process;

const TOPIC: Topic = Topic([7; 32]);

async fn join(lab: &Lab) -> Swarm {
    let config = NetworkConfig { bootstrap: vec![lab.bootstrap.clone()], mdns: false };
    Network::start(config).await.expect("network").join(TOPIC).await.expect("swarm")
}

async fn next(swarm: &mut Swarm) -> Connection {
    timeout(SOON, swarm.next()).await.expect("a connection in time").expect("the swarm runs")
}

fn hyperswarm(lab: &Lab) -> Process {
    let mut command = js("swarm_echo.js");
    command.args(["--topic", &TOPIC.to_string(), "--bootstrap", &lab.bootstrap, "--say", "from hyperswarm"]);
    Process::start("hyperswarm 2.14", &mut command)
}

/// Blocks until hyperswarm reports `event`.
fn event(process: &Process, event: &str) -> Value {
    process.line(event, SOON, |line| {
        let line: Value = serde_json::from_str(line).ok()?;
        (line["event"] == event).then_some(line)
    })
}

#[tokio::test]
async fn hyperswarm_2_14_finds_and_dials_us() {
    let Some(lab) = Lab::new() else { return };
    let mut swarm = join(&lab).await;
    while swarm.status().announced_to == 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let process = hyperswarm(&lab);
    let mut connection = next(&mut swarm).await;
    assert!(!connection.initiator);
    let mut text = [0; 15];
    timeout(SOON, connection.stream.read_exact(&mut text)).await.expect("in time").expect("bytes");
    assert_eq!(&text, b"from hyperswarm");
    connection.stream.write_all(&text).await.expect("write");
    assert_eq!(event(&process, "echoed")["text"], "from hyperswarm");
    assert_eq!(event(&process, "connection")["port"], swarm.status().port);
    swarm.leave().await;
}

#[tokio::test]
async fn we_find_and_dial_hyperswarm_2_14() {
    let Some(lab) = Lab::new() else { return };
    let process = hyperswarm(&lab);
    event(&process, "announced");
    let mut swarm = join(&lab).await;
    let mut connection = next(&mut swarm).await;
    assert!(connection.initiator);
    assert_eq!(event(&process, "ready")["port"], connection.remote.port());
    connection.stream.write_all(b"from us").await.expect("write");
    let mut text = [0; 7];
    timeout(SOON, connection.stream.read_exact(&mut text)).await.expect("in time").expect("bytes");
    assert_eq!(&text, b"from us");
    swarm.leave().await;
}
