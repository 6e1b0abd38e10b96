//! Machines against each other and against frames of the original daemons, in virtual time.

mod downloads;
mod floods;
mod handshakes;
mod hostile;
mod relaying;
mod replays;
mod serving;
mod sharing;
mod simulation;

use super::*;
use simulation::{Simulation, key};
