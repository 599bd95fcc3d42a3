//! PostgreSQL's binary numeric (base 10,000 digits) to and from Connect's Decimal (two's complement of the unscaled
//! value). Up to 36 digits go through an `i128`; more through a big integer.

use bytes::BufMut;
use num_bigint::BigInt;

use crate::data::Decimal;

const NEGATIVE: u16 = 0x4000;
const NAN: u16 = 0xC000;
const POSITIVE_INFINITY: u16 = 0xD000;
const NEGATIVE_INFINITY: u16 = 0xF000;

/// A numeric as it stands in a tuple.
#[derive(Debug, Clone, Copy)]
pub struct RawNumeric<'a> {
    weight: i32,
    sign: u16,
    digits: &'a [u8],
}

/// Why a numeric has no Decimal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotDecimal {
    /// `NaN`.
    NaN,
    /// `Infinity` or `-Infinity`.
    Infinite,
    /// More digits after the point than the scale.
    Inexact,
}

impl<'a> RawNumeric<'a> {
    /// Reads the field; `None` if it is not a numeric.
    pub fn parse(field: &'a [u8]) -> Option<Self> {
        let word = |at: usize| Some(u16::from_be_bytes([*field.get(at)?, *field.get(at + 1)?]));
        let count = usize::from(word(0)?);
        let digits = field.get(8..)?;
        (digits.len() == count * 2).then_some(())?;
        let weight = i32::from(i16::from_be_bytes([field[2], field[3]]));
        Some(Self { weight, sign: word(4)?, digits })
    }

    fn words(&self) -> impl ExactSizeIterator<Item = u16> + 'a {
        self.digits.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]]))
    }

    fn finite(&self) -> Result<(), NotDecimal> {
        match self.sign {
            NAN => Err(NotDecimal::NaN),
            POSITIVE_INFINITY | NEGATIVE_INFINITY => Err(NotDecimal::Infinite),
            _ => Ok(()),
        }
    }

    /// The unscaled value at a scale, as the bytes of a Decimal.
    ///
    /// # Errors
    /// Why there is none.
    pub fn to_decimal_bytes(self, scale: i32) -> Result<Vec<u8>, NotDecimal> {
        match self.to_i128(scale)? {
            Some(number) => Ok(shortest(&number.to_be_bytes())),
            None => self.to_big(scale).map(|number| number.to_signed_bytes_be()),
        }
    }

    /// The unscaled value at a scale, `None` if it needs a big integer.
    ///
    /// # Errors
    /// Why there is none.
    pub fn to_i128(self, scale: i32) -> Result<Option<i128>, NotDecimal> {
        self.finite()?;
        let words = self.words();
        let count = words.len();
        if count > 9 {
            return Ok(None);
        }
        let number = words.fold(0_i128, |sum, word| sum * 10_000 + i128::from(word));
        if number == 0 {
            return Ok(Some(0));
        }
        let shift = 4 * (self.weight - i32::try_from(count).unwrap_or(0) + 1) + scale;
        let scaled = match 10_i128.checked_pow(shift.unsigned_abs()) {
            Some(power) if shift >= 0 => number.checked_mul(power),
            Some(power) if number % power != 0 => return Err(NotDecimal::Inexact),
            Some(power) => Some(number / power),
            None => None,
        };
        Ok(scaled.map(|number| if self.sign == NEGATIVE { -number } else { number }))
    }

    fn to_big(self, scale: i32) -> Result<BigInt, NotDecimal> {
        let mut text = String::with_capacity(self.digits.len() * 2 + 1);
        if self.sign == NEGATIVE {
            text.push('-');
        }
        for word in self.words() {
            text.push_str(&format!("{word:04}"));
        }
        let unscaled = text.parse::<BigInt>().map_err(|_| NotDecimal::Inexact)?;
        let count = i32::try_from(self.words().len()).map_err(|_| NotDecimal::Inexact)?;
        let own = Decimal { unscaled, scale: -4 * (self.weight - count + 1) };
        own.rescale(scale).map(|decimal| decimal.unscaled).ok_or(NotDecimal::Inexact)
    }

    /// The nearest double, with NaN and infinities.
    pub fn to_f64(self) -> f64 {
        match self.sign {
            NAN => return f64::NAN,
            POSITIVE_INFINITY => return f64::INFINITY,
            NEGATIVE_INFINITY => return f64::NEG_INFINITY,
            _ => {}
        }
        let mut text = String::with_capacity(self.digits.len() * 2 + 8);
        for word in self.words() {
            text.push_str(&format!("{word:04}"));
        }
        let exponent = 4 * (self.weight - i32::try_from(self.words().len()).unwrap_or(0) + 1);
        let number: f64 = if text.is_empty() { 0.0 } else { format!("{text}e{exponent}").parse().unwrap_or(f64::NAN) };
        if self.sign == NEGATIVE { -number } else { number }
    }
}

