//! Check 1 of RELIABILITY for what only signed messages reach: the machine behind the decoders. The decoders
//! themselves are among the targets of `testkit::fuzz`.

use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand::rngs::StdRng;

use super::super::swarm::{ConnectionId, ConnectionInfo, LegacySwarm, Output, SwarmConfig};
use super::super::{Purpose, Style, json};
use super::*;
use hyperswarm::testkit::fuzz::mutate;

use crate::fuzz::kachery_texts;

const SEED: u64 = 0x6b61_6368;

/// A broadcast with this message text, properly signed twice by the neighbour.
fn signed_broadcast(style: Style, message: &str, round: usize) -> Vec<u8> {
    let node = NodeId::new(keys().public(), style);
    let hex = |text: &str| HEXLOWER.encode(&signer().sign(style, text.as_bytes()).expect("short text").0);
    let inner = format!("{{\"messageId\":\"m{round}\",\"message\":{message}}}");
    let outer = format!(
        "{{\"type\":\"broadcast\",\"fromNodeId\":\"{node}\",\"body\":{inner},\"signature\":\"{}\"}}",
        hex(&inner)
    );
    let frame = format!("{{\"body\":{outer},\"signature\":\"{}\"}}", hex(&outer));
    super::super::frame::encode(frame.as_bytes()).to_vec()
}

#[test]
fn mutated_messages_that_are_properly_signed_never_panic_the_machine() {
    let mut rng = StdRng::seed_from_u64(SEED);
    let own = KeyPair::from_seed(&[9; 32]);
    let neighbour = NodeId::new(keys().public(), Style::Spki);
    let corpus: Vec<_> = kachery_texts().into_iter().filter(|text| text.starts_with(b"{\"type\"")).collect();
    let mut now = Instant::now();
    let config = SwarmConfig {
        protocol: Protocol::Daemon02,
        purpose: Purpose::Transfer(NodeId::new(own.public(), Style::Spki)),
        own: own.public(),
        rng: StdRng::seed_from_u64(SEED),
        budget: Default::default(),
    };
    let mut swarm = LegacySwarm::new(config);
    let connection = ConnectionId(1);
    let remote = "192.0.2.1:1".parse().unwrap();
    swarm.handle_connected(
        now,
        connection,
        ConnectionInfo { direction: Direction::Accepted, utp: false, remote },
    );
    swarm.handle_incoming(now, connection, Incoming::Initial(neighbour));
    swarm.handle_incoming(now, connection, Incoming::Ready);
    let mut reader = reader_of(neighbour, Protocol::Daemon02, &own);
    let mut broadcasts = 0;
    for round in 0..20_000 {
        let text = mutate(&mut rng, &corpus);
        let canonical = match json::parse(&text) {
            Ok(value) => {
                let mut out = Vec::new();
                json::write_value(&value, &mut out);
                out
            }
            Err(_) => continue,
        };
        let Ok(message) = String::from_utf8(canonical) else { continue };
        reader.buffer().extend_from_slice(&signed_broadcast(Style::Spki, &message, round));
        let incoming = reader.next_message().unwrap_or_else(|e| panic!("seed {SEED}, round {round}: {e}"));
        let incoming = incoming.unwrap_or_else(|| panic!("seed {SEED}, round {round}: no frame"));
        broadcasts += usize::from(matches!(incoming, Incoming::Broadcast(_)));
        now += Duration::from_millis(1);
        swarm.handle_incoming(now, connection, incoming);
        swarm.handle_timeout(now);
        let mut outputs = 0;
        while let Some(output) = swarm.poll_output() {
            outputs += 1;
            if let Output::Send { connection, frame } = output {
                swarm.handle_written(now, connection, frame.weight());
            }
        }
        assert!(outputs <= 4, "seed {SEED}, round {round}: {outputs} outputs for one message");
    }
    println!("check 1: measured 20000 signed messages ({broadcasts} well-formed), bar no panic, seed {SEED}");
    assert!(broadcasts > 100, "only {broadcasts}");
    assert_eq!(swarm.peers().count(), 1, "none of it ended the connection");
}
