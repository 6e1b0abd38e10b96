//! `kachery-p2p-load`: `kachery-p2p load-file` under a name of its own, as in the original.

fn main() -> std::process::ExitCode {
    kachery_p2p::cli::run_wrapper("load-file")
}