/// Drops leading bytes that only repeat the sign.
fn shortest(bytes: &[u8]) -> Vec<u8> {
    let sign = if bytes[0] & 0x80 == 0 { 0 } else { 0xff };
    let mut from = 0;
    while from + 1 < bytes.len() && bytes[from] == sign && (bytes[from + 1] ^ sign) & 0x80 == 0 {
        from += 1;
    }
    bytes[from..].to_vec()
}

/// Half away from zero, as PostgreSQL rounds numerics to integers.
pub fn round_half_up(bytes: &[u8], scale: i32) -> Option<i64> {
    let text = Decimal::from_bytes(bytes, scale).to_plain_text();
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    let number: i64 = whole.parse().ok()?;
    if fraction.as_bytes().first().is_some_and(|digit| *digit >= b'5') {
        return number.checked_add(if text.starts_with('-') { -1 } else { 1 });
    }
    Some(number)
}

/// A number that PostgreSQL's numeric does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutOfRange;

/// Digits before the point that a numeric has at most,
pub const MOST_WHOLE: usize = 131_072;
/// and after it.
pub const MOST_FRACTION: usize = 16_383;
/// Bytes of a Decimal that could still be in range: each holds 2.4 digits.
const MOST_BYTES: usize = 62_000;

/// Appends a Decimal's bytes as a numeric field, its length in front.
///
/// # Errors
/// Nothing is appended if no numeric is that large or fine.
pub fn put_decimal(out: &mut Vec<u8>, bytes: &[u8], scale: i32) -> Result<(), OutOfRange> {
    if bytes.len() <= 16 && (0..=18).contains(&scale) {
        let mut wide = if bytes.first().is_some_and(|byte| byte & 0x80 != 0) { [0xff_u8; 16] } else { [0; 16] };
        wide[16 - bytes.len()..].copy_from_slice(bytes);
        let number = i128::from_be_bytes(wide);
        // Room for the multiplication that aligns the scale to four digits.
        if number.unsigned_abs() < 10_u128.pow(34) {
            put_i128(out, number, scale);
            return Ok(());
        }
    }
    let fine = i32::try_from(MOST_FRACTION).is_ok_and(|most| scale <= most);
    let large = i32::try_from(MOST_WHOLE).is_ok_and(|most| scale < -most) || bytes.len() > MOST_BYTES;
    if !fine || large {
        return Err(OutOfRange);
    }
    put_text(out, &Decimal::from_bytes(bytes, scale))
}

/// Appends a whole number as a numeric field.
pub fn put_i128(out: &mut Vec<u8>, number: i128, scale: i32) {
    let pad = (4 - scale.rem_euclid(4)) % 4;
    let mut rest = number.unsigned_abs() * 10_u128.pow(pad.unsigned_abs());
    let mut words = [0_u16; 12];
    let mut count = 0;
    while rest > 0 && count < words.len() {
        words[count] = u16::try_from(rest % 10_000).unwrap_or(0);
        rest /= 10_000;
        count += 1;
    }
    let weight = i32::try_from(count).unwrap_or(0) - 1 - (scale + pad) / 4;
    put_words(out, words[..count].iter().rev().copied(), count, weight, number < 0, scale);
}

fn put_text(out: &mut Vec<u8>, decimal: &Decimal) -> Result<(), OutOfRange> {
    let plain = decimal.to_plain_text();
    let (negative, plain) = match plain.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, plain.as_str()),
    };
    let (whole, fraction) = plain.split_once('.').unwrap_or((plain, ""));
    if whole.len() > MOST_WHOLE {
        return Err(OutOfRange);
    }
    let width = whole.len().div_ceil(4) * 4;
    let mut digits = "0".repeat(width - whole.len());
    digits.push_str(whole);
    digits.push_str(fraction);
    digits.extend(std::iter::repeat_n('0', (4 - fraction.len() % 4) % 4));
    let words: Vec<u16> = digits
        .as_bytes()
        .chunks_exact(4)
        .map(|chunk| chunk.iter().fold(0, |sum, digit| sum * 10 + u16::from(digit - b'0')))
        .collect();
    let weight = i32::try_from(width / 4).unwrap_or(0) - 1;
    put_words(out, words.iter().copied(), words.len(), weight, negative, decimal.scale.max(0));
    Ok(())
}

