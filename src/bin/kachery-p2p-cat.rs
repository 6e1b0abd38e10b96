//! `kachery-p2p-cat`: `kachery-p2p cat-file` under a name of its own, as in the original.

fn main() -> std::process::ExitCode {
    kachery_p2p::cli::run_wrapper("cat-file")
}
