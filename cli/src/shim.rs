//! Names under which this program is something else: a link `sync-NAME-bins` to it is `cairn sync NAME --use`, so that what
//! calls a script of that name goes on working.

use std::ffi::OsString;
use std::path::Path;

/// The name of the link for a package.
pub(crate) fn name(package: &str) -> String {
    format!("sync-{package}-bins")
}

/// The command line that is meant, by the name that this program was called.
pub(crate) fn expand(arguments: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = arguments.into_iter().collect();
    let called = arguments.first().map(|called| Path::new(called).file_name().unwrap_or_default());
    let called = called.and_then(|called| called.to_str()).unwrap_or_default();
    let package = called.strip_prefix("sync-").and_then(|rest| rest.strip_suffix("-bins"));
    if let Some(package) = package.filter(|package| !package.is_empty()).map(OsString::from) {
        arguments.splice(..1, ["cairn".into(), "sync".into(), package, "--use".into()]);
    }
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_for_a_package_syncs_it() {
        let expand = |arguments: &[&str]| {
            let expanded = super::expand(arguments.iter().map(OsString::from));
            expanded.iter().map(|argument| argument.to_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(
            expand(&["/usr/local/bin/sync-my-app-bins", "--version", "1"]),
            ["cairn", "sync", "my-app", "--use", "--version", "1"]
        );
        assert_eq!(expand(&["cairn", "ls"]), ["cairn", "ls"]);
        for other in ["sync--bins", "sync-bins", "sync-a", "a-bins", ""] {
            assert_eq!(expand(&[other, "x"]), [other, "x"]);
        }
        assert_eq!(name("my-app"), "sync-my-app-bins");
    }
}
