//! `kafka-consumer-groups`: list, describe, rewind and delete consumer groups.
//!
//! Output is Kafka's. Unlike Kafka's tool, which mostly exits 0, a failure exits 1: a script should notice.

mod describe;
mod reset;

use std::collections::BTreeSet;
use std::path::PathBuf;

use clap::Args;

use super::admin::{Admin, AdminError, Topic};
use super::bootstrap::Bootstrap;
use super::failure::{Failure, Out, Outcome};
use super::topics::parse_partitions;

/// `kafka-consumer-groups`.
#[derive(Debug, Args)]
#[group(skip)]
pub(super) struct GroupsArgs {
    #[command(flatten)]
    bootstrap: Bootstrap,
    #[command(flatten)]
    action: Action,
    /// The group; may be repeated.
    #[arg(long)]
    group: Vec<String>,
    /// All groups.
    #[arg(long, conflicts_with = "group")]
    all_groups: bool,
    /// Topics, for --reset-offsets and --delete-offsets: TOPIC or TOPIC:0,1; may be repeated.
    #[arg(long)]
    topic: Vec<String>,
    /// All topics that the group has offsets of.
    #[arg(long, conflicts_with = "topic")]
    all_topics: bool,
    /// With --describe the group's state; with --list the states, or only groups in these: `Stable,Empty`.
    #[arg(long, num_args = 0..=1, default_missing_value = "")]
    state: Option<String>,
    /// With --list the types, or only groups of these: `classic,consumer`.
    #[arg(long = "type", num_args = 0..=1, default_missing_value = "")]
    kind: Option<String>,
    /// With --describe the members.
    #[arg(long)]
    members: bool,
    /// With --describe the offsets, which is the default.
    #[arg(long)]
    offsets: bool,
    /// With --describe more columns.
    #[arg(long)]
    verbose: bool,
    /// Accepted: how long to wait, in milliseconds.
    #[arg(long, hide = true)]
    timeout: Option<i64>,
    #[command(flatten)]
    reset: ResetArgs,
}

#[derive(Debug, Args)]
#[group(multiple = false)]
struct Action {
    /// List groups.
    #[arg(long)]
    list: bool,
    /// Show groups.
    #[arg(long)]
    describe: bool,
    /// Delete groups.
    #[arg(long)]
    delete: bool,
    /// Move a group's committed offsets.
    #[arg(long)]
    reset_offsets: bool,
    /// Delete a group's committed offsets.
    #[arg(long)]
    delete_offsets: bool,
}

/// Where `--reset-offsets` moves to.
#[derive(Debug, Default, Args)]
struct ResetArgs {
    /// Do it.
    #[arg(long, conflicts_with = "dry_run")]
    execute: bool,
    /// Only show what would be done, which is the default.
    #[arg(long)]
    dry_run: bool,
    /// Print the offsets as CSV.
    #[arg(long)]
    export: bool,
    /// To the beginning.
    #[arg(long, group = "reset_mode")]
    to_earliest: bool,
    /// To the end.
    #[arg(long, group = "reset_mode")]
    to_latest: bool,
    /// To where the group stands now.
    #[arg(long, group = "reset_mode")]
    to_current: bool,
    /// To an offset.
    #[arg(long, group = "reset_mode", allow_negative_numbers = true)]
    to_offset: Option<i64>,
    /// By so many messages, backwards if negative.
    #[arg(long, group = "reset_mode", allow_negative_numbers = true)]
    shift_by: Option<i64>,
    /// To the first message at or after a time: YYYY-MM-DDTHH:mm:SS.sss.
    #[arg(long, group = "reset_mode")]
    to_datetime: Option<String>,
    /// To the first message that is at most so old: PnDTnHnMnS.
    #[arg(long, group = "reset_mode")]
    by_duration: Option<String>,
    /// To the offsets in a CSV file.
    #[arg(long, group = "reset_mode", value_name = "FILE")]
    from_file: Option<PathBuf>,
}

