//! Prometheus' text form.

use std::fmt::Write;

/// A page of it.
#[derive(Debug, Default)]
pub(crate) struct Text(String);

impl Text {
    /// Begins the rows of one name.
    pub(crate) fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Memory takes everything.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    /// A row.
    pub(crate) fn row(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        self.0.push_str(name);
        for (at, (label, value)) in labels.iter().enumerate() {
            self.0.push(if at == 0 { '{' } else { ',' });
            let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _ = write!(self.0, "{label}=\"{value}\"");
        }
        if !labels.is_empty() {
            self.0.push('}');
        }
        let _ = writeln!(self.0, " {value}");
    }

    /// A name with one row.
    pub(crate) fn one(&mut self, name: &str, kind: &str, help: &str, value: f64) {
        self.family(name, kind, help);
        self.row(name, &[], value);
    }

    /// The page.
    pub(crate) fn finish(self) -> String {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_escaped() {
        let mut text = Text::default();
        text.row("a", &[("b", "c\"d\\e\nf"), ("g", "h")], 1.5);
        text.one("i", "gauge", "Help.", 3.0);
        assert_eq!(
            text.finish(),
            "a{b=\"c\\\"d\\\\e\\nf\",g=\"h\"} 1.5\n# HELP i Help.\n# TYPE i gauge\ni 3\n"
        );
    }
}
