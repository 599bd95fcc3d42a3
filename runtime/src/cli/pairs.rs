//! `key=value` arguments.

/// Parses one `key=value`.
pub(super) fn parse(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => Ok((key.trim().to_owned(), value.to_owned())),
        _ => Err(format!("'{text}' is not of the form key=value")),
    }
}

/// Parses `k1=v1,k2=[a,b]`: commas inside square brackets belong to the value, the brackets do not.
pub(super) fn parse_list(text: &str) -> Result<Vec<(String, String)>, String> {
    let mut pairs = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let (key, after) = rest.split_once('=').ok_or_else(|| format!("'{rest}' is not of the form key=value"))?;
        let (value, next) = match after.strip_prefix('[') {
            Some(list) => {
                let (value, next) =
                    list.split_once(']').ok_or_else(|| format!("the bracket of {key}= is not closed"))?;
                (value, next.strip_prefix(',').unwrap_or(next))
            }
            None => after.split_once(',').unwrap_or((after, "")),
        };
        if key.trim().is_empty() {
            return Err(format!("'{rest}' is not of the form key=value"));
        }
        pairs.push((key.trim().to_owned(), value.to_owned()));
        rest = next.trim_start();
    }
    Ok(pairs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_keep_commas_together() {
        let pair = |k: &str, v: &str| (k.to_owned(), v.to_owned());
        assert_eq!(
            parse_list("cleanup.policy=[compact,delete],retention.ms=1,empty=").unwrap(),
            vec![pair("cleanup.policy", "compact,delete"), pair("retention.ms", "1"), pair("empty", "")]
        );
        assert!(parse_list("a=[b").is_err() && parse_list("a").is_err() && parse_list("=b").is_err());
        assert_eq!(parse("a=b=c").unwrap(), pair("a", "b=c"));
    }
}
