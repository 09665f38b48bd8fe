//! Which format an asker wants, read from the `accept` header.

/// How rows leave the house.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Format {
    /// One object a line, and a last line that says how it ended.
    JsonLines,
    /// One document.
    Json,
    /// A header line, then RFC 4180 with line feeds.
    Csv,
    /// The streaming format of Arrow IPC, in types that old readers know.
    Arrow,
    /// A Parquet file, in types that Parquet has.
    Parquet,
}

/// Nothing we can write is acceptable to the asker.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "no rows can be written as {0}; accept application/x-ndjson, application/json, text/csv, \
     application/vnd.apache.arrow.stream or application/vnd.apache.parquet"
)]
pub(in super::super) struct NotAcceptable(String);

impl Format {
    /// In the order in which we would choose.
    const ALL: [Self; 5] = [Self::JsonLines, Self::Json, Self::Csv, Self::Arrow, Self::Parquet];

    /// The format that `accept` likes best, JSON lines when it has no say.
    ///
    /// Among equals in `q`, the format that is named wins over one that a wildcard lets in, and the first named wins.
    pub(in super::super) fn negotiate(accept: Option<&str>) -> Result<Self, NotAcceptable> {
        let Some(accept) = accept.filter(|accept| !accept.trim().is_empty()) else {
            return Ok(Self::JsonLines);
        };
        let ranges: Vec<Range<'_>> = accept.split(',').filter_map(Range::parse).collect();

        let mut best: Option<(Rank, Self)> = None;
        for format in Self::ALL {
            let Some(rank) = rank(format, &ranges) else { continue };
            if best.is_none_or(|(best, _)| rank.is_better_than(best)) {
                best = Some((rank, format));
            }
        }

        best.map(|(_, format)| format)
            .ok_or_else(|| NotAcceptable(accept.to_owned()))
    }

    pub(in super::super) fn content_type(self) -> &'static str {
        match self {
            Self::Csv => "text/csv; charset=utf-8",
            other => other.media_type(),
        }
    }

    fn media_type(self) -> &'static str {
        match self {
            Self::JsonLines => "application/x-ndjson",
            Self::Json => "application/json",
            Self::Csv => "text/csv",
            Self::Arrow => "application/vnd.apache.arrow.stream",
            Self::Parquet => "application/vnd.apache.parquet",
        }
    }
}

/// One entry of an `accept` header: `text/*;q=0.5`.
struct Range<'a> {
    media_type: &'a str,
    /// In thousandths.
    quality: u16,
}

impl<'a> Range<'a> {
    /// `None` for an entry that means nothing, which is then no wish.
    fn parse(entry: &'a str) -> Option<Self> {
        let mut parts = entry.split(';').map(str::trim);
        let media_type = parts.next().filter(|media_type| media_type.contains('/'))?;

        let mut quality = 1000;
        for parameter in parts {
            if let Some((name, value)) = parameter.split_once('=')
                && name.trim().eq_ignore_ascii_case("q")
            {
                quality = thousandths(value.trim())?;
            }
        }
        Some(Self { media_type, quality })
    }

    /// How exactly this names `format`: 2 by name, 1 by half its name, 0 by `*/*`.
    fn exactness(&self, format: Format) -> Option<u8> {
        let offered = format.media_type();
        if self.media_type.eq_ignore_ascii_case(offered) {
            return Some(2);
        }
        let (family, any) = self.media_type.split_once('/')?;
        let (offered_family, _) = offered.split_once('/')?;
        match (family, any) {
            ("*", "*") => Some(0),
            (family, "*") if family.eq_ignore_ascii_case(offered_family) => Some(1),
            _ => None,
        }
    }
}

fn thousandths(quality: &str) -> Option<u16> {
    let quality: f32 = quality.parse().ok()?;
    (0.0..=1.0)
        .contains(&quality)
        .then_some((quality * 1000.0).round() as u16)
}

/// How much an asker wants a format.
#[derive(Clone, Copy)]
struct Rank {
    quality: u16,
    exactness: u8,
    position: usize,
}

impl Rank {
    fn is_better_than(self, other: Self) -> bool {
        let named_first = self.exactness == 2 && other.exactness == 2 && self.position < other.position;
        (self.quality, self.exactness, named_first) > (other.quality, other.exactness, false)
    }
}

/// The rank of `format` by the range that names it most exactly, as RFC 9110 has it; `None` when it is not wanted.
fn rank(format: Format, ranges: &[Range<'_>]) -> Option<Rank> {
    let mut found: Option<Rank> = None;
    for (position, range) in ranges.iter().enumerate() {
        let Some(exactness) = range.exactness(format) else {
            continue;
        };
        if found.is_none_or(|found| exactness > found.exactness) {
            found = Some(Rank {
                quality: range.quality,
                exactness,
                position,
            });
        }
    }
    found.filter(|rank| rank.quality > 0)
}
