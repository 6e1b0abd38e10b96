//! Streams of one socket on a link that is too narrow for them.

use super::host::{World, address};
use super::*;

const STREAMS: u32 = 8;

/// Bytes that the readers of all streams have.
fn received(world: &mut World) -> Vec<u64> {
    world.host(address(101), |host| host.transfers.iter().map(|transfer| transfer.received).collect())
}

#[test]
fn eight_streams_of_one_socket_share_a_link_within_a_fifth() {
    let (forth, back) = path(20, 25 * MS);
    let mut world = World::new(1, 1, ENDLESS, config(), (forth, back));
    let (sender, receiver) = (address(1), address(101));
    for id in 2..=STREAMS {
        world.host(receiver, |host| host.transfer(id, sender, 1500, 0));
        world.host(sender, |host| host.transfer(id, receiver, 1500, ENDLESS));
    }
    world.network.run(Duration::from_secs(10));
    let before = received(&mut world);
    let time = 30;
    world.network.run(Duration::from_secs(time));
    let got: Vec<u64> =
        received(&mut world).iter().zip(before).map(|(after, before)| after - before).collect();
    let total: u64 = got.iter().sum();
    let share = |bytes: &u64| *bytes as f64 * f64::from(STREAMS) / total as f64;
    let shares: Vec<String> = got.iter().map(|bytes| format!("{:.2}", share(bytes))).collect();
    let used = total as f64 / time as f64 / 25_000.0;
    let (least, most) = (share(got.iter().min().unwrap()), share(got.iter().max().unwrap()));
    println!(
        "check fairness of 8 streams: measured {least:.2} to {most:.2} of an even share ({}), {used:.1} % of the link, bar 0.8 to 1.2, 90 %, seed 1",
        shares.join(" ")
    );
    assert!(least >= 0.8 && most <= 1.2, "{shares:?}");
    assert!(used >= 90.0, "{used} %");
}
