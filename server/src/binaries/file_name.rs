//! What a file's name says: `{name}-{version}-{platform}-{arch}[.exe]`.
//!
//! It is read from the right. What stands after the last dash is the architecture, what stands before it the platform.
//! Of the rest, the version is the longest end, after a dash, that is a semantic version; where none is, the longest that
//! is two to four dotted numbers, with a prerelease and a build as semantic versions have them (`29.0`, `2026.04.1-rc1`).
//! So names and versions may both contain dashes, and each file name has one meaning.

use std::str::FromStr;

use cairn_store::Version;

use super::platform::{Arch, System};

/// Bytes of a program's name, at most: as of a name in the store.
const PROGRAM_LEN_MAX: usize = 64;
/// What the files of Windows programs may end in.
const EXE: &str = ".exe";

/// What a file's name says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FileName {
    /// The program's name: `A-Z a-z 0-9 . _ + -`.
    pub(crate) program: String,
    pub(crate) version: Version,
    pub(crate) system: System,
    pub(crate) arch: Arch,
    /// Whether it ends in `.exe`.
    pub(crate) is_exe: bool,
}

/// Why a file's name says nothing.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum NameError {
    #[error("the name is not of the form NAME-VERSION-PLATFORM-ARCH[.exe]")]
    Form,
    #[error("{0:?} is no architecture that is known: it has to be x86_64, aarch64, arm or x86")]
    Arch(String),
    #[error("{0:?} is no platform that is known: it has to be linux, darwin or windows")]
    System(String),
    #[error("it ends in .exe and is for {0}; only files for windows may")]
    Exe(System),
    #[error("there is no version in {0:?}: it has to be like 1.2.3 or 1.2.3-rc.1+build, after a dash")]
    NoVersion(String),
    #[error("the version has a \"v\" before it; versions begin with a digit")]
    LeadingV,
    #[error("the version {given:?} does not do: {reason}")]
    Version { given: String, reason: String },
    #[error(
        "{0:?} is no name of a program: it has to be of A-Z a-z 0-9 . _ + -, begin with a letter or a digit, and have at most {PROGRAM_LEN_MAX} bytes"
    )]
    Program(String),
}

impl FromStr for FileName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let (stem, is_exe) = match text.strip_suffix(EXE) {
            Some(stem) => (stem, true),
            None => (text, false),
        };
        let (rest, arch) = stem.rsplit_once('-').ok_or(NameError::Form)?;
        let (rest, system) = rest.rsplit_once('-').ok_or(NameError::Form)?;
        let arch = Arch::named(arch).ok_or_else(|| NameError::Arch(arch.to_owned()))?;
        let system = System::named(system).ok_or_else(|| NameError::System(system.to_owned()))?;
        if is_exe && system != System::Windows {
            return Err(NameError::Exe(system));
        }
        let (program, version) = split(rest).ok_or_else(|| match split(&without_v(rest)) {
            Some(_) => NameError::LeadingV,
            None => NameError::NoVersion(rest.to_owned()),
        })?;
        if !is_program(program) {
            return Err(NameError::Program(program.to_owned()));
        }
        let version = version.parse().map_err(|error: cairn_store::Error| NameError::Version {
            given: version.to_owned(),
            reason: error.to_string(),
        })?;
        Ok(Self { program: program.to_owned(), version, system, arch, is_exe })
    }
}

/// Whether a program may be called so.
pub(crate) fn is_program(text: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || "._+-".contains(c);
    text.len() <= PROGRAM_LEN_MAX
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(fits)
}

/// Name and version.
fn split(text: &str) -> Option<(&str, &str)> {
    let first = |is_version: fn(&str) -> bool| {
        let mut dashes = text.match_indices('-').map(|(at, _)| (&text[..at], &text[at + 1..]));
        dashes.find(|(_, version)| is_version(version))
    };
    first(|version| semver::Version::parse(version).is_ok()).or_else(|| first(is_dotted))
}

/// Two to four numbers with dots between them, and an end that a semantic version could have.
fn is_dotted(text: &str) -> bool {
    let (numbers, end) = text.split_at(text.find(['-', '+']).unwrap_or(text.len()));
    let is_number =
        |part: &str| part.bytes().all(|byte| byte.is_ascii_digit()) && part.parse::<u64>().is_ok();
    (2..=4).contains(&numbers.split('.').count())
        && numbers.split('.').all(is_number)
        && semver::Version::parse(&format!("0.0.0{end}")).is_ok()
}

