//! What is said to the shell of a machine. Paths and names are in single quotes, in which a POSIX shell sees nothing but text.
//!
//! A script is given on standard input, and the command that reads it is made of characters that every login shell takes as
//! they are, `csh` and `fish` too.

use std::fmt::Write as _;

use crate::error::{Error, Result};

/// What a machine with Python runs to send a file; its comments stay here.
const BLOCKS: &str = include_str!("blocks.py");

/// How a machine is told to run a script of so many bytes, that comes on its standard input. Byte by byte, so that what is
/// behind it is left to the script.
pub(super) fn command(script: &str) -> String {
    format!("exec sh -c 'eval \"$(dd bs=1 count={} 2>/dev/null)\"'", script.len())
}

/// As one word of a shell. No text is one that has a NUL.
pub(super) fn quote(text: &str) -> Result<String> {
    if text.contains('\0') {
        let problem = format!("{text:?} has a NUL, and cannot be a path or a name");
        return Err(Error::Usage { problem, hint: String::new() });
    }
    Ok(format!("'{}'", text.replace('\'', r"'\''")))
}

/// A path as one word that no program takes for an option and no shell for a search; relative to the user's folder.
pub(super) fn quote_path(path: &str) -> Result<String> {
    let path = path.strip_prefix("~/").unwrap_or(path);
    quote(&if path.starts_with('/') { path.to_owned() } else { format!("./{path}") })
}

/// The folder of a path.
pub(super) fn folder(path: &str) -> &str {
    match path.rsplit_once('/') {
        Some(("", _)) => "/",
        Some((folder, _)) => folder,
        None => ".",
    }
}

/// Tells of files and of a working tree of git, one line each, behind a line with `mark`; the last line is `end`.
pub(super) fn survey(mark: &str, paths: &[&str], tree: Option<&str>) -> Result<String> {
    let mut script = SURVEY.replace("MARK", mark);
    for (at, path) in paths.iter().enumerate() {
        // Four at a time.
        let then = if at % 4 == 3 { "\nwait" } else { "" };
        let _ = writeln!(script, "look {at} {} &{then}", quote_path(path)?);
    }
    script.push_str("wait\n");
    for (at, path) in paths.iter().enumerate() {
        let _ = writeln!(script, "[ -e {} ] || near {at} {}", quote_path(path)?, quote_path(folder(path))?);
    }
    if let Some(tree) = tree {
        let _ = writeln!(script, "tree {}", quote_path(tree)?);
    }
    script.push_str("echo end\n");
    Ok(script)
}

/// Stays until its standard input ends.
pub(super) const STAY: &str = "exec cat >/dev/null\n";

const SURVEY: &str = r#"LC_ALL=C
export LC_ALL
if command -v sha256sum; then sum() { sha256sum; }
elif command -v shasum; then sum() { shasum -a 256; }
elif command -v openssl; then sum() { openssl dgst -sha256 -r; }
else sum() { return 127; }
fi >/dev/null 2>&1
look() {
if [ ! -e "$2" ]; then echo "absent $1"
elif [ ! -f "$2" ]; then echo "odd $1"
elif [ ! -r "$2" ]; then echo "closed $1"
elif s=$(wc -c <"$2") && h=$(sum <"$2"); then echo "file $1" $s "$h"
else echo "failed $1 $?"
fi
}
near() {
if [ -d "$2" ]; then ls -a "$2" | head -n 200 | sed "s/^/near $1 /"; else echo "nowhere $1"; fi
}
g() { git --no-optional-locks -c core.fsmonitor=false "$@" </dev/null 2>/dev/null; }
tree() {
cd "$1" 2>/dev/null && c=$(g rev-parse --verify 'HEAD^{commit}') || return 0
[ -z "$(g status --porcelain --untracked-files=no | head -n 1)" ]; echo "commit $c $?" "$(g describe --always --tags)"
}
printf '\n%s\n' MARK
echo "uname $(uname -s) $(uname -m)"
"#;

/// Sends a file: first the mark on a line, then a letter that says how. `P`: what `blocks.py` says there. `X`, `Z`, `G`: all of it
/// compressed by xz, zstd, gzip. `C`: all of it as it is.
pub(super) fn send(mark: &str, path: &str, branch_filter: Option<&str>) -> Result<String> {
    let program: String =
        BLOCKS.lines().filter(|line| !line.starts_with('#')).flat_map(|line| [line, "\n"]).collect();
    // The program last, in which such words would be replaced as well.
    let script = SEND
        .replace("FILTER", branch_filter.unwrap_or_default())
        .replace("MARK", mark)
        .replace("PROGRAM", &quote(&program)?);
    Ok(format!("p={}\n{script}", quote_path(path)?))
}

/// Statuses of Python: 0 and 43 are those of `blocks.py`, from 129 on it was killed. Any other says that there is no Python.
const SEND: &str = r#"for y in python3 python python3.14 python3.13 python3.12 python3.11 python3.10 python3.9; do
command -v "$y" >/dev/null 2>&1 || continue
"$y" -ISBc PROGRAM MARK "$p"
s=$?
case $s in 0|43|129|1[3-9]?|2??) exit $s;; esac
done
try() {
l=$1
shift
printf x | "$@" >/dev/null 2>&1 || return
printf '\n%s\n%s' MARK $l
exec "$@" <"$p"
}
try X xz -T0 -c FILTER --lzma2=preset=1,dict=8MiB
try Z zstd -12 -T0 -c -q
try G gzip -6 -c
try C cat
"#;

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn nothing_in_quotes_is_more_than_text() {
        for text in
            ["a", "", "a b", "it's", "$(touch x)", "`id`", "\\", "'\\''", "\n", "*", "-rf", "é", "!!", "a\"b"]
        {
            let said =
                Command::new("sh").args(["-c", &format!("printf %s {}", quote(text).unwrap())]).output();
            assert_eq!(String::from_utf8(said.unwrap().stdout).unwrap(), text);
        }
        assert!(quote("a\0b").is_err());
    }

    #[test]
    fn paths_are_no_options() {
        assert_eq!(quote_path("-rf").unwrap(), "'./-rf'");
        assert_eq!(quote_path("~/a").unwrap(), "'./a'");
        assert_eq!(quote_path("/a b").unwrap(), "'/a b'");
        assert_eq!([folder("a/b/c"), folder("c"), folder("/c")], ["a/b", ".", "/"]);
    }
}
