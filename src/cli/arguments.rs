//! The command line as clap sees it; completions and man pages come from the same definitions.

use std::ffi::OsStr;
use std::net::SocketAddrV4;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::builder::FalseyValueParser;
use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use crate::api;

/// Share content-addressed files peer to peer: load a file by its name, sha1://HASH/label, from whoever has it.
#[derive(Debug, Parser)]
#[command(name = "kachery-p2p", version, disable_help_subcommand = true, after_help = EXIT_CODES)]
pub(super) struct Arguments {
    /// What every command accepts.
    #[command(flatten)]
    pub(super) global: Global,
    /// What to do.
    #[command(subcommand)]
    pub(super) command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 ok; 1 other; 2 usage; 3 nobody has it; 4 found but the transfer failed; \
    5 verification failed; 6 daemon not reachable; 7 disk full or not writable; 8 timeout; 130 interrupted";

/// What every command accepts.
#[derive(Args, Clone, Debug)]
pub(super) struct Global {
    /// Folder of the keys and config.json [default: ~/.kachery-p2p]
    #[arg(long, global = true, env = "KACHERY_P2P_CONFIG_DIR", value_name = "DIR")]
    pub(super) config_dir: Option<PathBuf>,
    /// Folder of the stored files
    #[arg(long, global = true, env = "KACHERY_STORAGE_DIR", value_name = "DIR")]
    pub(super) storage_dir: Option<PathBuf>,
    /// Port of the daemon's HTTP API on this machine
    #[arg(long, global = true, env = "KACHERY_P2P_API_PORT", value_name = "PORT", default_value_t = api::DEFAULT_PORT)]
    pub(super) api_port: u16,
    /// Bootstrap node of the v2 network; repeatable; replaces the defaults
    #[arg(
        long,
        global = true,
        env = "KACHERY_P2P_BOOTSTRAP_V2",
        value_name = "HOST:PORT",
        value_delimiter = ','
    )]
    pub(super) bootstrap_v2: Vec<String>,
    /// Do not look for peers on the local network by multicast DNS
    #[arg(long, global = true, env = "KACHERY_P2P_NO_MDNS", value_parser = FalseyValueParser::new())]
    pub(super) no_mdns: bool,
    /// Print newline-delimited JSON instead of text
    #[arg(long, global = true, env = "KACHERY_P2P_JSON", value_parser = FalseyValueParser::new())]
    pub(super) json: bool,
    /// Print only results and errors
    #[arg(long, global = true, env = "KACHERY_P2P_QUIET", value_parser = FalseyValueParser::new())]
    pub(super) quiet: bool,
    /// No progress display
    #[arg(long, global = true, env = "KACHERY_P2P_NO_PROGRESS", value_parser = FalseyValueParser::new())]
    pub(super) no_progress: bool,
    /// Give up a transfer after this long without progress; a search for it ends sooner [default: 60; find: search this
    /// long, default 4]
    #[arg(long, global = true, env = "KACHERY_P2P_TIMEOUT", value_name = "SECONDS", value_parser = seconds)]
    pub(super) timeout: Option<Duration>,
    /// How much to log: 0 little, 1 more, 2 everything
    #[arg(long, global = true, env = "KACHERY_P2P_VERBOSE", value_name = "N", default_value_t = 0)]
    pub(super) verbose: u8,
    /// One more for --verbose; repeatable
    #[arg(short = 'v', global = true, action = ArgAction::Count)]
    pub(super) more_verbose: u8,
}

