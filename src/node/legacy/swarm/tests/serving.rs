//! Serving with little room: nobody who reads is closed, nobody waits for ever, and the parts stay in order.

use super::hostile::{neighbour, node, own_transfer};
use super::*;
use bytes::Bytes;
use rand::SeedableRng;
use rand::rngs::StdRng;

const FILE: Sha1 = Sha1([0xce; 20]);

/// A request that is being answered as the runtime does it: what did not fit is offered again when there is room.
struct Job {
    key: RequestKey,
    pieces: usize,
    waits: bool,
    ended: bool,
}

fn piece() -> Reply {
    Reply::Data(Bytes::from_static(&[0; limits::DATA_PIECE]))
}

fn jobs(keys: impl IntoIterator<Item = RequestKey>, pieces: usize) -> Vec<Job> {
    keys.into_iter().map(|key| Job { key, pieces, waits: false, ended: false }).collect()
}

/// Requests of nodes that are no neighbours of machine 0, as many as are served.
fn of_strangers(sim: &mut Simulation, count: usize) -> Vec<RequestKey> {
    let mut rng = StdRng::seed_from_u64(1);
    let keys: Vec<_> = (0..count)
        .map(|at| RequestKey {
            from: node(100 + (at / limits::NODE_REQUESTS_MAX) as u8),
            id: WireId::random(&mut rng),
        })
        .collect();
    let now = sim.now;
    keys.iter().for_each(|key| sim.machines[0].swarm.forge_served(now, *key));
    keys
}

/// Machine 0 goes on with all jobs, one piece each in turn, until none can.
fn answer(sim: &mut Simulation, jobs: &mut [Job]) {
    let now = sim.now;
    loop {
        sim.deliver();
        for event in sim.take_events(0) {
            if let Event::Writable(key) = event {
                jobs.iter_mut().filter(|job| job.key == key).for_each(|job| job.waits = false);
            }
        }
        let mut moved = false;
        for job in jobs.iter_mut().filter(|job| !job.waits && !job.ended) {
            moved = true;
            let reply = if job.pieces > 0 { piece() } else { Reply::Finished };
            let last = matches!(reply, Reply::Finished);
            match sim.machines[0].swarm.respond(now, &job.key, reply) {
                Room::More if last => job.ended = true,
                Room::More => job.pieces -= 1,
                Room::Full => job.waits = true,
                Room::Gone => job.ended = true,
            }
        }
        if !moved {
            return;
        }
    }
}

fn queued(sim: &Simulation, connection: ConnectionId) -> usize {
    sim.machines[0].unwritten.iter().filter(|(to, _)| *to == connection).map(|(_, weight)| weight).sum()
}

#[test]
fn all_requests_of_a_node_share_its_slow_connection_without_closing_it() {
    let mut sim = Simulation::of(2, Protocol::Daemon02, &Purpose::Transfer(node(1)));
    let (_, slow) = sim.dial(1, 0, false);
    let (now, to) = (sim.now, sim.id(0, Style::Spki));
    for _ in 0..limits::NODE_REQUESTS_MAX {
        sim.machines[1].swarm.request(now, to, FileRequest::Range { sha1: FILE, start: 0, end: 10_000_000 });
    }
    sim.deliver();
    let keys = sim.take_events(0).into_iter().filter_map(|event| match event {
        Event::Requested { key, .. } => Some(key),
        _ => None,
    });
    let mut jobs = jobs(keys.collect::<Vec<_>>(), 5);
    assert_eq!(jobs.len(), limits::NODE_REQUESTS_MAX);
    sim.machines[0].slow = Some(slow);
    loop {
        answer(&mut sim, &mut jobs);
        assert_eq!(sim.machines[0].closed, []);
        let data = limits::CONNECTION_QUEUE_ROOM + 180_000;
        assert!(queued(&sim, slow) < data + jobs.len() * 1000, "{} bytes wait", queued(&sim, slow));
        let left = jobs.iter().map(|job| job.pieces);
        let (most, least) = (left.clone().max().unwrap(), left.min().unwrap());
        assert!(most - least <= 2, "one has {least} pieces to come, another {most}");
        if !sim.write_one(0, slow) {
            break;
        }
    }
    assert!(jobs.iter().all(|job| job.ended && job.pieces == 0), "all came to their end");
}

