//! The job `mandelbrot`: a picture of the Mandelbrot set, one task per row of pixels.
//!
//! What it is: the kernel and the workload, so that the bytes between them are known in this file
//! only. What it is not: the file format, which is next door.
//!
//! Set-up: width, height and most iterations, u32 each, then the view: real and imaginary part of
//! the centre and the distance between pixels, 64-bit floating point each. Input: the row, u32,
//! from the bottom. Output: blue, green and red of each pixel of the row. All big endian.
//!
//! Invariant: a row is the same to the bit on every machine. Only `+ - * /` and comparisons are
//! used, which IEEE 754 settles; the library's logarithms differ from system to system.

use std::sync::Arc;

use crate::format::{log_failure, printable};
use crate::frame::Status;
use crate::kernel::{Delivery, Kernel, KernelError, Next, Stop, Workload};
use crate::kernels::bmp::{self, SIDE_MAX};

/// Its name on the wire and on the command line.
pub const NAME: &str = "mandelbrot";
/// Largest number of iterations: a row of the largest picture then takes minutes, but ends.
pub const ITERATIONS_MAX: u32 = 1_000_000;

/// What the whole set needs at least, to the right and upwards, at zoom 1.
const WHOLE: (f64, f64) = (3.0, 2.4);
/// Length of the set-up.
const SETUP_BYTES: usize = 36;
/// Squared distance from which on a number has escaped: far beyond the 4 that would prove it, as
/// the colour is the smoother the larger it is.
const ESCAPED: f64 = 65_536.0;
/// After so many iterations the colours begin anew.
const CYCLE: f64 = 50.0;
/// Where in a cycle which colour stands: red, green, blue.
const COLOURS: [(f64, [f64; 3]); 6] = [
    (0.0, [0.0, 7.0, 100.0]),
    (0.16, [32.0, 107.0, 203.0]),
    (0.42, [237.0, 255.0, 255.0]),
    (0.6425, [255.0, 170.0, 0.0]),
    (0.8575, [0.0, 2.0, 0.0]),
    (1.0, [0.0, 7.0, 100.0]),
];

/// What is drawn: the kernel's set-up.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct View {
    /// Pixels from left to right, from 1 to [`SIDE_MAX`].
    pub width: u32,
    /// Pixels from bottom to top, from 1 to [`SIDE_MAX`].
    pub height: u32,
    /// A number that has not escaped after so many is in the set; from 1 to [`ITERATIONS_MAX`].
    pub iterations: u32,
    /// Real and imaginary part of the number in the middle; finite.
    pub centre: (f64, f64),
    /// Distance from one pixel to the next; finite and not negative.
    pub step: f64,
}

/// Its numbers are finite.
impl Eq for View {}

impl View {
    /// A view of the whole set, magnified `zoom` times around `centre`.
    pub fn new(size: (u32, u32), centre: (f64, f64), zoom: f64, iterations: u32) -> View {
        let (width, height) = size;
        let across = WHOLE.0 / f64::from(width);
        let up = WHOLE.1 / f64::from(height);
        View {
            width,
            height,
            iterations,
            centre,
            step: if across > up { across } else { up } / zoom,
        }
    }

    fn encode(&self) -> Vec<u8> {
        let mut setup = Vec::with_capacity(SETUP_BYTES);
        for number in [self.width, self.height, self.iterations] {
            setup.extend_from_slice(&number.to_be_bytes());
        }
        for number in [self.centre.0, self.centre.1, self.step] {
            setup.extend_from_slice(&number.to_bits().to_be_bytes());
        }
        setup
    }

    fn decode(setup: &[u8]) -> Option<View> {
        let setup = <[u8; SETUP_BYTES]>::try_from(setup).ok()?;
        let (whole, real) = setup.split_at(12);
        let whole = |at: usize| u32::from_be_bytes(whole.as_chunks().0[at]);
        let real = |at: usize| f64::from_bits(u64::from_be_bytes(real.as_chunks().0[at]));
        let view = View {
            width: whole(0),
            height: whole(1),
            iterations: whole(2),
            centre: (real(0), real(1)),
            step: real(2),
        };
        let sides = 1..=SIDE_MAX;
        let is_sound = sides.contains(&view.width)
            && sides.contains(&view.height)
            && (1..=ITERATIONS_MAX).contains(&view.iterations)
            && [view.centre.0, view.centre.1, view.step]
                .iter()
                .all(|n| n.is_finite());
        is_sound.then_some(view)
    }
}

/// Makes the kernel.
///
/// # Errors
/// If the set-up is no view.
pub fn open(setup: &[u8]) -> Result<Arc<dyn Kernel>, String> {
    match View::decode(setup) {
        Some(view) => Ok(Arc::new(Mandelbrot(view))),
        None => Err(format!(
            "set-up of {} bytes is no view for {NAME}",
            setup.len()
        )),
    }
}

struct Mandelbrot(View);

