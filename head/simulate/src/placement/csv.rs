//! The files of nodes and tasks: comma-separated, the first line names the columns, in any order; columns that are not
//! named here are ignored. All faults come together, each with its place and how to mend it.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use serde::Serialize;

/// Faults reported at most; a file of another kind has one in every line.
const MAX_FAULTS: usize = 50;
const MAX_CPU_MILLI: u64 = 100_000_000;
const MAX_GPUS: u32 = 64;
const WHOLE_MILLI: u32 = 1000;

/// A node of the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NodeRow {
    /// Thousandths of cores.
    pub cpu_milli: u64,
    /// Devices.
    pub num_gpus: u32,
    /// Their model.
    pub model: String,
}

/// The nodes of a file, in its order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Nodes {
    /// One a line.
    pub rows: Vec<NodeRow>,
}

/// A task of the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Task {
    /// Thousandths of cores.
    pub cpu_milli: u64,
    /// Devices; 0 for none.
    pub num_gpus: u32,
    /// Thousandths of each device: below 1000 only with one device.
    pub gpu_milli: u32,
    /// Accepted models; empty means any.
    pub models: Vec<String>,
}

/// The tasks of a file, in its order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Tasks {
    /// One a line.
    pub tasks: Vec<Task>,
}

/// One thing that is wrong with a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CsvFault {
    /// The file's name.
    pub file: String,
    /// Its line, from 1.
    pub line: usize,
    /// Its column in characters, from 1.
    pub column: usize,
    /// What is wrong.
    pub message: String,
    /// How to mend it.
    pub help: String,
}

impl fmt::Display for CsvFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, column, message, help } = self;
        write!(f, "{file}:{line}:{column}: {message}; {help}")
    }
}

impl Nodes {
    /// Reads `cpu_milli`, `gpu` and `model`.
    ///
    /// # Errors
    /// All faults, at least one.
    pub fn parse(file: &str, text: &str) -> Result<Self, Vec<CsvFault>> {
        let mut table = Table::new(file, text);
        let [cpu, gpu, model] = ["cpu_milli", "gpu", "model"].map(|name| table.column(name));
        let mut rows = Vec::new();
        while let Some(row) = table.next_row() {
            let cpu_milli = table.number(&row, cpu, 0..=MAX_CPU_MILLI);
            let num_gpus = table.number(&row, gpu, 0..=MAX_GPUS);
            let model = row.field(model).map_or("", |(_, text)| text).to_owned();
            if let (Some(cpu_milli), Some(num_gpus)) = (cpu_milli, num_gpus) {
                rows.push(NodeRow { cpu_milli, num_gpus, model });
            }
        }
        if table.faults.is_empty() && rows.iter().all(|row| row.num_gpus == 0) {
            table.fault(1, 1, "no node has a GPU".into(), "give at least one node `gpu` of 1 or more");
        }
        table.end(Self { rows })
    }
}

impl Tasks {
    /// Reads `cpu_milli`, `num_gpu`, `gpu_milli` and, when there, `gpu_spec`: accepted models, separated by `|`.
    ///
    /// # Errors
    /// All faults, at least one.
    pub fn parse(file: &str, text: &str) -> Result<Self, Vec<CsvFault>> {
        let mut table = Table::new(file, text);
        let [cpu, count, milli] = ["cpu_milli", "num_gpu", "gpu_milli"].map(|name| table.column(name));
        let spec = table.optional("gpu_spec");
        let mut tasks = Vec::new();
        while let Some(row) = table.next_row() {
            let cpu_milli = table.number(&row, cpu, 0..=MAX_CPU_MILLI);
            let num_gpus = table.number(&row, count, 0..=MAX_GPUS);
            let gpu_milli = table.number(&row, milli, 0..=WHOLE_MILLI);
            let (Some(cpu_milli), Some(num_gpus), Some(gpu_milli)) = (cpu_milli, num_gpus, gpu_milli) else {
                continue;
            };
            let fault = match (num_gpus, gpu_milli) {
                (1.., 0) => Some("set it to 1 to 1000, or `num_gpu` to 0"),
                (2.., 1..WHOLE_MILLI) => Some("more than one GPU comes whole: set it to 1000"),
                _ => None,
            };
            if let (Some(help), Some((column, _))) = (fault, row.field(milli)) {
                let message = format!("`gpu_milli` is `{gpu_milli}` with `num_gpu` {num_gpus}");
                table.fault(row.line, column, message, help);
            }
            let models = row.field(spec).map_or("", |(_, text)| text).split('|');
            let models = models.map(str::trim).filter(|model| !model.is_empty()).map(str::to_owned).collect();
            let gpu_milli = if num_gpus == 0 { 0 } else { gpu_milli };
            tasks.push(Task { cpu_milli, num_gpus, gpu_milli, models });
        }
        if table.faults.is_empty() && tasks.iter().all(|task| task.num_gpus == 0) {
            table.fault(1, 1, "no task asks for a GPU".into(), "add tasks with `num_gpu` of 1 or more");
        }
        table.end(Self { tasks })
    }
}

