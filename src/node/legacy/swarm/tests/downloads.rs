use super::*;
use bytes::Bytes;

use crate::node::legacy::Dialect;

pub(super) const FILE: Sha1 = Sha1([0xcd; 20]);

pub(super) fn content(size: usize) -> Vec<u8> {
    (0..size).map(|at| (at * 7 + at / 251) as u8).collect()
}

pub(super) fn transfer(style: Style) -> Purpose {
    Purpose::Transfer(NodeId::new(key(1).public(), style))
}

/// Machine 0 serves the file to whoever asks, in reads of 64 KiB, with back-pressure.
pub(super) fn serve(sim: &mut Simulation, file: &[u8]) {
    let mut jobs: Vec<(RequestKey, usize, usize)> = Vec::new();
    for _ in 0..100_000 {
        for event in sim.take_events(0) {
            match event {
                Event::Requested { key, request: FileRequest::Whole { .. }, .. } => {
                    jobs.push((key, 0, file.len()))
                }
                Event::Requested { key, request: FileRequest::Range { start, end, .. }, .. } => {
                    jobs.push((key, start as usize, end as usize));
                }
                _ => {}
            }
        }
        if jobs.is_empty() {
            return;
        }
        let now = sim.now;
        jobs.retain_mut(|(key, at, end)| {
            let next = (*at + 65_536).min(*end);
            if *at == *end {
                let _ = sim.machines[0].swarm.respond(now, key, Reply::Finished);
                return false;
            }
            let data = Bytes::copy_from_slice(&file[*at..next]);
            let room = sim.machines[0].swarm.respond(now, key, Reply::Data(data));
            if room == Room::More {
                *at = next;
            }
            room != Room::Gone
        });
        sim.deliver();
    }
    panic!("serving does not end");
}

pub(super) fn received(events: &[Event], id: WireId) -> (Vec<u8>, bool) {
    let mut bytes = Vec::new();
    let mut finished = false;
    for event in events {
        match event {
            Event::Data { request, data } if *request == id => bytes.extend_from_slice(data),
            Event::Finished(request) if *request == id => finished = true,
            _ => {}
        }
    }
    (bytes, finished)
}

#[test]
fn every_dialect_downloads_any_size() {
    for dialect in Dialect::ALL {
        for size in [1, 378, 379, 568, 65_536, 200_001] {
            let (protocol, style) = (dialect.protocol(), dialect.style());
            let mut sim = Simulation::of(2, protocol, &transfer(style));
            sim.join(0, 1);
            let file = content(size);
            let to = sim.id(0, style);
            let request = match dialect.has_ranges() {
                true => FileRequest::Range { sha1: FILE, start: 0, end: size as u64 },
                false => FileRequest::Whole { sha1: FILE },
            };
            let now = sim.now;
            let id = sim.machines[1].swarm.request(now, to, request);
            sim.deliver();
            serve(&mut sim, &file);
            let (bytes, finished) = received(&sim.take_events(1), id);
            assert!(bytes == file && finished, "{dialect:?}, {size} bytes: got {}", bytes.len());
        }
    }
}

#[test]
fn a_message_carries_a_bounded_piece_of_data_however_much_was_read_at_once() {
    for (size, pieces) in [
        (limits::DATA_PIECE, vec![limits::DATA_PIECE]),
        (limits::DATA_PIECE + 1, vec![limits::DATA_PIECE, 1]),
    ] {
        let mut sim = Simulation::of(2, Protocol::Daemon02, &transfer(Style::Spki));
        sim.join(0, 1);
        let (now, to) = (sim.now, sim.id(0, Style::Spki));
        let request = FileRequest::Range { sha1: FILE, start: 0, end: size as u64 };
        sim.machines[1].swarm.request(now, to, request);
        sim.deliver();
        let events = sim.take_events(0);
        let key = events.into_iter().find_map(|event| match event {
            Event::Requested { key, .. } => Some(key),
            _ => None,
        });
        let data = Reply::Data(Bytes::from(content(size)));
        let _: Room = sim.machines[0].swarm.respond(now, &key.expect("requested"), data);
        sim.deliver();
        let lengths = sim.take_events(1).into_iter().filter_map(|event| match event {
            Event::Data { data, .. } => Some(data.len()),
            _ => None,
        });
        assert_eq!(lengths.collect::<Vec<_>>(), pieces);
    }
}

