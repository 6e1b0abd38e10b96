//! Answers that pass a node in between: what it holds, what it cuts, and that a path's loss is nobody's lie.

use super::downloads::{FILE, content, received, serve, transfer};
use super::*;
use crate::node::legacy::RequestFailure;
use bytes::Bytes;
use rand::SeedableRng;
use rand::rngs::StdRng;

/// Machine 0 has the file, machine 1 is in between, machine 2 asks. With the connection from 1 to 2.
fn in_a_row() -> (Simulation, ConnectionId) {
    let mut sim = Simulation::of(3, Protocol::Daemon02, &transfer(Style::Spki));
    sim.join(0, 1);
    let (_, last) = sim.dial(2, 1, false);
    (sim, last)
}

fn ask(sim: &mut Simulation, machine: usize, start: usize, end: usize) -> WireId {
    let (now, to) = (sim.now, sim.id(0, Style::Spki));
    let request = FileRequest::Range { sha1: FILE, start: start as u64, end: end as u64 };
    let id = sim.machines[machine].swarm.request(now, to, request);
    sim.deliver();
    id
}

fn waiting(sim: &Simulation, connection: ConnectionId) -> usize {
    sim.machines[1].unwritten.iter().filter(|(to, _)| *to == connection).map(|(_, weight)| weight).sum()
}

#[test]
fn a_relay_holds_a_whole_request_of_an_original_for_a_slow_asker() {
    let (mut sim, last) = in_a_row();
    sim.machines[1].slow = Some(last);
    let file = content(4_000_000);
    let id = ask(&mut sim, 2, 0, file.len());
    serve(&mut sim, &file);
    let (bytes, finished) = received(&sim.take_events(2), id);
    assert!(bytes == file && finished, "{} bytes arrived", bytes.len());
}

#[test]
fn of_an_answer_that_does_not_fit_the_asker_gets_the_beginning_and_learns_at_once_that_it_was_cut() {
    let (mut sim, last) = in_a_row();
    sim.machines[1].slow = Some(last);
    let file = content(16_000_000);
    let id = ask(&mut sim, 2, 0, file.len());
    serve(&mut sim, &file);
    let events = sim.take_events(2);
    let (bytes, finished) = received(&events, id);
    assert!(bytes.len() > 4_000_000 && bytes.len() < file.len(), "{} bytes arrived", bytes.len());
    assert!(file.starts_with(&bytes), "nothing is missing in between");
    assert!(!finished, "the provider did not end it short");
    assert!(events.contains(&Event::RequestFailed { request: id, reason: RequestFailure::Lost }));
    assert!(waiting(&sim, last) < limits::RELAY_ANSWERS, "{} bytes wait", waiting(&sim, last));
    assert_eq!(sim.machines[1].closed, []);
    while sim.write_one(1, last) {}
    let id = ask(&mut sim, 2, bytes.len(), bytes.len() + 2_000_000);
    serve(&mut sim, &file);
    assert!(received(&sim.take_events(2), id).1, "there is room again");
}

#[test]
fn after_a_part_that_did_not_fit_no_later_part_passes_although_there_is_room_again() {
    let (mut sim, last) = in_a_row();
    sim.machines[1].slow = Some(last);
    let (from, now) = (sim.id(2, Style::Spki), sim.now);
    let id = ask(&mut sim, 2, 0, 20_000_000);
    let key = RequestKey { from, id };
    let send = |sim: &mut Simulation| {
        let data = Bytes::from(vec![0; limits::DATA_PIECE]);
        assert_eq!(sim.machines[0].swarm.respond(now, &key, Reply::Data(data)), Room::More);
        sim.deliver();
        sim.take_events(2).iter().filter(|event| matches!(event, Event::Data { .. })).count()
    };
    while send(&mut sim) == 1 {}
    while sim.write_one(1, last) {}
    assert_eq!(send(&mut sim), 0);
}

#[test]
fn one_asker_that_reads_slowly_leaves_room_for_the_answers_of_others() {
    let (mut sim, last) = in_a_row();
    // Behind machine 2, so that both share the connection from 1 to 2.
    let behind = sim.add(4, Protocol::Daemon02, transfer(Style::Spki));
    sim.join(2, behind);
    sim.machines[1].slow = Some(last);
    let file = content(20_000_000);
    ask(&mut sim, 2, 0, file.len());
    serve(&mut sim, &file);
    let id = ask(&mut sim, behind, 0, 3_000_000);
    serve(&mut sim, &file);
    let (bytes, finished) = received(&sim.take_events(behind), id);
    assert!(bytes == file[..3_000_000] && finished, "{} bytes arrived", bytes.len());
}

#[test]
fn tiny_answers_that_are_not_read_do_not_close_the_connection_to_their_asker() {
    let (mut sim, last) = in_a_row();
    sim.machines[1].stuck = true;
    let now = sim.now;
    let key = RequestKey { from: sim.id(2, Style::Spki), id: WireId::from_bytes(b"r").unwrap() };
    sim.machines[0].swarm.forge_served(now, key);
    for _ in 0..2 * limits::CONNECTION_FRAMES {
        let _ = sim.machines[0].swarm.respond(now, &key, Reply::Data(Bytes::from_static(b"x")));
        sim.deliver();
    }
    let frames = sim.machines[1].unwritten.iter().filter(|(to, _)| *to == last).count();
    assert_eq!(frames, limits::RELAY_FRAMES, "of {} that the runtime takes", limits::CONNECTION_FRAMES);
    assert_eq!(sim.machines[1].closed, []);
}

