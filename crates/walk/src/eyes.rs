// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sees what there is, with the names that things have at the moment.

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::time::Duration;

use cxl_sysfs::Snapshot;
use cxl_sysfs::Sysfs;
use cxl_sysfs::Tree;
use cxl_sysfs::memdev::Memdev;
use cxl_sysfs::memory;
use region_policy::blocks::BlockState;
use region_policy::zone::ZoneKind;
use walk::operation::Place;
use walk::scene::Dax;
use walk::scene::Devdax;
use walk::scene::Region;
use walk::scene::Scene;
use walk::scene::Spot;
use walk::scene::Sysram;

use crate::hands::Hands;

/// After so long nothing more will come: what is awaited takes milliseconds.
const HANG: Duration = Duration::from_mins(1);

/// The stock driver's name: it hands its region on in its own time.
const STOCK: &str = "cxl_region";

/// Looks at the machine.
pub struct Eyes {
    tree: Sysfs,
    snapshot: Snapshot,
    /// Serial number and PCI function of the memdevs of each place.
    memdevs: Vec<Vec<(u64, String)>>,
    /// The addresses of the last region of each place.
    ranges: BTreeMap<Place, Range<u64>>,
    block_size: u64,
}

impl Eyes {
    /// Takes the memdevs that there are now for the places, so many for each.
    pub fn open(ways: usize) -> cxl_sysfs::Result<Self> {
        let tree = Sysfs::default();
        let snapshot = Snapshot::read(&tree)?;
        let mut memdevs: Vec<(u64, String)> = snapshot
            .memdevs
            .iter()
            .filter_map(|memdev| Some((memdev.serial, memdev.host.clone()?)))
            .collect();
        memdevs.sort_unstable();
        let memdevs = memdevs.chunks_exact(ways).map(<[_]>::to_vec).collect();
        let block_size = memory::block_size(&tree)?;
        Ok(Self {
            tree,
            snapshot,
            memdevs,
            ranges: BTreeMap::new(),
            block_size,
        })
    }

    /// What was seen last, with all names.
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// How many places there are.
    pub fn places(&self) -> impl Iterator<Item = Place> + use<> {
        (0..self.memdevs.len()).filter_map(|place| Place::try_from(place).ok())
    }

    /// The memdevs of a place that are there.
    pub fn memdevs(&self, place: Place) -> impl Iterator<Item = &Memdev> + Clone {
        self.of(place).iter().filter_map(|(serial, _)| {
            let mut memdevs = self.snapshot.memdevs.iter();
            memdevs.find(|memdev| memdev.serial == *serial)
        })
    }

    /// The PCI functions of a place's memdevs, whether they have their driver or not.
    pub fn functions(&self, place: Place) -> impl Iterator<Item = &str> {
        self.of(place).iter().map(|(_, function)| function.as_str())
    }

    fn of(&self, place: Place) -> &[(u64, String)] {
        self.memdevs
            .get(usize::from(place))
            .map_or(&[], Vec::as_slice)
    }

    /// The region on a place's memdevs.
    pub fn region(&self, place: Place) -> Option<&cxl_sysfs::region::Region> {
        let of_place = |serial| self.of(place).iter().any(|(known, _)| *known == serial);
        self.snapshot.regions.iter().find(|region| {
            let targets = region.targets.iter().flatten();
            let mut decoders = targets.filter_map(|target| self.snapshot.endpoint_decoder(target));
            decoders.any(|decoder| {
                self.snapshot
                    .memdev_of(decoder)
                    .is_some_and(|memdev| of_place(memdev.serial))
            })
        })
    }

    /// The number of a block of a place, counted from the first of its last region.
    pub fn block(&self, place: Place, block: u8) -> Option<u64> {
        let blocks = memory::blocks_within(self.ranges.get(&place)?, self.block_size);
        blocks.into_iter().nth(usize::from(block))
    }

    /// Looks. What the stock drivers do in their own time is waited for.
    pub fn look(&mut self, hands: &mut Hands) -> Result<Scene, Box<dyn std::error::Error>> {
        let mut events = self.tree.events()?;
        self.snapshot = Snapshot::read(&self.tree)?;
        while self.is_on_its_way()? && events.wait(HANG)? {
            self.snapshot = Snapshot::read(&self.tree)?;
        }
        self.note_ranges()?;
        Ok(Scene {
            system_default: self.snapshot.system_default,
            places: self
                .places()
                .map(|place| self.spot(place))
                .collect::<Result<_, _>>()?,
            orphans: self
                .snapshot
                .regions
                .iter()
                .filter(|region| region.targets.iter().all(Option::is_none))
                .count(),
            strays: self.strays()?,
            data_intact: hands.data_is_intact()?,
        })
    }

