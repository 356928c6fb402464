//! What was measured, as pictures for docs/performance.md: bars of drains, distributions of delays, memory over time.
//!
//! Drawn from the file that the measuring has written, whatever scenarios it has.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow};
use plotters::coord::Shift;
use plotters::prelude::*;
use serde_json::Value;

use crate::case::thousands;
use crate::report::Runs;

const SIZE: (u32, u32) = (760, 300);
const FONT: (&str, i32) = ("sans-serif", 14);
const TITLE: (&str, i32) = ("sans-serif", 17);

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Draws into `folder` what `json` has; the files.
pub(crate) fn draw(json: &Path, folder: &Path) -> Result<Vec<PathBuf>> {
    let text = std::fs::read_to_string(json).with_context(|| format!("read {}", json.display()))?;
    let found: Value = serde_json::from_str(&text).with_context(|| format!("read {}", json.display()))?;
    std::fs::create_dir_all(folder)?;
    let mut files = Vec::new();
    let mut picture = |name: String, draw: &dyn Fn(&Area<'_>) -> Result<()>| -> Result<()> {
        let file = folder.join(name);
        {
            let area = SVGBackend::new(&file, SIZE).into_drawing_area();
            area.fill(&WHITE)?;
            draw(&area).with_context(|| format!("draw {}", file.display()))?;
            area.present()?;
        }
        files.push(file);
        Ok(())
    };
    let scenarios = at(&found, "/scenarios");
    for (index, case) in list(at(scenarios, "/drain/cases")).iter().enumerate() {
        picture(format!("drain-{}.svg", index + 1), &|area| drain(area, case))?;
    }
    for rate in list(at(scenarios, "/delay/rates")) {
        picture(format!("delay-{}.svg", at(rate, "/rate")), &|area| delay(area, rate))?;
    }
    if let Some(memory) = list(at(scenarios, "/outage/memory")).first() {
        let marks: Vec<_> =
            list(at(scenarios, "/outage/killed_leads_caught_up/0")).iter().map(number).collect();
        picture("outage.svg".to_owned(), &|area| outage(area, memory, &marks))?;
    }
    Ok(files)
}

/// What `value` has at this JSON pointer; nothing is `null`.
fn at<'a>(value: &'a Value, pointer: &str) -> &'a Value {
    value.pointer(pointer).unwrap_or(&Value::Null)
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or(f64::NAN)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Pairs of numbers.
fn points(value: &Value) -> Vec<(f64, f64)> {
    list(value).iter().map(|point| (number(at(point, "/0")), number(at(point, "/1")))).collect()
}

/// Who is measured: the relay stands out.
const fn color(who: &str) -> RGBColor {
    match who.as_bytes() {
        b"relay" => RGBColor(20, 110, 180),
        b"counted" => RGBColor(120, 175, 215),
        _ => RGBColor(170, 170, 170),
    }
}

/// Rows a second of everybody, as bars.
fn drain(area: &Area<'_>, case: &Value) -> Result<()> {
    const WHO: [(&str, &str, &str); 9] = [
        ("reader", "unix", "reader alone, unix socket"),
        ("counted", "unix", "relay without Kafka, unix socket"),
        ("relay", "unix", "relay, unix socket"),
        ("pg_recvlogical", "unix", "pg_recvlogical, unix socket"),
        ("reader", "tcp", "reader alone, TCP"),
        ("counted", "tcp", "relay without Kafka, TCP"),
        ("relay", "tcp", "relay, TCP"),
        ("pg_recvlogical", "tcp", "pg_recvlogical, TCP"),
        ("producer", "nothing", "producer alone"),
    ];
    let bars: Vec<(&str, RGBColor, f64)> = WHO
        .iter()
        .filter_map(|(who, over, name)| {
            let runs = list(at(case, "/runs")).iter();
            let runs = runs.filter(|run| (text(at(run, "/who")), text(at(run, "/over"))) == (who, over));
            let rates: Runs = runs.map(|run| number(at(run, "/rows_per_second"))).collect();
            (!rates.0.is_empty()).then(|| (*name, color(who), rates.median()))
        })
        .collect();
    let area = area.titled(&format!("Drain: {}; rows/s", text(at(case, "/case"))), TITLE)?;
    let most = bars.iter().map(|(.., rate)| *rate).fold(1.0, f64::max);
    let (width, height) = area.dim_in_pixel();
    let (left, right) = (230, 80);
    let room = f64::from(width.saturating_sub(left + right));
    let step = height / u32::try_from(bars.len().max(1))?;
    for (index, (name, color, rate)) in bars.iter().enumerate() {
        let top = i32::try_from(step * u32::try_from(index)? + 4)?;
        let bottom = top + i32::try_from(step)? - 8;
        let end = i32::try_from(left)? + (room * rate / most) as i32;
        area.draw(&Rectangle::new([(i32::try_from(left)?, top), (end, bottom)], color.filled()))?;
        let middle = (top + bottom) / 2 - FONT.1 / 2;
        area.draw(&Text::new((*name).to_owned(), (8, middle), FONT.into_font()))?;
        area.draw(&Text::new(thousands(rate.round() as u64), (end + 6, middle), FONT.into_font()))?;
    }
    Ok(())
}

