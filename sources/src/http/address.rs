//! Addresses: which are asked, how they are shown, and where one may lead.

use url::{Host, Url};

use crate::error::{Error, Result};

/// Longest address, in bytes.
const URL_LEN_MAX: usize = 8 << 10;

/// An address of the configuration.
pub(crate) fn parse(text: &str) -> Result<Url> {
    let refuse = |problem: &str| Error::Usage {
        problem: format!("{:?} is no address: {problem}", &text[..text.floor_char_boundary(200)]),
        hint: "it begins with https:// or http:// and a host".to_owned(),
    };
    if text.len() > URL_LEN_MAX {
        return Err(refuse("it is longer than 8 KiB"));
    }
    let url = Url::parse(text).map_err(|error| refuse(&error.to_string()))?;
    if !url.username().is_empty() || url.password().is_some() {
        // What was given is not repeated: there is a password in it.
        return Err(Error::Usage {
            problem: format!("the address of {} has a user in it", url.host_str().unwrap_or("a server")),
            hint: "a token belongs into a variable of the environment".to_owned(),
        });
    }
    match url.scheme() {
        "http" | "https" if url.host().is_some() => Ok(url),
        _ => Err(refuse("only http and https are spoken")),
    }
}

/// For people: without query and user, which may be secrets.
pub(crate) fn shown(url: &Url) -> String {
    let mut plain = url.clone();
    plain.set_query(None);
    plain.set_fragment(None);
    // Neither can fail for an address with a host.
    let _ = (plain.set_username(""), plain.set_password(None));
    plain.into()
}

/// Whether it is this machine, by its address.
pub(crate) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// Where a link or a redirect of `from` leads, or why it is not followed: from what is encrypted to what is not, or from another
/// machine to this one.
pub(crate) fn follow(from: &Url, to: &str) -> Result<Url, String> {
    if to.len() > URL_LEN_MAX {
        return Err("it leads to an address of more than 8 KiB".to_owned());
    }
    let url = from.join(to).map_err(|error| format!("it leads to what is no address ({error})"))?;
    let place = url.host_str().unwrap_or("nowhere").to_owned();
    match (from.scheme(), url.scheme()) {
        (_, "https") | ("http", "http") if url.host().is_some() => {}
        ("https", "http") => {
            return Err(format!("it leads from https to http ({place}), which is not followed"));
        }
        _ => return Err(format!("it leads to {}:, which is not spoken", url.scheme())),
    }
    if is_loopback(&url) && !is_loopback(from) {
        return Err("it leads to this machine itself, which is not followed".to_owned());
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    #[test]
    fn only_servers_are_addresses() {
        assert_eq!(parse("https://a.b/c").unwrap(), url("https://a.b/c"));
        for bad in ["", "a", "file:///etc/passwd", "ftp://a/b", "https://", "data:,a", &"a".repeat(9000)] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        let error = parse("https://me:secret@a.b/").unwrap_err();
        assert!(!format!("{error:?}").contains("secret"), "{error:?}");
    }

    #[test]
    fn secrets_are_not_shown() {
        assert_eq!(shown(&url("https://u:p@a.b:8/c/d?X-Amz-Signature=s#f")), "https://a.b:8/c/d");
    }

    #[test]
    fn nothing_leads_to_what_is_less_safe() {
        let from = url("https://a.b/c/d");
        assert_eq!(follow(&from, "e?f"), Ok(url("https://a.b/c/e?f")));
        assert_eq!(follow(&from, "https://other/e"), Ok(url("https://other/e")));
        for (bad, why) in [
            ("http://a.b/c/d", "from https to http"),
            ("//127.0.0.1/c", "this machine"),
            ("https://[::1]/c", "this machine"),
            ("https://x.localhost/c", "this machine"),
            ("file:///etc/passwd", "not spoken"),
            ("ssh://a.b/c", "not spoken"),
            ("https://", "no address"),
        ] {
            let error = follow(&from, bad).unwrap_err();
            assert!(error.contains(why), "{bad}: {error}");
        }
        assert!(follow(&url("http://a.b"), "http://c.d/").is_ok());
        assert!(follow(&url("http://127.0.0.1:1/a"), "http://127.0.0.1:2/b").is_ok());
    }
}
