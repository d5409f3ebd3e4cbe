//! Numbers with units, as they are typed: `10Mi`, `500ms`.

use std::time::Duration;

pub(crate) fn bytes(text: &str) -> Result<u64, String> {
    let units = [("Ki", 1 << 10), ("Mi", 1 << 20), ("Gi", 1 << 30), ("k", 1000), ("M", 1_000_000), ("", 1)];
    let (number, unit) = units
        .into_iter()
        .find_map(|(suffix, unit)| Some((text.strip_suffix(suffix)?, unit)))
        .expect("every text ends in nothing");
    let number: u64 = number.parse().map_err(|_| "not a number of bytes, such as 4096, 64Ki or 10Mi".to_owned())?;
    number.checked_mul(unit).ok_or_else(|| "too large".to_owned())
}

/// Without a unit: seconds.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let units = [("ms", 0.001), ("m", 60.0), ("h", 3600.0), ("s", 1.0), ("", 1.0)];
    let (number, unit) = units
        .into_iter()
        .find_map(|(suffix, unit)| Some((text.strip_suffix(suffix)?, unit)))
        .expect("every text ends in nothing");
    let wrong = || "not a duration, such as 500ms, 10s or 5m".to_owned();
    let number: f64 = number.parse().map_err(|_| wrong())?;
    Duration::try_from_secs_f64(number * unit).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_read() {
        assert_eq!(bytes("10Mi"), Ok(10 << 20));
        assert_eq!(bytes("7"), Ok(7));
        assert!(bytes("10MB").is_err() && bytes("-1").is_err());
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("5m"), Ok(Duration::from_secs(300)));
        assert_eq!(duration("1.5"), Ok(Duration::from_millis(1500)));
        assert!(duration("soon").is_err() && duration("-1s").is_err());
    }
}
