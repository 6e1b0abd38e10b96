//! `kachery-p2p-join-channel`: `kachery-p2p join-channel` under a name of its own, as in the original.

fn main() -> std::process::ExitCode {
    kachery_p2p::cli::run_wrapper("join-channel")
}
