//! Money as it is kept: exact, so that sums are exact, and nothing is rounded before somebody pays.
//!
//! An amount is counted in attos, the 10^-18 of a unit of the currency. With prices of at most six decimals for 10^12 bytes, a byte
//! costs a whole number of attos, so neither a line nor the sum of all lines ever has to be rounded.

use std::fmt;
use std::iter::Sum;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Decimals that an amount can have.
const DECIMALS: usize = 18;

/// Attos of a unit.
const UNIT: u128 = 10_u128.pow(DECIMALS as u32);

/// The most digits before the point that are read: more money than there is, and room to add up a house of it.
const DIGITS: usize = 15;

/// An amount of money in the currency of the house. Written as a decimal: `12.5`, `0.00000115`, `0`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Money(u128);

/// Why a text is no amount of money.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "an amount of money is written as a decimal such as 0.25, with at most 15 digits before the point and 18 behind it"
)]
pub struct NotMoney;

impl Money {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// So many whole units.
    pub const fn of_units(units: u32) -> Self {
        Self(units as u128 * UNIT)
    }

    /// So many attos.
    pub const fn of_attos(attos: u128) -> Self {
        Self(attos)
    }

    /// In attos.
    pub const fn attos(self) -> u128 {
        self.0
    }

    /// So much for each of `count`. None if that is more than can be counted.
    pub fn times(self, count: u64) -> Option<Self> {
        self.0.checked_mul(count.into()).map(Self)
    }

    /// Both. None if that is more than can be counted.
    pub fn plus(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }

    /// What is left when `other` is taken away, at least nothing.
    pub fn less(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// The same without what is behind so many decimals: the one rounding, down, of what is to be paid.
    pub fn rounded_down(self, decimals: u32) -> Self {
        let step = 10_u128.pow((DECIMALS as u32).saturating_sub(decimals));
        Self(self.0 / step * step)
    }

    /// How many decimals it has.
    pub fn decimals(self) -> usize {
        let behind = format!("{:0>DECIMALS$}", self.0 % UNIT);
        behind.trim_end_matches('0').len()
    }
}

impl Sum for Money {
    /// All together. There is not so much money that it could not be counted.
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::ZERO, |all, one| Self(all.0.saturating_add(one.0)))
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (units, behind) = (self.0 / UNIT, self.0 % UNIT);
        if behind == 0 {
            return write!(f, "{units}");
        }
        let behind = format!("{behind:0>DECIMALS$}");
        write!(f, "{units}.{}", behind.trim_end_matches('0'))
    }
}

impl FromStr for Money {
    type Err = NotMoney;

    fn from_str(text: &str) -> Result<Self, NotMoney> {
        let (units, behind) = match text.split_once('.') {
            Some((units, behind)) => (units, Some(behind)),
            None => (text, None),
        };
        let is_number = |digits: &str| !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit());
        let behind_is_right = behind.is_none_or(|behind| is_number(behind) && behind.len() <= DECIMALS);
        if !is_number(units) || units.len() > DIGITS || !behind_is_right {
            return Err(NotMoney);
        }
        let behind = format!("{:0<DECIMALS$}", behind.unwrap_or_default());
        let units: u128 = units.parse().map_err(|_| NotMoney)?;
        let behind: u128 = behind.parse().map_err(|_| NotMoney)?;
        Ok(Self(units * UNIT + behind))
    }
}

/// As its text: a number of JSON would be read as a double, and be another amount.
impl Serialize for Money {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Money {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// What a query costs, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cost {
    /// The sum of the items, or nothing if it is free.
    pub amount: Money,
    /// The currency, in the letters of ISO 4217.
    pub currency: String,
    /// The version of the price list.
    pub prices: String,
    /// What it is made of; what is not counted, or costs nothing, is left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub items: Vec<Item>,
    /// Why nothing is to be paid, whatever was used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub free: Option<Free>,
}

/// One of the things that are paid for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Item {
    /// What it is.
    pub what: What,
    /// How many of it.
    pub count: u64,
    /// What they cost.
    pub amount: Money,
}

/// What is paid for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// A byte of a column that a query mentions, in a file that its filters leave.
    BytesProcessed,
    /// A byte of a file that is loaded.
    BytesLoaded,
    /// What is missing to the least that a query costs.
    Minimum,
}

/// Why a query that has ended costs nothing, whatever it used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Free {
    /// It has no answer, whoever is to blame for that.
    Failed,
    /// It was cancelled before its first row left.
    Cancelled,
    /// Its caller was gone before its first row left.
    Abandoned,
    /// Its gateway died.
    Lost,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn money(text: &str) -> Money {
        text.parse().expect(text)
    }

    #[test]
    fn an_amount_is_read_as_it_is_written() {
        for text in [
            "0",
            "1",
            "12.5",
            "0.00000115",
            "0.000000000000000001",
            "999999999999999.999999999999999999",
        ] {
            assert_eq!(money(text).to_string(), text);
        }
        assert_eq!(money("007.500"), money("7.5"));
        assert_eq!(money("7.50").decimals(), 1);
        assert_eq!(money("7").decimals(), 0);
    }

    #[test]
    fn what_is_no_amount_is_refused() {
        for text in [
            "", ".", "1.", ".5", "-1", "+1", "1e3", " 1", "1 ", "0x1", "1,5", "1.2.3", "NaN", "١", "1_000",
        ] {
            assert_eq!(text.parse::<Money>(), Err(NotMoney), "{text:?}");
        }
        assert_eq!("1000000000000000".parse::<Money>(), Err(NotMoney), "too many digits");
        assert_eq!(
            "0.0000000000000000001".parse::<Money>(),
            Err(NotMoney),
            "too many decimals"
        );
        for json in ["0.25", "1", "null", "[]"] {
            assert!(serde_json::from_str::<Money>(json).is_err(), "{json}");
        }
    }

    #[test]
    fn sums_are_exact_and_are_rounded_once() {
        let third = money("0.333333333333333333");
        assert_eq!(
            third.times(3).map(|sum| sum.to_string()).as_deref(),
            Some("0.999999999999999999")
        );
        assert_eq!([third; 3].into_iter().sum::<Money>().rounded_down(6), money("0.999999"));
        assert_eq!(money("2").less(money("3")), Money::ZERO);
        assert_eq!(Money::of_attos(u128::MAX).times(2), None);
        assert_eq!(Money::of_attos(u128::MAX).plus(Money::of_attos(1)), None);
    }
}
