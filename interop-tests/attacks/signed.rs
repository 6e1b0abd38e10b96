//! A stranger floods a channel with new, rightly signed messages, each of which costs a verification.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::bar::{SIZE, long};
use crate::lab::{Lab, get};

/// A load must end within this, of unoptimised daemons that share their cores with the flood; without a budget it found
/// nothing in 22 s. Optimised daemons need 1 to 3 s.
const BAR: Duration = Duration::from_secs(20);
const ADDRESSES: u8 = 10;

fn flooded(message: &str, rate: &str) {
    let Some(lab) = Lab::new() else { return };
    let content = lab.file("wanted", SIZE);
    let provider = lab.daemon("provider");
    provider.store(&content);
    let victim = lab.daemon("victim");
    victim.connected(1);
    let id = victim.node_id();
    let addresses: Vec<_> = (1..=ADDRESSES).map(|number| format!("127.0.{number}.1")).collect();
    let mut arguments = vec!["flood", "--victim", &id, "--message", message, "--rate", rate];
    addresses.iter().for_each(|address| arguments.extend(["--address", address]));
    let attacker = lab.attacker(&arguments);
    let held = attacker.event("ready", Duration::ZERO, |_| true)["held"].as_u64().expect("a number");
    let loading = victim.load_within(Duration::from_secs(40), &content.sha1, 20);
    println!(
        "check 13: measured {rate} signed messages ({message}) a second on each of {held} connections: a load of 8 MiB ends with \
         exit code {:?} after {:.2} s, bar 0 within {} s, seed none",
        loading.code,
        loading.took.as_secs_f64(),
        BAR.as_secs()
    );
    assert!(held > 0, "the attacker was not let in\n{}", attacker.process);
    assert!(loading.code == Some(0) && loading.took <= BAR, "after {:?}\n{}", loading.took, loading.shown);
    assert!(std::fs::read(victim.destination()).expect("a loaded file") == content.bytes, "the bytes differ");
}

#[test]
fn a_flood_of_new_signed_messages_does_not_hold_a_load_up() {
    if long() {
        ["unknown", "seeking", "answer"].into_iter().for_each(|message| flooded(message, "3000"));
    } else {
        // A rate at which unoptimised daemons can just read them.
        flooded("unknown", "1000");
    }
}

/// `status` must be answered within this by a daemon that gets little of a processor.
const STATUS: Duration = Duration::from_secs(5);

/// Unoptimised daemons need the processor for themselves.
const OPTIMISED: bool = !cfg!(debug_assertions);
/// Messages a second on each connection.
const RATE: &str = if OPTIMISED { "2000" } else { "200" };

/// Optimised daemons have what busy programs and the flood leave of the processor.
#[test]
fn a_flood_of_all_ports_of_two_daemons_with_little_processor_holds_up_neither_status_nor_loads() {
    let Some(lab) = Lab::new() else { return };
    let content = lab.file("wanted", 1 << 20);
    let nice: &[&str] = if OPTIMISED { &["nice", "-n", "7"] } else { &[] };
    let provider = lab.daemon_started_by("provider", nice);
    provider.store(&content);
    let victim = lab.daemon_started_by("victim", nice);
    victim.connected(1);
    let done = AtomicBool::new(false);
    let (loading, held, slowest) = std::thread::scope(|scope| {
        let busy = std::thread::available_parallelism().map_or(2, usize::from);
        for _ in (0..busy).filter(|_| OPTIMISED) {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        let id = victim.node_id();
        let addresses: Vec<_> = (1..=8).map(|number| format!("127.0.{number}.1")).collect();
        let mut arguments = vec!["flood", "--victim", &id, "--rate", RATE, "--topics", "all"];
        addresses.iter().for_each(|address| arguments.extend(["--address", address]));
        let attacker = lab.attacker(&arguments);
        let held = attacker.event("ready", Duration::ZERO, |_| true)["held"].clone();
        let asking = scope.spawn(|| {
            let mut slowest = Duration::ZERO;
            while !done.load(Ordering::Relaxed) {
                let asked = Instant::now();
                get(victim.api_port, "/api/v1/status");
                slowest = slowest.max(asked.elapsed());
                std::thread::sleep(Duration::from_millis(200));
            }
            slowest
        });
        let loading = victim.load_within(Duration::from_secs(60), &content.sha1, 20);
        done.store(true, Ordering::Relaxed);
        (loading, held, asking.join().expect("no panic"))
    });
    println!(
        "check 13: measured {RATE} signed messages a second on each of {held} connections to all ports of daemons with little processor: \
         a load of 1 MiB ends with exit code {:?} after {:.1} s, status within {:.2} s, bar 0 and {} s, seed none",
        loading.code,
        loading.took.as_secs_f64(),
        slowest.as_secs_f64(),
        STATUS.as_secs()
    );
    assert_eq!(loading.code, Some(0), "{}", loading.shown);
    assert!(slowest <= STATUS, "status took {slowest:?}");
}
