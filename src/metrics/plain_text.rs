//! The older text format of Prometheus (`text/plain; version=0.0.4`), for scrapers that do not ask for OpenMetrics.
//!
//! The samples are the same. The lines about them differ: a counter is named as its sample is, with `_total`; there is
//! no type for information; and there is no mark at the end.

/// Rewrites a page of OpenMetrics text.
#[must_use]
pub fn plain_text(open_metrics: &str) -> String {
    let mut plain = String::with_capacity(open_metrics.len());
    // HELP comes before TYPE, and its name depends on the type.
    let mut lines = open_metrics.lines().peekable();
    while let Some(line) = lines.next() {
        let words: Vec<&str> = line.splitn(4, ' ').collect();
        let (sign, name, rest) = match words.as_slice() {
            ["#", "HELP", name, help] => {
                let kind = lines.peek().and_then(|line| line.rsplit(' ').next()).unwrap_or_default();
                ("HELP", sample(name, kind), (*help).to_owned())
            }
            ["#", "TYPE", name, kind] => ("TYPE", sample(name, kind), kind_of_old(kind).to_owned()),
            ["#", ..] => continue,
            _ => {
                plain.push_str(line);
                plain.push('\n');
                continue;
            }
        };
        plain.push_str(&format!("# {sign} {name} {rest}\n"));
    }
    plain
}

fn sample(name: &str, kind: &str) -> String {
    match kind {
        "counter" => format!("{name}_total"),
        "info" => format!("{name}_info"),
        _ => name.to_owned(),
    }
}

fn kind_of_old(kind: &str) -> &str {
    if kind == "info" { "gauge" } else { kind }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_about_a_metric_name_it_as_its_samples_do() {
        let page = "# HELP a_sessions Sessions of a kind.\n# TYPE a_sessions counter\na_sessions_total{end=\"x\"} 1\n\
                    # HELP a_build The program.\n# TYPE a_build info\na_build_info{version=\"1\"} 1\n\
                    # HELP a_age_seconds Age.\n# TYPE a_age_seconds histogram\n# UNIT a_age_seconds seconds\n\
                    a_age_seconds_sum 0.0\n# EOF\n";
        insta::assert_snapshot!(plain_text(page), @r#"
        # HELP a_sessions_total Sessions of a kind.
        # TYPE a_sessions_total counter
        a_sessions_total{end="x"} 1
        # HELP a_build_info The program.
        # TYPE a_build_info gauge
        a_build_info{version="1"} 1
        # HELP a_age_seconds Age.
        # TYPE a_age_seconds histogram
        a_age_seconds_sum 0.0
        "#);
    }
}
