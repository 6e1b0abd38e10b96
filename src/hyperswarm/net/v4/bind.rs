//! Which port the server's socket gets.

use std::io;
use std::ops::Range;

/// Binds the first of these ports that is free; if none is, any port where that is allowed. An empty range means any.
pub(super) fn first_free<T>(
    ports: Range<u16>,
    any_port: bool,
    bind: impl Fn(u16) -> io::Result<T>,
) -> io::Result<T> {
    let any_port = any_port || ports.is_empty();
    let mut taken = None;
    for port in ports {
        match bind(port) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => taken = Some(error),
            result => return result,
        }
    }
    match taken {
        Some(error) if !any_port => Err(error),
        _ => bind(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A system on which these ports are taken.
    fn bind(taken: &'static [u16]) -> impl Fn(u16) -> io::Result<u16> {
        |port| match taken.contains(&port) {
            true => Err(io::ErrorKind::AddrInUse.into()),
            false => Ok(port),
        }
    }

    #[test]
    fn the_first_free_port_of_a_range_is_bound_or_any() {
        assert_eq!(first_free(5..8, true, bind(&[])).unwrap(), 5);
        assert_eq!(first_free(5..8, true, bind(&[5, 6])).unwrap(), 7);
        assert_eq!(first_free(5..8, true, bind(&[5, 6, 7])).unwrap(), 0);
        assert_eq!(first_free(0..0, false, bind(&[])).unwrap(), 0);
        let error = first_free(5..7, false, bind(&[5, 6])).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn an_error_that_other_ports_would_not_mend_is_reported_at_once() {
        let denied = |_| Err::<u16, _>(io::ErrorKind::PermissionDenied.into());
        assert_eq!(first_free(5..8, true, denied).unwrap_err().kind(), io::ErrorKind::PermissionDenied);
    }
}
