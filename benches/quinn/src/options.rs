//! The command line: a role and `--name value` pairs.

use std::net::SocketAddr;

use crate::Failure;

pub struct Options {
    pub role: String,
    /// `--listen` or `--remote`.
    pub address: SocketAddr,
    pub certificate: String,
    /// `--bytes` or `--count`.
    pub amount: u64,
}

impl Options {
    pub fn from_arguments() -> Result<Self, Failure> {
        let mut arguments = std::env::args().skip(1);
        let role = arguments.next().ok_or("usage: quinn-peer serve|load|ask --listen|--remote ADDR --certificate FILE [--bytes|--count N]")?;
        let mut options = Self { role, address: "127.0.0.1:0".parse()?, certificate: String::new(), amount: 0 };
        while let Some(name) = arguments.next() {
            let value = arguments.next().ok_or(format!("{name} needs a value"))?;
            match name.as_str() {
                "--listen" | "--remote" => options.address = value.parse()?,
                "--certificate" => options.certificate = value,
                "--bytes" | "--count" => options.amount = value.parse()?,
                _ => return Err(format!("unknown option {name}").into()),
            }
        }
        Ok(options)
    }
}
