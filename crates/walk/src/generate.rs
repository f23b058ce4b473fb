// SPDX-License-Identifier: MIT OR Apache-2.0
//! Scripts at random. The same seed gives the same script.

use std::collections::VecDeque;

use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::ValueTree;
use proptest::test_runner::Config;
use proptest::test_runner::RngAlgorithm;
use proptest::test_runner::TestRng;
use proptest::test_runner::TestRunner;
use region_policy::dax_mode::DaxMode;
use region_policy::online_type::OnlineType;
use region_policy::state::Vocabulary;

use crate::operation::Driver;
use crate::operation::File;
use crate::operation::Operation;
use crate::operation::Program;

/// How much there is to walk on.
#[derive(Debug, Clone, Copy)]
pub struct Ground {
    /// Places, each with room for one region.
    pub places: u8,
    /// Memory blocks of each.
    pub blocks: u8,
}

/// `EBUSY`, as it is injected.
const FAULT: &str = "-16";

/// Drivers that somebody may take a device from or give it to at any time; those of the hardware go for a while.
const LEAVES: [Driver; 5] = [
    Driver::Stock,
    Driver::Kmem,
    Driver::DeviceDax,
    Driver::FsdevDax,
    Driver::Memdev,
];

/// After how many steps the walk goes home: what is broken then was broken since the last time.
const STEPS_BETWEEN_HOMES: usize = 60;

/// The script of a seed.
#[must_use]
pub fn script(ground: Ground, seed: u64, steps: usize) -> Vec<Operation> {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let random = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(Config::default(), random);
    let opening: Vec<_> = (0..ground.places)
        .map(|place| region(Just(place)))
        .collect();
    let phrase = phrase(ground);
    let mut script = Vec::with_capacity(steps);
    let mut next = draw(&opening, &mut runner);
    while script.len() < steps {
        let step = script.len() + 1;
        if step % STEPS_BETWEEN_HOMES == 0 || step == steps {
            script.push(Operation::GoHome);
            next = draw(&opening, &mut runner);
        } else if let Some(operation) = next.pop_front() {
            script.push(operation);
        } else {
            next = draw(&phrase, &mut runner);
        }
    }
    script
}

fn draw(
    strategy: &impl Strategy<Value = Vec<Operation>>,
    runner: &mut TestRunner,
) -> VecDeque<Operation> {
    // A strategy without filters never fails to give a value.
    let tree = strategy.new_tree(runner).ok();
    tree.map(|tree| tree.current()).unwrap_or_default().into()
}

/// One operation, or some that seldom meet by chance: a block that goes offline, and somebody who wants it back; memory that
/// is taken away and does not come back whole; hardware that goes, and comes back after something else happened.
pub fn phrase(ground: Ground) -> impl Strategy<Value = Vec<Operation>> {
    let online = select(&["online", "online_kernel", "online_movable"][..]);
    let again = (block(ground), online).prop_map(|(file, word)| {
        let write = |word: &str| Operation::Write(file, word.to_owned());
        vec![write("offline"), write(word)]
    });
    let fails = place(ground).prop_map(|place| {
        let write = |file, word: &str| Operation::Write(file, word.to_owned());
        vec![
            write(File::State(place), "unplugged"),
            write(File::OnlineFault, FAULT),
            write(File::State(place), "online_movable"),
            write(File::OnlineFault, "0"),
        ]
    });
    let hardware = select(vec![Driver::Memdev, Driver::Pci, Driver::Acpi]);
    let gone =
        (hardware, place(ground), operation(ground)).prop_map(|(driver, place, meanwhile)| {
            let name = |file| Operation::Write(file, String::new());
            let (goes, comes) = (File::Unbind(driver, place), File::Bind(driver, place));
            vec![name(goes), meanwhile, name(comes)]
        });
    prop_oneof![
        36 => operation(ground).prop_map(|operation| vec![operation]),
        4 => again,
        2 => fails,
        1 => gone,
    ]
}

/// One operation: most of them what people do, every third what nobody should.
pub fn operation(ground: Ground) -> impl Strategy<Value = Operation> {
    prop_oneof![
        12 => region(place(ground)),
        8 => ours(ground),
        20 => by_hand(ground),
        10 => hostile(ground),
        2 => stock_tool(ground).prop_map(Operation::Run),
        1 => Just(Operation::Occupy),
        2 => Just(Operation::Store),
        1 => place(ground).prop_map(Operation::Open),
        3 => Just(Operation::Vacate),
        1 => Just(Operation::Reload),
    ]
}

fn place(ground: Ground) -> impl Strategy<Value = u8> + Clone {
    0..ground.places
}

fn block(ground: Ground) -> impl Strategy<Value = File> {
    (place(ground), 0..ground.blocks).prop_map(|(place, block)| File::Block(place, block))
}

fn online_type() -> impl Strategy<Value = String> {
    // Kernel zones may never come back: a walk that asks for them as often as for the other soon has nowhere to go.
    prop_oneof![
        6 => Just(OnlineType::OnlineMovable),
        1 => select(OnlineType::ALL.to_vec()),
    ]
    .prop_map(|online_type| online_type.as_str().to_owned())
}

fn dax_mode() -> impl Strategy<Value = String> {
    select(DaxMode::ALL.to_vec()).prop_map(|mode| mode.as_str().to_owned())
}

fn request(vocabulary: Vocabulary) -> impl Strategy<Value = String> {
    let words: Vec<String> = vocabulary
        .requests()
        .iter()
        .map(|(word, _)| (*word).to_owned())
        .collect();
    prop_oneof![
        2 => Just("online_movable".to_owned()),
        2 => Just(words[0].clone()),
        1 => select(words),
    ]
}

