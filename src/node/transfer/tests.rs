//! The plan against simulated providers in virtual time.

mod busy;
mod company;
mod crumbs;
mod loss;
mod trickling;
mod wrong_hash;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::store::{Partial, StoreError};

use super::keys::{ProviderKey, RequestKey};
use super::plan::{Action, Failure, Outlook, Plan};
use crate::node::peer::{Path, Unit};

const PIECE: u64 = 65536;

/// How a simulated provider behaves.
#[derive(Clone, Debug, PartialEq)]
enum Manner {
    Honest,
    /// One byte is wrong.
    LiesAt(u64),
    /// Sends a wrong file throughout.
    OtherFile,
    /// The same, and is gone after so many bytes.
    OtherFileThenGone(u64),
    /// Stops answering after so many bytes.
    StallsAfter(u64),
    /// Answers the first half of each request and then falls silent about it.
    HalfOfEach,
    /// Ends requests that reach beyond this offset early.
    ShortAfter(u64),
    /// Adds bytes to each answer.
    Long,
    Refuses,
    /// After so many bytes it sends only this many to each request, each time after this long.
    Trickles {
        after: u64,
        bytes: u64,
        every: Duration,
    },
    /// Sends a wrong file, and one byte every 4 s once a hash was wrong.
    OtherFileThenTrickles,
    /// Sends a wrong file, and the right one once a hash was wrong.
    OtherFileThenRight,
    /// Sent on by a relay that loses one of so many messages.
    LosesOneOf(u32),
    /// Sent on by a relay that passes the pieces of each answer on in reverse order.
    Reversed,
}

/// One byte to each request, every 4 s.
const ONE_BYTE: Manner = Manner::Trickles { after: 0, bytes: 1, every: Duration::from_secs(4) };

struct Simulated {
    manner: Manner,
    kind: Unit,
    /// Bytes per second.
    rate: u64,
    /// The same once a hash was wrong.
    rate_alone: u64,
    /// Request, next offset, end.
    queue: Vec<(RequestKey, u64, u64)>,
    /// The first offset of each request.
    starts: BTreeMap<RequestKey, u64>,
    sent: u64,
    next_at: Option<Instant>,
    /// Reachable so long after the beginning.
    after: Duration,
    /// None: directly, at an address of its own.
    path: Option<Path>,
}

/// The way to one of some addresses.
fn direct(number: u32) -> Path {
    Path::Direct(Ipv4Addr::from(number).into())
}

impl Simulated {
    fn new(manner: Manner, kind: Unit, rate: u64) -> Self {
        let (after, path) = (Duration::ZERO, None);
        Self {
            manner,
            kind,
            rate,
            rate_alone: rate,
            queue: Vec::new(),
            starts: BTreeMap::new(),
            sent: 0,
            next_at: None,
            after,
            path,
        }
    }

    fn after(self, after: Duration) -> Self {
        Self { after, ..self }
    }

    fn then_at(self, rate: u64) -> Self {
        Self { rate_alone: rate, ..self }
    }

    fn at(self, path: Path) -> Self {
        Self { path: Some(path), ..self }
    }

    fn relayed(self) -> Self {
        self.at(Path::Relayed)
    }

    /// Bytes of the next piece, and when it comes. `alone`: a hash was wrong.
    fn piece(&self, alone: bool) -> (u64, Duration) {
        match self.manner {
            Manner::Trickles { after, bytes, every } if self.sent >= after => {
                (bytes, every / self.queue.len().max(1) as u32)
            }
            Manner::OtherFileThenTrickles if alone => (1, Duration::from_secs(4)),
            _ => {
                let rate = if alone { self.rate_alone } else { self.rate };
                (PIECE, Duration::from_secs_f64(PIECE as f64 / rate as f64))
            }
        }
    }
}

struct World {
    now: Instant,
    began: Instant,
    file: Vec<u8>,
    disk: Vec<u8>,
    /// If there is one, it is written too, and its commit decides.
    partial: Option<Partial>,
    plan: Plan,
    providers: BTreeMap<ProviderKey, Simulated>,
    dropped: Vec<(ProviderKey, Failure)>,
    forgotten: u64,
    received: u64,
    random: StdRng,
    /// A hash was wrong.
    alone: bool,
    coming: Vec<(Instant, ProviderKey)>,
}

enum Answer {
    Data(RequestKey, Vec<u8>),
    Finished(RequestKey),
    Error(RequestKey),
}

