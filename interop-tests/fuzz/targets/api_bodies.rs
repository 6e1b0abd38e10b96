#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kachery_p2p::fuzz::run("api_bodies", std::time::Instant::now(), data));
