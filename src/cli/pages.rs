//! `completions` and `man`: made from the definitions that parse the command lines.

use std::path::Path;

use clap::{Command, CommandFactory};
use clap_complete::Shell;
use serde_json::json;

use super::arguments::Arguments;
use super::failure::{Exit, Failure};
use super::output::write_stdout;
use super::settings::Settings;
use super::store_commands;

const MAIN: &str = "kachery-p2p";
/// Programs whose command has another name now, so that its page does not have theirs.
const OLDER_SPELLINGS: [&str; 2] = ["kachery-p2p-start-daemon", "kachery-p2p-stop-daemon"];

/// What the shell reads, on stdout.
pub(super) fn completions(settings: &Settings, shell: Shell, program: &str) -> Result<(), Failure> {
    no_json(settings)?;
    write_stdout(script(shell, definition(program)?, program).as_bytes())
}

fn script(shell: Shell, mut definition: Command, program: &str) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut definition, program, &mut script);
    let script = String::from_utf8_lossy(&script).into_owned();
    if shell != Shell::Bash {
        return script;
    }
    // clap_complete writes the dashes of the program's name in two ways: one where the script sets the name of the
    // subcommand, another in the label that should match it.
    let label = |dash| program.replace('-', dash) + "__subcmd__";
    script.replace(&label("__subcmd__"), &label("__"))
}

/// One page on stdout, or all of them in a folder.
pub(super) fn manual(settings: &Settings, program: &str, dir: Option<&Path>) -> Result<(), Failure> {
    let Some(dir) = dir else {
        no_json(settings)?;
        let mut page = Vec::new();
        let rendered = clap_mangen::Man::new(definition(program)?).render(&mut page);
        rendered.map_err(|error| Failure::new(Exit::Other, format!("cannot make the page: {error}")))?;
        return write_stdout(&page);
    };
    let cannot = |error| Failure::io(format!("write manual pages to {}", dir.display()), &error);
    std::fs::create_dir_all(dir).map_err(cannot)?;
    for command in [Arguments::command()].into_iter().chain(store_commands::definitions()) {
        clap_mangen::generate_to(command, dir).map_err(cannot)?;
    }
    for program in OLDER_SPELLINGS {
        clap_mangen::generate_to(definition(program)?, dir).map_err(cannot)?;
    }
    settings.output.result(&format!("{}\n", dir.display()), json!({"dir": dir.to_string_lossy()}))
}

/// The definition of `kachery-p2p` for a program that is one of its commands: it speaks of itself as `program`. None:
/// there is no such command.
pub(super) fn as_program(program: &str) -> Option<Command> {
    let mut main = Arguments::command();
    let name = main.find_subcommand(program.strip_prefix("kachery-p2p-")?)?.get_name().to_owned();
    let usage = definition(program).ok()?.render_usage().to_string();
    let usage = usage.trim_start_matches("Usage: ").replacen(&format!("{MAIN} {name}"), program, 1);
    let program = program.to_owned();
    main = main.mut_subcommand(name, |command| {
        command.version(env!("CARGO_PKG_VERSION")).display_name(program).override_usage(usage)
    });
    Some(main)
}

/// The definition of a program, or of one of the commands that are programs too (`kachery-p2p-load`).
fn definition(program: &str) -> Result<Command, Failure> {
    let mut main = Arguments::command();
    if program == MAIN {
        return Ok(main);
    }
    // Gives the commands the flags that all of them accept.
    main.build();
    let command = program.strip_prefix("kachery-p2p-").and_then(|name| main.find_subcommand(name));
    if let Some(command) = command {
        let name = program.to_owned();
        return Ok(command
            .clone()
            .version(env!("CARGO_PKG_VERSION"))
            .bin_name(name.clone())
            .display_name(name));
    }
    let other = store_commands::definitions().into_iter().find(|command| command.get_name() == program);
    other.ok_or_else(|| {
        let names: Vec<_> = store_commands::definitions().iter().map(|c| c.get_name().to_owned()).collect();
        Failure::usage(format!("--program: there is no program {program:?}"))
            .next(format!("{MAIN}, {MAIN}-COMMAND, {}", names.join(", ")))
    })
}

fn no_json(settings: &Settings) -> Result<(), Failure> {
    match settings.output.json {
        true => Err(Failure::usage("it goes to standard output as it is, so not with --json")),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_program_has_completions_for_every_shell() {
        let programs =
            [MAIN, "kachery-p2p-load", "kachery-p2p-find", "kachery-p2p-start-daemon", "kachery-store"];
        for program in programs {
            for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
                let script = script(shell, definition(program).unwrap(), program);
                assert!(script.contains(program) && script.contains("storage-dir"), "{program}, {shell}");
            }
        }
    }

    #[test]
    fn an_unknown_program_is_a_usage_error_that_names_the_known_ones() {
        let failure = definition("kachery-nonsense").unwrap_err();
        assert_eq!(failure.exit, Exit::Usage);
        assert!(failure.next.is_some_and(|next| next.contains("kachery-load-dir")));
    }
}