/// Runs the tool.
pub(super) async fn run(args: GroupsArgs, out: Out<'_>) -> Outcome {
    let action = &args.action;
    if !(action.list || action.describe || action.delete || action.reset_offsets || action.delete_offsets) {
        return Err(Failure::new(
            "Command must include exactly one action: --list, --describe, --delete, --reset-offsets, --delete-offsets",
        ));
    }
    args.bootstrap.servers()?;
    if !action.list && args.group.is_empty() && !args.all_groups {
        return Err(Failure::new("this action takes one of these options: --all-groups, --group"));
    }
    if args.state.as_ref().is_some_and(|states| !states.is_empty()) && !action.list {
        return Err(Failure::new("--state takes states with --list only"));
    }
    if action.reset_offsets {
        reset::check(&args)?;
    }
    act(&args, out).await.map_err(|failure| {
        failure.told_as(|message| match message.strip_prefix('\n') {
            Some(told) => format!("\n{told}"),
            None => format!("\nError: Executing consumer group command failed due to {message}"),
        })
    })
}

/// A refusal in Kafka's form for this tool.
fn refused(message: impl std::fmt::Display) -> Failure {
    Failure::on_stdout(format!("\nError: {message}"))
}

async fn act(args: &GroupsArgs, out: Out<'_>) -> Outcome {
    let mut admin = args.bootstrap.admin().await?;
    if args.action.list {
        return list(args, &mut admin, out).await;
    }
    let groups = if args.all_groups { consumer_groups(&mut admin).await? } else { args.group.clone() };
    if args.action.describe {
        return describe::run(args, &groups, &mut admin, out).await;
    }
    if args.action.delete {
        return delete(&groups, &mut admin, out).await;
    }
    if args.action.delete_offsets {
        for group in &groups {
            delete_offsets(args, group, &mut admin, out).await?;
        }
        return Ok(());
    }
    reset::run(args, &groups, &mut admin, out).await
}

/// All groups that consumers or offset stores made.
async fn consumer_groups(admin: &mut Admin) -> Outcome<Vec<String>> {
    let groups = admin.groups().await?;
    let ours = groups.into_iter().filter(|group| matches!(group.protocol_type.as_str(), "consumer" | ""));
    Ok(ours.map(|group| group.id).collect())
}

async fn list(args: &GroupsArgs, admin: &mut Admin, out: Out<'_>) -> Outcome {
    let wanted = |filter: &Option<String>, word: &str| {
        let words: Vec<&str> = filter.as_deref().unwrap_or_default().split(',').map(str::trim).collect();
        words == [""] || words.iter().any(|wanted| wanted.eq_ignore_ascii_case(word))
    };
    let mut groups = admin.groups().await?;
    groups.retain(|group| {
        matches!(group.protocol_type.as_str(), "consumer" | "")
            && wanted(&args.state, &group.state)
            && wanted(&args.kind, &group.kind)
    });
    let width = groups.iter().map(|group| group.id.len()).max().unwrap_or(0).max(15);
    match (&args.kind, &args.state) {
        (None, None) => {
            for group in groups {
                writeln!(out, "{}", group.id)?;
            }
        }
        (None, Some(_)) => {
            writeln!(out, "{:<width$} STATE", "GROUP")?;
            for group in groups {
                writeln!(out, "{:<width$} {}", group.id, group.state)?;
            }
        }
        (Some(_), None) => {
            writeln!(out, "{:<width$} TYPE", "GROUP")?;
            for group in groups {
                writeln!(out, "{:<width$} {}", group.id, title(&group.kind))?;
            }
        }
        (Some(_), Some(_)) => {
            writeln!(out, "{:<width$} {:<20} STATE", "GROUP", "TYPE")?;
            for group in groups {
                writeln!(out, "{:<width$} {:<20} {}", group.id, title(&group.kind), group.state)?;
            }
        }
    }
    Ok(())
}

/// A type as Kafka's tool shows it.
fn title(kind: &str) -> &str {
    match kind {
        "classic" => "Classic",
        "consumer" => "Consumer",
        other => other,
    }
}

