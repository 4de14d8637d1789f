//! Paths of archives: taken apart, and never used as paths of this machine.

/// Characters of a name that are shown at most.
const SHOWN_CHARS_MAX: usize = 200;

/// A path of an archive, from its root: what lies between slashes, without `.` and what is empty; nothing is done about
/// bytes that are no text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Trail(Vec<Vec<u8>>);

/// Why something is no path in an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Astray {
    /// It begins with a slash.
    Absolute,
    /// It has `..`, or leads out by it.
    Up,
}

impl Trail {
    /// Takes a path apart.
    pub(super) fn of(path: &[u8]) -> Result<Self, Astray> {
        if path.starts_with(b"/") {
            return Err(Astray::Absolute);
        }
        let steps = || path.split(|byte| *byte == b'/').filter(|step| !matches!(*step, b"" | b"."));
        if steps().any(|step| step == b"..") {
            return Err(Astray::Up);
        }
        Ok(Self(steps().map(<[u8]>::to_vec).collect()))
    }

    /// Where a symbolic link leads that lies at this path.
    pub(super) fn follow(&self, link: &[u8]) -> Result<Self, Astray> {
        if link.starts_with(b"/") {
            return Err(Astray::Absolute);
        }
        let mut at = self.0.clone();
        at.pop();
        for step in link.split(|byte| *byte == b'/') {
            match step {
                b"" | b"." => {}
                b".." => {
                    at.pop().ok_or(Astray::Up)?;
                }
                step => at.push(step.to_vec()),
            }
        }
        Ok(Self(at))
    }

    /// Without its first folders; nothing if it has no more than those.
    pub(super) fn strip(&self, folders: usize) -> Option<Vec<u8>> {
        self.0.get(folders..).filter(|steps| !steps.is_empty()).map(|steps| steps.join(&b'/'))
    }

    /// As it is written.
    pub(super) fn joined(&self) -> Vec<u8> {
        self.0.join(&b'/')
    }
}

impl Astray {
    /// What is the matter with a path, for people.
    pub(super) fn why(self) -> &'static str {
        match self {
            Self::Absolute => "is absolute",
            Self::Up => "leads out by ..",
        }
    }
}

/// Bytes of an archive as they can be shown to people: what a terminal would take for a command is escaped, and what is very
/// long is cut.
pub(super) fn shown(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut shown = String::new();
    for (number, char) in text.chars().enumerate() {
        if number == SHOWN_CHARS_MAX {
            shown.push('…');
            break;
        }
        if char.is_control() || is_unseen(char) {
            shown.extend(char.escape_default());
        } else {
            shown.push(char);
        }
    }
    shown
}

/// Characters that show nothing, or change the direction of what follows.
fn is_unseen(char: char) -> bool {
    matches!(char, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_taken_apart() {
        let trail = Trail::of(b"./app-1.0//bin/./app").unwrap();
        assert_eq!(trail.joined(), b"app-1.0/bin/app");
        assert_eq!(trail.strip(1).unwrap(), b"bin/app");
        assert_eq!(trail.strip(2).unwrap(), b"app");
        assert_eq!(trail.strip(3), None);
        assert_eq!(Trail::of(b"/etc/passwd"), Err(Astray::Absolute));
        for bad in [&b".."[..], b"../a", b"a/../b", b"a/.."] {
            assert_eq!(Trail::of(bad), Err(Astray::Up));
        }
        assert_eq!(Trail::of(b"..a/b..").unwrap().joined(), b"..a/b..");
    }

    #[test]
    fn links_are_followed_within() {
        let link = Trail::of(b"app/bin/app").unwrap();
        assert_eq!(link.follow(b"app-1.0").unwrap().joined(), b"app/bin/app-1.0");
        assert_eq!(link.follow(b"../lib/./app").unwrap().joined(), b"app/lib/app");
        assert_eq!(link.follow(b"../../x").unwrap().joined(), b"x");
        assert_eq!(link.follow(b"../../../etc/passwd"), Err(Astray::Up));
        assert_eq!(link.follow(b"../../../app/bin/x"), Err(Astray::Up));
        assert_eq!(link.follow(b"/bin/sh"), Err(Astray::Absolute));
    }

    #[test]
    fn what_is_shown_commands_no_terminal() {
        assert_eq!(shown(b"a\x1b[2Jb\n"), "a\\u{1b}[2Jb\\n");
        assert_eq!(shown("a\u{202e}b".as_bytes()), "a\\u{202e}b");
        assert_eq!(shown(&[b'x'; 1000]).chars().count(), SHOWN_CHARS_MAX + 1);
    }
}