#[test]
fn a_request_made_before_anybody_is_connected_goes_out_when_the_node_comes() {
    let mut sim = Simulation::of(2, Protocol::Daemon02, &transfer(Style::Spki));
    let now = sim.now;
    let to = sim.id(0, Style::Spki);
    let id = sim.machines[1].swarm.request(now, to, FileRequest::Range { sha1: FILE, start: 0, end: 10 });
    sim.run(Duration::from_millis(700));
    sim.join(0, 1);
    assert!(sim.take_events(1).contains(&Event::Received(id)), "without waiting for the next repetition");
}

#[test]
fn a_request_is_processed_once_however_often_it_is_repeated() {
    let mut sim = Simulation::of(2, Protocol::Daemon02, &transfer(Style::Spki));
    sim.join(0, 1);
    // The answers do not get through, so the request is repeated.
    sim.machines[0].stuck = true;
    let now = sim.now;
    let to = sim.id(0, Style::Spki);
    sim.machines[1].swarm.request(now, to, FileRequest::Range { sha1: FILE, start: 0, end: 10 });
    sim.run(Duration::from_millis(3100));
    let requested = |event: &&Event| matches!(event, Event::Requested { .. });
    assert_eq!(sim.machines[0].events.iter().filter(requested).count(), 1);
    assert_eq!(
        sim.machines[0].unwritten.len(),
        2 + 7 - 2,
        "Received for the first and each of six repetitions"
    );
}

#[test]
fn a_node_that_never_answers_fails_the_request_after_ten_seconds() {
    let mut sim = Simulation::of(2, Protocol::Daemon02, &transfer(Style::Spki));
    let now = sim.now;
    let to = sim.id(0, Style::Spki);
    let request =
        sim.machines[1].swarm.request(now, to, FileRequest::Range { sha1: FILE, start: 0, end: 10 });
    sim.run(Duration::from_millis(9999));
    assert_eq!(sim.machines[1].events, []);
    sim.run(Duration::from_millis(1));
    assert!(
        matches!(&sim.machines[1].events[..], [Event::RequestFailed { request: id, .. }] if *id == request)
    );
}

#[test]
fn silence_after_received_fails_the_request_after_ten_seconds() {
    let mut sim = Simulation::of(2, Protocol::Daemon02, &transfer(Style::Spki));
    sim.join(0, 1);
    let now = sim.now;
    let to = sim.id(0, Style::Spki);
    let id = sim.machines[1].swarm.request(now, to, FileRequest::Range { sha1: FILE, start: 0, end: 10 });
    sim.run(Duration::from_millis(9999));
    assert!(!sim.machines[1].events.iter().any(|e| matches!(e, Event::RequestFailed { .. })));
    sim.run(Duration::from_millis(1));
    assert!(
        sim.machines[1]
            .events
            .iter()
            .any(|e| matches!(e, Event::RequestFailed { request, .. } if *request == id))
    );
}

#[test]
fn the_provider_leaving_fails_the_request_at_once() {
    let mut sim = Simulation::of(2, Protocol::Daemon02, &transfer(Style::Spki));
    let (dialled, _) = sim.dial(1, 0, false);
    let now = sim.now;
    let to = sim.id(0, Style::Spki);
    let id = sim.machines[1].swarm.request(now, to, FileRequest::Range { sha1: FILE, start: 0, end: 10 });
    sim.deliver();
    sim.cut(1, dialled);
    sim.deliver();
    assert!(
        sim.take_events(1).contains(&Event::RequestFailed {
            request: id,
            reason: crate::node::legacy::RequestFailure::Left
        })
    );
    assert!(sim.take_events(0).iter().any(|e| matches!(e, Event::RequestAbandoned(_))));
}

