#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kachery_p2p::fuzz::run("hyperdht", std::time::Instant::now(), data));
