// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! Who decides what happens in a model wherever more than one thing can.

/// Decides.
pub trait Fate {
    /// One of `options` (at least 1) ways to go on; 0 is the one without adversity.
    fn choose(&mut self, options: usize) -> usize;
}

/// Walks all paths, one after the other.
///
/// A path is the list of choices made on it. The next path is the same with its last choice changed
/// to the next one, as in counting.
#[derive(Default)]
pub struct Walk {
    /// The choices of this path, each with the number of options that there were.
    path: Vec<(usize, usize)>,
    position: usize,
}

impl Fate for Walk {
    fn choose(&mut self, options: usize) -> usize {
        if self.position == self.path.len() {
            self.path.push((0, options));
        }
        let (choice, options_before) = self.path[self.position];
        assert_eq!(
            options, options_before,
            "the same choices lead to the same place"
        );
        self.position += 1;
        choice
    }
}

impl Walk {
    /// Goes on to the next path; `false` after the last one.
    pub fn advance(&mut self) -> bool {
        self.position = 0;
        while let Some((choice, options)) = self.path.pop() {
            if choice + 1 < options {
                self.path.push((choice + 1, options));
                return true;
            }
        }
        false
    }
}

/// Makes the choices that the bytes say, most of them the harmless one; and that one at the end.
pub struct Script(pub std::vec::IntoIter<u8>);

impl Fate for Script {
    fn choose(&mut self, options: usize) -> usize {
        let byte = self.0.next().map_or(0, usize::from);
        byte.saturating_sub(200) % options
    }
}
