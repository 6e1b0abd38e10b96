//! Requests that are served slowly, or with few descriptors.

use std::time::Duration;

use parking_lot::Mutex;

use super::*;
use crate::node::runtime::provide::tests::{asker, open_in, planted, provider, stored};
use crate::store::Store;

#[tokio::test(start_paused = true)]
async fn requests_that_wait_hold_a_bounded_number_of_files_open() {
    let (provider, folder) = provider();
    let files: Vec<_> = (0..3 * limits::SERVED_FILES as u32)
        .map(|number| planted(&folder, &[number.to_le_bytes(), [7; 4]].concat()))
        .collect();
    let room = Notify::new();
    let waiting = files.iter().map(|sha1| {
        let request = FileRequest::Whole { sha1: *sha1 };
        send(&provider, asker(1), Dialect::V021, request, &room, |_| Room::Full)
    });
    let mut waiting = Box::pin(futures::future::join_all(waiting));
    assert!(tokio::time::timeout(Duration::from_secs(1), waiting.as_mut()).await.is_err());
    assert_eq!(open_in(&folder), limits::SERVED_FILES);
    drop(waiting);
    assert_eq!(open_in(&folder), 0, "nobody is served any more");
}

#[tokio::test(start_paused = true)]
async fn without_descriptors_to_spare_peers_are_told_busy_and_the_user_is_served() {
    let (provider, folder) = provider();
    let sha1 = stored(&provider, &folder, 10);
    let provider = Provider::without_descriptors(Store::open(folder.path()).expect("store"));
    let room = Notify::new();
    for _ in 0..100 {
        let sent =
            send(&provider, asker(1), Dialect::V021, FileRequest::Whole { sha1 }, &room, |_| Room::More)
                .await;
        assert_eq!(sent, Err(ServeError::NotServed(NotServed::Busy)));
    }
    assert!(matches!(provider.open_verified(sha1).await, Ok(Some(_))));
    assert_eq!(open_in(&folder), 0);
}

/// Serves to an asker whose connection is always full and gets room after `pause`; what is offered, and when it ended.
async fn serve_slowly(pause: Duration) -> (Result<bool, ServeError>, Vec<usize>, Duration) {
    let (provider, folder) = provider();
    let sha1 = stored(&provider, &folder, PIECE as usize + 5);
    let (room, offered) = (Notify::new(), Mutex::new(Vec::new()));
    let respond = |reply| {
        let Reply::Data(data) = reply else { panic!("only data is sent here") };
        let mut offered = offered.lock();
        offered.push(data.len());
        // Every other time it is the same data again, and is taken.
        if offered.len() % 2 == 0 { Room::More } else { Room::Full }
    };
    let begun = tokio::time::Instant::now();
    let send = send(&provider, asker(1), Dialect::V021, FileRequest::Whole { sha1 }, &room, respond);
    let make_room = async {
        loop {
            tokio::time::sleep(pause).await;
            room.notify_one();
        }
    };
    let result = tokio::select! {
        biased;
        result = send => result,
        () = make_room => unreachable!("it goes on for ever"),
    };
    drop(folder);
    (result, offered.into_inner(), begun.elapsed())
}

#[tokio::test(start_paused = true)]
async fn an_asker_that_takes_data_just_in_time_gets_all_of_it() {
    let (result, offered, _) = serve_slowly(limits::SERVE_STALL - Duration::from_millis(2)).await;
    assert_eq!((result, offered), (Ok(true), vec![PIECE as usize, PIECE as usize, 5, 5]));
}

#[tokio::test(start_paused = true)]
async fn an_asker_that_takes_no_data_is_given_up() {
    let (result, offered, time) = serve_slowly(limits::SERVE_STALL + Duration::from_millis(2)).await;
    assert_eq!(result, Err(ServeError::NotTaken));
    assert_eq!(offered, [PIECE as usize], "nothing is read for it any more");
    assert!(time < limits::SERVE_STALL + Duration::from_millis(2), "{time:?}");
}
