//! What makes a download do without a provider.

use std::time::Duration;

use crate::limits;

/// Why a provider is not used any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// Requests stayed without data for this long.
    Silent(Duration),
    /// For this long it sent less than [`limits::MINIMUM_RATE`].
    Slow(Duration),
    /// It answered with an error.
    Refused(String),
    /// It ended its answers early, again and again.
    Short {
        /// Bytes asked for.
        wanted: u64,
        /// Bytes sent.
        got: u64,
    },
    /// It sent more than was asked for.
    Long,
    /// Its bytes do not have the hash.
    WrongBytes,
    /// Its bytes do not have the hash, but others may have spoilt them on the way.
    Garbled,
}

impl Failure {
    /// True if the provider is not to be trusted with other files either. Only a hash proves that: an answer that is
    /// short or long may have been cut, or its end lost, on the way.
    pub(crate) fn is_lie(&self) -> bool {
        match self {
            Self::WrongBytes => true,
            Self::Silent(_)
            | Self::Slow(_)
            | Self::Refused(_)
            | Self::Short { .. }
            | Self::Long
            | Self::Garbled => false,
        }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Silent(time) => write!(f, "sent nothing for {} s", time.as_secs()),
            Self::Slow(time) => {
                let (rate, seconds) = (limits::MINIMUM_RATE, time.as_secs());
                write!(f, "sent less than {rate} bytes per second for {seconds} s")
            }
            Self::Refused(text) => write!(f, "answered: {}", text.escape_debug()),
            Self::Short { wanted, got } => write!(f, "sent {got} of {wanted} bytes"),
            Self::Long => f.write_str("sent more bytes than asked for"),
            Self::WrongBytes => f.write_str("sent bytes that do not have this sha1"),
            Self::Garbled => {
                f.write_str("its bytes, which others may have changed on the way, do not have this sha1")
            }
        }
    }
}
