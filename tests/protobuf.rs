//! The Rust code for `proto/` is part of the network package, so that neither a build nor a packaged copy needs a
//! protobuf compiler. This test holds it against `proto/`; `UPDATE=1 cargo test --test protobuf` writes it anew.

// Helpers of tests may panic like the tests themselves.
#![allow(clippy::expect_used)]

use std::fs;
use std::path::Path;

#[test]
fn the_generated_code_is_that_of_the_protobuf_files() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let out = tempfile::tempdir().expect("temporary folder");
    let files = protox::compile(["dht_rpc.proto", "hyperswarm_dht.proto"], [root.join("proto")])
        .expect("compile the protobuf files");
    prost_build::Config::new().bytes(["."]).out_dir(out.path()).compile_fds(files).expect("generate code");
    for name in ["dht_rpc.rs", "hyperswarm_dht.rs"] {
        let fresh = fs::read_to_string(out.path().join(name)).expect("read the fresh code");
        let kept = root.join("src/hyperswarm/codec/v2/wire").join(name);
        if std::env::var_os("UPDATE").is_some() {
            fs::write(&kept, &fresh).expect("write the code");
        }
        let kept = fs::read_to_string(&kept).unwrap_or_default();
        assert!(kept == fresh, "{name} is not what proto/ says; run: UPDATE=1 cargo test --test protobuf");
    }
}
