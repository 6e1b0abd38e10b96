//! Every pair of NATs.

use super::*;

const BOXES: [Behind; 4] =
    [Behind::Nothing, Behind::A(Nat::Consistent), Behind::A(Nat::Random), Behind::A(Nat::Firewall)];

fn link() -> Link {
    Link { delay: Duration::from_millis(25), ..Link::PERFECT }
}

#[test]
fn every_pair_connects_but_two_random_nats() {
    for (row, client) in BOXES.into_iter().enumerate() {
        for (column, server) in BOXES.into_iter().enumerate() {
            let seed = (row * 4 + column) as u64 + 1;
            let mut network = dht(6, seed, link());
            let listener = peer(&mut network, 101, server);
            let dialler = peer(&mut network, 102, client);
            network.run(5 * SECOND);
            listen(&mut network, listener, 7);
            let dialled = dial(&mut network, dialler, 7);
            println!("check 9: measured {client:?} to {server:?}: {dialled:?}, bar 15 s, seed {seed}");
            let random = Behind::A(Nat::Random);
            if client == random && server == random {
                let expected = ConnectError::Holepunch(HolepunchError::BothRandom);
                assert_eq!(dialled.failed, Some(expected), "{client:?} to {server:?}");
            } else {
                let quick = dialled.first_byte.is_some_and(|time| time < 15 * SECOND);
                assert!(dialled.echoed && quick, "{client:?} to {server:?}: {dialled:?}");
            }
        }
    }
}