#[test]
fn answers_to_strangers_close_no_neighbour_however_slowly_it_reads() {
    let mut sim = own_transfer();
    let (fast, slow) = (neighbour(&mut sim, 8), neighbour(&mut sim, 9));
    let keys = of_strangers(&mut sim, limits::SWARM_REQUESTS_MAX);
    let mut jobs = jobs(keys, 2);
    sim.machines[0].stuck = true;
    answer(&mut sim, &mut jobs);
    assert!(jobs.iter().any(|job| job.waits), "there is room for a few only");
    while sim.write_one(0, fast) {
        answer(&mut sim, &mut jobs);
    }
    assert_eq!(sim.machines[0].closed, []);
    assert!(jobs.iter().all(|job| job.ended && job.pieces == 0), "the one that reads sets the pace");
    assert!(queued(&sim, slow) < limits::CONNECTION_QUEUE_RELAY, "{} bytes wait", queued(&sim, slow));
}

#[test]
fn a_neighbour_that_missed_a_part_of_an_answer_to_a_stranger_gets_no_later_part() {
    // Its connection may be the faster one from then on: the asker would get parts without those before them.
    let mut sim = own_transfer();
    let (fast, slow) = (neighbour(&mut sim, 8), neighbour(&mut sim, 9));
    let key = of_strangers(&mut sim, 1)[0];
    sim.machines[0].slow = Some(slow);
    let now = sim.now;
    let send = |sim: &mut Simulation, reply| {
        assert_eq!(sim.machines[0].swarm.respond(now, &key, reply), Room::More);
        sim.deliver();
        (sim.read(fast).len(), sim.read(slow).len())
    };
    let counts: Vec<_> = (0..5).map(|_| send(&mut sim, piece())).collect();
    assert_eq!(counts, [(1, 1), (1, 1), (1, 1), (1, 0), (1, 0)]);
    while sim.write_one(0, slow) {}
    let late = neighbour(&mut sim, 10);
    assert_eq!(send(&mut sim, piece()), (1, 0));
    assert_eq!(send(&mut sim, Reply::Finished), (1, 0));
    assert!(sim.read(late).is_empty(), "nor does one that came too late");
}

#[test]
fn what_a_neighbour_asked_itself_goes_before_what_it_would_pass_on() {
    let mut sim = own_transfer();
    let slow = neighbour(&mut sim, 8);
    sim.machines[0].slow = Some(slow);
    let strangers = of_strangers(&mut sim, 20);
    let mut own = jobs([RequestKey { from: node(8), id: strangers[0].id }], 10);
    let mut passed_on = jobs(strangers, 100);
    let now = sim.now;
    sim.machines[0].swarm.forge_served(now, own[0].key);
    answer(&mut sim, &mut passed_on);
    let before: usize = passed_on.iter().map(|job| job.pieces).sum();
    let mut all: Vec<_> = own.drain(..).chain(passed_on).collect();
    while !all[0].ended {
        answer(&mut sim, &mut all);
        assert!(sim.write_one(0, slow), "it reads");
    }
    let meanwhile = before - all[1..].iter().map(|job| job.pieces).sum::<usize>();
    assert!(meanwhile <= 1, "{meanwhile} pieces for strangers");
}

#[test]
fn answers_that_reach_nobody_any_more_do_not_take_the_place_of_requests() {
    let mut sim = own_transfer();
    let only = neighbour(&mut sim, 8);
    let keys = of_strangers(&mut sim, limits::SWARM_REQUESTS_MAX);
    let mut jobs = jobs(keys, 100);
    sim.machines[0].stuck = true;
    answer(&mut sim, &mut jobs);
    sim.cut(0, only);
    answer(&mut sim, &mut jobs);
    assert!(jobs.iter().all(|job| job.ended));
    assert_eq!(sim.machines[0].swarm.serving(), 0);
}

#[test]
fn an_asker_that_becomes_a_neighbour_does_not_wait_for_those_in_between() {
    let mut sim = own_transfer();
    let between = neighbour(&mut sim, 8);
    let filler = of_strangers(&mut sim, 4);
    sim.machines[0].slow = Some(between);
    let mut fillers = jobs(filler, 100);
    let id = fillers[3].key.id;
    let mut asker = jobs([RequestKey { from: node(9), id }], 1);
    let now = sim.now;
    sim.machines[0].swarm.forge_served(now, asker[0].key);
    answer(&mut sim, &mut fillers);
    answer(&mut sim, &mut asker);
    assert!(asker[0].waits);
    let connection = sim.open(0, crate::node::legacy::Direction::Accepted, false);
    super::hostile::greet(&mut sim, connection, 9);
    answer(&mut sim, &mut asker);
    assert!(asker[0].ended && asker[0].pieces == 0);
}