#[test]
fn a_download_goes_through_a_node_in_between() {
    for dialect in Dialect::ALL {
        let (protocol, style) = (dialect.protocol(), dialect.style());
        let mut sim = Simulation::of(3, protocol, &transfer(style));
        sim.join(0, 1);
        sim.join(1, 2);
        let file = content(30_000);
        let (now, to) = (sim.now, sim.id(0, style));
        let request = match dialect.has_ranges() {
            true => FileRequest::Range { sha1: FILE, start: 0, end: 30_000 },
            false => FileRequest::Whole { sha1: FILE },
        };
        let id = sim.machines[2].swarm.request(now, to, request);
        sim.deliver();
        serve(&mut sim, &file);
        let (bytes, finished) = received(&sim.take_events(2), id);
        assert!(bytes == file && finished, "{dialect:?}: got {} bytes", bytes.len());
        assert!(
            !sim.take_events(1).iter().any(|e| matches!(e, Event::Data { .. } | Event::Requested { .. }))
        );
    }
}

#[test]
fn data_for_a_neighbour_goes_to_nobody_else() {
    let mut sim = Simulation::of(3, Protocol::Daemon02, &transfer(Style::Spki));
    sim.join(0, 1);
    sim.join(0, 2);
    sim.join(1, 2);
    let file = content(500_000);
    let (now, to) = (sim.now, sim.id(0, Style::Spki));
    let id =
        sim.machines[1].swarm.request(now, to, FileRequest::Range { sha1: FILE, start: 0, end: 500_000 });
    let before = sim.bytes;
    sim.deliver();
    serve(&mut sim, &file);
    assert!(received(&sim.take_events(1), id).1);
    assert!(sim.bytes - before < 700_000, "{} bytes moved for 500,000", sim.bytes - before);
}

#[test]
fn the_errors_of_0_2_1_come_back_for_wrong_ranges() {
    for (start, end, wanted) in [
        (5, 5, "Expected startByte < endByte, but got: 5 5"),
        (6, 5, "Expected startByte < endByte, but got: 6 5"),
        (0, 20_000_001, "Too many bytes in single download request: 20000001 > 20000000"),
    ] {
        let mut sim = Simulation::of(2, Protocol::Daemon02, &transfer(Style::Spki));
        sim.join(0, 1);
        let (now, to) = (sim.now, sim.id(0, Style::Spki));
        let request = sim.machines[1].swarm.request(now, to, FileRequest::Range { sha1: FILE, start, end });
        sim.deliver();
        let reason = crate::node::legacy::RequestFailure::Refused(wanted.to_owned());
        assert!(sim.take_events(1).contains(&Event::RequestFailed { request, reason }));
        assert!(!sim.take_events(0).iter().any(|e| matches!(e, Event::Requested { .. })));
    }
    let mut sim = Simulation::of(2, Protocol::Daemon02, &transfer(Style::Spki));
    sim.join(0, 1);
    let (now, to) = (sim.now, sim.id(0, Style::Spki));
    sim.machines[1].swarm.request(
        now,
        to,
        FileRequest::Range { sha1: FILE, start: 0, end: limits::V021_MAX_RANGE },
    );
    sim.deliver();
    assert!(
        sim.take_events(0).iter().any(|e| matches!(e, Event::Requested { .. })),
        "the limit itself is served"
    );
}

#[test]
fn requests_of_one_node_are_bounded() {
    let mut sim = Simulation::of(2, Protocol::Daemon02, &transfer(Style::Spki));
    sim.join(0, 1);
    let (now, to) = (sim.now, sim.id(0, Style::Spki));
    for _ in 0..limits::NODE_REQUESTS_MAX {
        sim.machines[1].swarm.request(now, to, FileRequest::Range { sha1: FILE, start: 0, end: 10 });
    }
    sim.deliver();
    assert!(!sim.take_events(1).iter().any(|e| matches!(e, Event::RequestFailed { .. })));
    let one_more =
        sim.machines[1].swarm.request(now, to, FileRequest::Range { sha1: FILE, start: 0, end: 10 });
    sim.deliver();
    assert!(
        sim.take_events(1)
            .iter()
            .any(|e| matches!(e, Event::RequestFailed { request, .. } if *request == one_more))
    );
}