impl Kernel for Mandelbrot {
    fn run(&self, input: &[u8], stop: &Stop, output: &mut Vec<u8>) -> Result<(), KernelError> {
        let view = &self.0;
        let row = <[u8; 4]>::try_from(input)
            .map_err(|_| format!("input of {} bytes, {NAME} takes 4", input.len()))?;
        let row = u32::from_be_bytes(row);
        if row >= view.height {
            return Err(format!("row {row} of {}", view.height).into());
        }
        // Twice the distance to the middle is a whole number, also where the middle is between
        // pixels.
        let half = view.step / 2.0;
        let from_middle = |at: u32, count: u32| (f64::from(2 * at + 1) - f64::from(count)) * half;
        let im = view.centre.1 + from_middle(row, view.height);
        output.reserve(view.width as usize * 3);
        for column in 0..view.width {
            if stop.is_raised() {
                return Err("stopped".into());
            }
            let re = view.centre.0 + from_middle(column, view.width);
            let [red, green, blue] = match escape(re, im, view.iterations) {
                Some(time) => colour(time),
                None => [0; 3],
            };
            output.extend_from_slice(&[blue, green, red]);
        }
        Ok(())
    }
}

/// After how many iterations of z² + c, from z = c, a number escapes; a fraction says how far it
/// got in the last one, so that neighbours have neighbouring times. None if it does not.
fn escape(re: f64, im: f64, iterations: u32) -> Option<f64> {
    let (mut x, mut y) = (re, im);
    for i in 0..iterations {
        let (xx, yy) = (x * x, y * y);
        if xx + yy > ESCAPED {
            // From one iteration to the next the logarithm doubles.
            let doublings = log2(log2(xx + yy) / log2(ESCAPED));
            return Some(f64::from(i + 1) - doublings);
        }
        y = 2.0 * x * y + im;
        x = xx - yy + re;
    }
    None
}

/// The logarithm of a number from 1 on to 16 binary places, which is more than a colour shows; 1024
/// of an infinite one.
fn log2(mut number: f64) -> f64 {
    let mut log = 0.0;
    while number >= 2.0 && log < 1024.0 {
        number /= 2.0;
        log += 1.0;
    }
    let mut place = 0.5;
    for _ in 0..16 {
        number *= number;
        if number >= 2.0 {
            number /= 2.0;
            log += place;
        }
        place /= 2.0;
    }
    log
}

fn colour(time: f64) -> [u8; 3] {
    let turns = time / CYCLE;
    let at = turns - turns.floor();
    let next = COLOURS
        .iter()
        .position(|&(place, _)| at < place)
        .unwrap_or(COLOURS.len() - 1);
    let ((from, before), (to, after)) = (COLOURS[next - 1], COLOURS[next]);
    let share = (at - from) / (to - from);
    std::array::from_fn(|i| (before[i] + (after[i] - before[i]) * share) as u8)
}

/// The rows of one picture, from the bottom up as the file has them: nothing is put together here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    view: View,
    /// The view in words, as typed.
    words: String,
    /// Rows asked for so far.
    asked: u32,
    /// Rows written so far.
    written: u32,
    /// No row had another length.
    is_sound: bool,
}

impl Picture {
    /// A picture of `view`, which is called `words`.
    pub fn new(view: View, words: String) -> Picture {
        Picture {
            view,
            words,
            asked: 0,
            written: 0,
            is_sound: true,
        }
    }

    /// Appends a row; without pixels a black one.
    fn write(&mut self, pixels: &[u8], text: &mut Vec<u8>) {
        if self.written == 0 {
            text.extend_from_slice(&bmp::header(self.view.width, self.view.height));
        }
        let end = text.len() + bmp::row_bytes(self.view.width);
        text.extend_from_slice(pixels);
        text.resize(end, 0);
        self.written += 1;
    }
}

impl Workload for Picture {
    fn kernel(&self) -> &str {
        NAME
    }

    fn describe(&self) -> String {
        format!("{NAME} {}", self.words)
    }

    fn setup(&self) -> Vec<u8> {
        self.view.encode()
    }

    fn next(&mut self, input: &mut Vec<u8>) -> Next {
        if self.asked == self.view.height {
            return Next::End;
        }
        input.extend_from_slice(&self.asked.to_be_bytes());
        self.asked += 1;
        Next::Task
    }

    fn deliver(&mut self, delivery: &Delivery<'_>, text: &mut Vec<u8>) {
        // A run that is ended leaves tasks out.
        while u64::from(self.written) < delivery.task {
            self.write(&[], text);
        }
        let pixels = delivery.output;
        if delivery.status != Status::Done {
            log_failure(delivery.task, &printable(pixels));
            self.write(&[], text);
        } else if pixels.len() != self.view.width as usize * 3 {
            let (worker, len) = (delivery.worker, pixels.len());
            let advice = "install the same release on both";
            let reason = format!("worker {worker} answered {len} bytes for a row; {advice}");
            log_failure(delivery.task, &reason);
            self.is_sound = false;
            self.write(&[], text);
        } else {
            self.write(pixels, text);
        }
    }

