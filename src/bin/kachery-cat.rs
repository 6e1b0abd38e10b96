//! The `kachery-cat` command, which is part of `kachery-store`.

mod wrapper;

fn main() -> std::process::ExitCode {
    wrapper::become_program("kachery-store")
}