#[test]
fn requests_of_a_whole_swarm_are_bounded() {
    let nodes = limits::SWARM_REQUESTS_MAX / limits::NODE_REQUESTS_MAX + 1;
    let mut sim =
        Simulation::of(u8::try_from(nodes + 1).unwrap(), Protocol::Daemon02, &transfer(Style::Spki));
    let (now, to) = (sim.now, sim.id(0, Style::Spki));
    for node in 1..=nodes {
        sim.join(0, node);
        let count = if node == nodes { 1 } else { limits::NODE_REQUESTS_MAX };
        for _ in 0..count {
            sim.machines[node].swarm.request(now, to, FileRequest::Range { sha1: FILE, start: 0, end: 10 });
        }
    }
    sim.deliver();
    assert_eq!(sim.machines[0].swarm.serving(), limits::SWARM_REQUESTS_MAX);
    let failed = |e: &Event| matches!(e, Event::RequestFailed { .. });
    let failed: Vec<_> =
        (1..=nodes).map(|node| sim.take_events(node).iter().filter(|e| failed(e)).count()).collect();
    assert_eq!(failed.iter().sum::<usize>(), 1);
    assert_eq!(failed[nodes - 1], 0, "one of those that have 32 gave way");
}

#[test]
fn a_reader_that_stops_stops_its_data_and_goes_on_later() {
    let mut sim = Simulation::of(2, Protocol::Daemon02, &transfer(Style::Spki));
    sim.dial(1, 0, false);
    let (now, to) = (sim.now, sim.id(0, Style::Spki));
    sim.machines[1].swarm.request(now, to, FileRequest::Range { sha1: FILE, start: 0, end: 10_000_000 });
    sim.deliver();
    let key = sim.take_events(0).into_iter().find_map(|event| match event {
        Event::Requested { key, .. } => Some(key),
        _ => None,
    });
    let key = key.unwrap();
    sim.machines[0].stuck = true;
    let mut sent = 0;
    while sim.machines[0].swarm.respond(now, &key, Reply::Data(Bytes::from(vec![0; 65_536]))) == Room::More {
        sent += 1;
        assert!(sent < 100, "nothing stops it");
    }
    sim.deliver();
    let queued: usize = sim.machines[0].unwritten.iter().map(|(_, weight)| weight).sum();
    assert!(queued < limits::CONNECTION_QUEUE_ROOM + 100_000, "{queued} bytes wait");
    assert!(!sim.take_events(0).contains(&Event::Writable(key)));
    sim.unstick(0);
    assert!(sim.take_events(0).contains(&Event::Writable(key)));
}

#[test]
fn more_bytes_than_asked_for_fail_the_request() {
    let mut sim = Simulation::of(2, Protocol::Daemon02, &transfer(Style::Spki));
    sim.join(0, 1);
    let (now, to) = (sim.now, sim.id(0, Style::Spki));
    let request =
        sim.machines[1].swarm.request(now, to, FileRequest::Range { sha1: FILE, start: 0, end: 10 });
    sim.deliver();
    let key = RequestKey { from: sim.id(1, Style::Spki), id: request };
    let _ = sim.machines[0].swarm.respond(now, &key, Reply::Data(Bytes::from_static(b"12345678901")));
    sim.deliver();
    let events = sim.take_events(1);
    assert!(!events.iter().any(|e| matches!(e, Event::Data { .. })));
    assert!(events.iter().any(|e| matches!(e, Event::RequestFailed { .. })));
}

#[test]
fn only_the_asked_node_can_answer() {
    let mut sim = Simulation::of(3, Protocol::Daemon02, &transfer(Style::Spki));
    sim.join(0, 1);
    sim.join(1, 2);
    let (now, to) = (sim.now, sim.id(0, Style::Spki));
    let id = sim.machines[1].swarm.request(now, to, FileRequest::Range { sha1: FILE, start: 0, end: 10 });
    sim.deliver();
    // Machine 2 learnt the ID from the flood and answers in the provider's place.
    let key = RequestKey { from: sim.id(1, Style::Spki), id };
    sim.machines[2].swarm.forge_served(now, key);
    let _ = sim.machines[2].swarm.respond(now, &key, Reply::Data(Bytes::from_static(b"lies")));
    sim.deliver();
    assert!(!sim.take_events(1).iter().any(|e| matches!(e, Event::Data { .. })));
}

