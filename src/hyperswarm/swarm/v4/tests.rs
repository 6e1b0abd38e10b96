//! The policy in virtual time.

use super::*;
use serde_json::Value;

const SECOND: Duration = Duration::from_secs(1);
const TOPIC: Topic = Topic([7; 32]);

fn key(number: u16) -> PublicKey {
    let mut bytes = [0x40; 32];
    bytes[..2].copy_from_slice(&number.to_be_bytes());
    PublicKey(bytes)
}

/// A swarm whose key is in the middle, with its clock.
struct World {
    swarm: Swarm,
    now: Instant,
    start: Instant,
}

impl World {
    fn new(options: Options) -> Self {
        let now = Instant::now();
        Self { swarm: Swarm::new(key(0x8000), options, [1; 32]), now, start: now }
    }

    /// Joined as client, with its first walk begun.
    fn client() -> Self {
        let mut world = Self::new(Options::default());
        world.swarm.join(world.now, TOPIC, Mode { server: false, client: true });
        assert_eq!(world.commands(), [Command::Walk(TOPIC, Walk { announce: false, clear: false })]);
        world
    }

    fn commands(&mut self) -> Vec<Command> {
        std::iter::from_fn(|| self.swarm.poll_command()).collect()
    }

    fn find(&mut self, peers: impl Iterator<Item = u16>) {
        peers.for_each(|number| self.swarm.found(self.now, TOPIC, key(number), &[]));
    }

    /// The attempts that begin now.
    fn dials(&mut self) -> Vec<(LinkId, PublicKey)> {
        let dial = |command| match command {
            Command::Dial(link, peer, _) => Some((link, peer)),
            _ => None,
        };
        self.commands().into_iter().filter_map(dial).collect()
    }

    /// Lets time pass until the next command.
    fn wait(&mut self, most: Duration) -> Vec<Command> {
        let until = self.now + most;
        loop {
            let commands = self.commands();
            match self.swarm.poll_timeout() {
                None if commands.is_empty() => self.now = until,
                Some(next) if commands.is_empty() && next <= until => {
                    self.now = self.now.max(next);
                    self.swarm.handle_timeout(self.now);
                    continue;
                }
                _ => {}
            }
            return commands;
        }
    }

    /// A peer that we dialled and are connected to.
    fn connected(&mut self, number: u16) -> LinkId {
        self.find(number..=number);
        let dials = self.dials();
        assert!(self.swarm.opened(self.now, dials[0].0));
        dials[0].0
    }
}

#[test]
fn three_attempts_run_at_a_time() {
    let mut world = World::client();
    world.find(1..=20);
    let first = world.dials();
    assert_eq!(first.len(), 3);
    world.swarm.opened(world.now, first[0].0);
    assert_eq!(world.dials().len(), 1);
    world.swarm.closed(world.now, first[1].0);
    assert_eq!(world.dials().len(), 1);
}

#[test]
fn an_attempt_that_takes_long_lets_another_one_begin() {
    let mut world = World::client();
    world.find(1..=40);
    assert_eq!(world.dials().len(), 3);
    let mut all = 3;
    for second in 1..=6 {
        all += world.wait(SECOND).len();
        assert_eq!(world.now - world.start, second * SECOND);
    }
    assert_eq!(all, SWARM_ATTEMPTS);
}

#[test]
fn dead_members_of_a_topic_delay_the_living_by_a_second_each_three() {
    let mut world = World::client();
    world.find(1..=26);
    let dead = |peer: &PublicKey| (1..=6).any(|number| key(number) == *peer);
    let mut living = 0;
    let mut commands = world.commands();
    while living < 20 && world.now < world.start + 60 * SECOND {
        for command in std::mem::take(&mut commands) {
            if let Command::Dial(link, peer, _) = command
                && !dead(&peer)
            {
                living += 1;
                world.swarm.opened(world.now, link);
            }
        }
        if living < 20 {
            commands = world.wait(10 * SECOND);
        }
    }
    let taken = world.now - world.start;
    println!("measured {living} of 20 living members dialled within {taken:?}, bar 2 s, seed 1");
    assert!(living == 20 && taken <= 2 * SECOND);
}