/// The commands, in every spelling that was ever documented.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Start the daemon in the foreground
    #[command(visible_alias = "start-daemon")]
    DaemonStart {
        /// Channel to join, besides those joined before; repeatable
        #[arg(long = "channel", env = "KACHERY_P2P_CHANNELS", value_name = "NAME", num_args = 1.., value_delimiter = ',')]
        channels: Vec<String>,
    },
    /// Stop the daemon
    #[command(visible_alias = "stop-daemon")]
    DaemonStop,
    /// List the joined channels and their peers
    #[command(visible_alias = "channels")]
    GetChannels,
    /// Join a channel, now and at every start
    JoinChannel {
        /// Its name
        name: String,
    },
    /// Leave a channel for good
    LeaveChannel {
        /// Its name
        name: String,
    },
    /// Show who has a file
    #[command(visible_alias = "find-file")]
    Find {
        /// sha1://HASH/label
        uri: String,
    },
    /// Load a file and print where it is
    #[command(visible_alias = "load-file")]
    Load {
        /// sha1://HASH/label
        uri: String,
        /// Copy it to FILE (replaced as a whole), into DIR/ (by its label), or to standard output (-)
        #[arg(long, env = "KACHERY_P2P_DEST", value_name = "FILE")]
        dest: Option<PathBuf>,
    },
    /// Load a file and write it to standard output
    #[command(visible_alias = "cat-file")]
    Cat {
        /// sha1://HASH/label
        uri: String,
    },
    /// List unfinished downloads in the store, or remove them
    Partials {
        /// Remove them, except those that are being downloaded now; such a file is then loaded from its start
        #[arg(long, env = "KACHERY_P2P_REMOVE", value_parser = FalseyValueParser::new())]
        remove: bool,
        /// Only those to which nothing was written for so many days
        #[arg(long, env = "KACHERY_P2P_OLDER_THAN", value_name = "DAYS", value_parser = days)]
        older_than: Option<Duration>,
    },
    /// Show the daemon's node ID
    NodeInfo,
    /// Show what the daemon is doing
    Status,
    /// Print the version
    Version,
    /// Print the completions of a shell, for instance: completions bash
    Completions {
        /// Which shell
        shell: Shell,
        /// Of which program, for instance kachery-store or kachery-p2p-load
        #[arg(long, env = "KACHERY_P2P_PROGRAM", value_name = "NAME", default_value = "kachery-p2p")]
        program: String,
    },
    /// Print a manual page, or write those of all programs
    Man {
        /// Of which program or command, for instance kachery-store or kachery-p2p-load
        #[arg(long, env = "KACHERY_P2P_PROGRAM", value_name = "NAME", default_value = "kachery-p2p")]
        program: String,
        /// Write the pages of all programs and commands into this folder
        #[arg(long, env = "KACHERY_P2P_MAN_DIR", value_name = "DIR")]
        dir: Option<PathBuf>,
    },
    /// Run a DHT node by itself, for instance as the bootstrap node of a private network
    DhtNode(DhtNode),
    /// Try it: share a file between two nodes on this machine, over a private network, leaving nothing behind
    Demo {
        /// How much random data to share, for instance 256MiB or 1G
        #[arg(long, env = "KACHERY_P2P_DEMO_SIZE", value_name = "SIZE", default_value = "256MiB", value_parser = size)]
        size: u64,
        /// Share this file instead
        #[arg(long, env = "KACHERY_P2P_DEMO_FILE", value_name = "PATH", conflicts_with = "size")]
        file: Option<PathBuf>,
    },
}

impl Command {
    /// Is its standard output a file's content?
    pub(super) fn writes_content(&self) -> bool {
        match self {
            Self::Cat { .. } => true,
            Self::Load { dest, .. } => dest.as_deref() == Some(Path::new("-")),
            _ => false,
        }
    }
}

/// How a DHT node takes part.
#[derive(Args, Clone, Debug)]
pub(super) struct DhtNode {
    /// Which network; scripts made for version 2 rely on the default
    #[arg(long, env = "KACHERY_P2P_DHT_NETWORK", value_enum, default_value_t = Network::V2)]
    pub(super) network: Network,
    /// Address to listen on (UDP); with v4, further nodes take the ports that follow. With v4 and 0.0.0.0 the bootstrap
    /// nodes tell which address others see
    #[arg(long, env = "KACHERY_P2P_DHT_LISTEN", value_name = "ADDR", default_value = "0.0.0.0:49737", value_parser = address)]
    pub(super) listen: SocketAddrV4,
    /// Nodes of the v4 network through which to enter it; repeatable; without any, this is the first node of a private
    /// network. (For v2: --bootstrap-v2)
    #[arg(
        long,
        env = "KACHERY_P2P_DHT_BOOTSTRAP",
        value_name = "HOST:PORT",
        value_delimiter = ',',
        value_parser = host_and_port
    )]
    pub(super) bootstrap: Vec<String>,
    /// Nodes of the v4 network to run in this process; two peers behind NATs need three that answer [default: 4]
    #[arg(
        long,
        env = "KACHERY_P2P_DHT_NODES",
        value_name = "N",
        value_parser = clap::value_parser!(u16).range(1..=MAX_DHT_NODES)
    )]
    pub(super) nodes: Option<u16>,
}

