//! `kachery-cat`.

use std::path::PathBuf;
use std::process::ExitCode;

use super::{Common, Exit, Failure, Target};
use crate::cli::stored::{size_of, write_out};
use crate::store::Named;

/// Writes a stored file, or a range of its bytes, to standard output.
#[derive(Debug, clap::Parser)]
#[command(name = "kachery-cat", version)]
pub(super) struct Arguments {
    /// For instance sha1://HASH/name, or a plain path.
    #[arg(value_name = "URI")]
    uri: PathBuf,
    /// First byte.
    #[arg(long, value_name = "BYTE", env = "KACHERY_P2P_START", allow_negative_numbers = true)]
    start: Option<i64>,
    /// The byte after the last one.
    #[arg(long, value_name = "BYTE", env = "KACHERY_P2P_END", allow_negative_numbers = true)]
    end: Option<i64>,
    #[command(flatten)]
    common: Common,
}

/// Runs `kachery-cat` on the arguments of the process.
pub(super) fn kachery_cat() -> ExitCode {
    super::run_command::<Arguments>(|a| &mut a.common, cat)
}

fn cat(arguments: &Arguments) -> Result<(), Failure> {
    let not_here = || super::not_here("Error loading file.", &arguments.uri);
    let common = &arguments.common;
    let path = match super::target(&arguments.uri, common)? {
        Target::Path(path) if path.is_file() => path,
        Target::Uri(_, store, Named::File { hash, path: Some(path), .. }) => {
            super::verified(common, &store, hash, &path, common.json)?.ok_or_else(not_here)?
        }
        Target::Uri(_, _, Named::Directory(_)) => {
            return Err(super::is_a_folder("Error loading file.", &arguments.uri));
        }
        _ => return Err(not_here()),
    };
    let size = size_of(&path)?;
    let (start, end) = range(size, arguments.start, arguments.end)?;
    write_out(&path, start, end)
}

fn range(size: u64, start: Option<i64>, end: Option<i64>) -> Result<(u64, u64), Failure> {
    let from = start.map_or(Some(0), |s| u64::try_from(s).ok());
    let to = end.map_or(Some(size), |e| u64::try_from(e).ok());
    match (from, to) {
        (Some(from), Some(to)) if from <= to && to <= size => Ok((from, to)),
        _ => {
            let (from, to) = (start.unwrap_or(0), end.map_or(size.to_string(), |e| e.to_string()));
            let message = format!("Invalid start/end range for file of size {size}: {from} - {to}");
            Err(Failure::new(Exit::Other, message))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_outside_the_file_are_refused_in_the_words_of_the_original() {
        assert_eq!(range(10, None, None).unwrap(), (0, 10));
        assert_eq!(range(10, Some(3), Some(10)).unwrap(), (3, 10));
        assert_eq!(range(10, Some(10), None).unwrap(), (10, 10));
        let message = |start, end| range(10, start, end).unwrap_err().what;
        assert_eq!(message(Some(4), Some(11)), "Invalid start/end range for file of size 10: 4 - 11");
        assert_eq!(message(Some(-1), None), "Invalid start/end range for file of size 10: -1 - 10");
        assert_eq!(message(Some(5), Some(4)), "Invalid start/end range for file of size 10: 5 - 4");
    }
}
