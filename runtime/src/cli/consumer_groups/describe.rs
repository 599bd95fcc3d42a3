//! `kafka-consumer-groups --describe`: offsets and lag, members, or the state, in Kafka's tables.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use super::super::admin::{Admin, Committed, Group, LATEST, Member};
use super::super::failure::{Failure, Out, Outcome};
use super::GroupsArgs;

pub(super) async fn run(args: &GroupsArgs, groups: &[String], admin: &mut Admin, out: Out<'_>) -> Outcome {
    let mut missing = false;
    for id in groups {
        let group = admin.describe_group(id).await?;
        let committed =
            if args.members || args.state.is_some() { BTreeMap::new() } else { admin.committed(id).await? };
        if group.state == "Dead" && committed.is_empty() {
            writeln!(out, "\nError: Consumer group '{id}' does not exist.")?;
            missing = true;
            continue;
        }
        // The notes go to stderr; what was printed before them must be seen before them.
        out.flush()?;
        note_state(id, &group.state);
        let table = if args.members {
            members_table(id, &group.members, args.verbose)
        } else if args.state.is_some() {
            state_table(id, &group, admin).await?
        } else {
            let rows = offset_rows(&group, &committed, admin).await?;
            offsets_table(id, &rows, args.verbose)
        };
        write!(out, "{table}")?;
    }
    if missing { Err(Failure::quiet(1)) } else { Ok(()) }
}

fn note_state(group: &str, state: &str) {
    match state {
        "Empty" => eprintln!("\nConsumer group '{group}' has no active members."),
        "PreparingRebalance" | "CompletingRebalance" | "Assigning" | "Reconciling" => {
            eprintln!("\nWarning: Consumer group '{group}' is rebalancing.");
        }
        _ => {}
    }
}

/// A row of the table of offsets.
#[derive(Debug, Default)]
struct OffsetRow {
    at: Option<(String, i32)>,
    committed: Option<Committed>,
    end: Option<i64>,
    member: Option<Member>,
}

async fn offset_rows(
    group: &Group,
    committed: &BTreeMap<(String, i32), Committed>,
    admin: &mut Admin,
) -> Outcome<Vec<OffsetRow>> {
    let assigned = group.members.iter().flat_map(|member| member.assigned.iter().cloned());
    let wanted: BTreeSet<(String, i32)> = assigned.chain(committed.keys().cloned()).collect();
    let names: BTreeSet<&String> = wanted.iter().map(|(topic, _)| topic).collect();
    let names: Vec<String> = names.into_iter().cloned().collect();
    let topics = if names.is_empty() { Vec::new() } else { admin.topics_named(&names).await? };
    let wanted: Vec<_> = wanted.into_iter().collect();
    let ends = admin.offsets_at(&topics, &wanted, LATEST).await?;
    let row = |at: &(String, i32), member: Option<Member>| OffsetRow {
        at: Some(at.clone()),
        committed: committed.get(at).copied(),
        end: ends.get(at).copied(),
        member,
    };
    let mut rows = Vec::new();
    for member in &group.members {
        if member.assigned.is_empty() {
            rows.push(OffsetRow { member: Some(member.clone()), ..OffsetRow::default() });
        }
        rows.extend(member.assigned.iter().map(|at| row(at, Some(member.clone()))));
    }
    let taken: BTreeSet<_> = group.members.iter().flat_map(|member| &member.assigned).collect();
    rows.extend(committed.keys().filter(|at| !taken.contains(at)).map(|at| row(at, None)));
    Ok(rows)
}

fn number(number: Option<i64>) -> String {
    number.map_or_else(|| "-".to_owned(), |number| number.to_string())
}

fn offsets_table(group: &str, rows: &[OffsetRow], verbose: bool) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let topic = |row: &OffsetRow| row.at.as_ref().map_or("-", |(topic, _)| topic.as_str()).to_owned();
    let member = |row: &OffsetRow, of: fn(&Member) -> &str| row.member.as_ref().map_or("-", of).to_owned();
    let width = |text: &dyn Fn(&OffsetRow) -> String| rows.iter().map(|r| text(r).len()).max().unwrap_or(0).max(15);
    let group_width = group.len().max(15);
    let topic_width = width(&topic);
    let id_width = width(&|row| member(row, |m| &m.id));
    let host_width = width(&|row| member(row, |m| &m.host));
    let epoch = |text: &str| if verbose { format!("{text:<15} ") } else { String::new() };
    let mut table = String::new();
    // Writing to a string cannot fail.
    let _ = write!(
        table,
        "\n{:<group_width$} {:<topic_width$} {:<10} {}{:<15} {:<15} {:<15} {:<id_width$} {:<host_width$} CLIENT-ID",
        "GROUP",
        "TOPIC",
        "PARTITION",
        epoch("LEADER-EPOCH"),
        "CURRENT-OFFSET",
        "LOG-END-OFFSET",
        "LAG",
        "CONSUMER-ID",
        "HOST"
    );
    for row in rows {
        let offset = row.committed.map(|committed| committed.offset);
        let lag = row.end.zip(offset).map(|(end, offset)| end - offset);
        let known_epoch = row.committed.map(|c| i64::from(c.epoch)).filter(|epoch| *epoch >= 0);
        let _ = write!(
            table,
            "\n{group:<group_width$} {:<topic_width$} {:<10} {}{:<15} {:<15} {:<15} {:<id_width$} {:<host_width$} {}",
            topic(row),
            number(row.at.as_ref().map(|(_, partition)| i64::from(*partition))),
            epoch(&number(known_epoch)),
            number(offset),
            number(row.end),
            number(lag),
            member(row, |m| &m.id),
            member(row, |m| &m.host),
            member(row, |m| &m.client)
        );
    }
    table.push('\n');
    table
}