#[test]
fn only_our_own_transfer_swarm_serves_requests() {
    let mut sim = Simulation::of(2, Protocol::Daemon02, &Purpose::Channel("test1".to_owned()));
    sim.join(0, 1);
    let (now, to) = (sim.now, sim.id(0, Style::Spki));
    sim.machines[1].swarm.request(now, to, FileRequest::Range { sha1: FILE, start: 0, end: 10 });
    sim.deliver();
    assert!(!sim.take_events(0).iter().any(|e| matches!(e, Event::Requested { .. })));
}

#[test]
fn an_error_is_told_to_0_2_1_only_because_the_others_do_not_know_it() {
    for dialect in Dialect::ALL {
        let (protocol, style) = (dialect.protocol(), dialect.style());
        let mut sim = Simulation::of(2, protocol, &transfer(style));
        sim.join(0, 1);
        let (now, to) = (sim.now, sim.id(0, style));
        let id = sim.machines[1].swarm.request(now, to, FileRequest::Range { sha1: FILE, start: 0, end: 10 });
        sim.deliver();
        sim.take_events(1);
        let key = RequestKey { from: sim.id(1, style), id };
        let _ = sim.machines[0].swarm.respond(now, &key, Reply::Error("Unable to find file.".to_owned()));
        sim.deliver();
        let told = sim.take_events(1).iter().any(|event| matches!(event, Event::RequestFailed { .. }));
        assert_eq!(told, dialect == Dialect::V021, "{dialect:?}");
        assert_eq!(sim.machines[0].swarm.respond(now, &key, Reply::Finished), Room::Gone);
    }
}

/// Machine 1 asks machine 0, which sends nothing; neither does it keep the connection alive.
fn unanswered(sim: &mut Simulation) -> WireId {
    let (now, to) = (sim.now, sim.id(0, Style::Spki));
    let id = sim.machines[1].swarm.request(now, to, FileRequest::Range { sha1: FILE, start: 0, end: 10 });
    sim.deliver();
    sim.machines[0].stuck = true;
    id
}

#[test]
fn time_in_which_we_do_not_read_is_no_silence_of_the_provider() {
    let mut sim = Simulation::of(2, Protocol::Daemon02, &transfer(Style::Spki));
    let (own, _) = sim.dial(1, 0, false);
    let id = unanswered(&mut sim);
    sim.run(Duration::from_secs(4));
    let now = sim.now;
    sim.machines[1].swarm.handle_reading_paused(now, own);
    sim.run(Duration::from_secs(60));
    let now = sim.now;
    sim.machines[1].swarm.handle_reading_resumed(now, own);
    sim.run(Duration::from_millis(5999));
    let ended = |sim: &Simulation| {
        let failed = |e: &Event| matches!(e, Event::RequestFailed { request, .. } if *request == id);
        (sim.machines[1].events.iter().any(failed), sim.machines[1].closed.len())
    };
    assert_eq!(ended(&sim), (false, 0), "four of ten seconds had passed before");
    sim.run(Duration::from_millis(1));
    assert_eq!(ended(&sim), (true, 1));
}

#[test]
fn a_provider_behind_a_node_that_we_do_not_read_is_not_silent_either() {
    let mut sim = Simulation::of(3, Protocol::Daemon02, &transfer(Style::Spki));
    sim.join(0, 2);
    let (own, _) = sim.dial(1, 2, false);
    let id = unanswered(&mut sim);
    let now = sim.now;
    sim.machines[1].swarm.handle_reading_paused(now, own);
    sim.run(Duration::from_secs(60));
    let failed = |e: &Event| matches!(e, Event::RequestFailed { request, .. } if *request == id);
    assert!(!sim.machines[1].events.iter().any(failed));
    assert!(sim.machines[1].closed.is_empty());
}

#[test]
fn a_connection_that_ends_while_it_is_not_read_holds_up_nothing_any_more() {
    let mut sim = Simulation::of(2, Protocol::Daemon02, &transfer(Style::Spki));
    let (own, _) = sim.dial(1, 0, false);
    let now = sim.now;
    let to = sim.id(0, Style::Spki);
    sim.machines[1].swarm.handle_reading_paused(now, own);
    sim.cut(1, own);
    sim.machines[1].swarm.request(now, to, FileRequest::Range { sha1: FILE, start: 0, end: 10 });
    sim.run(Duration::from_secs(10));
    assert!(sim.machines[1].events.iter().any(|e| matches!(e, Event::RequestFailed { .. })));
}
