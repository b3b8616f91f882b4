//! The figures of a run and how they are shown.

use std::fmt;

use serde_json::{Value, json};

use crate::run::Result;

/// Whose figures they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Floor,
    /// The floor once more, in the place of the bridge.
    Again,
    Hookbus,
}

impl Side {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Floor => "floor",
            Self::Again => "floor again",
            Self::Hookbus => "hookbus",
        }
    }
}

/// What one round showed, or the median of several.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Row {
    per_second: f64,
    cpu_us: f64,
    p50_us: f64,
    p99_us: f64,
    /// Answers other than 200, broken connections, and requests that were not answered or not sent.
    errors: f64,
    /// What the load generator wants to be known.
    note: Option<String>,
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { per_second, cpu_us, p99_us, errors, .. } = self;
        write!(f, "{per_second:.0} requests/s, {cpu_us:.1} us CPU each, p99 {p99_us:.0} us, {errors} errors")
    }
}

impl Row {
    /// Reads the load generator's report; `cpu` is what the server took meanwhile, in seconds.
    pub(super) fn new(report: &Value, cpu: f64) -> Result<Self> {
        let number = |pointer: &str| {
            let found = report.pointer(pointer).and_then(Value::as_f64);
            found.ok_or_else(|| format!("the load report has no number at {pointer}"))
        };
        let sum = |pointer: &str, skip: &str| {
            let counts = report.pointer(pointer).and_then(Value::as_object);
            let counts = counts.ok_or_else(|| format!("the load report has no counts at {pointer}"))?;
            Ok::<_, String>(
                counts.iter().filter(|(name, _)| *name != skip).filter_map(|(_, n)| n.as_f64()).sum::<f64>(),
            )
        };
        let requests = number("/requests")?;
        if requests == 0.0 {
            return Err(format!("no request was answered: {}", report["errors"]));
        }
        Ok(Self {
            per_second: number("/per_second")?,
            cpu_us: cpu * 1e6 / requests,
            p50_us: number("/latency_us/p50")?,
            p99_us: number("/latency_us/p99")?,
            errors: sum("/statuses", "200")?
                + sum("/errors", "")?
                + number("/unanswered")?
                + number("/unsent")?,
            note: report["note"].as_str().map(str::to_owned),
        })
    }

    /// The median of each figure; of the errors the most, since none may be overlooked.
    pub(super) fn median(rows: &[Self]) -> Result<Self> {
        if rows.is_empty() {
            return Err("there is no round to take the median of".into());
        }
        let of = |figure: fn(&Self) -> f64| median(rows.iter().map(figure).collect());
        Ok(Self {
            per_second: of(|row| row.per_second),
            cpu_us: of(|row| row.cpu_us),
            p50_us: of(|row| row.p50_us),
            p99_us: of(|row| row.p99_us),
            errors: rows.iter().map(|row| row.errors).fold(0.0, f64::max),
            note: rows.iter().find_map(|row| row.note.clone()),
        })
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 { values[middle] } else { f64::midpoint(values[middle - 1], values[middle]) }
}

/// Prints the rows; ratios are to the first.
pub(super) fn show(rows: &[(Side, Row)], as_json: bool) -> Result {
    if as_json {
        println!("{:#}", to_json(rows));
    } else {
        println!("{}", table(rows));
    }
    match rows.iter().find(|(_, row)| row.errors > 0.0) {
        None => Ok(()),
        Some((side, row)) => {
            Err(format!("{}: {} errors, so the figures mean nothing", side.name(), row.errors))
        }
    }
}

fn to_json(rows: &[(Side, Row)]) -> Value {
    let row = |(side, row): &(Side, Row)| {
        json!({
            "server": side.name(),
            "requests_per_second": row.per_second,
            "throughput_to_floor": row.per_second / rows[0].1.per_second,
            "cpu_us_per_request": row.cpu_us,
            "cpu_to_floor": row.cpu_us / rows[0].1.cpu_us,
            "p50_us": row.p50_us,
            "p99_us": row.p99_us,
            "errors": row.errors,
            "note": row.note,
        })
    };
    rows.iter().map(row).collect()
}

fn table(rows: &[(Side, Row)]) -> String {
    let mut text = format!(
        "{:<12}{:>12}{:>8}{:>12}{:>8}{:>10}{:>10}{:>9}\n",
        "", "requests/s", "ratio", "us CPU each", "ratio", "p50 us", "p99 us", "errors"
    );
    for (side, row) in rows {
        let first = &rows[0].1;
        text += &format!(
            "{:<12}{:>12.0}{:>8.2}{:>12.1}{:>8.2}{:>10.0}{:>10.0}{:>9}\n",
            side.name(),
            row.per_second,
            row.per_second / first.per_second,
            row.cpu_us,
            row.cpu_us / first.cpu_us,
            row.p50_us,
            row.p99_us,
            row.errors
        );
    }
    for (side, row) in rows {
        if let Some(note) = &row.note {
            text += &format!("{}: {note}\n", side.name());
        }
    }
    text.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(per_second: f64) -> Value {
        json!({
            "requests": 1_000, "per_second": per_second, "latency_us": { "p50": 400.0, "p99": 900.0 },
            "statuses": { "200": 990, "503": 10 }, "errors": { "connect": 2 }, "unanswered": 1, "unsent": 3,
            "note": null,
        })
    }

    #[test]
    fn whatever_is_not_a_200_is_an_error() {
        let row = Row::new(&report(5_000.0), 0.02).unwrap();
        assert_eq!((row.errors, row.cpu_us), (16.0, 20.0));
    }

    #[test]
    fn a_server_that_never_answered_has_no_figures() {
        let silent = json!({ "requests": 0, "errors": { "connection refused": 7 } });
        assert!(Row::new(&silent, 0.0).unwrap_err().contains("connection refused"));
    }

    #[test]
    fn the_median_is_taken_figure_by_figure() {
        let rows = [30.0, 10.0, 20.0, 40.0].map(|rate| Row::new(&report(rate), 0.02).unwrap());
        assert_eq!(Row::median(&rows).unwrap().per_second, 25.0);
        assert_eq!(Row::median(&rows[..3]).unwrap().per_second, 20.0);
        assert!(Row::median(&[]).is_err());
    }

    #[test]
    fn ratios_are_to_the_floor() {
        let rows = [(Side::Floor, 100.0, 0.01), (Side::Hookbus, 50.0, 0.02)]
            .map(|(side, rate, cpu)| (side, Row::new(&report(rate), cpu).unwrap()));
        let table = table(&rows);
        let ours = table.lines().last().unwrap().split_whitespace().collect::<Vec<_>>();
        assert_eq!(ours, ["hookbus", "50", "0.50", "20.0", "2.00", "400", "900", "16"]);
        assert_eq!(to_json(&rows)[1]["cpu_to_floor"], 2.0);
        assert!(show(&rows, true).unwrap_err().contains("16 errors"));
    }
}
