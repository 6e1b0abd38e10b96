//! Small values in the DHT. An immutable one is found by its hash; a mutable one by the public key whose owner signs it and
//! may replace it.
//!
//! ```text
//! $ kachery-p2p dht-node --network v4 --listen 127.0.0.1:49737        a private network on this machine
//! $ alias put_get='cargo run -q -p hyperswarm --example put_get -- 127.0.0.1:49737'
//! $ put_get put 'for ever'
//! 9c51..e0                                                             its hash
//! $ put_get get 9c51..e0
//! for ever
//! $ put_get put-mutable $(openssl rand -hex 32) 'for now'              a seed; keep it secret
//! 5f0a..3c                                                             the public key
//! $ put_get get-mutable 5f0a..3c
//! for now (version 0)
//! ```
//!
//! A value may have about 1,000 bytes. Nodes forget it after two days or sooner, so that its author puts it again.

use std::net::Ipv4Addr;

use anyhow::{Context, anyhow, bail, ensure};
use data_encoding::HEXLOWER;
use hyperswarm::crypto::{KeyPair, PublicKey, blake2b_256};
use hyperswarm::net::v4::{Dht, DhtOptions};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    println!("{}", run(&arguments).await?);
    Ok(())
}

/// The answer to one command.
pub(crate) async fn run(arguments: &[&str]) -> anyhow::Result<String> {
    let [bootstrap, command @ ..] = arguments else { bail!("missing argument: the bootstrap node") };
    let bootstrap: std::net::SocketAddrV4 = bootstrap.parse()?;

    // A node of the DHT. A network on this machine needs its loopback interface only.
    let host = if bootstrap.ip().is_loopback() { Ipv4Addr::LOCALHOST } else { Ipv4Addr::UNSPECIFIED };
    let dht = Dht::bind(DhtOptions { host, ..DhtOptions::new([bootstrap]) })?;
    dht.until(|status| status.ready).await;

    match command {
        ["put", text] => {
            let outcome = dht.immutable_put(text.as_bytes()).outcome().await;
            ensure!(outcome.stored > 0, "no node keeps it: {outcome:?}");
            Ok(HEXLOWER.encode(&blake2b_256(&[text.as_bytes()])))
        }
        ["get", hash] => {
            // What does not have this hash is not accepted from any node.
            let found = dht.immutable_get(digits(hash)?).value().await.context("no node has it")?;
            Ok(String::from_utf8(found.value.to_vec())?)
        }
        ["put-mutable", seed, text] => {
            let keys = KeyPair::from_seed(&digits(seed)?);
            // A version with a higher number replaces the others.
            let newest = dht.mutable_get(keys.public(), 0).value().await;
            let version = newest.map_or(0, |found| found.seq + 1);
            let outcome = dht.mutable_put(&keys, version, text.as_bytes()).outcome().await;
            ensure!(outcome.stored > 0, "no node keeps it: {outcome:?}");
            Ok(keys.public().to_string())
        }
        ["get-mutable", key] => {
            // What is not signed with this key is not accepted from any node.
            let key = PublicKey(digits(key)?);
            let found = dht.mutable_get(key, 0).value().await.context("no node has it")?;
            Ok(format!("{} (version {})", String::from_utf8(found.value.to_vec())?, found.seq))
        }
        _ => bail!("put TEXT, get HASH, put-mutable SEED TEXT, or get-mutable KEY"),
    }
}

/// 64 hexadecimal digits.
fn digits(text: &str) -> anyhow::Result<[u8; 32]> {
    let bytes = HEXLOWER.decode(text.as_bytes()).with_context(|| format!("{text}: not hexadecimal"))?;
    bytes.try_into().map_err(|_| anyhow!("{text}: not 64 digits"))
}