#[test]
fn a_lost_connection_is_dialled_again_with_growing_pauses() {
    let mut world = World::client();
    let mut link = world.connected(1);
    for (attempt, expected) in [(1, 1.0), (2, 5.0), (3, 15.0)] {
        let lost = world.now;
        world.swarm.closed(world.now, link);
        let commands = world.wait(60 * SECOND);
        assert!(matches!(commands[..], [Command::Dial(..)]), "{attempt}: {commands:?}");
        let pause = (world.now - lost).as_secs_f64();
        assert!((0.6 * expected..1.4 * expected).contains(&pause), "{attempt}: {pause}");
        let [Command::Dial(next, ..)] = commands[..] else { unreachable!() };
        link = next;
    }
    world.swarm.closed(world.now, link);
    assert!(world.wait(300 * SECOND).is_empty(), "given up");
}

#[test]
fn a_connection_of_fifteen_seconds_makes_up_for_failures() {
    let mut world = World::client();
    let link = world.connected(1);
    world.swarm.closed(world.now, link);
    let [Command::Dial(second, ..)] = world.wait(10 * SECOND)[..] else { panic!("a dial") };
    world.swarm.opened(world.now, second);
    world.now += 15 * SECOND;
    let lost = world.now;
    world.swarm.closed(world.now, second);
    assert!(matches!(world.wait(10 * SECOND)[..], [Command::Dial(..)]));
    assert!(world.now - lost < 2 * SECOND);
}

#[test]
fn a_lost_connection_that_the_peer_had_made_is_dialled_once() {
    let mut world = World::client();
    world.find(1..=1);
    let dial = world.dials()[0].0;
    let link = world.swarm.accept(world.now, key(1), |_| false);
    assert_eq!(link, None, "ours stays, as our key is greater");
    world.swarm.closed(world.now, dial);
    world.wait(10 * SECOND);
    let mut world = World::client();
    world.find(2..=2);
    world.swarm.closed(world.now, LinkId(2));
    world.commands();
    let link = world.swarm.accept(world.now, key(2), |_| false).expect("taken");
    world.swarm.closed(world.now, link);
    let lost = world.now;
    let commands = world.wait(60 * SECOND);
    assert!(matches!(commands[..], [Command::Dial(..)]), "{commands:?}");
    assert!((SECOND..=2 * SECOND).contains(&(world.now - lost)));
}

#[test]
fn of_two_connections_the_one_that_upstream_keeps_stays() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/vectors/v4/hyperswarm.json");
    let vectors: Value = serde_json::from_str(&std::fs::read_to_string(path).expect("read")).expect("parse");
    let duplicates = vectors["duplicates"].as_array().expect("duplicates");
    // Only connections of others are compared with what is there.
    for case in duplicates.iter().filter(|case| case["new_is_initiator"] == false) {
        let byte = |name: &str| case[name].as_u64().expect("a byte") as u8;
        let [own, remote] = [byte("own_key_byte"), byte("remote_key_byte")].map(|byte| PublicKey([byte; 32]));
        if own == remote {
            continue;
        }
        let mut swarm = Swarm::new(own, Options::default(), [1; 32]);
        let now = Instant::now();
        let existing = swarm.accept(now, remote, |_| false).expect("the first");
        let used = case["existing_bytes_read"] != 0 && case["existing_bytes_written"] != 0;
        let new = swarm.accept(now, remote, |_| used);
        assert_eq!(Some(new.is_some()), case["keep_new"].as_bool(), "{case}");
        let commands: Vec<_> = std::iter::from_fn(|| swarm.poll_command()).collect();
        assert_eq!(Some(commands.contains(&Command::Close(existing))), case["existing_destroyed"].as_bool());
        let kept = commands.contains(&Command::KeepAlive(existing));
        assert_eq!(Some(kept), case["keepalive_sent_on_existing"].as_bool(), "{case}");
    }
}