/// Most nodes in one process. Each holds two sockets.
const MAX_DHT_NODES: i64 = 1000;

/// A generation of the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Network {
    /// That of the daemons of 2020.
    V2,
    /// Today's Hyperswarm.
    V4,
}

/// An empty variable is one that is not set, whatever its flag expects.
pub(super) fn without_empty_variables(command: clap::Command) -> clap::Command {
    let is_empty = |variable: &OsStr| std::env::var_os(variable).is_some_and(|value| value.is_empty());
    command
        .mut_args(|argument| match argument.get_env().is_some_and(is_empty) {
            true => argument.env(None),
            false => argument,
        })
        .mut_subcommands(without_empty_variables)
}

/// An IPv4 address and a port.
fn address(text: &str) -> Result<SocketAddrV4, String> {
    text.parse().map_err(|_| {
        "expected an IPv4 address of this machine and a port, for instance 0.0.0.0:49737 (all its addresses) or \
         127.0.0.1:49737; names such as localhost are not looked up"
            .to_owned()
    })
}

/// An IPv4 address or a name, and a port.
fn host_and_port(text: &str) -> Result<String, String> {
    let valid = text.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty() && !host.contains([':', '[', ' ']) && port.parse::<u16>().is_ok_and(|port| port != 0)
    });
    match valid {
        true => Ok(text.to_owned()),
        false => Err("expected HOST:PORT with an IPv4 address or a name, for instance 10.0.0.5:49737".into()),
    }
}

/// Seconds, possibly with a fraction.
fn seconds(text: &str) -> Result<Duration, String> {
    let number: f64 = text.parse().map_err(|_| "expected a number of seconds".to_owned())?;
    match Duration::try_from_secs_f64(number) {
        Ok(duration) if duration > Duration::ZERO => Ok(duration),
        _ => Err("expected a positive number of seconds".into()),
    }
}

/// Days, possibly with a fraction.
fn days(text: &str) -> Result<Duration, String> {
    let number: f64 = text.parse().map_err(|_| "expected a number of days".to_owned())?;
    Duration::try_from_secs_f64(number * 86_400.0).map_err(|_| "expected a number of days, 0 or more".into())
}