/// A file that is being read.
struct Table<'a> {
    file: &'a str,
    header: Vec<&'a str>,
    lines: Box<dyn Iterator<Item = (usize, &'a str)> + 'a>,
    faults: Vec<CsvFault>,
    num_more: usize,
}

/// One line's fields, each with its column.
struct Row<'a> {
    line: usize,
    fields: Vec<(usize, &'a str)>,
}

impl<'a> Row<'a> {
    fn field(&self, index: Option<usize>) -> Option<(usize, &'a str)> {
        self.fields.get(index?).copied()
    }
}

impl<'a> Table<'a> {
    fn new(file: &'a str, text: &'a str) -> Self {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut lines = text.lines().enumerate().map(|(index, line)| (index + 1, line));
        let header = lines.next().map_or("", |(_, line)| line).split(',').map(str::trim).collect();
        Self { file, header, lines: Box::new(lines), faults: Vec::new(), num_more: 0 }
    }

    fn optional(&self, name: &str) -> Option<usize> {
        self.header.iter().position(|column| *column == name)
    }

    fn column(&mut self, name: &str) -> Option<usize> {
        let found = self.optional(name);
        if found.is_none() {
            let help = format!("name it in the first line, which is `{}`", self.header.join(","));
            self.fault(1, 1, format!("there is no column `{name}`"), &help);
        }
        found
    }

    /// The next line that is not blank and has as many fields as the first one.
    fn next_row(&mut self) -> Option<Row<'a>> {
        loop {
            let (line, text) = self.lines.next()?;
            if text.trim().is_empty() {
                continue;
            }
            let mut column = 1;
            let field = |field: &'a str| {
                let at = column + field.chars().take_while(|c| c.is_whitespace()).count();
                column += field.chars().count() + 1;
                (at, field.trim())
            };
            let fields: Vec<_> = text.split(',').map(field).collect();
            if fields.len() == self.header.len() {
                return Some(Row { line, fields });
            }
            let message =
                format!("the line has {} fields, the first line {}", fields.len(), self.header.len());
            self.fault(line, 1, message, "give every column a field; fields are not quoted");
        }
    }

    fn number<T>(&mut self, row: &Row<'a>, index: Option<usize>, bounds: RangeInclusive<T>) -> Option<T>
    where
        T: FromStr + PartialOrd + fmt::Display,
    {
        let (column, text) = row.field(index)?;
        let value = text.parse().ok().filter(|value| bounds.contains(value));
        if value.is_none() {
            let message = format!("`{}` is `{text}`", index.map_or("", |index| self.header[index]));
            let help = format!("set it to a whole number from {} to {}", bounds.start(), bounds.end());
            self.fault(row.line, column, message, &help);
        }
        value
    }

    fn fault(&mut self, line: usize, column: usize, message: String, help: &str) {
        if self.faults.len() < MAX_FAULTS {
            let (file, help) = (self.file.to_owned(), help.to_owned());
            self.faults.push(CsvFault { file, line, column, message, help });
        } else {
            self.num_more += 1;
        }
    }

    fn end<T>(mut self, value: T) -> Result<T, Vec<CsvFault>> {
        if let (Some(last), 1..) = (self.faults.last_mut(), self.num_more) {
            last.help += &format!(" (and {} faults more)", self.num_more);
        }
        if self.faults.is_empty() { Ok(value) } else { Err(self.faults) }
    }
}