#[test]
fn retries_and_priorities_are_those_of_upstream() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/vectors/v4/hyperswarm.json");
    let vectors: Value = serde_json::from_str(&std::fs::read_to_string(path).expect("read")).expect("parse");
    let mut rng = StdRng::seed_from_u64(1);
    for case in vectors["retry"].as_array().expect("cases") {
        let mut peer = Peer {
            proven: case["proven"] == true,
            explicit: case["explicit"] == true,
            attempts: case["attempts"].as_u64().expect("a number") as u32,
            ..Peer::default()
        };
        let timer = peer.pause(&mut rng).map(|pause| match pause.as_millis() {
            0..2000 => "S",
            2000..8000 => "M",
            8000..30_000 => "L",
            _ => "X",
        });
        assert_eq!(timer, case["timer"].as_str(), "{case}");
        assert_eq!(Some(u64::from(peer.priority())), case["priority"].as_u64(), "{case}");
        assert_eq!(Some(peer.may_queue()), case["may_enqueue"].as_bool(), "{case}");
    }
}

#[test]
fn limits_hold_for_incoming_connections_too() {
    let mut world = World::new(Options { max_peers: 5, max_server_connections: 3, ..Options::default() });
    let taken = (1..=10).filter(|number| world.swarm.accept(world.now, key(*number), |_| false).is_some());
    assert_eq!(taken.count(), 3);
    world.swarm.join(world.now, TOPIC, Mode { server: false, client: true });
    world.find(20..=40);
    assert_eq!(world.dials().len(), 2, "five connections in all");
}

#[test]
fn a_banned_peer_is_neither_dialled_nor_admitted() {
    let mut world = World::client();
    let link = world.connected(1);
    world.swarm.ban(world.now, key(1), true);
    assert!(world.commands().contains(&Command::Close(link)));
    assert!(!world.swarm.admits(&key(1)));
    world.find(1..=1);
    assert!(world.dials().is_empty());
    world.swarm.ban(world.now, key(1), false);
    world.find(1..=1);
    assert_eq!(world.dials().len(), 1);
}

#[test]
fn our_own_key_is_no_peer() {
    let mut world = World::client();
    world.find(0x8000..=0x8000);
    assert!(world.dials().is_empty() && !world.swarm.admits(&key(0x8000)));
}

#[test]
fn a_topic_is_announced_anew_every_ten_to_twelve_minutes_and_cleared_the_first_time() {
    let mut world = World::new(Options::default());
    world.swarm.join(world.now, TOPIC, Mode::BOTH);
    assert_eq!(world.commands(), [Command::Walk(TOPIC, Walk { announce: true, clear: true })]);
    world.swarm.walked(world.now, TOPIC);
    // Who has announced meanwhile was not there before.
    assert_eq!(world.commands(), [Command::Walk(TOPIC, Walk { announce: false, clear: false })]);
    for _ in 0..3 {
        let ended = world.now;
        world.swarm.walked(world.now, TOPIC);
        let commands = world.wait(1000 * SECOND);
        assert_eq!(commands, [Command::Walk(TOPIC, Walk { announce: true, clear: false })]);
        assert!((600 * SECOND..=720 * SECOND).contains(&(world.now - ended)));
    }
}

#[test]
fn who_only_looks_after_having_announced_removes_the_announcement() {
    let mut world = World::new(Options::default());
    let server = world.swarm.join(world.now, TOPIC, Mode { server: true, client: false });
    world.swarm.join(world.now, TOPIC, Mode { server: false, client: true });
    world.commands();
    world.swarm.walked(world.now, TOPIC);
    world.commands();
    world.swarm.walked(world.now, TOPIC);
    world.swarm.leave(world.now, TOPIC, server);
    assert_eq!(world.commands(), [Command::Walk(TOPIC, Walk { announce: false, clear: true })]);
}