    /// The addresses of regions; of those that are gone, as long as any of their memory is there.
    fn note_ranges(&mut self) -> cxl_sysfs::Result<()> {
        for place in self.places() {
            let region = self.region(place);
            let range = region.and_then(|region| {
                let start = region.resource?;
                (region.size > 0).then_some(start..start + region.size)
            });
            if let Some(range) = range {
                self.ranges.insert(place, range);
            } else if self.spot(place)?.is_empty() {
                self.ranges.remove(&place);
            }
        }
        Ok(())
    }

    /// Whether the stock driver of a region whose addresses are free has made no dax device yet, or one that nobody had the
    /// chance to bind.
    fn is_on_its_way(&self) -> cxl_sysfs::Result<bool> {
        for region in &self.snapshot.regions {
            if region.driver.as_deref() != Some(STOCK) || !region.committed {
                continue;
            }
            let mut devices = self.snapshot.dax_devices_of(&region.name);
            let complete = devices.any(|device| device.is_complete() && device.size > 0);
            let start = region.resource.unwrap_or_default();
            let mut taken = false;
            for block in memory::blocks_within(&(start..start + region.size), self.block_size) {
                taken |= memory::Block::read(&self.tree, block)?.is_some();
            }
            if !complete && !taken {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn spot(&self, place: Place) -> cxl_sysfs::Result<Spot> {
        let enabled = self.memdevs(place).filter(|memdev| memdev.enabled);
        let blocks = self.ranges.get(&place).cloned().unwrap_or_default();
        Ok(Spot {
            memdev: enabled.count() == self.of(place).len(),
            region: self.region(place).map(|region| Region {
                committed: region.committed,
                locked: region.locked,
                driver: region.driver.clone(),
                sysram: region.sysram.as_ref().map(|sysram| Sysram {
                    policy: sysram.online_type,
                    bound: sysram.driver.is_some(),
                }),
                devdax: region.devdax.as_ref().map(|devdax| Devdax {
                    mode: devdax.dax_mode,
                    bound: devdax.driver.is_some(),
                }),
                dax: self
                    .snapshot
                    .dax_devices_of(&region.name)
                    .next()
                    .map(|dax| Dax {
                        driver: dax.driver.clone(),
                        state: dax.state.clone(),
                        hotplug: dax.hotplug.clone(),
                    }),
            }),
            blocks: memory::blocks_within(&blocks, self.block_size)
                .map(|number| self.block_state(number))
                .collect::<Result<_, _>>()?,
        })
    }

    fn block_state(&self, number: u64) -> cxl_sysfs::Result<BlockState> {
        let block = memory::Block::read(&self.tree, number)?;
        Ok(match block.map(|block| block.state) {
            None => BlockState::Absent,
            Some(memory::BlockState::Online { zone }) => BlockState::Online(
                // A block that spans more than one zone is none that can be taken away.
                memory::zone_kind(&zone).unwrap_or(ZoneKind::Kernel),
            ),
            Some(_) => BlockState::Offline,
        })
    }

    /// Blocks in the windows of root decoders that are of no place.
    fn strays(&self) -> Result<Vec<u64>, Box<dyn std::error::Error>> {
        let mut known = Vec::new();
        for range in self.ranges.values() {
            known.extend(memory::blocks_within(range, self.block_size));
        }
        let windows: Vec<Range<u64>> = self
            .snapshot
            .root_decoders
            .iter()
            .filter_map(|decoder| {
                let start = decoder.mapping.start?;
                Some(memory::blocks_within(
                    &(start..start + decoder.mapping.size),
                    self.block_size,
                ))
            })
            .collect();
        let mut strays = Vec::new();
        for entry in fs::read_dir(memory::MEMORY)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            let number = name
                .strip_prefix("memory")
                .and_then(|number| number.parse().ok());
            if let Some(number) = number
                && windows.iter().any(|window| window.contains(&number))
                && !known.contains(&number)
            {
                strays.push(number);
            }
        }
        Ok(strays)
    }
}
