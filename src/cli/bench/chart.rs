//! Draws the times of several open loops over their rates, as SVG.

use super::report::{PaceReport, Quantiles, Report};
use super::text::milliseconds;

const WIDTH: f64 = 800.0;
const HEIGHT: f64 = 480.0;
/// The space around the drawing area, for labels.
const LEFT: f64 = 80.0;
const RIGHT: f64 = 90.0;
const TOP: f64 = 50.0;
const BOTTOM: f64 = 60.0;

/// A quantile: its name, its color, and how it is read.
type Series = (&'static str, &'static str, fn(&Quantiles) -> u64);

const SERIES: [Series; 3] = [
    ("p50", "#1b7837", |it| it.p50_us),
    ("p99", "#2166ac", |it| it.p99_us),
    ("p99.9", "#b2182b", |it| it.p999_us),
];

/// The scales of the axes.
struct Scale {
    /// The greatest rate.
    rate: f64,
    /// The powers of ten of microseconds between which all times are.
    low: i32,
    high: i32,
}

impl Scale {
    fn new(points: &[(f64, Quantiles)]) -> Self {
        let times = points
            .iter()
            .flat_map(|(_, it)| SERIES.map(|(.., read)| read(it)));
        let (low, high) = (times.clone().min(), times.max());
        let power = |micros: Option<u64>| micros.unwrap_or(1).max(1).ilog10().cast_signed();
        Self {
            rate: points.iter().map(|(rate, _)| *rate).fold(0.0, f64::max),
            low: power(low),
            high: power(high) + 1,
        }
    }

    fn x(&self, rate: f64) -> f64 {
        LEFT + rate / self.rate * (WIDTH - LEFT - RIGHT)
    }

    /// Times are on a logarithmic scale, since the highest are many times the median.
    fn y(&self, micros: f64) -> f64 {
        let share =
            (micros.max(1.0).log10() - f64::from(self.low)) / f64::from(self.high - self.low);
        HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)
    }
}

/// The drawing: one point for each rate and quantile.
pub(super) fn draw(report: &Report) -> String {
    let mut points = Vec::new();
    for run in &report.runs {
        let times = run.total.stages.get(report.answer);
        if let (PaceReport::Open { rate, .. }, Some(times)) = (&run.pace, times) {
            points.push((*rate, *times));
        }
    }
    points.sort_by(|(one, _), (other, _)| one.total_cmp(other));
    let scale = Scale::new(&points);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
         font-size=\"13\">\n<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n\
         <text x=\"{LEFT}\" y=\"28\" font-size=\"16\">Milliseconds until the answer, over requests a second</text>\n"
    );
    axes(&mut svg, &scale, &points);
    for (row, (name, color, read)) in SERIES.into_iter().enumerate() {
        let place = |(rate, times): &(f64, Quantiles)| {
            #[expect(clippy::cast_precision_loss, reason = "microseconds, far below 2^52")]
            let micros = read(times) as f64;
            (scale.x(*rate), scale.y(micros))
        };
        line(&mut svg, color, points.iter().map(place));
        #[expect(clippy::cast_precision_loss, reason = "a few rows")]
        let y = TOP + 20.0 * row as f64;
        let x = WIDTH - RIGHT + 20.0;
        add(
            &mut svg,
            &format!("<text x=\"{x}\" y=\"{y}\" fill=\"{color}\">{name}</text>"),
        );
        for point in &points {
            let (x, y) = place(point);
            let title = format!(
                "{name} at {}/s: {} ms",
                point.0,
                milliseconds(read(&point.1))
            );
            add(
                &mut svg,
                &format!(
                    "<circle class=\"{name}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\" fill=\"{color}\"><title>{title}</title></circle>"
                ),
            );
        }
    }
    svg.push_str("</svg>\n");
    svg
}

/// The grid with its labels: powers of ten, and the rates.
fn axes(svg: &mut String, scale: &Scale, points: &[(f64, Quantiles)]) {
    let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
    for power in scale.low..=scale.high {
        let y = scale.y(10_f64.powi(power));
        let label = 10_f64.powi(power - 3);
        grid(svg, (LEFT, y), (right, y));
        text(svg, (LEFT - 8.0, y + 4.0), "end", &label.to_string());
    }
    for (rate, _) in points {
        let x = scale.x(*rate);
        grid(svg, (x, TOP), (x, bottom));
        text(svg, (x, bottom + 20.0), "middle", &rate.to_string());
    }
}

/// The line of a quantile.
fn line(svg: &mut String, color: &str, places: impl Iterator<Item = (f64, f64)>) {
    let all: Vec<_> = places.map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
    add(
        svg,
        &format!(
            "<polyline fill=\"none\" stroke=\"{color}\" stroke-width=\"2\" points=\"{}\"/>",
            all.join(" ")
        ),
    );
}

fn grid(svg: &mut String, (x1, y1): (f64, f64), (x2, y2): (f64, f64)) {
    add(
        svg,
        &format!(
            "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke=\"#dddddd\"/>"
        ),
    );
}

fn text(svg: &mut String, (x, y): (f64, f64), anchor: &str, text: &str) {
    add(
        svg,
        &format!("<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>"),
    );
}

fn add(svg: &mut String, element: &str) {
    svg.push_str(element);
    svg.push('\n');
}