    fn finish(&mut self, _: &mut Vec<u8>) -> bool {
        self.is_sound
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash;

    fn view(width: u32, height: u32) -> View {
        View::new((width, height), (-0.65, 0.0), 1.0, 100)
    }

    fn row(view: View, row: u32) -> Result<Vec<u8>, KernelError> {
        let mut pixels = Vec::new();
        open(&view.encode())
            .unwrap()
            .run(&row.to_be_bytes(), &Stop::new(), &mut pixels)?;
        Ok(pixels)
    }

    fn deliver(job: &mut Picture, task: u64, status: Status, output: &[u8]) -> Vec<u8> {
        let delivery = Delivery {
            task,
            status,
            output,
            worker: "w",
            attempts: 0,
            queue_us: 0,
            run_us: 0,
            answered_ms: 0,
        };
        let mut text = Vec::new();
        job.deliver(&delivery, &mut text);
        text
    }

    #[test]
    fn a_picture_is_the_same_to_the_bit_on_every_machine() {
        let far = View::new((64, 48), (-0.743_643_9, 0.131_825_9), 1e5, 2000);
        for (view, expected) in [
            (view(64, 48), 0x93b3_7e89_cbf0_dfcb),
            (far, 0x816d_75fd_7807_71ab),
        ] {
            let rows = (0..48).map(|at| row(view, at).unwrap());
            let digest = rows.fold(0, |digest, row| hash::bytes(digest, &row));
            assert_eq!(digest, expected, "{digest:#x}");
        }
    }

    #[test]
    fn the_set_is_black_and_lies_the_same_above_and_below_the_real_axis() {
        assert_eq!(escape(0.0, 0.0, 1000), None);
        assert_eq!(escape(-2.0, 0.0, 1000), None);
        assert_eq!(escape(-1.0, 0.25, 1000), None);
        assert!(escape(0.26, 0.0, 1000).is_some());
        for height in [2, 7] {
            let view = view(9, height);
            assert_eq!(row(view, 0).unwrap(), row(view, height - 1).unwrap());
        }
        assert_eq!(row(view(1, 1), 0).unwrap(), [0; 3], "the middle");
    }

    #[test]
    fn logarithms_are_close_and_end() {
        for number in [1.0, 1.5, 2.0, 65_536.0, 7e19, f64::MAX] {
            let error = log2(number) - number.log2();
            assert!((-1e-4..=0.0).contains(&error), "{number}: {error}");
        }
        assert!(log2(f64::INFINITY) >= 1024.0);
        assert!(escape(f64::MAX, f64::MAX, 10).is_some());
        assert_eq!(colour(-CYCLE), colour(0.0), "also before the first cycle");
    }

    #[test]
    fn views_at_the_edges_are_drawn_and_those_beyond_are_refused() {
        for (width, height) in [(1, SIDE_MAX), (SIDE_MAX, 1)] {
            let top = row(view(width, height), height - 1).unwrap();
            assert_eq!(top.len(), width as usize * 3);
            let beyond = row(view(width, height), height).unwrap_err();
            assert_eq!(beyond, format!("row {height} of {height}").into());
        }
        let good = view(1, 1);
        let beyond = SIDE_MAX + 1;
        for bad in [
            View { width: 0, ..good },
            View { height: 0, ..good },
            View {
                width: beyond,
                ..good
            },
            View {
                height: beyond,
                ..good
            },
            View {
                iterations: 0,
                ..good
            },
            View {
                iterations: ITERATIONS_MAX + 1,
                ..good
            },
            View {
                step: f64::NAN,
                ..good
            },
            View {
                centre: (0.0, f64::INFINITY),
                ..good
            },
        ] {
            assert!(open(&bad.encode()).is_err(), "{bad:?}");
        }
        assert!(open(&good.encode()[1..]).is_err());
        let kernel = open(&good.encode()).unwrap();
        assert!(kernel.run(&[0; 3], &Stop::new(), &mut Vec::new()).is_err());
        let stop = Stop::new();
        stop.set(true);
        assert!(kernel.run(&[0; 4], &stop, &mut Vec::new()).is_err());
    }

    #[test]
    fn rows_are_written_as_they_come_and_what_is_missing_is_black() {
        let mut job = Picture::new(view(1, 5), String::new());
        let mut inputs = Vec::new();
        while job.next(&mut inputs) == Next::Task {}
        assert_eq!(inputs.len(), 20);
        let first = deliver(&mut job, 0, Status::Done, &[1, 2, 3]);
        assert_eq!(first[..54], bmp::header(1, 5));
        assert_eq!(first[54..], [1, 2, 3, 0]);
        assert_eq!(deliver(&mut job, 1, Status::Failed, b"why"), [0; 4]);
        let after_a_gap = deliver(&mut job, 3, Status::Done, &[4, 5, 6]);
        assert_eq!(after_a_gap, [0, 0, 0, 0, 4, 5, 6, 0]);
        assert!(
            job.finish(&mut Vec::new()),
            "the head counts failed tasks itself"
        );
        assert_eq!(deliver(&mut job, 4, Status::Done, &[1, 2]), [0; 4]);
        assert!(!job.finish(&mut Vec::new()));
    }
}
