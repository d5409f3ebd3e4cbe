//! `${NAME}` and `${NAME:-default}` in a scalar.

use crate::Environment;

/// What became of a scalar's text.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Substituted {
    /// It names no variable.
    Unchanged,
    /// With the values in place.
    Text(String),
}

/// Puts values in place of variables. `$${` stands for `${`, any other `$` for itself, and the default
/// counts where the variable is not set or empty, as in a shell.
///
/// # Errors
/// In words: a variable that is not set and has no default, or a `${` that does not end or names nothing.
pub(crate) fn substitute(text: &str, env: &Environment<'_>) -> Result<Substituted, String> {
    if !text.contains("${") {
        return Ok(Substituted::Unchanged);
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        if let Some(before) = rest[..at].strip_suffix('$') {
            out.push_str(before);
            out.push_str("${");
            rest = &rest[at + 2..];
            continue;
        }
        out.push_str(&rest[..at]);
        let (inside, after) =
            rest[at + 2..].split_once('}').ok_or("a `${` has no `}`: close it, or write `$${` for the text itself")?;
        let (name, default) = match inside.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (inside, None),
        };
        if !is_name(name) {
            return Err(format!(
                "`${{{inside}}}` names no variable: expected letters, digits and `_`, as in ${{NAME}} or ${{NAME:-default}}; \
                 write `$${{` for the text itself"
            ));
        }
        match (env(name), default) {
            (Some(value), None) => out.push_str(&value),
            (Some(value), Some(_)) if !value.is_empty() => out.push_str(&value),
            (_, Some(default)) => out.push_str(default),
            (None, None) => {
                return Err(format!("the environment has no variable {name}: set it, or write ${{{name}:-default}}"));
            }
        }
        rest = after;
    }
    out.push_str(rest);
    Ok(Substituted::Text(out))
}

fn is_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<String, String> {
        let env = |name: &str| match name {
            "A" => Some("a".to_owned()),
            "EMPTY" => Some(String::new()),
            "TRICK" => Some("${A}".to_owned()),
            _ => None,
        };
        substitute(text, &env).map(|done| match done {
            Substituted::Unchanged => text.to_owned(),
            Substituted::Text(text) => text,
        })
    }

    #[test]
    fn variables_and_defaults_are_put_in() {
        for (text, expected) in [
            ("plain", "plain"),
            ("$A costs $5", "$A costs $5"),
            ("${A}", "a"),
            ("x${A}y${A}z", "xayaz"),
            ("${B:-b}", "b"),
            ("${A:-b}", "a"),
            ("${EMPTY:-b}", "b"),
            ("${EMPTY}", ""),
            ("${B:-}", ""),
            ("${B:-http://h:80}", "http://h:80"),
            ("$${A}", "${A}"),
            ("$$${A}", "$${A}"),
            ("${TRICK}", "${A}"),
        ] {
            assert_eq!(of(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_names_no_variable_is_refused() {
        for (text, word) in [
            ("${B}", "B"),
            ("${A", "no `}`"),
            ("${}", "names no"),
            ("${1A}", "names no"),
            ("${A-b}", "names no"),
            ("${ A }", "names no"),
        ] {
            assert!(of(text).unwrap_err().contains(word), "{text}: {:?}", of(text));
        }
    }
}