fn members_table(group: &str, members: &[Member], verbose: bool) -> String {
    if members.is_empty() {
        return String::new();
    }
    let width = |of: fn(&Member) -> &str| members.iter().map(|member| of(member).len()).max().unwrap_or(0).max(15);
    let group_width = group.len().max(15);
    let id_width = width(|m| &m.id);
    let host_width = width(|m| &m.host);
    let client_width = width(|m| &m.client);
    let instance_width = width(|m| m.instance.as_deref().unwrap_or_default()).max(17);
    let has_instances = members.iter().any(|member| member.instance.is_some());
    let instance = |text: &str| if has_instances { format!("{text:<instance_width$} ") } else { String::new() };
    let mut table = format!(
        "\n{:<group_width$} {:<id_width$} {}{:<host_width$} {:<client_width$} {:<15} ",
        "GROUP",
        "CONSUMER-ID",
        instance("GROUP-INSTANCE-ID"),
        "HOST",
        "CLIENT-ID",
        "#PARTITIONS"
    );
    table.push_str(if verbose { "ASSIGNMENT\n" } else { "\n" });
    for member in members {
        // Writing to a string cannot fail.
        let _ = write!(
            table,
            "{group:<group_width$} {:<id_width$} {}{:<host_width$} {:<client_width$} {:<15} ",
            member.id,
            instance(member.instance.as_deref().unwrap_or("")),
            member.host,
            member.client,
            member.assigned.len()
        );
        if verbose {
            table.push_str(&assignment(member));
        }
        table.push('\n');
    }
    table
}

/// What a member reads: `topic1(0,1), topic2(0)`.
fn assignment(member: &Member) -> String {
    let mut topics: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (topic, partition) in &member.assigned {
        topics.entry(topic).or_default().push(partition.to_string());
    }
    if topics.is_empty() {
        return "-".to_owned();
    }
    let parts: Vec<_> = topics.iter().map(|(topic, numbers)| format!("{topic}({})", numbers.join(","))).collect();
    parts.join(", ")
}

async fn state_table(id: &str, group: &Group, admin: &mut Admin) -> Outcome<String> {
    let node = admin.coordinator(id).await?;
    let coordinator = match admin.cluster().nodes.iter().find(|known| known.id == node) {
        Some(known) => format!("{}:{}  ({})", known.host, known.port, node),
        None => format!("-  ({node})"),
    };
    let coordinator_width = coordinator.len().max(25);
    let group_width = id.len().max(15);
    let strategy_width = group.strategy.len().max(20);
    Ok(format!(
        "\n{:<group_width$} {:<coordinator_width$} {:<strategy_width$} {:<20} {}\n\
         {:<group_width$} {:<coordinator_width$} {:<strategy_width$} {:<20} {}\n",
        "GROUP",
        "COORDINATOR (ID)",
        "ASSIGNMENT-STRATEGY",
        "STATE",
        "#MEMBERS",
        id,
        coordinator,
        group.strategy,
        group.state,
        group.members.len()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member() -> Member {
        Member {
            id: "c-1".into(),
            instance: None,
            client: "c".into(),
            host: "/127.0.0.1".into(),
            assigned: vec![("t".into(), 0), ("t".into(), 1)],
        }
    }

    #[test]
    fn offsets_are_shown_as_kafka_does() {
        let rows = [
            OffsetRow {
                at: Some(("t".into(), 0)),
                committed: Some(Committed { offset: 3, epoch: 0 }),
                end: Some(5),
                member: Some(member()),
            },
            OffsetRow { at: Some(("t".into(), 1)), committed: None, end: Some(7), member: None },
        ];
        let table = offsets_table("g", &rows, false);
        assert_eq!(
            table.lines().nth(1).unwrap(),
            "GROUP           TOPIC           PARTITION  CURRENT-OFFSET  LOG-END-OFFSET  LAG             \
             CONSUMER-ID     HOST            CLIENT-ID"
        );
        assert_eq!(
            table.lines().nth(2).unwrap(),
            "g               t               0          3               5               2               \
             c-1             /127.0.0.1      c"
        );
        assert_eq!(
            table.lines().nth(3).unwrap(),
            "g               t               1          -               7               -               \
             -               -               -"
        );
        assert!(offsets_table("g", &rows, true).contains("PARTITION  LEADER-EPOCH    CURRENT-OFFSET"));
    }

    #[test]
    fn members_are_shown_with_their_assignment() {
        let table = members_table("g", &[member()], true);
        assert!(table.ends_with("2               t(0,1)\n"), "{table}");
        assert!(members_table("g", &[], true).is_empty());
    }
}
