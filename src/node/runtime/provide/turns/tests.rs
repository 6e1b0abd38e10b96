//! Who has how many turns.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::stream::{FuturesUnordered, StreamExt};

use super::super::tests::node;
use super::*;

const PIECE: u64 = 128 << 10;
const WORK: Duration = Duration::from_millis(1);

fn at(host: u8, peer: usize) -> Asker {
    Asker { peer: node(peer), host: Some([192, 0, 2, host].into()) }
}

impl FairTurns {
    /// Turns that nobody has.
    pub(in super::super) fn free(&self) -> usize {
        self.0.lock().free
    }
}

/// Bytes moved for each asker in one second: each has so many requests, for pieces of so many bytes, all the time.
async fn moved(askers: &[(Asker, usize, u64)]) -> Vec<u64> {
    let turns = FairTurns::new(2);
    let mut moved = vec![0; askers.len()];
    let request = async |index: usize, asker, bytes: u64| {
        let _turn = turns.take(asker, bytes).await;
        tokio::time::sleep(WORK).await;
        (index, asker, bytes)
    };
    let mut requests = FuturesUnordered::new();
    for (index, (asker, count, bytes)) in askers.iter().enumerate() {
        (0..*count).for_each(|_| requests.push(request(index, *asker, *bytes)));
    }
    let work = async {
        while let Some((index, asker, bytes)) = requests.next().await {
            moved[index] += bytes;
            requests.push(request(index, asker, bytes));
        }
    };
    let _ = tokio::time::timeout(Duration::from_secs(1), work).await;
    moved
}

#[tokio::test(start_paused = true)]
async fn an_address_has_a_fifth_of_the_work_beside_four_that_flood() {
    let flood = (0..16).map(|peer| (at(2 + peer as u8 % 4, peer), 32, PIECE));
    let askers: Vec<_> = std::iter::once((at(1, 100), 3, PIECE)).chain(flood).collect();
    let moved = moved(&askers).await;
    let part = moved[0] as f64 / moved.iter().sum::<u64>() as f64;
    println!("turns: measured {part:.3} of all bytes beside 16 peers at 4 addresses, bar 0.2");
    assert!((0.19..0.21).contains(&part), "{part}");
}

#[tokio::test(start_paused = true)]
async fn peers_at_one_address_share_it_equally_whatever_they_ask_for() {
    let askers: Vec<_> = (0..4).map(|peer| (at(1, peer), 1 + 40 * peer, PIECE)).collect();
    let moved = moved(&askers).await;
    let (least, most) = (moved.iter().min().unwrap(), moved.iter().max().unwrap());
    assert!(most - least <= 2 * PIECE, "{moved:?}");
}

#[tokio::test(start_paused = true)]
async fn single_bytes_cost_more_than_single_bytes() {
    let moved = moved(&[(at(1, 1), 3, PIECE), (at(2, 2), 300, 1)]).await;
    let (turns, turns_of_flood) = (moved[0] / PIECE, moved[1]);
    println!("turns: measured {turns} of 128 KiB beside {turns_of_flood} of one byte, bar one to nine");
    assert!((8..=10).contains(&(turns_of_flood / turns)), "{moved:?}");
}

#[tokio::test(start_paused = true)]
async fn a_newcomer_is_next_and_has_saved_up_nothing() {
    let turns = FairTurns::new(1);
    let mut order = BTreeMap::new();
    let first = turns.take(at(1, 1), PIECE).await;
    let wait = async |name: usize, asker| {
        let _turn = turns.take(asker, PIECE).await;
        name
    };
    let mut waiting = FuturesUnordered::new();
    (0..10).for_each(|name| waiting.push(wait(name, at(1, 1))));
    (10..14).for_each(|name| waiting.push(wait(name, at(2, 2))));
    assert!(futures::poll!(waiting.next()).is_pending());
    drop(first);
    while let Some(name) = waiting.next().await {
        order.insert(order.len(), name);
    }
    let order: Vec<_> = order.into_values().map(|name| name >= 10).collect();
    assert!(order[0], "{order:?}");
    assert_eq!(order[..8].iter().filter(|of_newcomer| **of_newcomer).count(), 4, "{order:?}");
}

#[tokio::test(start_paused = true)]
async fn one_that_gives_up_waiting_keeps_no_turn() {
    let turns = FairTurns::new(1);
    let first = turns.take(at(1, 1), PIECE).await;
    for _ in 0..100 {
        let gave_up = tokio::time::timeout(WORK, turns.take(at(1, 1), PIECE)).await;
        assert!(gave_up.is_err());
    }
    drop(first);
    turns.take(at(2, 2), PIECE).await;
    assert!(turns.0.lock().waiting.is_empty() && turns.0.lock().free == 1);
    assert!(turns.0.lock().hosts.ahead.len() <= 2);
}
