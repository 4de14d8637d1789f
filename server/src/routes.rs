//! What is behind each path.

pub(crate) mod binaries;
pub(crate) mod control;
pub(crate) mod delta;
pub(crate) mod figures;
pub(crate) mod health;
pub(crate) mod objects;
pub(crate) mod openapi;
#[cfg(test)]
pub(crate) mod openapi_tests;
pub(crate) mod packs;
pub(crate) mod publish;
pub(crate) mod range;
pub(crate) mod ready;
pub(crate) mod refs;
pub(crate) mod snapshots;
pub(crate) mod streams;
pub(crate) mod upload;

use hyper::Uri;

use crate::peer_error::PeerRefusal;

/// What a query says of `name`, decoded. What it says of other names is not looked at.
pub(crate) fn query(uri: &Uri, name: &str) -> Result<Option<String>, PeerRefusal> {
    let pairs = uri.query().unwrap_or_default().split('&');
    let mut found = pairs.filter_map(|pair| pair.split_once('=')).filter(|(key, _)| *key == name);
    let Some((_, value)) = found.next() else { return Ok(None) };
    if found.next().is_some() {
        return Err(PeerRefusal::NotUnderstood(format!("{name} is given twice")));
    }
    decode(value).map(Some).ok_or_else(|| PeerRefusal::NotUnderstood(format!("{name} is not text")))
}

/// Undoes percent-encoding.
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digit = |byte: u8| char::from(byte).to_digit(16);
                let value = digit(rest.next()?)? * 16 + digit(rest.next()?)?;
                u8::try_from(value).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_decoded() {
        let get = |text: &str| query(&text.parse().unwrap(), "platform").map_err(|error| error.to_string());
        assert_eq!(get("/x"), Ok(None));
        assert_eq!(get("/x?a=b&platform=linux/x86_64"), Ok(Some("linux/x86_64".to_owned())));
        assert_eq!(get("/x?platform=linux%2Fx86_64&"), Ok(Some("linux/x86_64".to_owned())));
        for bad in ["/x?platform=a&platform=b", "/x?platform=%2", "/x?platform=%zz", "/x?platform=%ff"] {
            get(bad).unwrap_err();
        }
    }
}
