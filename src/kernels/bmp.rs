//! Uncompressed pictures that every viewer opens.
//!
//! What it is: the header of a BMP file with 24 bits per pixel, and how long its rows are. What it
//! is not: a writer, or a reader.
//!
//! Invariant: the header says how long the file is, and it is that long if `height` rows of
//! [`row_bytes`] follow. They follow from the bottom up, as the format has always had it; a
//! negative height, for the other way round, is not understood by every reader.

/// Largest width and height: both together, and the file's length fits the 32 bits that it has.
pub const SIDE_MAX: u32 = 32_768;

/// Length of the header.
pub const HEADER_BYTES: usize = 54;

/// How long a row is: blue, green and red of each pixel, filled up with zeros to a multiple of 4.
pub fn row_bytes(width: u32) -> usize {
    (width as usize * 3).next_multiple_of(4)
}

/// The header of a picture of so many pixels, each side from 1 to [`SIDE_MAX`]. As on most screens
/// there are 96 of them to an inch, which is 3780 to a metre.
pub fn header(width: u32, height: u32) -> [u8; HEADER_BYTES] {
    let pixels_bytes = (row_bytes(width) * height as usize) as u32;
    let fields = [
        (2, HEADER_BYTES as u32 + pixels_bytes),
        (10, HEADER_BYTES as u32), // where the pixels begin
        (14, 40),                  // length of the rest of the header
        (18, width),
        (22, height),
        (26, 24 << 16 | 1), // one plane, 24 bits
        (34, pixels_bytes),
        (38, 3780),
        (42, 3780),
    ];
    let mut header = [0; HEADER_BYTES];
    header[..2].copy_from_slice(b"BM");
    for (at, field) in fields {
        header[at..at + 4].copy_from_slice(&field.to_le_bytes());
    }
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_end_on_a_multiple_of_four() {
        assert_eq!([1, 2, 3, 4, 5].map(row_bytes), [4, 8, 12, 12, 16]);
    }

    #[test]
    fn the_header_is_the_one_that_others_write() {
        // A picture of 3 by 2 pixels, as Pillow 12 writes it.
        let expected = "424d 4e000000 0000 0000 36000000 \
                        28000000 03000000 02000000 0100 1800 00000000 18000000 \
                        c40e0000 c40e0000 00000000 00000000";
        let written: String = header(3, 2).iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(written, expected.replace(' ', ""));
    }

    #[test]
    fn the_largest_picture_fits() {
        let bytes = HEADER_BYTES as u64 + row_bytes(SIDE_MAX) as u64 * u64::from(SIDE_MAX);
        assert!(bytes <= u64::from(u32::MAX));
        assert_eq!(
            header(SIDE_MAX, SIDE_MAX)[2..6],
            (bytes as u32).to_le_bytes()
        );
    }
}
