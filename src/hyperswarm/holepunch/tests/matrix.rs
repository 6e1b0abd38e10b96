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

#[test]
fn two_peers_behind_one_nat_that_does_not_send_back_meet_in_their_own_network() {
    let mut network = dht(6, 41, link());
    let id = network.add_nat(Ipv4Addr::new(13, 0, 0, 1), Nat::Consistent);
    let hosts = [Ipv4Addr::new(10, 0, 1, 1), Ipv4Addr::new(10, 0, 1, 2)];
    for (number, host) in (0..).zip(hosts) {
        network.put_behind(host, id);
        add(&mut network, host, node(&[server_of(super::host(1))], Persistence::Adaptive), 2000 + number);
    }
    network.run(5 * SECOND);
    listen(&mut network, server_of(hosts[0]), 7);
    for _ in 0..3 {
        let dialled = dial(&mut network, server_of(hosts[1]), 7);
        println!("check 9: measured {dialled:?} behind one NAT, bar 300 ms, seed 41");
        assert!(dialled.echoed && dialled.first_byte.is_some_and(|time| time < Duration::from_millis(300)));
    }
}

#[test]
fn peers_of_one_open_host_connect_without_a_retransmission() {
    for seed in 51..56 {
        let mut network = dht(6, seed, Link { delay: Duration::from_micros(50), ..Link::PERFECT });
        let listener = peer(&mut network, 101, Behind::A(Nat::Firewall));
        let dialler = peer(&mut network, 102, Behind::Nothing);
        network.run(5 * SECOND);
        listen(&mut network, listener, 7);
        for _ in 0..5 {
            let dialled = dial(&mut network, dialler, 7);
            assert!(
                dialled.first_byte.is_some_and(|time| time < Duration::from_millis(40)),
                "{seed}: {dialled:?}"
            );
        }
    }
}