fn put_words(
    out: &mut Vec<u8>,
    words: impl Iterator<Item = u16>,
    count: usize,
    mut weight: i32,
    negative: bool,
    scale: i32,
) {
    let start = out.len();
    out.put_slice(&[0; 12]);
    let mut leading = true;
    let mut kept = 0_u16;
    let mut trailing = 0_u16;
    for word in words.take(count) {
        if leading && word == 0 {
            weight -= 1;
            continue;
        }
        leading = false;
        out.put_u16(word);
        kept += 1;
        trailing = if word == 0 { trailing + 1 } else { 0 };
    }
    kept -= trailing;
    out.truncate(out.len() - usize::from(trailing) * 2);
    let length = u32::try_from(out.len() - start - 4).unwrap_or(0);
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
    out[start + 4..start + 6].copy_from_slice(&kept.to_be_bytes());
    let weight = if kept == 0 { 0 } else { i16::try_from(weight).unwrap_or(i16::MAX) };
    out[start + 6..start + 8].copy_from_slice(&weight.to_be_bytes());
    let sign = if negative && kept > 0 { NEGATIVE } else { 0 };
    out[start + 8..start + 10].copy_from_slice(&sign.to_be_bytes());
    let scale = u16::try_from(scale.clamp(0, 16_383)).unwrap_or(0);
    out[start + 10..start + 12].copy_from_slice(&scale.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn round_trip(text: &str) -> String {
        let decimal = Decimal::parse(text).unwrap();
        let mut out = Vec::new();
        put_decimal(&mut out, &decimal.to_bytes(), decimal.scale).unwrap();
        let raw = RawNumeric::parse(&out[4..]).unwrap();
        Decimal::from_bytes(&raw.to_decimal_bytes(decimal.scale).unwrap(), decimal.scale).to_plain_text()
    }

    #[test]
    fn known_numbers() {
        for text in ["0", "0.00", "12.50", "-0.0001", "10000", "99999999999999999999999999999999999999.999999"] {
            assert_eq!(round_trip(text), text);
        }
        let mut out = Vec::new();
        put_i128(&mut out, 1_234_567, 2);
        // 12345.67 is 1 | 2345 | 6700 with weight 1 and two digits of scale.
        assert_eq!(&out[4..], [0, 3, 0, 1, 0, 0, 0, 2, 0, 1, 9, 41, 26, 44]);
        assert_eq!(RawNumeric::parse(&out[4..]).unwrap().to_f64(), 12_345.67);
        assert_eq!(RawNumeric::parse(&out[4..]).unwrap().to_decimal_bytes(1), Err(NotDecimal::Inexact));
        assert_eq!(shortest(&(-1_i128).to_be_bytes()), [0xff]);
        assert_eq!(shortest(&128_i128.to_be_bytes()), [0, 0x80]);
        let nan = [0, 0, 0, 0, 0xC0, 0, 0, 0];
        assert_eq!(RawNumeric::parse(&nan).unwrap().to_decimal_bytes(2), Err(NotDecimal::NaN));
    }

    #[test]
    fn the_limits_are_those_of_the_server() {
        let put = |text: &str| {
            let decimal = Decimal::parse(text).unwrap();
            put_decimal(&mut Vec::new(), &decimal.to_bytes(), decimal.scale)
        };
        let nines = "9".repeat(MOST_WHOLE);
        for text in ["1e131071", "1e-16383", "0e-16383", &nines, &format!("{nines}.{}", "9".repeat(MOST_FRACTION))] {
            assert_eq!(put(text), Ok(()));
        }
        for text in ["1e131072", "1e-16384", "1e-40000", "1e2000000000", &format!("{nines}0")] {
            assert_eq!(put(text), Err(OutOfRange));
        }
        assert_eq!(round_trip(&nines), nines);
    }

    proptest! {
        #[test]
        fn every_decimal_survives(unscaled in any::<i128>(), scale in 0_i32..40) {
            let decimal = Decimal { unscaled: BigInt::from(unscaled), scale };
            let text = decimal.to_plain_text();
            prop_assert_eq!(round_trip(&text), text);
        }

        #[test]
        fn small_decimals_take_the_short_way(unscaled in any::<i64>(), scale in 0_i32..19) {
            let text = Decimal { unscaled: BigInt::from(unscaled), scale }.to_plain_text();
            prop_assert_eq!(round_trip(&text), text);
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..40), scale in -5_i32..130) {
            if let Some(raw) = RawNumeric::parse(&bytes) {
                let _ = raw.to_decimal_bytes(scale);
                let _ = raw.to_f64();
            }
        }
    }
}
