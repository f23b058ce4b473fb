// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whose turn it is: a few tests run at once, and those of one kind follow each other, for the sake of what they share.

use std::sync::Condvar;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

/// How many tests of a kind must wait for it to be worth while to make a second time what they share.
const WORTH_WHILE: usize = 3;

/// Turns for tests of kinds `K` that share a `T`; a test of no kind shares with nobody.
pub struct Turns<K, T> {
    state: Mutex<State<K, T>>,
    changed: Condvar,
}

struct State<K, T> {
    /// The tests that wait, in the order of their numbers.
    waiting: Vec<Waiting<K>>,
    /// Those whose turn it is, with its number, until they notice.
    called: Vec<(usize, usize)>,
    turns: Vec<Turn<K, T>>,
}

struct Waiting<K> {
    number: usize,
    who: Who<K>,
}

/// A test that wants a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Who<K> {
    /// None: it shares with nobody.
    pub kind: Option<K>,
    /// It leaves nothing for others, and so comes last of its kind.
    pub last: bool,
}

struct Turn<K, T> {
    /// That of the test that has it, or had it last.
    kind: Option<K>,
    /// What the last test left for the next of its kind.
    left: Option<T>,
    busy: bool,
}

impl<K: PartialEq, T> Turns<K, T> {
    /// So many tests at once.
    pub fn new(count: usize) -> Self {
        let turn = || Turn {
            kind: None,
            left: None,
            busy: false,
        };
        Self {
            state: Mutex::new(State {
                waiting: Vec::new(),
                called: Vec::new(),
                turns: (0..count.max(1)).map(|_| turn()).collect(),
            }),
            changed: Condvar::new(),
        }
    }

    /// Waits for the turn of the test with this number, and runs it. Those of one kind come in the order of their numbers. It is
    /// given what the test before it left, if that was of the same kind, and tells what it leaves.
    pub fn take<R>(
        &self,
        number: usize,
        who: Who<K>,
        test: impl FnOnce(Option<T>) -> (R, Option<T>),
    ) -> R {
        let mut state = self.state();
        state.waiting.push(Waiting { number, who });
        state.waiting.sort_by_key(|waiting| waiting.number);
        self.call(state);
        let mut state = self.state();
        let (turn, given) = loop {
            if let Some(called) = state.called(number) {
                break called;
            }
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        };
        drop(state);
        let mut taken = Taken {
            turns: self,
            turn,
            left: None,
        };
        let (result, left) = test(given);
        taken.left = left;
        result
    }

    /// Gives free turns to those who wait.
    fn call(&self, mut state: MutexGuard<'_, State<K, T>>) {
        let surplus = state.assign();
        drop(state);
        self.changed.notify_all();
        // That may take long.
        drop(surplus);
    }

    fn state(&self) -> MutexGuard<'_, State<K, T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A turn that somebody has, and gives back even if he panics.
struct Taken<'a, K: PartialEq, T> {
    turns: &'a Turns<K, T>,
    turn: usize,
    left: Option<T>,
}

impl<K: PartialEq, T> Drop for Taken<'_, K, T> {
    fn drop(&mut self) {
        let mut state = self.turns.state();
        let turn = &mut state.turns[self.turn];
        (turn.busy, turn.left) = (false, self.left.take());
        self.turns.call(state);
    }
}

impl<K: PartialEq, T> State<K, T> {
    /// The turn that this test was called for, and what it is given; once.
    fn called(&mut self, number: usize) -> Option<(usize, Option<T>)> {
        let index = self.called.iter().position(|(test, _)| *test == number)?;
        let (_, turn) = self.called.swap_remove(index);
        Some((turn, self.turns[turn].left.take()))
    }

    /// Calls who is next for each free turn. Returns what nobody is given any more.
    fn assign(&mut self) -> Vec<T> {
        let mut surplus = Vec::new();
        for turn in 0..self.turns.len() {
            if self.turns[turn].busy {
                continue;
            }
            let waiting: Vec<Who<&K>> = self
                .waiting
                .iter()
                .map(|waiting| Who {
                    kind: waiting.who.kind.as_ref(),
                    last: waiting.who.last,
                })
                .collect();
            let others: Vec<&K> = self
                .turns
                .iter()
                .filter(|other| other.busy)
                .filter_map(|other| other.kind.as_ref())
                .collect();
            let own = self.turns[turn].kind.as_ref();
            let Some(next) = next(&waiting, own, &others) else {
                surplus.extend(self.turns[turn].left.take());
                self.turns[turn].kind = None;
                continue;
            };
            let Waiting { number, who } = self.waiting.remove(next);
            let kind = who.kind;
            let turn_of_it = &mut self.turns[turn];
            if kind.is_none() || turn_of_it.kind != kind {
                surplus.extend(turn_of_it.left.take());
            }
            (turn_of_it.kind, turn_of_it.busy) = (kind, true);
            self.called.push((number, turn));
        }
        surplus
    }
}

