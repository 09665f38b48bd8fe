//! What is wrong with the settings, in words about the settings.

use std::path::Path;

use figment::error::Kind;
use figment::{Metadata, Source};

use super::Config;
use crate::billing::price::{DECIMALS_OF_PRICES, PRICE_MAX, PriceList};

/// Bytes of the version of a price list, at most.
const VERSION_BYTES: usize = 64;

/// Why the settings cannot be used. It names the setting and where its value is from.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Wrong(String);

impl From<figment::Error> for Wrong {
    fn from(error: figment::Error) -> Self {
        let place = place(error.metadata.as_ref(), &error.path);
        Self(match &error.kind {
            Kind::Message(message) => format!("{place}: {}", message.trim()),
            Kind::UnknownField(name, known) => {
                format!("{place}: there is no setting {name}; there are {}", known.join(", "))
            }
            Kind::UnknownVariant(value, known) => {
                format!("{place} cannot be {value:?}; it can be {}", known.join(", "))
            }
            Kind::InvalidType(found, expected) | Kind::InvalidValue(found, expected) => {
                format!("{place} is {found} and must be {expected}")
            }
            other => format!("{place}: {other}"),
        })
    }
}

/// Values of the right type that no server can work with.
pub(super) fn check(config: &Config) -> Result<(), Wrong> {
    let Config {
        workers,
        queries,
        uploads,
        upkeep,
        log,
        ..
    } = config;
    // In bytes it has to be a number of 64 bits.
    const MIB_MAX: u64 = 1 << 40;
    for (setting, value, least) in [
        ("workers.memory_mib", workers.memory_mib, 16),
        (
            "workers.process_mib",
            workers.process_mib,
            workers.memory_mib.saturating_add(1),
        ),
        (
            "workers.kubernetes.max",
            workers.kubernetes.max.into(),
            workers.kubernetes.min.max(1).into(),
        ),
        ("queries.timeout_ms", queries.timeout_ms, 1),
        ("queries.timeout_max_ms", queries.timeout_max_ms, 1),
        ("queries.planning_timeout_ms", queries.planning_timeout_ms, 1),
        ("uploads.max_mib", uploads.max_mib, 1),
        ("upkeep.every_s", upkeep.every_s, 1),
        ("upkeep.files_every_s", upkeep.files_every_s, 1),
        // A lease is renewed as often as upkeep looks.
        ("upkeep.lease_s", upkeep.lease_s, upkeep.every_s.saturating_add(1)),
    ] {
        if value < least {
            return Err(Wrong(format!(
                "the setting {setting} is {value} and must be at least {least}"
            )));
        }
    }
    for (setting, value) in [
        ("workers.process_mib", workers.process_mib),
        ("workers.spill_mib", workers.spill_mib),
        ("queries.mib_per_worker", queries.mib_per_worker),
        ("uploads.max_mib", uploads.max_mib),
    ] {
        if value > MIB_MAX {
            return Err(Wrong(format!(
                "the setting {setting} is {value} and must be at most {MIB_MAX}"
            )));
        }
    }
    check_prices(&config.billing.prices)?;
    let tls = &workers.tls;
    let files = [
        ("workers.tls.ca", &tls.ca),
        ("workers.tls.cert", &tls.cert),
        ("workers.tls.key", &tls.key),
    ];
    let missing = files.iter().find(|(_, file)| file.is_empty());
    if let Some((setting, _)) = missing
        && files.iter().any(|(_, file)| !file.is_empty())
    {
        return Err(Wrong(format!(
            "the setting {setting} is empty; workers.tls wants all of ca, cert and key, or none"
        )));
    }
    match log.level.split(',').find(|directive| !says_a_level(directive)) {
        None => Ok(()),
        Some(wrong) => Err(Wrong(format!(
            "the setting log.level has {wrong:?}, which is no level; write error, warn, info, debug or trace, or directives \
             such as info,wasmhouse=debug"
        ))),
    }
}

/// Prices that no bill could be made with.
fn check_prices(lists: &[PriceList]) -> Result<(), Wrong> {
    let Some(first) = lists.first() else {
        return Err(Wrong(
            "the setting billing.prices has no list; one that costs nothing has 0 for every price".to_owned(),
        ));
    };
    for (number, list) in lists.iter().enumerate() {
        let wrong = |what: String| {
            Err(Wrong(format!(
                "the setting billing.prices: the list {:?} {what}",
                list.version
            )))
        };
        let before = &lists[..number];
        if list.version.is_empty() || list.version.len() > VERSION_BYTES || list.version.contains(char::is_control) {
            return wrong(format!("has a version of 1 to {VERSION_BYTES} bytes, on one line"));
        }
        if before.iter().any(|other| other.version == list.version) {
            return wrong("is there twice; every list has a version of its own".to_owned());
        }
        if before.iter().any(|other| other.from == list.from) {
            return wrong(format!("is in force from {}, as another is", list.from.to_rfc3339()));
        }
        let is_code = list.currency.len() == 3 && list.currency.bytes().all(|letter| letter.is_ascii_uppercase());
        if !is_code {
            return wrong(format!(
                "is in {:?}; a currency has three letters, such as USD",
                list.currency
            ));
        }
        if list.currency != first.currency {
            return wrong(format!(
                "is in {} and others in {}; a house has one currency",
                list.currency, first.currency
            ));
        }
        for (name, price) in [
            ("per_tb_processed", list.per_tb_processed),
            ("per_tb_loaded", list.per_tb_loaded),
        ] {
            if price > PRICE_MAX {
                return wrong(format!("has {name} = {price}; a price is at most {PRICE_MAX}"));
            }
            if price.decimals() > DECIMALS_OF_PRICES {
                return wrong(format!(
                    "has {name} = {price}; the price of a terabyte has at most {DECIMALS_OF_PRICES} decimals"
                ));
            }
        }
    }
    Ok(())
}

fn says_a_level(directive: &str) -> bool {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let level = directive.rsplit_once('=').map_or(directive, |(_, level)| level);
    LEVELS.iter().any(|known| known.eq_ignore_ascii_case(level.trim()))
}

/// The setting, and the file or variables that it is from.
fn place(metadata: Option<&Metadata>, path: &[String]) -> String {
    let setting = setting(path);
    match metadata {
        Some(Metadata {
            source: Some(Source::File(file)),
            ..
        }) => format!("{setting} in {}", shown(file)),
        Some(metadata) => format!("{setting} ({})", metadata.name),
        None => setting,
    }
}

fn setting(path: &[String]) -> String {
    match path {
        [] => "the settings".to_owned(),
        path => format!("the setting {}", path.join(".")),
    }
}

fn shown(file: &Path) -> String {
    file.display().to_string()
}
