//! The report as Markdown.

use std::fmt::Write as _;

use super::{Report, Role, Row, Score};
use crate::harness::sample::{Limit, Outcome, Unit, Verdict};

const NOTHING: &str = "–";
const MIB: f64 = 1_048_576.0;

pub(super) fn document(report: &Report) -> String {
    let mut text = String::from("# The bars\n\n");
    if report.quick {
        text.push_str(
            "**A quick run: tiny inputs. The figures show that the bench works, and nothing else.**\n\n",
        );
    }
    head(report, &mut text);
    text.push('\n');
    table(report, &mut text);
    text.push_str(
        "\nMedian ± median absolute deviation. Ratios are to the reference in the same run, the peers' too; lower is \
         better but for what is done a second. benches/README.md says how each is measured.\n",
    );
    notes(report, &mut text);
    text
}

// Writing to a String cannot fail.
fn head(report: &Report, text: &mut String) {
    let machine = &report.machine;
    let _ = writeln!(
        text,
        "{}, {}: {} cores, {} used, {} MiB of memory, Linux {}, work folder on {}, {} repetitions.",
        machine.date,
        machine.cpu,
        machine.cores,
        machine.cores_used,
        machine.memory_mib,
        machine.kernel,
        machine.work_file_system,
        report.repetitions,
    );
    text.push('\n');
    for (name, version) in &machine.programs {
        let _ = writeln!(text, "- {name}: {version}");
    }
    if !report.subjects.is_empty() {
        text.push_str("\n| corpus | files | MiB |\n|---|--:|--:|\n");
    }
    for subject in &report.subjects {
        let mib = crate::harness::sample::to_f64(subject.bytes) / MIB;
        let _ = writeln!(text, "| {} | {} | {mib:.1} |", subject.corpus, subject.files);
    }
}

fn table(report: &Report, text: &mut String) {
    let mut peers: Vec<&str> = Vec::new();
    for score in report.rows.iter().flat_map(|row| &row.scores).filter(|score| score.role == Role::Peer) {
        if !peers.contains(&score.name.as_str()) {
            peers.push(&score.name);
        }
    }
    text.push_str("| bar | what | corpus | cairn | reference | | ratio | limit | verdict |");
    for peer in &peers {
        let _ = write!(text, " {peer} |");
    }
    text.push_str("\n|--:|---|---|--:|---|--:|--:|--:|---|");
    text.push_str(&"--:|".repeat(peers.len()));
    text.push('\n');
    for row in &report.rows {
        let _ = write!(text, "| {} | {} | {} |", row.bar, row.what, row.corpus);
        let reference = row.one(Role::Reference);
        let cells = [
            value(row, row.one(Role::Candidate)),
            reference.map_or_else(|| NOTHING.to_owned(), |score| score.name.clone()),
            value(row, reference),
            ratio(row, row.one(Role::Candidate)),
            limit(row),
            verdict(row).to_owned(),
        ];
        for cell in cells {
            let _ = write!(text, " {cell} |");
        }
        for peer in &peers {
            let score = row.scores.iter().find(|score| score.role == Role::Peer && score.name == *peer);
            let _ = write!(text, " {} |", peer_cell(row, score));
        }
        text.push('\n');
    }
}

/// Everything that has no figure, with the reason in full.
fn notes(report: &Report, text: &mut String) {
    let mut lines: Vec<String> = Vec::new();
    for row in &report.rows {
        for score in &row.scores {
            let line = match &score.outcome {
                Outcome::Measured(_) => continue,
                Outcome::Absent(why) if score.role == Role::Peer => format!("{}: {why}", score.name),
                Outcome::Absent(why) => format!("{} ({}), {}: {why}", row.what, row.corpus, score.name),
                Outcome::Failed(why) => {
                    format!("{} ({}), {} failed: {why}", row.what, row.corpus, score.name)
                }
            };
            if !lines.contains(&line) {
                lines.push(line);
            }
        }
    }
    if !lines.is_empty() {
        text.push_str("\nWithout a figure:\n");
    }
    for line in lines {
        let _ = writeln!(text, "- {line}");
    }
}

fn value(row: &Row, score: Option<&Score>) -> String {
    match score.map(|score| &score.outcome) {
        None => NOTHING.to_owned(),
        Some(Outcome::Measured(series)) if series.len() == 1 => quantity(row.unit, series.median()),
        Some(Outcome::Measured(series)) => {
            format!("{} ± {}", quantity(row.unit, series.median()), quantity(row.unit, series.spread()))
        }
        Some(Outcome::Absent(_)) => "absent".to_owned(),
        Some(Outcome::Failed(_)) => "failed".to_owned(),
    }
}

fn ratio(row: &Row, score: Option<&Score>) -> String {
    let ratio = score.filter(|_| row.limit.needs_reference()).and_then(|score| row.ratio(score));
    ratio.map_or_else(|| NOTHING.to_owned(), |ratio| format!("{ratio:.2}x"))
}