/// Which of these tests is next where one of kind `own` was the last, while some of kinds `others` run.
///
/// A kind goes on as long as there are tests of it. Those of no kind come before the other kinds, and kinds of few tests
/// before those of many: a kind of many can be shared at the end, when nothing else is left.
fn next<K: PartialEq>(waiting: &[Who<&K>], own: Option<&K>, others: &[&K]) -> Option<usize> {
    let first = |kind: Option<&K>, last: bool| {
        let is_it = |who: &Who<&K>| who.kind == kind && who.last == last;
        waiting.iter().position(is_it)
    };
    let of = |kind: Option<&K>| first(kind, false).or_else(|| first(kind, true));
    if let Some(index) = own.and_then(|own| of(Some(own))).or_else(|| of(None)) {
        return Some(index);
    }
    let kinds = || waiting.iter().filter_map(|who| who.kind);
    let count = |kind: &K| kinds().filter(|other| *other == kind).count();
    let free = kinds().filter(|kind| !others.contains(kind));
    if let Some(kind) = free.min_by_key(|kind| count(kind)) {
        return of(Some(kind));
    }
    let many = kinds().filter(|kind| count(kind) >= WORTH_WHILE);
    let kind = many.max_by_key(|kind| count(kind))?;
    // What leaves nothing for others can as well be done by somebody else.
    first(Some(kind), true).or_else(|| first(Some(kind), false))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::sync::atomic::Ordering;
    use std::thread;

    use super::*;

    /// Tests by their kinds: none where there is no word, and one that comes last with an exclamation mark.
    fn chosen(waiting: &[&str], own: &str, others: &[&str]) -> Option<usize> {
        let kinds: Vec<&str> = waiting
            .iter()
            .map(|word| word.trim_end_matches('!'))
            .collect();
        let waiting: Vec<Who<&&str>> = waiting
            .iter()
            .zip(&kinds)
            .map(|(word, kind)| Who {
                kind: Some(kind).filter(|kind| !kind.is_empty()),
                last: word.ends_with('!'),
            })
            .collect();
        let others: Vec<&&str> = others.iter().collect();
        next(&waiting, Some(&own).filter(|own| !own.is_empty()), &others)
    }

    #[test]
    fn a_kind_goes_on_until_none_of_it_waits() {
        assert_eq!(chosen(&["", "a", "b"], "b", &["a"]), Some(2));
        assert_eq!(chosen(&["", "a", "b"], "c", &["a"]), Some(0));
    }

    #[test]
    fn who_shares_with_nobody_comes_first_and_then_the_kind_that_fewest_are_of() {
        assert_eq!(chosen(&["a", "b", ""], "", &[]), Some(2));
        assert_eq!(chosen(&["a", "a", "b"], "", &[]), Some(2));
        assert_eq!(chosen(&["a", "b", "b", "a"], "", &[]), Some(0));
    }

    #[test]
    fn what_leaves_nothing_comes_last_of_its_kind() {
        assert_eq!(chosen(&["a!", "a", "b"], "a", &["b"]), Some(1));
        assert_eq!(chosen(&["a!", "b"], "a", &["b"]), Some(0));
        assert_eq!(chosen(&["a!", "a", "b", "b", "b"], "", &[]), Some(1));
        assert_eq!(chosen(&["a", "a!", "a"], "", &["a"]), Some(1));
    }

    #[test]
    fn a_kind_is_shared_by_two_only_where_it_is_worth_while() {
        assert_eq!(chosen(&["a", "a", "b"], "", &["a"]), Some(2));
        assert_eq!(chosen(&["a", "a"], "", &["a"]), None);
        assert_eq!(chosen(&["a", "a", "a"], "", &["a"]), Some(0));
    }

    fn who(kind: &'static str) -> Who<&'static str> {
        Who {
            kind: Some(kind).filter(|kind| !kind.is_empty()),
            last: false,
        }
    }

    #[test]
    fn who_panics_gives_his_turn_back() {
        let turns: Turns<&str, ()> = Turns::new(1);
        let panics = || {
            turns.take(0, who("a"), |_| -> ((), Option<()>) {
                panic!("a test failed")
            });
        };
        thread::scope(|scope| {
            assert!(scope.spawn(panics).join().is_err());
        });
        assert!(turns.take(1, who("a"), |given| (given.is_none(), None)));
    }

    #[test]
    fn every_test_has_its_turn_and_not_more_run_at_once_than_may() {
        let turns = Turns::new(2);
        let (running, made) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let kinds = ["a", "b", "", "a", "c", "a", "", "b", "a"];
        let test = |number: usize, kind: &'static str| {
            let shares = who(kind).kind;
            turns.take(number, who(kind), |given: Option<&str>| {
                assert!(running.fetch_add(1, Ordering::SeqCst) < 2);
                assert!(given.is_none_or(|given| given == kind));
                made.fetch_add(usize::from(given.is_none()), Ordering::SeqCst);
                thread::yield_now();
                running.fetch_sub(1, Ordering::SeqCst);
                (kind, shares)
            })
        };
        thread::scope(|scope| {
            let test = &test;
            let start = |(number, kind)| scope.spawn(move || test(number, kind));
            let tests: Vec<_> = kinds.into_iter().enumerate().map(start).collect();
            for (kind, test) in kinds.into_iter().zip(tests) {
                assert_eq!(test.join().expect("it has its turn"), kind);
            }
        });
        assert!((5..=9).contains(&made.load(Ordering::SeqCst)));
    }
}
