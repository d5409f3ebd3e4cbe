//! The word that was probably meant.

/// The one of `known` that is fewest edits from `word`, where that is near enough to be a slip.
#[must_use]
pub fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let near = |key: &&&str| {
        let edits = distance(word, key);
        (edits <= 1 + key.len() / 4).then_some(edits)
    };
    known.iter().filter(|key| near(key).is_some()).min_by_key(near).copied()
}

/// Letters to insert, delete, replace or swap with their neighbour until `a` is `b`.
fn distance(a: &str, b: &str) -> usize {
    // Nobody misspells at length, and the table is as large as the product.
    let a: Vec<char> = a.chars().take(64).collect();
    let b: Vec<char> = b.chars().take(64).collect();
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut edits = replaced.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                edits = edits.min(rows[i - 2][j - 2] + 1);
            }
            row.push(edits);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_recognised_and_another_word_is_not() {
        let known = ["directory", "max_bytes", "segment_bytes"];
        assert_eq!(nearest("directroy", &known), Some("directory"));
        assert_eq!(nearest("max_byte", &known), Some("max_bytes"));
        assert_eq!(nearest("maxbytes", &known), Some("max_bytes"));
        assert_eq!(nearest("retention", &known), None);
        assert_eq!(nearest("", &known), None);
        assert_eq!(distance("abcd", "acbd"), 1);
    }
}