#[test]
fn of_an_answer_without_room_a_small_end_passes_and_a_large_one_does_not() {
    // A relayed frame weighs 600 bytes more than what its originator signed, and 96 for each node that has it.
    let around = 600 + 2 * 96 + around_error_text();
    for (text, passes) in
        [(limits::RELAY_END_BYTES - around, true), (limits::RELAY_END_BYTES - around + 1, false)]
    {
        let (mut sim, last) = in_a_row();
        sim.machines[1].slow = Some(last);
        let file = content(16_000_000);
        ask(&mut sim, 2, 0, file.len());
        serve(&mut sim, &file);
        let id = ask(&mut sim, 2, 0, 10);
        sim.take_events(0);
        sim.take_events(2);
        let (now, key) = (sim.now, RequestKey { from: sim.id(2, Style::Spki), id });
        let _ = sim.machines[0].swarm.respond(now, &key, Reply::Error("x".repeat(text)));
        sim.deliver();
        let ended = sim.take_events(2).iter().any(|event| matches!(event, Event::RequestFailed { .. }));
        assert_eq!(ended, passes, "an error of {text} characters");
    }
}

/// Bytes that the originator of an error signs, without the error's text.
fn around_error_text() -> usize {
    let to = super::hostile::node(3);
    let empty = format!(
        "{{\"messageId\":\"0123456789\",\"message\":{{\"type\":\"messageToNode\",\"toNodeId\":\"{to}\",\"messageBody\":{{\"type\":\"requestToNodeError\",\"requestId\":\"0123456789\",\"errorString\":\"\"}}}}}}"
    );
    empty.len()
}

#[test]
fn answers_that_were_cut_are_remembered_up_to_a_limit() {
    let (mut sim, last) = in_a_row();
    sim.machines[1].slow = Some(last);
    let file = content(16_000_000);
    ask(&mut sim, 2, 0, file.len());
    serve(&mut sim, &file);
    let (from, now) = (sim.id(2, Style::Spki), sim.now);
    let mut held = Vec::new();
    for at in 0..=limits::RELAY_CUTS {
        let id = WireId::from_bytes(format!("r{at}").as_bytes()).unwrap();
        let key = RequestKey { from, id };
        sim.machines[0].swarm.forge_served(now, key);
        // Larger than what is free since the first was cut.
        let data = Bytes::from(vec![0; limits::DATA_PIECE]);
        let _ = sim.machines[0].swarm.respond(now, &key, Reply::Data(data));
        sim.deliver();
        held.push(sim.machines[1].swarm.cut(from));
    }
    assert_eq!(held.last(), Some(&limits::RELAY_CUTS), "{held:?}");
}

/// What a load through a relay came to.
struct Weathered {
    requests: usize,
    blamed: usize,
    time: Duration,
}

/// Asks for the file in ranges of 256 KiB, two at a time, and again for what was lost, as downloads do.
fn load(size: usize, loss: u32, seed: u64) -> Weathered {
    const RANGE: usize = 256 << 10;
    let (mut sim, _) = in_a_row();
    sim.machines[1].loses = Some((loss, StdRng::seed_from_u64(seed)));
    let file = content(size);
    let begun = sim.now;
    let mut result = Weathered { requests: 0, blamed: 0, time: Duration::ZERO };
    let mut wanted: Vec<usize> = (0..size).step_by(RANGE).rev().collect();
    let mut open: Vec<(WireId, usize, Vec<u8>)> = Vec::new();
    while !wanted.is_empty() || !open.is_empty() {
        while open.len() < 2
            && let Some(start) = wanted.pop()
        {
            let id = ask(&mut sim, 2, start, (start + RANGE).min(size));
            result.requests += 1;
            open.push((id, start, Vec::new()));
        }
        serve(&mut sim, &file);
        let events = sim.take_events(2);
        if events.is_empty() {
            sim.run(Duration::from_millis(100));
            assert!(sim.now - begun < Duration::from_secs(600), "it does not end; seed {seed}");
        }
        for event in events {
            match event {
                Event::Data { request, data } => {
                    open.iter_mut().filter(|o| o.0 == request).for_each(|o| o.2.extend_from_slice(&data));
                }
                Event::Finished(request) => {
                    let at = open.iter().position(|o| o.0 == request).unwrap();
                    let (_, start, bytes) = open.swap_remove(at);
                    if bytes != file[start..(start + RANGE).min(size)] {
                        // The node above takes this as an answer of the provider: short or wrong.
                        result.blamed += 1;
                        wanted.push(start);
                    }
                }
                Event::RequestFailed { request, reason } => {
                    let at = open.iter().position(|o| o.0 == request).unwrap();
                    wanted.push(open.swap_remove(at).1);
                    let fault_of_the_path = matches!(
                        reason,
                        RequestFailure::Lost | RequestFailure::Stopped | RequestFailure::Unanswered
                    );
                    result.blamed += usize::from(!fault_of_the_path);
                }
                _ => {}
            }
        }
    }
    result.time = sim.now - begun;
    result
}

#[test]
fn a_load_through_a_relay_that_loses_frames_completes_and_blames_nobody() {
    const SEED: u64 = 25;
    for (mib, losses) in [(1, &[0, 1, 5][..]), (4, &[0, 1, 5]), (64, &[5])] {
        for loss in losses {
            let Weathered { requests, blamed, time } = load(mib << 20, *loss, SEED);
            println!(
                "check 25: measured {mib} MiB through a relay that loses {loss} %: complete after {} requests, {:.1} s, {blamed} blamed, bar complete, 0 blamed, seed {SEED}",
                requests,
                time.as_secs_f64()
            );
            assert_eq!(blamed, 0);
        }
    }
}
