//! Commands, output, exit codes, configuration.
//!
//! Every client command is one future that talks to the daemon's HTTP API; Ctrl-C drops it, which hangs up, which
//! makes the daemon stop what it did for it. The commands that serve (`daemon-start`, `dht-node`, `demo`) watch the
//! signals themselves.

mod arguments;
mod channels;
mod config_file;
mod daemon;
mod demo;
mod destination;
mod dht_node;
mod failure;
mod find;
mod load;
mod log;
mod output;
mod pages;
mod partials;
pub mod progress;
mod settings;
mod signals;
mod status;
pub mod store_commands;
mod stored;
mod system;
mod text;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{CommandFactory, FromArgMatches};
use tokio::runtime::Builder;
use tracing::level_filters::LevelFilter;

use arguments::{Arguments, Command};
use config_file::FileSettings;
use log::Log;
use output::Output;
use settings::Settings;

pub use failure::{Exit, Failure};

/// The `kachery-p2p` command, or the one of its commands that the first word names: `kachery-p2p-load` is `load`.
pub fn run() -> ExitCode {
    let mut words: Vec<OsString> = std::env::args_os().collect();
    let name = program_name();
    let program =
        name.to_str().and_then(|name| Some((name.strip_prefix("kachery-p2p-")?, pages::as_program(name)?)));
    match program {
        Some((command, definition)) => {
            words.insert(1, command.into());
            run_words(definition, words)
        }
        None => run_words(Arguments::command(), words),
    }
}

/// The name under which this program was started, without its folder. The small programs beside it give their own.
fn program_name() -> OsString {
    let first = std::env::args_os().next().unwrap_or_default();
    Path::new(&first).file_name().unwrap_or_default().to_owned()
}

fn run_words(definition: clap::Command, words: Vec<OsString>) -> ExitCode {
    let json = words.iter().any(|word| word == "--json");
    let parsed = arguments::without_empty_variables(definition).try_get_matches_from(words);
    let parsed = parsed.and_then(|matches| Ok((Arguments::from_arg_matches(&matches)?, matches)));
    let (arguments, matches) = match parsed {
        Ok(parsed) => parsed,
        Err(error) => return misunderstood(&error, json),
    };
    let global = arguments.global;
    let output = Output { json: global.json, quiet: global.quiet };
    let file = match &arguments.command {
        // They are about this program, not about anybody's daemon.
        Command::Demo { .. } | Command::Version | Command::Completions { .. } | Command::Man { .. } => {
            Ok(FileSettings::default())
        }
        _ => FileSettings::read(global.config_dir.as_deref()),
    };
    let settings = match file {
        Ok(mut file) => {
            // Content on standard output cannot be JSON. The file asks for JSON in general, so this is no error.
            if arguments.command.writes_content() {
                file.json = None;
            }
            Settings::new(global, &matches, file)
        }
        Err(failure) => {
            output.failure(&failure);
            return failure.exit.into();
        }
    };
    let result =
        start_log(&settings, &arguments.command).and_then(|()| execute(&settings, arguments.command));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            settings.output.failure(&failure);
            failure.exit.into()
        }
    }
}

/// Help and version are answers, not errors; clap words both.
fn misunderstood(error: &clap::Error, json: bool) -> ExitCode {
    let asked_for = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
    if json && !asked_for {
        let text = error.render().to_string();
        Output { json, quiet: false }.failure(&Failure::usage(text.trim_end().trim_start_matches("error: ")));
    } else {
        // Without a reader there is nobody to tell.
        let _ = error.print();
    }
    if asked_for { ExitCode::SUCCESS } else { Exit::Usage.into() }
}

fn execute(settings: &Settings, command: Command) -> Result<(), Failure> {
    // The daemon's work is mostly waiting: two workers keep both cores busy when it is not, and few blocking threads
    // keep an idle daemon small.
    let serves = matches!(command, Command::DaemonStart { .. } | Command::Demo { .. });
    let runtime = match serves {
        true => system::start(Builder::new_multi_thread().worker_threads(2).max_blocking_threads(16))?,
        false => system::start(Builder::new_current_thread().max_blocking_threads(4))?,
    };
    let result = runtime.block_on(dispatch(settings, command));
    // A thread still in a system call for something interrupted must not delay the end.
    runtime.shutdown_timeout(Duration::from_millis(100));
    result
}

async fn dispatch(settings: &Settings, command: Command) -> Result<(), Failure> {
    if matches!(command, Command::DaemonStart { .. } | Command::Demo { .. } | Command::DhtNode(_)) {
        system::raise_open_files();
    }
    match command {
        Command::DaemonStart { channels } => daemon::start(settings, channels).await,
        Command::Demo { size, file } => demo::run(settings, size, file).await,
        Command::DhtNode(node) => dht_node::run(settings, &node).await,
        command => ask(settings, command).await,
    }
}

/// The commands that talk to the daemon.
async fn ask(settings: &Settings, command: Command) -> Result<(), Failure> {
    let interrupted = signals::interrupted()?;
    let work = async {
        match command {
            Command::DaemonStart { .. } | Command::Demo { .. } | Command::DhtNode(_) => Ok(()),
            Command::DaemonStop => daemon::stop(settings).await,
            Command::GetChannels => channels::list(settings).await,
            Command::JoinChannel { name } => channels::change(settings, "join", &name).await,
            Command::LeaveChannel { name } => channels::change(settings, "leave", &name).await,
            Command::Find { uri } => find::find(settings, &uri).await,
            Command::Load { uri, dest } => load::load(settings, &uri, dest.as_deref()).await,
            Command::Cat { uri } => load::cat(settings, &uri).await,
            Command::Partials { remove, older_than } => {
                partials::partials(settings, remove, older_than).await
            }
            Command::NodeInfo => status::node_info(settings).await,
            Command::Status => status::status(settings).await,
            Command::Version => status::version(settings),
            Command::Completions { shell, program } => pages::completions(settings, shell, &program),
            Command::Man { program, dir } => pages::manual(settings, &program, dir.as_deref()),
        }
    };
    tokio::select! {
        result = work => result,
        () = interrupted => Err(Failure::interrupted()),
    }
}

/// Logs go to stderr: the daemon's life at level info, a client's troubles only.
fn start_log(settings: &Settings, command: &Command) -> Result<(), Failure> {
    let serves = matches!(command, Command::DaemonStart { .. } | Command::DhtNode(_));
    let level = match settings.verbosity {
        0 if serves && !settings.output.quiet => LevelFilter::INFO,
        0 => LevelFilter::WARN,
        1 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    };
    Log { level, time: true, target: settings.verbosity > 0 }.start()
}
