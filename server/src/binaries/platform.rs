//! The operating systems and architectures that binaries are for, and their names.
//!
//! In file names each has one name. Whoever asks may use the names that other programs give them (`amd64`, `arm64`,
//! `macos`), in any case; answers have the one name again.

use std::fmt;

use cairn_store::Platform;

/// The operating system of a binary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum System {
    Linux,
    Darwin,
    Windows,
}

/// The architecture of a binary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Arch {
    X86_64,
    Aarch64,
    Arm,
    X86,
}

impl System {
    pub(crate) const ALL: [Self; 3] = [Self::Linux, Self::Darwin, Self::Windows];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Linux => "linux",
            Self::Darwin => "darwin",
            Self::Windows => "windows",
        }
    }

    /// By its one name.
    pub(crate) fn named(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|system| system.name() == text)
    }

    /// By any name that it goes by.
    pub(crate) fn asked(text: &str) -> Option<Self> {
        let text = text.to_ascii_lowercase();
        Self::named(&text).or(match &*text {
            "macos" | "osx" => Some(Self::Darwin),
            "win32" | "win64" => Some(Self::Windows),
            _ => None,
        })
    }
}

impl Arch {
    pub(crate) const ALL: [Self; 4] = [Self::X86_64, Self::Aarch64, Self::Arm, Self::X86];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Aarch64 => "aarch64",
            Self::Arm => "arm",
            Self::X86 => "x86",
        }
    }

    /// By its one name.
    pub(crate) fn named(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|arch| arch.name() == text)
    }

    /// By any name that it goes by.
    pub(crate) fn asked(text: &str) -> Option<Self> {
        let text = text.to_ascii_lowercase();
        Self::named(&text).or(match &*text {
            "amd64" | "x64" | "x86-64" => Some(Self::X86_64),
            "arm64" => Some(Self::Aarch64),
            "armv6l" | "armv7" | "armv7l" | "armhf" => Some(Self::Arm),
            "i386" | "i486" | "i586" | "i686" | "386" => Some(Self::X86),
            _ => None,
        })
    }
}

impl fmt::Display for System {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The store's name of a platform, which is Rust's: `macos/aarch64`.
pub(crate) fn of_store(system: System, arch: Arch) -> Platform {
    let os = match system {
        System::Darwin => "macos",
        other => other.name(),
    };
    format!("{os}/{arch}").parse().expect("both names are of a-z 0-9 _")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_one_name_in_files_and_several_in_requests() {
        for system in System::ALL {
            assert_eq!(System::named(system.name()), Some(system));
            assert_eq!(System::asked(&system.name().to_ascii_uppercase()), Some(system));
        }
        for arch in Arch::ALL {
            assert_eq!(Arch::named(arch.name()), Some(arch));
            assert_eq!(Arch::asked(arch.name()), Some(arch));
        }
        for (text, arch) in
            [("amd64", Arch::X86_64), ("ARM64", Arch::Aarch64), ("i686", Arch::X86), ("armv7l", Arch::Arm)]
        {
            assert_eq!((Arch::named(text), Arch::asked(text)), (None, Some(arch)));
        }
        assert_eq!((System::named("macos"), System::asked("macOS")), (None, Some(System::Darwin)));
        for text in ["", "riscv64", "x86_64 ", "linux", "..", "\0"] {
            assert_eq!(Arch::asked(text), None, "{text:?}");
        }
        for text in ["", "freebsd", "linux/", "x86_64"] {
            assert_eq!(System::asked(text), None, "{text:?}");
        }
    }

    #[test]
    fn the_store_has_a_name_for_each() {
        for system in System::ALL {
            for arch in Arch::ALL {
                of_store(system, arch);
            }
        }
        assert_eq!(of_store(System::Darwin, Arch::Aarch64).as_str(), "macos/aarch64");
        assert_eq!(of_store(System::Linux, Arch::X86_64).as_str(), "linux/x86_64");
    }
}