#[test]
fn the_last_session_leaves_the_topic() {
    let mut world = World::new(Options::default());
    let one = world.swarm.join(world.now, TOPIC, Mode::BOTH);
    let other = world.swarm.join(world.now, TOPIC, Mode::BOTH);
    world.commands();
    world.swarm.walked(world.now, TOPIC);
    world.commands();
    world.swarm.walked(world.now, TOPIC);
    world.swarm.leave(world.now, TOPIC, one);
    assert!(world.commands().is_empty());
    world.swarm.leave(world.now, TOPIC, other);
    assert_eq!(world.commands(), [Command::Leave(TOPIC, true)]);
}

#[test]
fn flushing_waits_for_the_walk_and_for_every_peer_that_it_found() {
    let mut world = World::client();
    let flush = world.swarm.flush(world.now);
    assert!(world.commands().is_empty());
    world.find(1..=3);
    let dials = world.dials();
    world.swarm.walked(world.now, TOPIC);
    assert!(world.commands().is_empty());
    world.swarm.opened(world.now, dials[0].0);
    world.swarm.closed(world.now, dials[1].0);
    assert!(!world.commands().contains(&Command::Flushed(flush)));
    world.swarm.closed(world.now, dials[2].0);
    assert!(world.commands().contains(&Command::Flushed(flush)));
}

#[test]
fn flushing_ends_when_no_connection_may_be_made() {
    let mut world = World::new(Options { max_peers: 1, ..Options::default() });
    world.swarm.join(world.now, TOPIC, Mode { server: false, client: true });
    world.find(1..=3);
    let dials: Vec<_> = world.dials();
    let flush = world.swarm.flush(world.now);
    world.swarm.walked(world.now, TOPIC);
    world.swarm.opened(world.now, dials[0].0);
    assert!(world.commands().contains(&Command::Flushed(flush)));
}

#[test]
fn a_peer_named_by_its_key_is_dialled_without_a_topic_and_for_ever() {
    let mut world = World::new(Options::default());
    world.swarm.join_peer(world.now, key(1));
    let mut dials = 0;
    let mut commands = world.commands();
    while dials < 10 {
        for command in std::mem::take(&mut commands) {
            if let Command::Dial(link, ..) = command {
                dials += 1;
                world.swarm.closed(world.now, link);
            }
        }
        commands = world.wait(3600 * SECOND);
        assert!(!commands.is_empty(), "after {dials} dials");
    }
    world.swarm.leave_peer(&key(1));
}

#[test]
fn a_change_of_network_asks_every_connection_for_a_sign_of_life_and_looks_again() {
    let mut world = World::client();
    let link = world.connected(1);
    world.swarm.walked(world.now, TOPIC);
    world.swarm.network_changed(world.now);
    let commands = world.commands();
    assert!(commands.contains(&Command::KeepAlive(link)), "{commands:?}");
    assert!(commands.contains(&Command::Walk(TOPIC, Walk { announce: false, clear: false })), "{commands:?}");
}

#[test]
fn a_suspended_swarm_does_nothing_and_goes_on_when_it_is_resumed() {
    let mut world = World::client();
    let link = world.connected(1);
    world.swarm.suspend();
    let commands = world.commands();
    assert!(commands.contains(&Command::Close(link)) && commands.contains(&Command::Leave(TOPIC, false)));
    world.find(2..=5);
    assert!(world.wait(3600 * SECOND).is_empty() && !world.swarm.admits(&key(9)));
    world.swarm.resume(world.now);
    assert!(matches!(world.commands()[..], [Command::Walk(..)]));
}

#[test]
fn strangers_cannot_make_us_know_more_peers_than_the_limit() {
    let mut world = World::client();
    for number in 0..2 * SWARM_KNOWN_PEERS {
        let mut peer = [1; 32];
        peer[..8].copy_from_slice(&number.to_le_bytes());
        world.swarm.found(world.now, TOPIC, PublicKey(peer), &[]);
    }
    assert_eq!(world.swarm.peers.len(), SWARM_KNOWN_PEERS);
}
