//! What to say where something is not in a release: what there is instead, closest first.

/// Names that are shown, at most.
const SHOWN_MAX: usize = 8;
/// Longest name that is shown whole, in bytes.
const NAME_LEN_MAX: usize = 120;

/// The names that are there, those most like the wanted one first: `it has a, b and 3 more`.
pub(super) fn closest<'a>(wanted: &str, names: impl IntoIterator<Item = &'a str>) -> String {
    let mut names: Vec<_> = names.into_iter().collect();
    names.sort_by(|one, other| {
        let [one_like, other_like] = [one, other].map(|name| strsim::jaro_winkler(wanted, name));
        other_like.total_cmp(&one_like).then_with(|| one.cmp(other))
    });
    match names.len() {
        0 => "it has no files".to_owned(),
        _ => format!("it has {}", listed(&names, SHOWN_MAX)),
    }
}

/// The first names: `a, b and 3 more`.
pub(super) fn listed<N: AsRef<str>>(names: &[N], max: usize) -> String {
    let shown: Vec<_> = names.iter().take(max).map(|name| clean(name.as_ref())).collect();
    let text = shown.join(", ");
    match names.len().saturating_sub(max) {
        0 => text,
        more => format!("{text} and {more} more"),
    }
}

/// A name of a server's as it can be shown: of bounded length, and nothing that a terminal obeys.
pub(super) fn clean(name: &str) -> String {
    let text: String = name.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    match text.len() > NAME_LEN_MAX {
        true => format!("{}…", &text[..text.floor_char_boundary(NAME_LEN_MAX)]),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closest_come_first_and_the_rest_is_counted() {
        let names: Vec<_> = (0..9).map(|number| format!("other-{number}")).collect();
        let mut names: Vec<_> = names.iter().map(String::as_str).collect();
        names.push("local_validator-linux-amd64");
        names.push("validator-linux-arm64");
        let text = closest("validator-linux-amd64", names);
        assert!(
            text.starts_with("it has validator-linux-arm64, local_validator-linux-amd64, other-0, "),
            "{text}"
        );
        assert!(text.ends_with("other-5 and 3 more"), "{text}");
        assert_eq!(closest("a", []), "it has no files");
    }

    #[test]
    fn names_of_servers_do_nothing_to_a_terminal() {
        assert_eq!(clean("a\x1b[2Jb"), "a\u{fffd}[2Jb");
        assert!(clean(&"é".repeat(500)).len() < 130);
    }
}
