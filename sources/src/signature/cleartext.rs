//! Texts with their signature in one file, as RFC 9580 has them in section 7.
//!
//! Taken apart strictly, since programs that do so leniently show another text than was signed: the only header is `Hash`, nothing is
//! in front of the text, and nothing behind the signature.

const BEGIN: &str = "-----BEGIN PGP SIGNED MESSAGE-----";
const SIGNATURE: &str = "-----BEGIN PGP SIGNATURE-----";
const END: &str = "-----END PGP SIGNATURE-----";

/// What such a file holds.
pub(super) struct Cleartext<'a> {
    /// The text, its lines ended by `\n`.
    pub(super) text: Vec<u8>,
    /// The bytes that were signed: lines without spaces at their ends, divided by `\r\n`.
    pub(super) signed: Vec<u8>,
    /// The block of armor.
    pub(super) signatures: &'a [u8],
}

/// Takes a file apart; nothing if it is not of this kind, and what is wrong if it begins so and goes on otherwise.
pub(super) fn split(file: &[u8]) -> Result<Option<Cleartext<'_>>, String> {
    let blank = file.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
    if !file[blank..].starts_with(BEGIN.as_bytes()) {
        return Ok(None);
    }
    let text = std::str::from_utf8(&file[blank..]).map_err(|_| "its text is not UTF-8".to_owned())?;
    let mut lines = text.split_inclusive('\n');
    let mut at = 0;
    let mut next = || {
        let line = lines.next()?;
        let begin = at;
        at += line.len();
        Some((begin, line.trim_end_matches(['\r', '\n'])))
    };
    let cut_off = || "it is cut off".to_owned();
    if next().map(|(_, line)| line.trim_end()) != Some(BEGIN) {
        return Err("there is more in its first line than there should be".to_owned());
    }
    loop {
        match next().ok_or_else(cut_off)?.1.trim_end_matches([' ', '\t']) {
            "" => break,
            line if line.starts_with("Hash: ") => {}
            line => return Err(format!("it has a header that is not understood: {}", line.escape_debug())),
        }
    }
    let mut signed = Vec::new();
    let begin = loop {
        let (begin, line) = next().ok_or_else(cut_off)?;
        if line.trim_end_matches([' ', '\t']) == SIGNATURE {
            break begin;
        }
        if line.starts_with('-') && !line.starts_with("- ") {
            return Err("a line of its text begins with a dash that is not escaped".to_owned());
        }
        let line = line.strip_prefix("- ").unwrap_or(line);
        signed.push(line.trim_end_matches([' ', '\t', '\r']));
    };
    let signatures = &text[begin..];
    let end = signatures.find(END).ok_or_else(cut_off)? + END.len();
    if !signatures[end..].trim().is_empty() {
        return Err("it goes on behind its signature".to_owned());
    }
    let mut text = signed.join("\n");
    if !text.is_empty() {
        text.push('\n');
    }
    let signed = signed.join("\r\n").into_bytes();
    Ok(Some(Cleartext { text: text.into_bytes(), signed, signatures: signatures.as_bytes() }))
}

/// Whether two texts are the same but for the ends of their lines.
pub(super) fn is_same_text(one: &[u8], other: &[u8]) -> bool {
    let lines = |text| <[u8]>::trim_ascii_end(text).split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii_end);
    lines(one).eq(lines(other))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(headers: &str, text: &str) -> Vec<u8> {
        format!("{BEGIN}\n{headers}\n{text}\n{SIGNATURE}\n\nwsE5\n{END}\n").into_bytes()
    }

    #[test]
    fn a_text_is_taken_out() {
        let file = file("Hash: SHA256\n", "one  \n- -two\n\n- - three\t");
        let message = split(&file).unwrap().unwrap();
        assert_eq!(message.text, b"one\n-two\n\n- three\n");
        assert_eq!(message.signed, b"one\r\n-two\r\n\r\n- three");
        assert!(message.signatures.starts_with(SIGNATURE.as_bytes()));
        assert!(is_same_text(b"one\r\n-two\n\n- three", &message.text));
        assert!(!is_same_text(b"one\n-two\n\n- thre", &message.text));
        assert!(split(b"-----BEGIN PGP SIGNATURE-----\n").unwrap().is_none());
        assert!(split(b"").unwrap().is_none());
    }

    #[test]
    fn what_could_be_read_otherwise_is_refused() {
        let good = file("", "text");
        assert!(split(&good).unwrap().is_some());
        assert!(split(&file("NotDashEscaped: You need GnuPG\n", "text")).is_err());
        assert!(split(&file("", "-text")).is_err());
        assert!(split(&file("", "-----BEGIN PGP MESSAGE-----")).is_err());
        assert!(split(&[&good[..], b"more"].concat()).is_err());
        for len in BEGIN.len()..good.len() - 1 {
            assert!(split(&good[..len]).is_err(), "{len}");
        }
    }
}
