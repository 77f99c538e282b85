//! The figures: each as a value, and as a ratio to its floor.

use serde::Serialize;

/// One line of the table.
#[derive(Clone, Debug, Serialize)]
pub struct Figure {
    pub part: &'static str,
    pub name: String,
    pub value: f64,
    pub unit: &'static str,
    /// What the same machine does in the same run without the hub.
    pub floor: Option<f64>,
    /// `value / floor`.
    pub ratio: Option<f64>,
}

/// All lines so far.
#[derive(Default)]
pub struct Report {
    figures: Vec<Figure>,
}

impl Report {
    /// Adds a figure, and says it at once: a long run shows where it is.
    pub fn add(&mut self, part: &'static str, name: impl Into<String>, value: f64, unit: &'static str) {
        self.push(part, name.into(), value, unit, None);
    }

    /// Adds a figure that has a floor.
    pub fn compare(&mut self, part: &'static str, name: impl Into<String>, value: f64, unit: &'static str, floor: f64) {
        self.push(part, name.into(), value, unit, Some(floor));
    }

    fn push(&mut self, part: &'static str, name: String, value: f64, unit: &'static str, floor: Option<f64>) {
        let figure = Figure {
            part,
            name,
            value,
            unit,
            floor,
            ratio: floor.filter(|floor| *floor > 0.0).map(|floor| value / floor),
        };
        eprintln!("{}", line(&figure));
        self.figures.push(figure);
    }

    /// The table, then the same as one line of JSON.
    pub fn print(&self) {
        println!(
            "{:<9} {:<58} {:>12} {:<14} {:>12} {:>7}",
            "part", "figure", "value", "unit", "floor", "ratio"
        );
        for figure in &self.figures {
            println!("{}", line(figure));
        }
        println!("{}", serde_json::to_string(&self.figures).unwrap_or_default());
    }
}

fn line(figure: &Figure) -> String {
    let floor = figure.floor.map(number).unwrap_or_default();
    let ratio = figure.ratio.map(|ratio| format!("{ratio:.2}")).unwrap_or_default();
    let (value, unit) = (number(figure.value), figure.unit);
    format!(
        "{:<9} {:<58} {value:>12} {unit:<14} {floor:>12} {ratio:>7}",
        figure.part, figure.name
    )
}

fn number(value: f64) -> String {
    if value >= 1_000.0 {
        format!("{value:.0}")
    } else {
        format!("{value:.2}")
    }
}
