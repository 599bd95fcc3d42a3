//! `kafka-consumer-groups --reset-offsets`: moves the committed offsets of groups without members.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use super::super::admin::{Admin, EARLIEST, LATEST, Topic};
use super::super::failure::{Failure, Out, Outcome};
use super::super::moment::{parse_datetime, parse_duration};
use super::{GroupsArgs, ResetArgs, partitions_of, refused};

type Offsets = BTreeMap<(String, i32), i64>;

/// What can be refused without asking the cluster.
pub(super) fn check(args: &GroupsArgs) -> Outcome {
    let reset = &args.reset;
    let mode = reset.to_earliest
        || reset.to_latest
        || reset.to_current
        || reset.to_offset.is_some()
        || reset.shift_by.is_some()
        || reset.to_datetime.is_some()
        || reset.by_duration.is_some()
        || reset.from_file.is_some();
    // An export without a mode prints where the group stands.
    if !mode && !reset.export {
        return Err(Failure::new(
            "Option [reset-offsets] requires one of: --to-offset, --shift-by, --to-datetime, --by-duration, \
             --to-earliest, --to-latest, --from-file, --to-current",
        ));
    }
    if args.topic.is_empty() && !args.all_topics && reset.from_file.is_none() {
        return Err(Failure::new("Option [reset-offsets] takes one of these options: [all-topics], [topic]"));
    }
    if !reset.execute && !reset.dry_run && !reset.export {
        eprintln!("WARN: No action will be performed as the --execute option is missing.");
    }
    Ok(())
}

pub(super) async fn run(args: &GroupsArgs, groups: &[String], admin: &mut Admin, out: Out<'_>) -> Outcome {
    let mut all = Vec::new();
    for id in groups {
        let state = admin.describe_group(id).await?.state;
        if state != "Empty" && state != "Dead" {
            return Err(refused(format_args!(
                "Assignments can only be reset if the group '{id}' is inactive, but the current state is {state}."
            )));
        }
        let offsets = match &args.reset.from_file {
            Some(path) => {
                let text = std::fs::read_to_string(path)
                    .map_err(|error| Failure::new(format!("cannot read {}: {error}", path.display())))?;
                let wanted = from_csv(&text, id)?;
                within_log(wanted, admin).await?
            }
            None => new_offsets(args, id, admin).await?,
        };
        if args.reset.execute && !offsets.is_empty() {
            admin.commit(id, &offsets).await?;
        }
        all.push((id, offsets));
    }
    if args.reset.export {
        let several = groups.len() > 1;
        for (id, offsets) in all {
            for ((topic, partition), offset) in offsets {
                let prefix = if several { format!("{id},") } else { String::new() };
                writeln!(out, "{prefix}{topic},{partition},{offset}")?;
            }
        }
        return Ok(());
    }
    writeln!(out, "\n{:<30} {:<30} {:<10} {:<15}", "GROUP", "TOPIC", "PARTITION", "NEW-OFFSET")?;
    for (id, offsets) in all {
        for ((topic, partition), offset) in offsets {
            writeln!(out, "{id:<30} {topic:<30} {partition:<10} {offset:<15}")?;
        }
    }
    Ok(())
}

/// The offsets that the mode means for a group.
async fn new_offsets(args: &GroupsArgs, group: &str, admin: &mut Admin) -> Outcome<Offsets> {
    let partitions = partitions_of(args, group, admin).await?;
    let topics = topics_of(&partitions, admin).await?;
    let reset = &args.reset;
    if reset.to_earliest {
        return Ok(admin.offsets_at(&topics, &partitions, EARLIEST).await?);
    }
    if reset.to_latest {
        return Ok(admin.offsets_at(&topics, &partitions, LATEST).await?);
    }
    if let Some(time) = time_of(reset)? {
        let mut found = admin.offsets_at(&topics, &partitions, time).await?;
        // Where no message is that new, the end is meant.
        let ends = admin.offsets_at(&topics, &partitions, LATEST).await?;
        for (at, offset) in found.iter_mut().filter(|(_, offset)| **offset < 0) {
            *offset = ends.get(at).copied().unwrap_or(0);
        }
        return Ok(found);
    }
    if let Some(offset) = reset.to_offset {
        let wanted = partitions.into_iter().map(|at| (at, offset)).collect();
        return within_log(wanted, admin).await;
    }
    let committed = admin.committed(group).await?;
    let current = |at: &(String, i32)| committed.get(at).map(|committed| committed.offset);
    if let Some(shift) = reset.shift_by {
        let mut wanted = Offsets::new();
        for at in partitions {
            let offset = current(&at).ok_or_else(|| {
                Failure::new(format!(
                    "Cannot shift offset for partition {}-{} since there is no current committed offset",
                    at.0, at.1
                ))
            })?;
            wanted.insert(at, offset.saturating_add(shift));
        }
        return within_log(wanted, admin).await;
    }
    // To where the group stands, which is the end where it has never been.
    let ends = admin.offsets_at(&topics, &partitions, LATEST).await?;
    let stands = |at: (String, i32)| Some((current(&at).or_else(|| ends.get(&at).copied())?, at));
    Ok(partitions.into_iter().filter_map(stands).map(|(offset, at)| (at, offset)).collect())
}