/// How many of the events take how long.
fn delay(area: &Area<'_>, rate: &Value) -> Result<()> {
    let of = |path: &str| -> Vec<(f64, f64)> {
        let runs = list(at(rate, "/runs")).iter();
        let all: Vec<_> = runs.map(|run| points(at(run, path))).collect();
        let shares = all.first().map_or(0, Vec::len);
        let share = |index: usize| {
            let of_runs = || all.iter().filter_map(|run| run.get(index));
            let median = of_runs().map(|point| point.1).collect::<Runs>().median();
            Some((of_runs().next()?.0, median))
        };
        (0..shares).filter_map(share).collect()
    };
    // As far from the left as a share is from 100 %, on a scale of tenths: 90, 99, 99.9 %.
    let place = |share: f64| -(1.0 - share).log10();
    let lines = [
        ("relay, from the answer to COMMIT", of("/relay/from_answer/distribution"), color("relay")),
        ("bare producer beside the same commits", of("/loaded/distribution"), RGBColor(220, 130, 40)),
        ("bare producer", of("/producer/distribution"), color("producer")),
    ];
    let most = lines.iter().flat_map(|(_, line, _)| line).map(|(_, ms)| *ms).fold(1.0, f64::max) * 1.5;
    let title = format!(
        "Delay at {} commits/s: events, %, and how many ms they take at most",
        thousands(at(rate, "/rate").as_u64().unwrap_or(0))
    );
    let mut chart = ChartBuilder::on(area)
        .caption(title, TITLE)
        .margin(8)
        .margin_right(28)
        .x_label_area_size(28)
        .y_label_area_size(52)
        .build_cartesian_2d(0.0..3.0, (0.1..most).log_scale())
        .map_err(|error| anyhow!("{error}"))?;
    chart
        .configure_mesh()
        .x_labels(4)
        .x_label_formatter(&|place: &f64| format!("{}", 100.0 - 100.0 / 10f64.powi(place.round() as i32)))
        .y_label_formatter(&|ms| format!("{ms}"))
        .label_style(FONT)
        .draw()?;
    for (name, line, color) in lines {
        let style = color.stroke_width(2);
        chart
            .draw_series(LineSeries::new(
                line.into_iter().map(|(share, ms)| (place(share), ms.max(0.1))),
                style,
            ))?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], style));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerRight)
        .label_font(FONT)
        .background_style(WHITE.mix(0.8))
        .draw()?;
    Ok(())
}

/// The relay's resident memory over time; `marks`: the broker is killed, leads again, the relay has caught up.
fn outage(area: &Area<'_>, memory: &Value, marks: &[f64]) -> Result<()> {
    let line = points(memory);
    let end = line.last().map_or(1.0, |(seconds, _)| *seconds);
    let most = line.iter().map(|(_, mib)| *mib).fold(1.0, f64::max) * 1.3;
    let mut chart = ChartBuilder::on(area)
        .caption("Outage: the relay's resident memory, MiB, over seconds", TITLE)
        .margin(8)
        .x_label_area_size(28)
        .y_label_area_size(40)
        .build_cartesian_2d(0.0..end * 1.15, 0.0..most)?;
    chart.configure_mesh().label_style(FONT).disable_x_mesh().light_line_style(TRANSPARENT).draw()?;
    for (at, what) in marks.iter().zip(["killed", "leads again", "caught up"]) {
        chart.draw_series([PathElement::new([(*at, 0.0), (*at, most)], RGBColor(200, 60, 50))])?;
        let height = if what == "caught up" { 0.88 } else { 0.98 };
        chart.draw_series([Text::new(what, (*at + end * 0.005, most * height), FONT.into_font())])?;
    }
    chart.draw_series(LineSeries::new(line, color("relay").stroke_width(2)))?;
    Ok(())
}