/// The Java name of an error, which Kafka's tool shows with its message.
fn java_error(error: &AdminError) -> String {
    let class = match error.code() {
        Some(24) => "InvalidGroupIdException",
        Some(30) => "GroupAuthorizationException",
        Some(68) => "GroupNotEmptyException",
        Some(69) => "GroupIdNotFoundException",
        _ => return error.to_string(),
    };
    format!("org.apache.kafka.common.errors.{class}: {error}")
}

async fn delete(groups: &[String], admin: &mut Admin, out: Out<'_>) -> Outcome {
    let (mut deleted, mut refused) = (Vec::new(), Vec::new());
    for group in groups {
        match admin.delete_group(group).await {
            Ok(()) => deleted.push(format!("'{group}'")),
            Err(error) => {
                refused.push(format!("* Group '{group}' could not be deleted due to: {}", java_error(&error)));
            }
        }
    }
    let deleted = deleted.join(", ");
    if refused.is_empty() {
        writeln!(out, "Deletion of requested consumer groups ({deleted}) was successful.")?;
        return Ok(());
    }
    writeln!(out, "\nError: Deletion of some consumer groups failed:")?;
    for line in refused {
        writeln!(out, "{line}")?;
    }
    if !deleted.is_empty() {
        writeln!(out, "\nThese consumer groups were deleted successfully: {deleted}")?;
    }
    Err(Failure::quiet(1))
}

async fn delete_offsets(args: &GroupsArgs, group: &str, admin: &mut Admin, out: Out<'_>) -> Outcome {
    if args.topic.is_empty() && !args.all_topics {
        return Err(Failure::new("Option [delete-offsets] takes the following options: [group], [topic]"));
    }
    let partitions = partitions_of(args, group, admin).await?;
    let results = match admin.delete_offsets(group, &partitions).await {
        Ok(results) => results,
        Err(error) => {
            return Err(match error.code() {
                Some(69) => refused(format_args!("'{group}' does not exist.")),
                Some(24) => refused(format_args!("'{group}' is not valid.")),
                Some(68) => refused(format_args!(
                    "Deleting offsets of a consumer group '{group}' is forbidden if the group is not empty."
                )),
                _ => error.into(),
            });
        }
    };
    let failed = results.values().any(|code| *code != 0);
    if failed {
        writeln!(out, "\nError: Encountered some partition-level error, see the follow-up details:")?;
    } else {
        writeln!(out, "Request succeed for deleting offsets from group {group}.")?;
    }
    writeln!(out, "\n{:<30} {:<15} {:<15}", "TOPIC", "PARTITION", "STATUS")?;
    for ((topic, partition), code) in results {
        let status = match code {
            0 => "Successful".to_owned(),
            code => format!("Error: {}", super::admin::meaning(code)),
        };
        writeln!(out, "{topic:<30} {partition:<15} {status:<15}")?;
    }
    writeln!(out)?;
    if failed { Err(Failure::quiet(1)) } else { Ok(()) }
}

/// The partitions that `--topic` or `--all-topics` mean for a group.
async fn partitions_of(args: &GroupsArgs, group: &str, admin: &mut Admin) -> Outcome<Vec<(String, i32)>> {
    if args.all_topics {
        return Ok(admin.committed(group).await?.into_keys().collect());
    }
    let chosen: Vec<_> = args.topic.iter().map(|text| parse_partitions(text)).collect::<Outcome<_>>()?;
    let topics = admin.topics().await?;
    chosen_partitions(&chosen, &topics)
}

fn chosen_partitions(chosen: &[(String, BTreeSet<i32>)], topics: &[Topic]) -> Outcome<Vec<(String, i32)>> {
    let mut partitions = Vec::new();
    for (name, numbers) in chosen {
        let Some(topic) = topics.iter().find(|topic| topic.name == *name) else {
            return Err(Failure::new(format!("topic {name} does not exist")));
        };
        if numbers.is_empty() {
            partitions.extend(topic.partitions.iter().map(|state| (name.clone(), state.partition)));
        }
        for number in numbers {
            if !topic.partitions.iter().any(|state| state.partition == *number) {
                return Err(Failure::new(format!("topic {name} has no partition {number}")));
            }
            partitions.push((name.clone(), *number));
        }
    }
    Ok(partitions)
}
