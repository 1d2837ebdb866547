//! Aligned text tables.
//!
//! Knows nothing of what is in them.

/// Lays out `rows` below `head`: columns two spaces apart, the first `left` of them left-aligned, the
/// others right-aligned. One line per row, without line ends.
pub(super) fn lines<const N: usize>(head: [&str; N], rows: &[[String; N]], left: usize) -> Vec<String> {
    let mut widths = head.map(|cell| cell.chars().count());
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: [&str; N]| {
        let padded: Vec<String> = cells
            .iter()
            .zip(widths)
            .enumerate()
            .map(|(at, (cell, width))| if at < left { format!("{cell:<width$}") } else { format!("{cell:>width$}") })
            .collect();
        padded.join("  ").trim_end().to_owned()
    };
    let mut lines = vec![line(head)];
    lines.extend(rows.iter().map(|row| line(row.each_ref().map(String::as_str))));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [["gpt".to_owned(), "1".to_owned()], ["ü".to_owned(), "1000".to_owned()]];
        assert_eq!(lines(["model", "n"], &rows, 1), ["model     n", "gpt       1", "ü      1000"]);
    }
}
