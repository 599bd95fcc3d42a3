//! `towline verify`: are two tables of two PostgreSQL databases the same?
//!
//! Each side computes its own count and checksum in one scan, both at once; rows travel only where they differ. Exit
//! code 0 is equal, 1 different, 2 could not compare. It must never write to either database.

mod canonical;
mod differences;
mod side;

use std::process::ExitCode;

use clap::{Args, ValueEnum};

use super::failure::{Failure, Out, Outcome};
use canonical::{Compared, pair_columns};
use differences::{Difference, first_differences};
use side::Side;

/// `towline verify`.
#[derive(Debug, Args)]
pub(super) struct VerifyArgs {
    /// The source database: jdbc:postgresql://HOST:PORT/DB?user=..&password=.. or postgres://USER:PASSWORD@HOST/DB.
    #[arg(long, value_name = "URL")]
    source: String,
    /// The target database.
    #[arg(long, value_name = "URL")]
    target: String,
    /// The table, with its schema if that is not on the search path.
    #[arg(long)]
    table: String,
    /// The table in the target, if its name differs.
    #[arg(long)]
    target_table: Option<String>,
    /// Only these columns: `a,b`.
    #[arg(long, value_delimiter = ',')]
    columns: Vec<String>,
    /// The columns that identify a row, if not the primary key: `a,b`.
    #[arg(long, value_delimiter = ',')]
    key: Vec<String>,
    /// Take timestamps as equal that are equal to the millisecond.
    #[arg(long, value_name = "UNIT")]
    truncate_timestamps: Option<Unit>,
    /// How many differences to show.
    #[arg(long, default_value_t = 10)]
    limit: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Unit {
    /// Milliseconds, which is what Connect's Timestamp holds.
    Ms,
}

/// Runs the tool.
pub(super) async fn run(args: VerifyArgs, out: Out<'_>) -> Outcome<ExitCode> {
    compare(&args, out).await.map_err(|failure| {
        // A closed stdout ends quietly; all else means that there was no comparison.
        let code = if failure.message().is_empty() { 0 } else { 2 };
        failure.with_code(code)
    })
}

async fn compare(args: &VerifyArgs, out: Out<'_>) -> Outcome<ExitCode> {
    let target_table = args.target_table.as_deref().unwrap_or(&args.table);
    let (mut source, mut target) = tokio::try_join!(
        Side::open("source", &args.source, &args.table),
        Side::open("target", &args.target, target_table)
    )?;
    let (compared, missing) = pair_columns(source.columns(), target.columns(), &args.columns)?;
    for note in &missing.notes {
        writeln!(out, "{note}")?;
    }
    let (here, there) = tokio::try_join!(source.checksum(&compared, false), target.checksum(&compared, true))?;
    for (side, sums) in [(&source, &here), (&target, &there)] {
        writeln!(out, "{}: {} has {} rows, checksum {}", side.name(), side.table(), sums.count, sums.full)?;
    }
    let same_count = here.count == there.count;
    let truncated_same = same_count && here.truncated == there.truncated;
    let full_same = same_count && here.full == there.full;
    if truncated_same && !full_same {
        let times: Vec<_> = compared.iter().filter(|c| c.is_time()).map(|c| c.name.as_str()).collect();
        writeln!(
            out,
            "timestamp: precision lost by TimestampConverter (or by Connect's milliseconds) in one of: {}; all values \
             agree to the millisecond",
            times.join(", ")
        )?;
    }
    let accepts = args.truncate_timestamps == Some(Unit::Ms);
    if (full_same || accepts && truncated_same) && missing.in_target == 0 {
        writeln!(out, "equal: {} rows, {} columns", here.count, compared.len())?;
        return Ok(ExitCode::SUCCESS);
    }
    if full_same || accepts && truncated_same {
        writeln!(out, "different: {} column(s) missing in the target", missing.in_target)?;
        return Ok(ExitCode::FAILURE);
    }
    writeln!(out, "different")?;
    if truncated_same {
        writeln!(out, "add --truncate-timestamps ms to take these as equal")?;
    }
    let key = key_columns(args, &source, &compared)?;
    if key.is_empty() {
        writeln!(out, "which rows differ is not shown: there is no primary key; name one with --key")?;
        return Ok(ExitCode::FAILURE);
    }
    let found = first_differences(&mut source, &mut target, &compared, &key, accepts, args.limit).await?;
    print_differences(&found, &key, args.limit, out)?;
    Ok(ExitCode::FAILURE)
}

/// The columns that identify a row: those asked for, else the source's primary key.
fn key_columns(args: &VerifyArgs, source: &Side, compared: &[Compared]) -> Outcome<Vec<Compared>> {
    let names: &[String] = if args.key.is_empty() { source.primary_key() } else { &args.key };
    let column = |name: &String| compared.iter().find(|column| column.name == *name).cloned();
    let found: Option<Vec<_>> = names.iter().map(column).collect();
    match found {
        Some(found) => Ok(found),
        None if args.key.is_empty() => Ok(Vec::new()),
        None => Err(Failure::new(format!(
            "--key {} names a column that is not compared; it must be in both tables and in --columns",
            args.key.join(",")
        ))),
    }
}

fn print_differences(found: &[Difference], key: &[Compared], limit: usize, out: Out<'_>) -> Outcome {
    for difference in found {
        let values = key.iter().zip(difference.key());
        let key: Vec<_> =
            values.map(|(column, value)| format!("{}={}", column.name, value.unwrap_or("NULL"))).collect();
        let key = key.join(" ");
        match difference {
            Difference::OnlySource(_) => writeln!(out, "  {key}: only in the source")?,
            Difference::OnlyTarget(_) => writeln!(out, "  {key}: only in the target")?,
            Difference::Changed(_, columns) => {
                for (name, source, target) in columns {
                    let shown = |value: &Option<String>| value.clone().unwrap_or_else(|| "NULL".to_owned());
                    writeln!(
                        out,
                        "  {key}: {name} is {} in the source, {} in the target",
                        shown(source),
                        shown(target)
                    )?;
                }
            }
        }
    }
    if found.len() >= limit {
        writeln!(out, "  ... the first {limit} are shown, more with --limit")?;
    }
    Ok(())
}