impl World {
    fn new(size: usize, seed: u64, present: &[(u64, u64)], providers: Vec<Simulated>) -> Self {
        let random = StdRng::seed_from_u64(seed);
        let mut file = vec![0u8; size];
        for (index, word) in file.chunks_mut(8).enumerate() {
            let bytes = (seed + index as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes();
            word.copy_from_slice(&bytes[..word.len()]);
        }
        let mut disk = vec![0u8; size];
        for (start, end) in present {
            disk[*start as usize..*end as usize].copy_from_slice(&file[*start as usize..*end as usize]);
        }
        let now = Instant::now();
        let mut plan = Plan::new(size as u64, present, now);
        let mut simulated = BTreeMap::new();
        for provider in providers {
            let key = plan.add_provider(provider.kind, now);
            simulated.insert(key, provider);
        }
        // In order of keys; whole-file providers last, as the executor does.
        let mut keys: Vec<_> = simulated.iter().map(|(key, p)| (p.kind == Unit::Whole, *key)).collect();
        keys.sort_unstable();
        for (_, key) in keys {
            plan.set_path(key, simulated[&key].path.unwrap_or_else(|| direct(key.0)), now);
            plan.set_reachable(key, simulated[&key].after.is_zero(), now);
        }
        let later = simulated.iter().filter(|(_, p)| !p.after.is_zero());
        let coming = later.map(|(key, p)| (now + p.after, *key)).collect();
        let (dropped, forgotten, received) = (Vec::new(), 0, 0);
        Self {
            now,
            began: now,
            file,
            disk,
            partial: None,
            plan,
            providers: simulated,
            dropped,
            forgotten,
            received,
            random,
            alone: false,
            coming,
        }
    }

    fn perform(&mut self) {
        while let Some(action) = self.plan.poll_action() {
            match action {
                Action::Request { request, provider, start, end, whole } => {
                    let provider = self.providers.get_mut(&provider).expect("known");
                    assert_eq!(whole, provider.kind == Unit::Whole);
                    assert!(
                        start < end && end <= self.file.len() as u64 && (whole || end - start <= 20_000_000)
                    );
                    let middle =
                        if provider.manner == Manner::HalfOfEach { start.midpoint(end) } else { end };
                    provider.queue.push((request, start, middle));
                    provider.starts.insert(request, start);
                    let (_, step) = provider.piece(self.alone);
                    provider.next_at.get_or_insert(self.now + step);
                }
                // A real provider does not hear of it.
                Action::Abandon { .. } => {}
                Action::Drop { provider, why } => self.dropped.push((provider, why)),
                Action::Forget { start, end } => {
                    self.forgotten += end - start;
                    self.disk[start as usize..end as usize].fill(0);
                    if let Some(partial) = &mut self.partial {
                        partial.forget(start, end).expect("forget");
                    }
                }
            }
        }
    }

    /// The next message of a provider, first come first served.
    fn answer(&mut self, key: ProviderKey) -> Option<Answer> {
        let provider = self.providers.get_mut(&key)?;
        let Some((request, at, end)) = provider.queue.first().copied() else {
            provider.next_at = None;
            return None;
        };
        let (piece, step) = provider.piece(self.alone);
        provider.next_at = Some(self.now + step);
        let mut stop = end.min(at + piece);
        let lost = matches!(provider.manner, Manner::LosesOneOf(n) if self.random.random_ratio(1, n));
        match provider.manner {
            Manner::Refuses => {
                provider.queue.remove(0);
                return Some(Answer::Error(request));
            }
            Manner::StallsAfter(bytes) if provider.sent >= bytes => {
                provider.next_at = None;
                return None;
            }
            Manner::ShortAfter(offset) => stop = stop.min(offset.max(at)),
            _ => {}
        }
        if at >= stop {
            provider.queue.remove(0);
            if provider.manner == Manner::HalfOfEach || lost {
                return None;
            }
            return Some(Answer::Finished(request));
        }
        provider.queue[0].1 = stop;
        provider.sent += stop - at;
        if piece < PIECE {
            provider.queue.rotate_left(1);
        }
        if lost {
            return None;
        }
        let mut bytes = self.file[at as usize..stop as usize].to_vec();
        match provider.manner {
            Manner::LiesAt(offset) if (at..stop).contains(&offset) => bytes[(offset - at) as usize] ^= 1,
            Manner::OtherFileThenRight if self.alone => {}
            Manner::Reversed => {
                let both = provider.starts[&request] + end;
                bytes = self.file[(both - stop) as usize..(both - at) as usize].to_vec();
            }
            Manner::OtherFile
            | Manner::OtherFileThenGone(_)
            | Manner::OtherFileThenTrickles
            | Manner::OtherFileThenRight => {
                bytes.iter_mut().step_by(64).for_each(|byte| *byte = byte.wrapping_add(1))
            }
            Manner::Long if stop == end => bytes.push(0),
            _ => {}
        }
        Some(Answer::Data(request, bytes))
    }

    /// Runs until the plan has nothing to wait for; verifies when complete. True: the file is right.
    fn run(&mut self) -> bool {
        for _ in 0..200_000 {
            self.perform();
            match self.plan.outlook() {
                Outlook::Complete if self.verify() => {
                    assert_eq!(self.disk, self.file);
                    self.plan.on_right_hash();
                    self.perform();
                    return true;
                }
                Outlook::Complete => {
                    self.alone = true;
                    self.plan.on_wrong_hash(self.now);
                    continue;
                }
                Outlook::Waiting if self.coming().is_some() => {}
                Outlook::Exhausted | Outlook::Waiting => return false,
                Outlook::Working => {}
            }
            self.step();
        }
        panic!("the download does not end");
    }

    fn verify(&mut self) -> bool {
        let Some(partial) = self.partial.take() else { return self.disk == self.file };
        match partial.commit() {
            Ok(_) => true,
            Err((StoreError::WrongHash { .. }, Some(back))) => {
                self.partial = Some(back);
                false
            }
            Err((error, _)) => panic!("{error}"),
        }
    }

    fn step(&mut self) {
        let coming = self.coming();
        let provider = self.providers.iter().filter_map(|(key, p)| Some((p.next_at?, *key))).min();
        let timeout = self.plan.poll_timeout();
        let next = [provider.map(|(at, _)| at), timeout].into_iter().flatten().min();
        if let Some((at, key)) = coming.filter(|(at, _)| next.is_none_or(|next| *at <= next)) {
            self.now = at;
            self.plan.set_reachable(key, true, at);
            self.coming.retain(|(_, other)| *other != key);
            return;
        }
        match (provider, timeout) {
            (Some((at, key)), timeout) if timeout.is_none_or(|timeout| at <= timeout) => {
                self.now = at;
                match self.answer(key) {
                    Some(Answer::Data(request, bytes)) => {
                        self.received += bytes.len() as u64;
                        for (offset, piece) in self.plan.on_data(request, &bytes, self.now) {
                            self.disk[offset as usize..offset as usize + piece.len()].copy_from_slice(piece);
                            if let Some(partial) = &mut self.partial {
                                partial.write_at(offset, piece).expect("write");
                            }
                        }
                        self.leave_if_due(key);
                    }
                    Some(Answer::Finished(request)) => self.plan.on_finished(request, self.now),
                    Some(Answer::Error(request)) => {
                        self.plan.on_error(request, Failure::Refused("no".to_owned()), self.now);
                    }
                    None => {}
                }
            }
            (_, Some(timeout)) => {
                self.now = self.now.max(timeout);
                self.plan.handle_timeout(self.now);
            }
            (_, None) => panic!("nothing to wait for"),
        }
    }

    /// Who becomes reachable next, and when.
    fn coming(&self) -> Option<(Instant, ProviderKey)> {
        self.coming.iter().min().copied()
    }

    fn leave_if_due(&mut self, key: ProviderKey) {
        let Some(provider) = self.providers.get_mut(&key) else { return };
        if matches!(provider.manner, Manner::OtherFileThenGone(after) if provider.sent >= after) {
            provider.queue.clear();
            self.plan.set_reachable(key, false, self.now);
        }
    }

    fn seconds(&self) -> f64 {
        (self.now - self.began).as_secs_f64()
    }
}

fn ranges(manner: Manner, rate: u64) -> Simulated {
    Simulated::new(manner, Unit::Ranges, rate)
}

#[test]
fn one_provider_sends_the_file_once() {
    let mut world = World::new(10_000_001, 1, &[], vec![ranges(Manner::Honest, 10_000_000)]);
    assert!(world.run());
    assert_eq!(world.received, 10_000_001);
    assert!(world.dropped.is_empty());
}

#[test]
fn what_proves_damaged_on_disk_is_fetched_again_and_nobody_is_blamed() {
    let mut world = World::new(10_000_000, 13, &[(0, 6_000_000)], vec![ranges(Manner::Honest, 10_000_000)]);
    world.disk[1_000_000..3_000_000].fill(0);
    world.plan.on_damaged(&[(1_000_000, 2_000_000), (2_000_000, 3_000_000)], world.now);
    assert_eq!(world.plan.bytes(), 4_000_000);
    assert!(world.run());
    assert_eq!(world.received, 6_000_000);
    assert!(world.dropped.is_empty());
    // The same when everything was there: the search for a liar does not begin.
    let mut world = World::new(10_000_000, 14, &[(0, 10_000_000)], vec![ranges(Manner::Honest, 10_000_000)]);
    world.disk[9_999_999] ^= 1;
    assert_eq!(world.plan.outlook(), Outlook::Complete);
    world.plan.on_damaged(&[(9_437_184, 10_000_000)], world.now);
    assert!(world.run());
    assert_eq!((world.received, world.forgotten), (562_816, 0));
}

#[test]
fn what_is_on_disk_is_not_fetched_again() {
    let present = [(0, 1_000_000), (3_000_000, 9_000_000)];
    let mut world = World::new(10_000_000, 2, &present, vec![ranges(Manner::Honest, 10_000_000)]);
    assert!(world.run());
    assert_eq!(world.received, 3_000_000);
}

#[test]
fn four_equal_providers_are_nearly_four_times_as_fast() {
    let four = (0..4).map(|_| ranges(Manner::Honest, 4_000_000)).collect();
    let mut world = World::new(40_000_000, 3, &[], four);
    assert!(world.run());
    assert!(world.seconds() < 10.0 / 4.0 * 1.15, "{} s", world.seconds());
}

#[test]
fn a_slow_provider_does_not_hold_the_end_back() {
    let providers = vec![ranges(Manner::Honest, 10_000_000), ranges(Manner::Honest, 50_000)];
    let mut world = World::new(20_000_000, 4, &[], providers);
    assert!(world.run());
    assert!(world.seconds() < 3.0, "{} s", world.seconds());
    assert!(world.received < 22_000_000, "{} bytes", world.received);
}

#[test]
fn a_stalled_provider_is_replaced_and_a_helper_does_not_wait_for_the_verdict() {
    let providers = vec![ranges(Manner::StallsAfter(300_000), 5_000_000), ranges(Manner::Honest, 5_000_000)];
    let mut world = World::new(8_000_000, 5, &[], providers);
    assert!(world.run());
    assert!(world.seconds() < 4.0, "{} s", world.seconds());
}

#[test]
fn a_silent_only_provider_is_given_up_after_three_silences() {
    let mut world = World::new(8_000_000, 6, &[], vec![ranges(Manner::StallsAfter(300_000), 5_000_000)]);
    assert!(!world.run());
    assert!(matches!(world.dropped[..], [(_, Failure::Silent(_))]), "{:?}", world.dropped);
    assert_eq!(world.plan.outlook(), Outlook::Exhausted);
}

#[test]
fn a_lone_provider_that_answers_half_of_every_request_is_given_up() {
    // One request at a time, and several, which fall silent one after the other.
    for size in [400_000, 8_000_000] {
        let mut world = World::new(size, 12, &[], vec![ranges(Manner::HalfOfEach, 5_000_000)]);
        assert!(!world.run(), "{size} bytes");
        assert!(matches!(world.dropped[..], [(_, Failure::Silent(_))]), "{:?}", world.dropped);
        assert!(world.plan.bytes() > 0, "it did send something between its silences");
        assert!(world.seconds() < 45.0, "{size} bytes: {} s", world.seconds());
    }
}

#[test]
fn a_request_may_be_silent_until_the_limit_and_no_longer() {
    use crate::limits::SILENCE;
    let now = Instant::now();
    let mut plan = Plan::new(200_000, &[], now);
    let silent = plan.add_provider(Unit::Ranges, now);
    let other = plan.add_provider(Unit::Whole, now);
    plan.set_reachable(silent, true, now);
    plan.set_reachable(other, true, now);
    let Some(Action::Request { request, .. }) = plan.poll_action() else { panic!("a request") };
    // Data for as long begins the time anew.
    let heard = now + SILENCE - Duration::from_millis(1);
    plan.handle_timeout(heard);
    plan.on_data(request, &[1; 65536], heard);
    plan.handle_timeout(heard + SILENCE - Duration::from_millis(1));
    assert_eq!(plan.poll_action(), None, "just in time");
    assert_eq!(plan.poll_timeout(), Some(heard + SILENCE));
    plan.handle_timeout(heard + SILENCE);
    assert_eq!(plan.poll_action(), Some(Action::Abandon { request }));
    assert_eq!(plan.poll_action(), Some(Action::Drop { provider: silent, why: Failure::Silent(SILENCE) }));
    assert!(plan.is_usable(other));
}

#[test]
fn somebody_who_cannot_be_reached_makes_nobody_less_patient_with_the_only_provider() {
    use crate::limits::SILENCE;
    let now = Instant::now();
    let mut plan = Plan::new(100, &[], now);
    let [real, _made_up] = [(); 2].map(|()| plan.add_provider(Unit::Ranges, now));
    plan.set_reachable(real, true, now);
    for silence in 1..=3 {
        assert!(plan.is_usable(real), "before silence {silence}");
        plan.handle_timeout(now + SILENCE * silence);
    }
    assert!(!plan.is_usable(real));
}

#[test]
fn each_bad_manner_is_dropped_with_its_reason_and_the_file_completes() {
    let cases = [
        (Manner::Long, "Long"),
        (Manner::Refuses, "Refused"),
        (Manner::LiesAt(5), "WrongBytes"),
        (Manner::OtherFile, "WrongBytes"),
    ];
    for (manner, reason) in cases {
        // The first one gets the first byte.
        let providers = vec![ranges(manner.clone(), 5_000_000), ranges(Manner::Honest, 5_000_000)];
        let mut world = World::new(3_000_000, 7, &[], providers);
        assert!(world.run(), "{manner:?}");
        let [(liar, why)] = &world.dropped[..] else { panic!("{manner:?}: {:?}", world.dropped) };
        assert_eq!(*liar, ProviderKey(0));
        assert!(format!("{why:?}").starts_with(reason), "{manner:?}: {why:?}");
    }
}

#[test]
fn whole_file_providers_are_asked_only_when_no_range_provider_is_left() {
    let providers = vec![
        Simulated::new(Manner::Honest, Unit::Whole, 5_000_000),
        ranges(Manner::StallsAfter(1_000_000), 5_000_000),
    ];
    let mut world = World::new(3_000_000, 10, &[], providers);
    // Until the range provider is dropped the other is left alone.
    while world.providers[&ProviderKey(0)].queue.is_empty() {
        assert!(world.dropped.is_empty() || world.plan.active() > 0);
        world.perform();
        world.step();
    }
    assert!(world.run());
    assert!(matches!(world.dropped[..], [(ProviderKey(1), Failure::Silent(_))]));
}

#[test]
fn a_lost_connection_is_no_failure() {
    let mut world = World::new(8_000_000, 11, &[], vec![ranges(Manner::Honest, 5_000_000)]);
    for _ in 0..10 {
        world.perform();
        world.step();
    }
    let had = world.plan.bytes();
    assert!(had > 0);
    world.plan.set_reachable(ProviderKey(0), false, world.now);
    assert_eq!(world.plan.outlook(), Outlook::Waiting);
    world.perform();
    world.providers.get_mut(&ProviderKey(0)).unwrap().queue.clear();
    world.plan.set_reachable(ProviderKey(0), true, world.now);
    assert!(world.run());
    assert_eq!(world.received, 8_000_000);
}

#[test]
fn answers_to_abandoned_requests_are_ignored() {
    let now = Instant::now();
    let mut plan = Plan::new(100, &[], now);
    let key = plan.add_provider(Unit::Ranges, now);
    plan.set_reachable(key, true, now);
    let Some(Action::Request { request, .. }) = plan.poll_action() else { panic!("a request") };
    plan.set_reachable(key, false, now);
    assert_eq!(plan.poll_action(), Some(Action::Abandon { request }));
    assert!(plan.on_data(request, &[1; 50], now).is_empty());
    plan.on_finished(request, now);
    assert_eq!(plan.poll_action(), None);
    assert_eq!(plan.bytes(), 0);
}

#[test]
fn a_request_whose_connection_closed_is_made_again_without_blame() {
    let now = Instant::now();
    let mut plan = Plan::new(100, &[], now);
    let key = plan.add_provider(Unit::Ranges, now);
    plan.set_reachable(key, true, now);
    let Some(Action::Request { request, .. }) = plan.poll_action() else { panic!("a request") };
    plan.on_data(request, &[1; 40], now);
    plan.on_lost(request, now);
    let Some(Action::Request { start: 40, end: 100, .. }) = plan.poll_action() else { panic!("the rest") };
    assert!(plan.is_usable(key));
}
