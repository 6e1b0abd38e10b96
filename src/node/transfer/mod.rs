//! Downloads. The pure parts: [`plan`] decides what to ask of whom, [`ranges`] and [`blame`] keep the books.

pub(crate) mod blame;
pub(crate) mod plan;
pub(crate) mod ranges;
#[cfg(test)]
mod tests;
