//! `GET /sha1/HASH` from the local store.

use crate::http::{Reply, get, send};
use crate::scripted::{HASH, Running, Script, start};
use sha1::{Digest, Sha1 as Hasher};

fn content() -> Vec<u8> {
    (0..600_000_u32).map(|i| (i % 253) as u8).collect()
}

/// A running API with `content` in its store, and the file's hash.
async fn with_file(content: &[u8]) -> (Running, String) {
    let api = start(Script::default()).await;
    let hash = data_encoding::HEXLOWER.encode(&Hasher::digest(content));
    let folder = api.root.join("sha1").join(&hash[..2]).join(&hash[2..4]).join(&hash[4..6]);
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join(&hash), content).unwrap();
    (api, hash)
}

async fn fetch(api: &Running, method: &str, hash: &str, headers: &str) -> Reply {
    let head = format!("{method} /sha1/{hash} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n");
    send(api.port, format!("{head}{headers}\r\n")).await
}

#[tokio::test]
async fn a_whole_file_comes_with_its_length_and_tag() {
    let content = content();
    let (api, hash) = with_file(&content).await;
    let reply = fetch(&api, "GET", &hash, "").await;
    assert_eq!(reply.status, 200);
    assert!(reply.body == content, "the content differs");
    assert_eq!(reply.header("content-length"), Some("600000"));
    assert_eq!(reply.header("etag"), Some(format!("\"{hash}\"").as_str()));
    assert_eq!(reply.header("accept-ranges"), Some("bytes"));
    assert_eq!(reply.header("cache-control"), Some("public, max-age=31536000, immutable"));
    assert_eq!(reply.header("content-security-policy"), Some("sandbox"), "a stored page must not run");
}

#[tokio::test]
async fn head_tells_the_same_without_the_content() {
    let (api, hash) = with_file(&content()).await;
    let reply = fetch(&api, "HEAD", &hash, "").await;
    assert_eq!((reply.status, reply.body.len()), (200, 0));
    assert_eq!(reply.header("content-length"), Some("600000"));
    let part = fetch(&api, "HEAD", &hash, "Range: bytes=10-19\r\n").await;
    assert_eq!((part.status, part.header("content-length")), (206, Some("10")));
}

#[tokio::test]
async fn ranges_give_exactly_their_bytes() {
    let content = content();
    let (api, hash) = with_file(&content).await;
    let cases = [
        ("bytes=0-0", 0, 1),
        ("bytes=599999-", 599_999, 600_000),
        ("bytes=-5", 599_995, 600_000),
        ("bytes=100000-499999", 100_000, 500_000),
        ("bytes=599990-999999", 599_990, 600_000),
    ];
    for (range, start, end) in cases {
        let reply = fetch(&api, "GET", &hash, &format!("Range: {range}\r\n")).await;
        assert_eq!(reply.status, 206, "{range}");
        assert!(reply.body == content[start..end], "{range}: the content differs");
        let expected = format!("bytes {start}-{}/600000", end - 1);
        assert_eq!(reply.header("content-range"), Some(expected.as_str()));
    }
    let several = fetch(&api, "GET", &hash, "Range: bytes=0-1,5-6\r\n").await;
    assert_eq!((several.status, several.body.len()), (200, 600_000), "several ranges: the whole");
}

#[tokio::test]
async fn a_range_outside_the_file_is_416() {
    let (api, hash) = with_file(&content()).await;
    let reply = fetch(&api, "GET", &hash, "Range: bytes=600000-\r\n").await;
    assert_eq!((reply.status, reply.header("content-range")), (416, Some("bytes */600000")));
    let (empty, hash) = with_file(b"").await;
    assert_eq!(fetch(&empty, "GET", &hash, "").await.status, 200);
    assert_eq!(fetch(&empty, "GET", &hash, "Range: bytes=0-\r\n").await.status, 416);
}

#[tokio::test]
async fn a_known_tag_saves_the_transfer_and_a_stale_one_the_range() {
    let (api, hash) = with_file(&content()).await;
    assert_eq!(fetch(&api, "GET", &hash, &format!("If-None-Match: \"{hash}\"\r\n")).await.status, 304);
    assert_eq!(fetch(&api, "GET", &hash, "If-None-Match: \"other\"\r\n").await.status, 200);
    let range = "Range: bytes=0-1\r\n";
    assert_eq!(fetch(&api, "GET", &hash, &format!("{range}If-Range: \"{hash}\"\r\n")).await.status, 206);
    assert_eq!(fetch(&api, "GET", &hash, &format!("{range}If-Range: \"other\"\r\n")).await.status, 200);
}

#[tokio::test]
async fn a_condition_is_about_a_file_that_is_stored() {
    let (api, hash) = with_file(&content()).await;
    assert_eq!(fetch(&api, "GET", &hash, "If-None-Match: *\r\n").await.status, 304);
    for tag in ["*", &format!("\"{HASH}\"")] {
        let reply = fetch(&api, "GET", HASH, &format!("If-None-Match: {tag}\r\n")).await;
        assert_eq!(reply.status, 404, "{tag}: the client would go on using a copy of what is not here");
    }
}

#[tokio::test]
async fn only_files_of_the_store_are_served() {
    let (api, hash) = with_file(&content()).await;
    assert_eq!(fetch(&api, "GET", HASH, "").await.status, 404);
    for name in [hash.to_uppercase().as_str(), "..%2f..%2fetc%2fpasswd", "abc", &format!("{hash}.hints.json")]
    {
        assert_eq!(fetch(&api, "GET", name, "").await.status, 400, "{name}");
    }
    assert_eq!(send(api.port, get("/sha1/")).await.status, 404);
    assert_eq!(send(api.port, get(&format!("/sha1/{hash}/x"))).await.status, 404);
}

#[tokio::test]
async fn a_file_that_is_not_what_its_name_says_is_not_served() {
    let (api, hash) = with_file(&content()).await;
    let path = api.root.join("sha1").join(&hash[..2]).join(&hash[2..4]).join(&hash[4..6]).join(&hash);
    std::fs::write(path, b"something else").unwrap();
    let reply = fetch(&api, "GET", &hash, "").await;
    assert!(
        reply.status >= 400 && !reply.body.starts_with(b"something"),
        "served wrong bytes: {}",
        reply.status
    );
}
