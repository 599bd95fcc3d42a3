//! Kafka Connect's four logical types: a base type with a well-known schema name.

use num_bigint::BigInt;

use super::{Schema, Type};

/// Schema name of arbitrary-precision decimals on BYTES, with parameter `scale`.
pub const DECIMAL: &str = "org.apache.kafka.connect.data.Decimal";
/// Schema name of days since 1970-01-01 on INT32.
pub const DATE: &str = "org.apache.kafka.connect.data.Date";
/// Schema name of milliseconds of the day on INT32.
pub const TIME: &str = "org.apache.kafka.connect.data.Time";
/// Schema name of milliseconds since 1970-01-01T00:00:00Z on INT64.
pub const TIMESTAMP: &str = "org.apache.kafka.connect.data.Timestamp";

/// Which logical type a schema is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Logical {
    /// A decimal with this scale.
    Decimal {
        /// Digits after the decimal point.
        scale: i32,
    },
    /// Days.
    Date,
    /// Milliseconds of the day.
    Time,
    /// Milliseconds since the epoch.
    Timestamp,
}

impl Schema {
    /// The logical type of this schema, judged by its name and base type.
    pub fn logical(&self) -> Option<Logical> {
        match (self.name()?, self.kind) {
            (DECIMAL, Type::Bytes) => {
                Some(Logical::Decimal { scale: self.parameters.get("scale")?.trim().parse().ok()? })
            }
            (DATE, Type::Int32) => Some(Logical::Date),
            (TIME, Type::Int32) => Some(Logical::Time),
            (TIMESTAMP, Type::Int64) => Some(Logical::Timestamp),
            _ => None,
        }
    }
}

/// A required Decimal schema.
pub fn decimal(scale: i32) -> Schema {
    Schema::new(Type::Bytes).with_name(DECIMAL).with_version(1).with_parameter("scale", scale.to_string())
}

/// A required Date schema.
pub fn date() -> Schema {
    Schema::new(Type::Int32).with_name(DATE).with_version(1)
}

/// A required Time schema.
pub fn time() -> Schema {
    Schema::new(Type::Int32).with_name(TIME).with_version(1)
}

/// A required Timestamp schema.
pub fn timestamp() -> Schema {
    Schema::new(Type::Int64).with_name(TIMESTAMP).with_version(1)
}

/// An exact decimal number: `unscaled * 10^-scale`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decimal {
    /// The number without its decimal point.
    pub unscaled: BigInt,
    /// Digits after the decimal point; negative for trailing zeros before it.
    pub scale: i32,
}

/// Zeros that plain text is filled up with at most.
const MOST_ZEROS: u32 = 200_000;

impl Decimal {
    /// From the bytes of a Connect Decimal (big-endian two's complement).
    pub fn from_bytes(bytes: &[u8], scale: i32) -> Self {
        Self { unscaled: BigInt::from_signed_bytes_be(bytes), scale }
    }

    /// The bytes of a Connect Decimal, in their shortest form.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.unscaled.to_signed_bytes_be()
    }

    /// Plain decimal text, such as `-12.50`; with an exponent if it would be filled up with more zeros than any database
    /// keeps: a few bytes must not take a gigabyte.
    pub fn to_plain_text(&self) -> String {
        let digits = self.unscaled.magnitude().to_string();
        let sign = if self.unscaled.sign() == num_bigint::Sign::Minus { "-" } else { "" };
        if self.scale.unsigned_abs() > MOST_ZEROS {
            return format!("{sign}{digits}E{}", -i64::from(self.scale));
        }
        if self.scale <= 0 {
            let zeros = if digits == "0" { 0 } else { self.scale.unsigned_abs() as usize };
            return format!("{sign}{digits}{}", "0".repeat(zeros));
        }
        let scale = self.scale.unsigned_abs() as usize;
        // Formatting pads to 65,535 characters at most.
        let digits = "0".repeat((scale + 1).saturating_sub(digits.len())) + &digits;
        let (whole, fraction) = digits.split_at(digits.len() - scale);
        format!("{sign}{whole}.{fraction}")
    }

    /// Reads plain or exponent decimal text; `None` if it is not a finite decimal number.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let (mantissa, exponent) = match text.find(['e', 'E']) {
            Some(at) => (&text[..at], text[at + 1..].parse::<i32>().ok()?),
            None => (text, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        // A big integer would take underscores.
        let digits = whole.strip_prefix(['-', '+']).unwrap_or(whole).bytes().chain(fraction.bytes());
        if digits.clone().count() == 0 || !digits.clone().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let unscaled = format!("{whole}{fraction}").parse().ok()?;
        let scale = i32::try_from(fraction.len()).ok()?.checked_sub(exponent)?;
        Some(Self { unscaled, scale })
    }

    /// The same number with another scale; `None` if digits other than zero would be lost.
    pub fn rescale(&self, scale: i32) -> Option<Self> {
        let shift = i64::from(scale) - i64::from(self.scale);
        let power = |n: i64| u32::try_from(n).ok().filter(|n| *n <= 200_000).map(|n| BigInt::from(10).pow(n));
        let unscaled = if shift >= 0 {
            &self.unscaled * power(shift)?
        } else {
            let divisor = power(-shift)?;
            if &self.unscaled % &divisor != BigInt::ZERO {
                return None;
            }
            &self.unscaled / divisor
        };
        Some(Self { unscaled, scale })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimal_text_and_bytes_round_trip() {
        for (text, scale) in [("-12.50", 2), ("0.001", 3), ("0", 0), ("123456789012345678901234567890.5", 1)] {
            let number = Decimal::parse(text).unwrap();
            assert_eq!(number.scale, scale);
            assert_eq!(Decimal::from_bytes(&number.to_bytes(), scale).to_plain_text(), text);
        }
        assert_eq!(Decimal::parse("1.56").unwrap().to_bytes(), [0, 0x9c]);
        assert_eq!(Decimal::parse("1e3").unwrap().to_plain_text(), "1000");
        for text in ["NaN", "1_000", "1._5", "", "-", ".", "1e", "--1"] {
            assert!(Decimal::parse(text).is_none(), "{text}");
        }
        assert_eq!(Decimal::parse("-.5").unwrap().to_plain_text(), "-0.5");
        assert_eq!(Decimal::from_bytes(&[1], 100_000).to_plain_text().len(), 100_002);
        assert_eq!(Decimal::from_bytes(&[5], i32::MIN).to_plain_text(), "5E2147483648");
        assert_eq!(Decimal::parse("1.50").unwrap().rescale(1).unwrap().to_plain_text(), "1.5");
        assert!(Decimal::parse("1.55").unwrap().rescale(1).is_none());
    }
}