/// Most operations need a region to work on.
fn region(place: impl Strategy<Value = u8> + Clone) -> impl Strategy<Value = Operation> {
    prop_oneof![
        6 => (place.clone(), online_type()).prop_map(|(place, word)| Program::Create(place, word)),
        2 => (place.clone(), dax_mode()).prop_map(|(place, mode)| Program::CreateDevdax(place, mode)),
        2 => place.clone().prop_map(Program::Commit),
        1 => place.prop_map(Program::CreateStock),
    ]
    .prop_map(Operation::Run)
}

fn ours(ground: Ground) -> impl Strategy<Value = Operation> {
    prop_oneof![
        1 => (place(ground), online_type()).prop_map(|(place, word)| Program::HandToSysram(place, word)),
        1 => (place(ground), dax_mode()).prop_map(|(place, mode)| Program::HandToDevdax(place, mode)),
        1 => place(ground).prop_map(Program::HandBack),
        4 => (place(ground), request(Vocabulary::State)).prop_map(|(place, word)| Program::Plug(place, word)),
        2 => place(ground).prop_map(Program::Destroy),
    ]
    .prop_map(Operation::Run)
}

fn by_hand(ground: Ground) -> impl Strategy<Value = Operation> {
    let binding = prop_oneof![
        8 => Just(Driver::Sysram),
        8 => Just(Driver::DaxKmem),
        2 => Just(Driver::Devdax),
        3 => Just(Driver::DaxDevice),
        3 => select(LEAVES.to_vec()),
    ];
    let bind = (place(ground), binding.clone())
        .prop_map(|(place, driver)| Operation::Write(File::Bind(driver, place), String::new()));
    let unbind = (place(ground), binding)
        .prop_map(|(place, driver)| Operation::Write(File::Unbind(driver, place), String::new()));
    prop_oneof![
        5 => bind,
        2 => unbind,
        4 => write(place(ground).prop_map(File::OnlineType), online_type()),
        2 => write(place(ground).prop_map(File::DaxMode), dax_mode()),
        6 => write(place(ground).prop_map(File::State), request(Vocabulary::State)),
        4 => write(place(ground).prop_map(File::Hotplug), request(Vocabulary::Hotplug)),
    ]
}

fn hostile(ground: Ground) -> impl Strategy<Value = Operation> {
    let block_word = select(vec!["offline", "online", "online_kernel", "online_movable"]);
    let fault = prop_oneof![2 => Just("0".to_owned()), 1 => Just(FAULT.to_owned())];
    prop_oneof![
        8 => write(block(ground), block_word.prop_map(str::to_owned)),
        2 => write(Just(File::SystemDefault), select(OnlineType::ALL.to_vec()).prop_map(|word| word.as_str().to_owned())),
        2 => write(Just(File::OnlineFault), fault.clone()),
        2 => write(Just(File::OfflineFault), fault),
        2 => write(place(ground).prop_map(File::Commit), select(vec!["0".to_owned(), "1".to_owned()])),
        1 => write(place(ground).prop_map(File::Delete), Just(String::new())),
        3 => write(any_file(ground), garbage()),
    ]
}

fn any_file(ground: Ground) -> impl Strategy<Value = File> {
    prop_oneof![
        place(ground).prop_map(File::OnlineType),
        place(ground).prop_map(File::DaxMode),
        place(ground).prop_map(File::State),
        place(ground).prop_map(File::Hotplug),
        block(ground),
        Just(File::SystemDefault),
        (place(ground), select(Driver::ALL.to_vec()))
            .prop_map(|(place, driver)| File::Bind(driver, place)),
        (place(ground), select(Driver::ALL.to_vec()))
            .prop_map(|(place, driver)| File::Unbind(driver, place)),
    ]
}

/// What no attribute takes: none of it is the name of a device either.
fn garbage() -> impl Strategy<Value = String> {
    prop_oneof![
        select(vec![
            "invalid",
            "mixed",
            "unplugged ",
            " online",
            "online\n\n",
            "ONLINE",
            "-1",
            "region",
            "dax",
            "\n",
        ])
        .prop_map(str::to_owned),
        "[ -~]{1,9}!".prop_map(|text| text),
        Just("online_movable".repeat(200)),
    ]
}

fn stock_tool(ground: Ground) -> impl Strategy<Value = Program> {
    prop_oneof![
        place(ground).prop_map(Program::CxlCreate),
        place(ground).prop_map(Program::CxlDisable),
        place(ground).prop_map(Program::CxlEnable),
        place(ground).prop_map(Program::CxlDestroy),
        place(ground).prop_map(Program::DaxctlOffline),
        (place(ground), any::<bool>())
            .prop_map(|(place, movable)| Program::DaxctlOnline(place, movable)),
        (place(ground), select(vec!["system-ram", "devdax"]))
            .prop_map(|(place, mode)| Program::DaxctlMode(place, mode.to_owned())),
    ]
}

fn write(
    file: impl Strategy<Value = File>,
    word: impl Strategy<Value = String>,
) -> impl Strategy<Value = Operation> {
    (file, word).prop_map(|(file, word)| Operation::Write(file, word))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROUND: Ground = Ground {
        places: 4,
        blocks: 4,
    };

    #[test]
    fn a_seed_is_a_script() {
        assert_eq!(script(GROUND, 7, 500), script(GROUND, 7, 500));
        assert_ne!(script(GROUND, 7, 500), script(GROUND, 8, 500));
        assert_eq!(script(GROUND, 7, 500).last(), Some(&Operation::GoHome));
    }

    proptest! {
        #[test]
        fn a_line_of_a_script_comes_back(operation in operation(GROUND)) {
            let line = operation.to_string();
            prop_assert!(!line.contains('\n'));
            prop_assert_eq!(Operation::parse(&line).unwrap(), operation);
        }
    }
}
