// SPDX-License-Identifier: MIT OR Apache-2.0
//! Makes a failing script short, by leaving out more and more of it.
//!
//! Every try is a guest that has to be booted, so large pieces go first (delta debugging), and the number of tries is
//! bounded: a script that is still long is of use, too.

/// Leaves out what is not needed for `fails`, with at most `tries` tries. What comes back fails, if the whole did.
///
/// # Errors
/// What `fails` answers.
pub fn shrink<Item: Clone, Error>(
    script: &[Item],
    tries: usize,
    mut fails: impl FnMut(&[Item]) -> Result<bool, Error>,
) -> Result<Vec<Item>, Error> {
    let mut script = script.to_vec();
    let mut tries = tries;
    let mut size = script.len() / 2;
    while size > 0 {
        let mut start = 0;
        let mut shorter = false;
        while start < script.len() {
            if tries == 0 {
                return Ok(script);
            }
            tries -= 1;
            let mut candidate = script.clone();
            candidate.drain(start..(start + size).min(script.len()));
            if fails(&candidate)? {
                script = candidate;
                shorter = true;
            } else {
                start += size;
            }
        }
        if !(shorter && size == 1) {
            size /= 2;
        }
    }
    Ok(script)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shrunk(length: u32, tries: usize, fails: impl Fn(&[u32]) -> bool) -> Vec<u32> {
        let script: Vec<u32> = (0..length).collect();
        let result: Result<_, ()> = shrink(&script, tries, |script| Ok(fails(script)));
        result.unwrap()
    }

    #[test]
    fn only_what_is_needed_is_left() {
        let needs = |script: &[u32]| [17, 80, 81].iter().all(|item| script.contains(item));
        assert_eq!(shrunk(100, 1000, needs), [17, 80, 81]);
    }

    #[test]
    fn what_is_left_after_the_last_try_still_fails() {
        let needs = |script: &[u32]| script.contains(&3) && script.contains(&96);
        for tries in 0..20 {
            assert!(needs(&shrunk(100, tries, needs)));
        }
    }
}
