//! Source files taken apart as text, for the checks that read them.

/// Lines with their numbers, from 1.
pub(crate) type Lines<'a> = Vec<(usize, &'a str)>;

/// The lines outside and those inside of the unit tests in this file: the modules with a body behind `#[cfg(test)]`
/// that stand at the left margin. A `#[cfg(test)] mod tests;` says nothing about the lines below it.
pub(crate) fn split_off_tests(text: &str) -> (Lines<'_>, Lines<'_>) {
    let (mut marked, mut inside) = (false, false);
    text.lines().enumerate().map(|(index, line)| (index + 1, line)).partition(|(_, line)| {
        inside |= marked && line.starts_with("mod ") && line.ends_with('{');
        // Further attributes may stand in between.
        marked = *line == "#[cfg(test)]" || marked && line.starts_with("#[");
        let code = !inside;
        inside &= *line != "}";
        code
    })
}
