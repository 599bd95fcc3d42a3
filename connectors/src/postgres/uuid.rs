//! The text of a uuid to its bytes.

/// A uuid in any of the forms that PostgreSQL reads.
pub(super) fn parse(text: &str) -> Option<[u8; 16]> {
    canonical(text.as_bytes()).or_else(|| any_form(text))
}

/// The form that PostgreSQL writes.
fn canonical(text: &[u8]) -> Option<[u8; 16]> {
    let text: &[u8; 36] = text.try_into().ok()?;
    let mut out = [0; 16];
    // Invalid digits show at the end, in one look.
    let (mut at, mut invalid) = (0, 0);
    for (index, byte) in out.iter_mut().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            invalid |= u8::from(text[at] != b'-') << 7;
            at += 1;
        }
        let (high, low) = (DIGITS[usize::from(text[at])], DIGITS[usize::from(text[at + 1])]);
        invalid |= high | low;
        *byte = high << 4 | low & 15;
        at += 2;
    }
    (invalid < 16).then_some(out)
}

/// What each byte means as a hexadecimal digit; 255 if it is none.
const DIGITS: [u8; 256] = {
    let mut digits = [255; 256];
    let mut at = 0;
    while at < 10 {
        digits[b'0' as usize + at] = at as u8;
        at += 1;
    }
    while at < 16 {
        digits[b'a' as usize + at - 10] = at as u8;
        digits[b'A' as usize + at - 10] = at as u8;
        at += 1;
    }
    digits
};

fn any_form(text: &str) -> Option<[u8; 16]> {
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
        let text = "01234567-89ab-cdef-FEDC-ba9876543210";
        assert_eq!(canonical(text.as_bytes()), any_form(text));
        for at in 0..36 {
            let wrong = format!("{}g{}", &text[..at], &text[at + 1..]);
            assert_eq!(parse(&wrong), None, "{wrong}");
        }
    }
}
