//! The text of a uuid to its bytes.

/// A uuid in any of the forms that PostgreSQL reads.
pub(super) fn parse(text: &str) -> Option<[u8; 16]> {
    let text = text.trim();
    let text = text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).unwrap_or(text);
    let mut out = [0_u8; 16];
    let mut count = 0;
    for digit in text.bytes().filter(|byte| *byte != b'-') {
        let value = char::from(digit).to_digit(16)?;
        *out.get_mut(count / 2)? |= u8::try_from(value).ok()? << (4 * (1 - count % 2));
        count += 1;
    }
    (count == 32).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_read() {
        for text in ["abababab-abab-ABAB-abab-abababababab", " {abababababababababababababababab} "] {
            assert_eq!(parse(text), Some([0xab; 16]), "{text}");
        }
        for text in ["", "abababab-abab-abab-abab-ababababab", "abababab-abab-abab-abab-ababababababab", "é"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