/// Bytes: a number and a unit; `K`, `M`, `G`, `T` and `KiB`... are powers of 1024, `kB`, `MB`... of 1000.
fn size(text: &str) -> Result<u64, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = unit.trim().to_ascii_lowercase();
    let scale = match unit.as_str() {
        "" | "b" => 1_u64,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "t" | "tib" => 1 << 40,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        _ => return Err(format!("unknown unit {unit:?}: use for instance 256MiB or 1G")),
    };
    let bytes = match number.parse::<u64>() {
        Ok(whole) => whole.checked_mul(scale),
        Err(_) => number.parse::<f64>().ok().map(|part| (part * scale as f64) as u64),
    };
    bytes.ok_or_else(|| "expected a size, for instance 256MiB or 1G".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn parse(words: &str) -> Arguments {
        let words = std::iter::once("kachery-p2p").chain(words.split_whitespace());
        Arguments::try_parse_from(words).unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn the_definitions_are_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn every_spelling_that_was_documented_is_understood() {
        for words in [
            "daemon-start --channel a --channel b",
            "start-daemon --channel a b",
            "daemon-start --channel a,b",
        ] {
            let Command::DaemonStart { channels } = parse(words).command else { panic!("{words}") };
            assert_eq!(channels, ["a", "b"], "{words}");
        }
        for words in ["daemon-stop", "stop-daemon"] {
            assert!(matches!(parse(words).command, Command::DaemonStop), "{words}");
        }
        for words in ["load sha1://x/y --dest f", "load-file --dest f sha1://x/y"] {
            let Command::Load { uri, dest, .. } = parse(words).command else { panic!("{words}") };
            assert_eq!((uri.as_str(), dest), ("sha1://x/y", Some("f".into())), "{words}");
        }
        for words in ["cat sha1://x", "cat-file sha1://x"] {
            assert!(matches!(parse(words).command, Command::Cat { .. }), "{words}");
        }
        for words in ["find sha1://x", "find-file sha1://x"] {
            assert!(matches!(parse(words).command, Command::Find { .. }), "{words}");
        }
        assert!(matches!(parse("get-channels").command, Command::GetChannels));
        assert!(matches!(parse("join-channel c").command, Command::JoinChannel { .. }));
        assert!(matches!(parse("leave-channel c").command, Command::LeaveChannel { .. }));
        assert!(matches!(
            parse("dht-node --network v2 --listen 127.0.0.1:0").command,
            Command::DhtNode { .. }
        ));
    }

    #[test]
    fn global_flags_go_before_and_after_the_command() {
        for words in [
            "--api-port 7 --json -v --bootstrap-v2 a:1 --bootstrap-v2 b:2 --timeout 1.5 status",
            "status --api-port 7 --json -v --bootstrap-v2 a:1,b:2 --timeout 1.5",
        ] {
            let global = parse(words).global;
            assert_eq!((global.api_port, global.json, global.more_verbose), (7, true, 1), "{words}");
            assert_eq!(global.bootstrap_v2, ["a:1", "b:2"], "{words}");
            assert_eq!(global.timeout, Some(Duration::from_millis(1500)), "{words}");
        }
        assert_eq!(parse("daemon-start --verbose 2").global.verbose, 2);
    }

    #[test]
    fn every_flag_has_an_environment_variable_that_help_shows() {
        let mut command = Arguments::command();
        command.build();
        let mut commands = vec![command.clone()];
        commands.extend(command.get_subcommands().cloned());
        let mut seen = 0;
        for mut command in commands {
            let help = command.render_long_help().to_string();
            for argument in command.get_arguments().filter(|a| a.get_long().is_some()) {
                let name = argument.get_long().unwrap();
                if name == "help" || name == "version" {
                    continue;
                }
                let variable = argument.get_env().unwrap_or_else(|| panic!("--{name} has no variable"));
                let shown = format!("[env: {}=", variable.to_str().unwrap());
                assert!(
                    help.contains(&shown),
                    "{}: --{name}: {shown} is not in its help",
                    command.get_name()
                );
                seen += 1;
            }
        }
        assert!(seen > 20, "looked at {seen} flags only");
    }

    #[test]
    fn a_dht_node_of_v2_is_what_the_command_means_unless_told_otherwise() {
        let Command::DhtNode(node) = parse("dht-node").command else { panic!("another command") };
        assert_eq!((node.network, node.nodes, node.bootstrap.len()), (Network::V2, None, 0));
        let words = "dht-node --network v4 --nodes 1000 --bootstrap a:1,10.0.0.5:2";
        let Command::DhtNode(node) = parse(words).command else { panic!("another command") };
        assert_eq!((node.network, node.nodes), (Network::V4, Some(1000)));
        assert_eq!(node.bootstrap, ["a:1", "10.0.0.5:2"]);
    }

    #[test]
    fn a_bootstrap_node_is_a_host_and_a_port() {
        for text in
            ["", "a.example", ":5", "a.example:", "a.example:0", "a.example:70000", "[::1]:5", "::1:5"]
        {
            assert!(host_and_port(text).is_err(), "{text}");
        }
        assert_eq!(host_and_port("a.example:5"), Ok("a.example:5".to_owned()));
    }

    #[test]
    fn sizes_are_read_with_their_units() {
        let cases = [
            ("0", 0),
            ("17", 17),
            ("256MiB", 256 << 20),
            ("1G", 1 << 30),
            ("1.5k", 1536),
            ("2 MB", 2_000_000),
        ];
        for (text, bytes) in cases {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in ["", "x", "-1", "1X", "99999999999G", "1.2.3"] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_timeout_is_a_positive_number() {
        for text in ["0", "-1", "x", "nan", "inf", "1e999"] {
            assert!(seconds(text).is_err(), "{text}");
        }
        assert_eq!(seconds("0.25"), Ok(Duration::from_millis(250)));
    }

    #[test]
    fn an_age_is_a_number_of_days_that_may_be_0() {
        for text in ["-1", "x", "nan", "inf", "1e999"] {
            assert!(days(text).is_err(), "{text}");
        }
        assert_eq!((days("0"), days("1.5")), (Ok(Duration::ZERO), Ok(Duration::from_secs(129_600))));
    }
}
