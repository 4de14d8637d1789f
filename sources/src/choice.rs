//! What the command line, the environment and the file say together about how a package is brought: the command line wins over
//! the environment, and both over the file.

use crate::config::{Package, Strategy};
use crate::error::{Error, Result};

/// What the command line says.
#[derive(Debug, Clone, Copy, Default)]
pub struct Flags<'a> {
    /// `--strategy`.
    pub strategy: Option<&'a str>,
    /// `--version`.
    pub version: Option<&'a str>,
    /// `--machine`.
    pub machines: &'a [String],
}

/// How a package is brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// Where from.
    pub strategy: Strategy,
    /// Which version; none where nobody says one.
    pub version: Option<String>,
    /// Which machines; none where nobody but the file says it.
    pub machines: Option<Vec<String>>,
}

/// The variable that has the version of a package: `BITCOIN_VERSION`.
#[must_use]
pub fn version_variable(package: &str) -> String {
    format!("{}_VERSION", shouted(package))
}

/// The variable that has the strategy of a package: `SYNC_STRATEGY_BITCOIN`.
#[must_use]
pub fn strategy_variable(package: &str) -> String {
    format!("SYNC_STRATEGY_{}", shouted(package))
}

/// The variable that has the machine of all packages.
pub const MACHINE_VARIABLE: &str = "VM_NAME";

/// A name as variables have it: `my-app` is `MY_APP`.
fn shouted(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect()
}

/// What is meant. A variable that is set and empty counts as unset.
///
/// # Errors
/// [`Error::Usage`] for a strategy that the package does not have, or that nobody knows.
pub fn choose(
    package: &Package,
    flags: &Flags<'_>,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<Choice> {
    let name = package.name.as_str();
    let variable = |key: &str| variable(key).filter(|value| !value.is_empty());
    let strategy = match flags.strategy {
        Some(said) => strategy(package, said, "--strategy")?,
        None => {
            let key = strategy_variable(name);
            variable(&key)
                .map_or(Ok(package.strategy), |said| strategy(package, &said, &format!("${key}")))?
        }
    };
    let version = flags.version.map(str::to_owned).or_else(|| variable(&version_variable(name)));
    let machines = if flags.machines.is_empty() {
        variable(MACHINE_VARIABLE).map(|names| names.split(',').map(|name| name.trim().to_owned()).collect())
    } else {
        Some(flags.machines.to_vec())
    };
    Ok(Choice { strategy, version, machines })
}

/// The strategy of this name, if the package has it.
fn strategy(package: &Package, said: &str, by: &str) -> Result<Strategy> {
    let has = package.strategies();
    let listed = has.iter().map(|strategy| strategy.as_str()).collect::<Vec<_>>().join(", ");
    let Some(strategy) = Strategy::ALL.into_iter().find(|strategy| strategy.as_str() == said) else {
        let known = Strategy::ALL.map(Strategy::as_str).join(", ");
        return Err(Error::Usage {
            problem: format!("{by} says {said:?}, and there is no such strategy; there are {known}"),
            hint: format!("{} has {listed}", package.name),
        });
    };
    if has.contains(&strategy) {
        return Ok(strategy);
    }
    let what = match strategy {
        Strategy::Release => format!("there is no release of {}", package.name),
        other => format!("{} has no strategy {other}", package.name),
    };
    let other = has.first().map_or("", |other| other.as_str());
    Err(Error::Usage {
        problem: format!("{what}: cairn.toml says none; it has {listed}"),
        hint: format!("use `--strategy {other}`, or add a section [packages.{}.{strategy}]", package.name),
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn package() -> Package {
        let text = "[packages.my-app]\nbinaries = [\"a\"]\nvm = { machines = [\"m\"], path = \"a\" }\n\
                    release = { github = \"o/a\", asset = \"a\", checksums = \"S\" }\n";
        crate::config::parse(Path::new("cairn.toml"), text).unwrap().remove(0)
    }

    fn choose_with(flags: &Flags<'_>, variables: &[(&str, &str)]) -> Result<Choice> {
        let find =
            |key: &str| variables.iter().find(|(name, _)| *name == key).map(|(_, value)| (*value).to_owned());
        choose(&package(), flags, &find)
    }

    #[test]
    fn flags_win_over_variables_and_both_over_the_file() {
        let by_file = choose_with(&Flags::default(), &[]).unwrap();
        assert_eq!(by_file, Choice { strategy: Strategy::Release, version: None, machines: None });
        let variables =
            [("SYNC_STRATEGY_MY_APP", "vm"), ("MY_APP_VERSION", "1.0"), ("VM_NAME", "one, two"), ("X", "y")];
        let by_variables = choose_with(&Flags::default(), &variables).unwrap();
        assert_eq!(by_variables.strategy, Strategy::Vm);
        assert_eq!(by_variables.version.as_deref(), Some("1.0"));
        assert_eq!(by_variables.machines, Some(vec!["one".to_owned(), "two".to_owned()]));
        let machines = ["three".to_owned()];
        let flags = Flags { strategy: Some("release"), version: Some("2.0"), machines: &machines };
        let by_flags = choose_with(&flags, &variables).unwrap();
        assert_eq!(by_flags.strategy, Strategy::Release);
        assert_eq!(by_flags.version.as_deref(), Some("2.0"));
        assert_eq!(by_flags.machines.as_deref(), Some(machines.as_slice()));
    }

    #[test]
    fn an_empty_variable_is_unset() {
        let choice = choose_with(&Flags::default(), &[("SYNC_STRATEGY_MY_APP", ""), ("MY_APP_VERSION", "")]);
        assert_eq!(choice.unwrap(), Choice { strategy: Strategy::Release, version: None, machines: None });
    }

    #[test]
    fn what_is_not_there_is_said_with_what_is() {
        let unknown = choose_with(&Flags { strategy: Some("scp"), ..Flags::default() }, &[]).unwrap_err();
        assert!(unknown.to_string().contains("release, vm, ssh, dir, peer"), "{unknown}");
        let lacking = choose_with(&Flags::default(), &[("SYNC_STRATEGY_MY_APP", "dir")]).unwrap_err();
        assert!(lacking.to_string().contains("it has release, vm"), "{lacking}");
        assert!(lacking.hint().unwrap().contains("--strategy release"));
    }
}
