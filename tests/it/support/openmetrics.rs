//! Reading OpenMetrics text, strictly and with code of our own.

use std::collections::{BTreeMap, BTreeSet};

/// What one scrape showed.
#[derive(Debug)]
pub(crate) struct Figures(BTreeMap<Series, f64>);

/// The name of a sample and its labels.
type Series = (String, BTreeMap<String, String>);

impl Figures {
    /// Reads a page. What is not in order is a failed test.
    pub(crate) fn parse(page: &str) -> Self {
        let lines = page.strip_suffix("# EOF\n").expect("it ends in `# EOF`");
        let mut figures = BTreeMap::new();
        let (mut families, mut family, mut helped) = (BTreeSet::new(), ("", ""), "");
        for line in lines.lines() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                helped = help.split_once(' ').unwrap().0;
            } else if let Some(kind) = line.strip_prefix("# TYPE ") {
                family = kind.split_once(' ').unwrap();
                assert!(families.insert(family.0), "a family is there twice: {line}");
                assert_eq!(helped, family.0, "it has no help: {line}");
            } else {
                let (series, value) = sample(line);
                let suffix = series.0.strip_prefix(family.0);
                let suffix = suffix.unwrap_or_else(|| panic!("not in its family {family:?}: {line}"));
                let allowed: &[&str] = match family.1 {
                    "counter" => &["_total"],
                    "gauge" => &[""],
                    "histogram" => &["_bucket", "_sum", "_count"],
                    "info" => &["_info"],
                    other => panic!("a type that is not known: {other}"),
                };
                assert!(allowed.contains(&suffix), "no sample of a {}: {line}", family.1);
                assert!(family.1 == "gauge" || value >= 0.0, "{line}");
                assert!(figures.insert(series, value).is_none(), "it is there twice: {line}");
            }
        }
        check_histograms(&figures);
        Self(figures)
    }

    /// The value of a sample with exactly these labels.
    pub(crate) fn get(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let series = (name.to_owned(), labels);
        *self.0.get(&series).unwrap_or_else(|| panic!("there is no {series:?}"))
    }

    /// The sum of all samples of this name that have this label.
    pub(crate) fn sum(&self, name: &str, label: (&str, &str)) -> f64 {
        let has =
            |labels: &BTreeMap<String, String>| labels.get(label.0).is_some_and(|value| value == label.1);
        self.0
            .iter()
            .filter(|((found, labels), _)| found == name && has(labels))
            .map(|(_, value)| value)
            .sum()
    }
}

/// Reads `name{label="value",...} number`.
fn sample(line: &str) -> (Series, f64) {
    let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no sample: {line}"));
    let value = value.parse().unwrap_or_else(|error| panic!("{error}: {line}"));
    let (name, labels) = match series.split_once('{') {
        Some((name, labels)) => (name, labels.strip_suffix('}').unwrap_or_else(|| panic!("{line}"))),
        None => (series, ""),
    };
    let is_name = |name: &str| {
        name.starts_with(|first: char| first.is_ascii_alphabetic())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    assert!(is_name(name), "{line}");
    let mut read = BTreeMap::new();
    // No value has a comma or a quote in it: they are names and words.
    for label in labels.split(',').filter(|label| !label.is_empty()) {
        let (label, value) = label.split_once('=').unwrap_or_else(|| panic!("{line}"));
        let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
        let value = value.filter(|value| !value.contains(['"', '\\'])).unwrap_or_else(|| panic!("{line}"));
        assert!(is_name(label) && read.insert(label.to_owned(), value.to_owned()).is_none(), "{line}");
    }
    ((name.to_owned(), read), value)
}

/// Buckets rise with their bounds, and the last one holds everything.
fn check_histograms(figures: &BTreeMap<Series, f64>) {
    let mut histograms: BTreeMap<Series, Vec<(f64, f64)>> = BTreeMap::new();
    for ((name, labels), count) in figures {
        let Some(name) = name.strip_suffix("_bucket") else { continue };
        let mut labels = labels.clone();
        let bound = labels.remove("le").unwrap().replace("+Inf", "inf").parse().unwrap();
        histograms.entry((format!("{name}_count"), labels)).or_default().push((bound, *count));
    }
    for (series, mut buckets) in histograms {
        buckets.sort_by(|one, other| one.0.total_cmp(&other.0));
        assert!(buckets.is_sorted_by(|one, next| one.0 < next.0 && one.1 <= next.1), "{series:?}");
        assert_eq!(buckets.last(), Some(&(f64::INFINITY, figures[&series])), "{series:?}");
    }
}
