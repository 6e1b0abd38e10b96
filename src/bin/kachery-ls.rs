//! The `kachery-ls` command.

fn main() -> std::process::ExitCode {
    kachery_p2p::cli::store_commands::kachery_ls()
}
