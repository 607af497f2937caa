//! Border handling of filters, and their disk-shaped windows.

/// Half-sample symmetric, `c b a | a b c | c b a`: scipy's and scikit-image's "reflect".
pub(super) fn symmetric(index: isize, len: usize) -> usize {
    let len = len as isize;
    let i = index.rem_euclid(2 * len);
    (if i < len { i } else { 2 * len - 1 - i }) as usize
}

/// Whole-sample symmetric, `c b | a b c | b a`: OpenCV's default border, reflect 101.
pub(super) fn reflect_101(index: isize, len: usize) -> usize {
    if len == 1 {
        return 0;
    }
    let last = len as isize - 1;
    let i = index.rem_euclid(2 * last);
    (if i <= last { i } else { 2 * last - i }) as usize
}

/// The offsets `(row, column)` at a distance of at most `radius`, row-major.
pub(super) fn disk(radius: usize) -> Vec<(isize, isize)> {
    let r = radius as isize;
    let square = (-r..=r).flat_map(|y| (-r..=r).map(move |x| (y, x)));
    square.filter(|(y, x)| y * y + x * x <= r * r).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn borders_reflect_with_and_without_the_edge() {
        let read = |border: fn(isize, usize) -> usize, len| -> Vec<usize> {
            (-4..7).map(|i| border(i, len)).collect()
        };
        assert_eq!(read(symmetric, 3), [2, 2, 1, 0, 0, 1, 2, 2, 1, 0, 0]);
        assert_eq!(read(reflect_101, 3), [0, 1, 2, 1, 0, 1, 2, 1, 0, 1, 2]);
        assert_eq!(read(symmetric, 1), [0; 11]);
        assert_eq!(read(reflect_101, 1), [0; 11]);
    }

    #[test]
    fn disks_have_the_expected_size() {
        for (radius, cells) in [(0, 1), (1, 5), (2, 13), (3, 29), (5, 81)] {
            assert_eq!(disk(radius).len(), cells, "radius {radius}");
        }
    }
}
