//! What every program does that is `kachery-p2p` or `kachery-store` under another name: it becomes that program, which
//! lies beside it and reads its name from the first word of its command line. These programs do not link the library, so
//! that each has 0.5 MB instead of 4 or 10.

use std::io;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

/// The name of the executable that this module is compiled into.
const NAME: &str = env!("CARGO_BIN_NAME");

/// Replaces this process by `program` under this program's name. Returns only if that fails.
pub(crate) fn become_program(program: &str) -> ExitCode {
    let failed = match beside(program) {
        Ok(path) => {
            let error = Command::new(&path).arg0(NAME).args(std::env::args_os().skip(1)).exec();
            format!("cannot start {}: {error}", path.display())
        }
        Err(error) => format!("cannot tell where {NAME} is: {error}"),
    };
    eprintln!(
        "error: {failed}\n  likely: {NAME} was copied without {program}\n  next: install {program} into the same folder as {NAME}"
    );
    ExitCode::FAILURE
}

/// The path of a program in the folder of this executable; a link to this executable does not count as its place.
fn beside(program: &str) -> io::Result<PathBuf> {
    let own = std::env::current_exe()?;
    // An executable that was replaced meanwhile has no path of its own any more, but still its folder.
    Ok(own.canonicalize().unwrap_or(own).with_file_name(program))
}
