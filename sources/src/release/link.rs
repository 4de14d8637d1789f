//! The header `Link`, by which a server says where the next page is (RFC 8288).

/// The address with `rel="next"`, if there is one.
pub(super) fn next(header: &str) -> Option<&str> {
    let mut rest = header;
    loop {
        let (_, behind) = rest.split_once('<')?;
        let (target, behind) = behind.split_once('>')?;
        // Up to the next address: parameters have no `<` but in quotes, which those of paging do not have.
        let (parameters, _) = behind.split_once('<').unwrap_or((behind, ""));
        let is_next = parameters.split([';', ',']).any(|parameter| {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            let mut kinds = value.trim().trim_matches('"').split_ascii_whitespace();
            name.trim().eq_ignore_ascii_case("rel") && kinds.any(|kind| kind.eq_ignore_ascii_case("next"))
        });
        if is_next {
            return Some(target);
        }
        rest = behind;
    }
}

#[cfg(test)]
mod tests {
    use super::next;

    #[test]
    fn the_next_page_is_found_among_others() {
        let header = "<https://api.github.com/repositories/1/releases?page=1>; rel=\"prev\", \
                      <https://api.github.com/repositories/1/releases?per_page=30&page=3>; rel=\"next\", \
                      <https://api.github.com/repositories/1/releases?page=9>; rel=\"last\"";
        assert_eq!(next(header), Some("https://api.github.com/repositories/1/releases?per_page=30&page=3"));
        assert_eq!(next("</a?b,c;d>; REL=next"), Some("/a?b,c;d"));
        assert_eq!(next("</a>; rel=\"last next\""), Some("/a"));
        for none in ["", "<", "<a", "<a>", "<a>; rel=\"prev\"", "a; rel=next", "<a>; rel=nexts", "é<é>é"] {
            assert_eq!(next(none), None, "{none}");
        }
    }
}
