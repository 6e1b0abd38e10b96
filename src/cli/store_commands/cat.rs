//! `kachery-cat`.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::{Common, Exit, Failure, Target, size_of, unreadable};
use crate::cli::output::stdout_failure;
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
pub fn kachery_cat() -> ExitCode {
    super::run::<Arguments>(|a| &mut a.common, cat)
}

fn cat(arguments: &Arguments) -> Result<(), Failure> {
    let not_here = || super::not_here("Error loading file.", &arguments.uri);
    let common = &arguments.common;
    let path = match super::target(&arguments.uri, common)? {
        Target::Path(path) if path.is_file() => path,
        Target::Uri(_, store, Named::File { hash, path: Some(path), .. }) => {
            super::verified(common, &store, hash, &path, common.json)?.ok_or_else(not_here)?
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

/// Writes bytes `start` to `end` of a file to standard output.
pub(super) fn write_out(path: &Path, start: u64, end: u64) -> Result<(), Failure> {
    let cannot = |e| unreadable(path, &e);
    let mut file = File::open(path).map_err(cannot)?;
    file.seek(SeekFrom::Start(start)).map_err(cannot)?;
    let mut out = std::io::stdout().lock();
    let copied = std::io::copy(&mut file.take(end - start), &mut out);
    let copied = copied.and_then(|count| out.flush().map(|()| count)).map_err(|e| stdout_failure(&e))?;
    match copied == end - start {
        true => Ok(()),
        false => {
            Err(Failure::new(Exit::Other, format!("{} became shorter while it was read", path.display())))
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