/// Without a `v` that stands between a dash and a digit.
fn without_v(text: &str) -> String {
    let bytes = text.as_bytes();
    let is_v = |at: usize| {
        matches!(bytes[at], b'v' | b'V')
            && at.checked_sub(1).is_some_and(|before| bytes[before] == b'-')
            && bytes.get(at + 1).is_some_and(u8::is_ascii_digit)
    };
    text.char_indices().filter(|(at, _)| !is_v(*at)).map(|(_, c)| c).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parts(text: &str) -> (String, String, String) {
        let name: FileName = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
        (name.program, name.version.to_string(), format!("{}-{}", name.system, name.arch))
    }

    #[test]
    fn names_and_versions_may_have_dashes() {
        for (file, program, version, platform) in [
            ("tool-1.2.3-linux-x86_64", "tool", "1.2.3", "linux-x86_64"),
            ("my-tool-1.2.3-rc.1+build-linux-x86_64", "my-tool", "1.2.3-rc.1+build", "linux-x86_64"),
            ("a-1.0.0-x-y-z.5+b-2-darwin-aarch64", "a", "1.0.0-x-y-z.5+b-2", "darwin-aarch64"),
            ("7zip-24.9.0-windows-x86", "7zip", "24.9.0", "windows-x86"),
            ("tool-2-1.0.0-linux-arm", "tool-2", "1.0.0", "linux-arm"),
            ("gtk-3.0-demo-1.2.3-linux-arm", "gtk-3.0-demo", "1.2.3", "linux-arm"),
            ("tool-1.2.3-4.5.6-linux-x86", "tool", "1.2.3-4.5.6", "linux-x86"),
            ("linux-1.0.0-linux-x86_64", "linux", "1.0.0", "linux-x86_64"),
            ("t-1.0.0-linux-arm-linux-x86", "t", "1.0.0-linux-arm", "linux-x86"),
            ("bitcoin-29.0-linux-x86_64", "bitcoin", "29.0", "linux-x86_64"),
            ("bitcoin-29.0-rc1-linux-x86_64", "bitcoin", "29.0-rc1", "linux-x86_64"),
            ("d-2026.04.1-linux-x86_64", "d", "2026.04.1", "linux-x86_64"),
            ("c-0.21.0.1-linux-x86_64", "c", "0.21.0.1", "linux-x86_64"),
            ("Tool_x+y.z-1.0.0-linux-x86_64", "Tool_x+y.z", "1.0.0", "linux-x86_64"),
        ] {
            assert_eq!(parts(file), (program.to_owned(), version.to_owned(), platform.to_owned()));
        }
        let exe: FileName = "tool-1.0.0-windows-x86_64.exe".parse().unwrap();
        assert!(exe.is_exe);
        assert_eq!((&*exe.program, exe.version.as_str()), ("tool", "1.0.0"));
    }

    #[test]
    fn what_does_not_fit_is_refused_with_the_reason() {
        use NameError as E;
        let error = |text: &str| text.parse::<FileName>().unwrap_err();
        assert_eq!(error(""), E::Form);
        assert_eq!(error("README"), E::Form);
        assert_eq!(error("linux-x86_64"), E::Form);
        assert_eq!(error("tool-linux-x86_64"), E::NoVersion("tool".into()));
        assert_eq!(error("1.0.0-linux-x86_64"), E::NoVersion("1.0.0".into()));
        assert_eq!(error("tool-7-linux-x86_64"), E::NoVersion("tool-7".into()));
        assert_eq!(error("tool_1.0.0-linux-x86_64"), E::NoVersion("tool_1.0.0".into()));
        assert_eq!(error("tool-1.0.0-linux-amd64"), E::Arch("amd64".into()));
        assert_eq!(error("tool-1.0.0-linux-x86_64.part"), E::Arch("x86_64.part".into()));
        assert_eq!(error("tool-1.0.0-linux-x86_64.EXE"), E::Arch("x86_64.EXE".into()));
        assert_eq!(error("tool-1.0.0-macos-x86_64"), E::System("macos".into()));
        assert_eq!(error("tool-1.0.0-linux-x86_64.exe"), E::Exe(System::Linux));
        assert_eq!(error("tool-v1.0.0-linux-x86_64"), E::LeadingV);
        assert_eq!(error("-1.0.0-linux-x86_64"), E::Program(String::new()));
        assert_eq!(error(".t-1.0.0-linux-x86_64"), E::Program(".t".into()));
        assert_eq!(error("a b-1.0.0-linux-x86_64"), E::Program("a b".into()));
        assert_eq!(error("a/../b-1.0.0-linux-x86_64"), E::Program("a/../b".into()));
        let long = format!("{}-1.0.0-linux-x86_64", "n".repeat(65));
        assert!(matches!(error(&long), E::Program(_)));
        let long = format!("t-1.0.0-{}-linux-x86_64", "r".repeat(130));
        assert!(matches!(error(&long), E::Version { .. }));
    }

    proptest! {
        #[test]
        fn what_is_put_together_comes_apart_again(
            program in "[a-zA-Z0-9][a-zA-Z_+]{0,5}(-[a-z0-9]{1,4}){0,3}",
            core in "(0|[1-9][0-9]{0,3})\\.(0|[1-9][0-9]{0,3})\\.(0|[1-9][0-9]{0,3})",
            prerelease in "(-[a-z][a-z0-9-]{0,4}(\\.[a-z1-9]{1,3}){0,2})?",
            build in "(\\+[a-z0-9-]{1,5}(\\.[0-9a-z]{1,3})?)?",
            system in 0..3_usize,
            arch in 0..4_usize,
        ) {
            let (system, arch) = (System::ALL[system], Arch::ALL[arch]);
            let version = format!("{core}{prerelease}{build}");
            let file = format!("{program}-{version}-{system}-{arch}");
            let name: FileName = file.parse().unwrap();
            prop_assert_eq!(&name.program, &program);
            prop_assert_eq!(name.version.as_str(), &version);
            prop_assert_eq!((name.system, name.arch), (system, arch));
        }

        #[test]
        fn whatever_is_taken_says_what_it_was_made_of(text in "[a-z0-9.+v_-]{0,24}-(linux|windows|darwin)-(x86|x86_64|arm)(\\.exe)?") {
            if let Ok(name) = text.parse::<FileName>() {
                let exe = if name.is_exe { ".exe" } else { "" };
                let again = format!("{}-{}-{}-{}{exe}", name.program, name.version, name.system, name.arch);
                prop_assert_eq!(again, text);
            }
        }

        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,40}") {
            let _ = text.parse::<FileName>();
        }
    }
}