fn time_of(reset: &ResetArgs) -> Outcome<Option<i64>> {
    if let Some(text) = &reset.to_datetime {
        return parse_datetime(text).map(Some).map_err(Failure::new);
    }
    let Some(text) = &reset.by_duration else { return Ok(None) };
    let duration = parse_duration(text).map_err(Failure::new)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    Ok(Some(i64::try_from(now).unwrap_or(i64::MAX).saturating_sub(duration).max(0)))
}

async fn topics_of(partitions: &[(String, i32)], admin: &mut Admin) -> Outcome<Vec<Topic>> {
    let mut names: Vec<String> = partitions.iter().map(|(topic, _)| topic.clone()).collect();
    names.dedup();
    if names.is_empty() {
        return Ok(Vec::new());
    }
    Ok(admin.topics_named(&names).await?)
}

/// Moves offsets that lie outside of their log to its nearest end.
async fn within_log(wanted: Offsets, admin: &mut Admin) -> Outcome<Offsets> {
    let partitions: Vec<_> = wanted.keys().cloned().collect();
    let topics = topics_of(&partitions, admin).await?;
    let starts = admin.offsets_at(&topics, &partitions, EARLIEST).await?;
    let ends = admin.offsets_at(&topics, &partitions, LATEST).await?;
    let mut kept = Offsets::new();
    for (at, offset) in wanted {
        let (Some(start), Some(end)) = (starts.get(&at), ends.get(&at)) else {
            return Err(Failure::new(format!("partition {}-{} does not exist or has no leader", at.0, at.1)));
        };
        let within = offset.clamp(*start, *end);
        if within != offset {
            let side = if within > offset { "lower than earliest" } else { "higher than latest" };
            eprintln!(
                "WARN New offset ({offset}) is {side} offset for topic partition {}-{}. Value will be set to {within}",
                at.0, at.1
            );
        }
        kept.insert(at, within);
    }
    Ok(kept)
}

/// Offsets of a CSV file: `topic,partition,offset`, or `group,topic,partition,offset`.
fn from_csv(text: &str, group: &str) -> Outcome<Offsets> {
    let mut offsets = Offsets::new();
    for (line, fields) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let fields: Vec<&str> = fields.split(',').map(|field| field.trim().trim_matches('"')).collect();
        let (topic, partition, offset) = match fields.as_slice() {
            [of, _, _, _] if *of != group => continue,
            [topic, partition, offset] | [_, topic, partition, offset] => (topic, partition, offset),
            _ => return Err(bad_csv(line)),
        };
        let (Ok(partition), Ok(offset)) = (partition.parse(), offset.parse()) else { return Err(bad_csv(line)) };
        offsets.insert(((*topic).to_owned(), partition), offset);
    }
    Ok(offsets)
}

fn bad_csv(line: usize) -> Failure {
    Failure::new(format!(
        "line {} of the offsets file is not of the form topic,partition,offset or group,topic,partition,offset",
        line + 1
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_offsets_from_csv_with_and_without_groups() {
        let offsets = from_csv("t,0,5\ng,t,1,6\nother,t,2,7\n\n\"u\",0,1\n", "g").unwrap();
        let at = |topic: &str, partition| (topic.to_owned(), partition);
        assert_eq!(offsets, Offsets::from([(at("t", 0), 5), (at("t", 1), 6), (at("u", 0), 1)]));
        assert!(from_csv("t,0\n", "g").is_err() && from_csv("t,x,1\n", "g").is_err());
    }
}