/// A ratio where the row is about ratios, else the value itself.
fn peer_cell(row: &Row, score: Option<&Score>) -> String {
    match score.map(|score| &score.outcome) {
        Some(Outcome::Measured(_)) if row.limit.needs_reference() => ratio(row, score),
        _ => value(row, score),
    }
}

fn limit(row: &Row) -> String {
    match row.limit {
        Limit::RatioAtMost(limit) => format!("≤ {limit}x"),
        Limit::RatioBelow(limit) => format!("< {limit}x"),
        Limit::RatioAtLeast(limit) => format!("≥ {limit}x"),
        Limit::AtMost(limit) => format!("≤ {}", quantity(row.unit, limit)),
        Limit::AtLeast(limit) => format!("≥ {}", quantity(row.unit, limit)),
        Limit::None => NOTHING.to_owned(),
    }
}

fn verdict(row: &Row) -> &'static str {
    match row.verdict() {
        Verdict::Pass => "pass",
        Verdict::Fail => "**FAIL**",
        Verdict::NotMeasured => "not measured",
        Verdict::NoLimit => NOTHING,
    }
}

fn quantity(unit: Unit, value: f64) -> String {
    match unit {
        Unit::Seconds if value < 1e-4 => format!("{:.2} µs", value * 1e6),
        Unit::Seconds if value < 0.1 => format!("{:.2} ms", value * 1e3),
        Unit::Seconds => format!("{value:.3} s"),
        Unit::Bytes if value.abs() < 10_240.0 => format!("{value:.1} B"),
        Unit::Bytes => format!("{:.2} MiB", value / MIB),
        Unit::BytesPerSecond if value < 1e8 => format!("{:.1} MB/s", value / 1e6),
        Unit::BytesPerSecond => format!("{:.2} GB/s", value / 1e9),
        Unit::PerSecond if value < 1e3 => format!("{value:.1}/s"),
        Unit::PerSecond if value < 1e6 => format!("{:.1} k/s", value / 1e3),
        Unit::PerSecond => format!("{:.2} M/s", value / 1e6),
        Unit::Count => format!("{value:.0}"),
        Unit::Share => format!("{:.2} %", value * 100.0),
        Unit::Times => format!("{value:.1}x"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::harness::sample::Series;

    fn row(scores: Vec<Score>) -> Row {
        let limit = Limit::RatioAtMost(1.0);
        Row { bar: 1, what: "new data", corpus: "uv", unit: Unit::Seconds, limit, scores }
    }

    fn score(name: &str, role: Role, seconds: f64) -> Score {
        Score::new(name, role, Outcome::Measured(Series::of_value(seconds)))
    }

    #[test]
    fn cells_of_a_row() {
        let row = row(vec![
            score("cairn", Role::Candidate, 1.0),
            score("zstd", Role::Reference, 2.0),
            score("restic", Role::Peer, 5.0),
            Score::new("borg", Role::Peer, Outcome::Absent("not installed".into())),
        ]);
        assert_eq!(ratio(&row, row.one(Role::Candidate)), "0.50x");
        assert_eq!(limit(&row), "≤ 1x");
        assert_eq!(verdict(&row), "pass");
        assert_eq!(peer_cell(&row, Some(&row.scores[2])), "2.50x");
        assert_eq!(peer_cell(&row, Some(&row.scores[3])), "absent");
        assert_eq!(peer_cell(&row, None), NOTHING);
    }

    #[test]
    fn a_missing_reference_is_never_a_pass() {
        let row = row(vec![
            score("cairn", Role::Candidate, 1.0),
            Score::new("zstd", Role::Reference, Outcome::Absent("zstd is not installed".into())),
        ]);
        assert_eq!(ratio(&row, row.one(Role::Candidate)), NOTHING);
        assert_eq!(verdict(&row), "not measured");
    }

    #[test]
    fn quantities() {
        assert_eq!(quantity(Unit::Seconds, 0.001_234), "1.23 ms");
        assert_eq!(quantity(Unit::Seconds, 1.5), "1.500 s");
        assert_eq!(quantity(Unit::Bytes, 40.0), "40.0 B");
        assert_eq!(quantity(Unit::Bytes, 2.0 * MIB), "2.00 MiB");
        assert_eq!(quantity(Unit::Seconds, 1.4e-6), "1.40 µs");
        assert_eq!(quantity(Unit::PerSecond, 1.5e6), "1.50 M/s");
        assert_eq!(quantity(Unit::PerSecond, 41_500.0), "41.5 k/s");
        assert_eq!(quantity(Unit::PerSecond, 12.0), "12.0/s");
        assert_eq!(quantity(Unit::BytesPerSecond, 2.5e9), "2.50 GB/s");
        assert_eq!(quantity(Unit::BytesPerSecond, 3.1e6), "3.1 MB/s");
        assert_eq!(quantity(Unit::Count, 10_000.0), "10000");
        assert_eq!(quantity(Unit::Share, 0.0123), "1.23 %");
    }
}
