//! `kachery-p2p-stop-daemon`: a command of `kachery-p2p` under a name of its own, as in the original.

mod wrapper;

fn main() -> std::process::ExitCode {
    wrapper::become_program("kachery-p2p")
}
