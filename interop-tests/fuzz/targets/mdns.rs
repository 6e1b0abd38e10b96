#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kachery_p2p::fuzz::run("mdns", std::time::Instant::now(), data));
