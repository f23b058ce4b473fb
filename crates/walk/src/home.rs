// SPDX-License-Identifier: MIT OR Apache-2.0
//! The way home: from wherever a walk came, every place can be emptied, unless the kernel itself uses its memory.

use std::path::Path;

use walk::Operation;
use walk::operation::Driver;
use walk::operation::File;
use walk::operation::Place;
use walk::operation::Program;
use walk::promise::Broken;
use walk::promise::can_be_emptied;
use walk::scene::Scene;

use crate::eyes::Eyes;
use crate::hands;
use crate::hands::Hands;

type Error = Box<dyn std::error::Error>;

/// Goes home; tells which place could not be emptied although it should.
pub fn go(eyes: &mut Eyes, hands: &mut Hands) -> Result<Result<(), Broken>, Error> {
    let mut way = Way { eyes, hands };
    way.stop_meddling()?;
    way.take_down_regions()?;
    let places: Vec<Place> = way.eyes.places().collect();
    for place in places {
        if way.has_left_behind(place)? {
            way.take_back(place)?;
        }
    }
    let scene = way.look()?;
    let stuck = scene.places.iter().enumerate().find(|(_, spot)| {
        let empty = spot.region.is_none() && spot.is_empty();
        !empty && can_be_emptied(spot)
    });
    Ok(match stuck {
        None => Ok(()),
        Some((place, spot)) => Err(Broken {
            promise: "there is a way back",
            evidence: format!("place {place} is left with {spot:?}"),
        }),
    })
}

struct Way<'w> {
    eyes: &'w mut Eyes,
    hands: &'w mut Hands,
}

impl Way<'_> {
    fn look(&mut self) -> Result<Scene, Error> {
        self.eyes.look(self.hands)
    }

    fn perform(&mut self, operation: &Operation) -> Result<(), Error> {
        let answer = self.hands.perform(operation, self.eyes)?;
        println!("    home: {operation}: {answer}");
        self.look().map(drop)
    }

    fn write(&mut self, file: File, word: &str) -> Result<(), Error> {
        self.perform(&Operation::Write(file, word.to_owned()))
    }

    fn stop_meddling(&mut self) -> Result<(), Error> {
        self.perform(&Operation::Vacate)?;
        self.write(File::OnlineFault, "0")?;
        self.write(File::OfflineFault, "0")?;
        self.write(File::SystemDefault, "online")?;
        for (place, spot) in (0..).zip(self.look()?.places) {
            if !spot.memdev {
                self.bring_hardware_back(place)?;
            }
        }
        Ok(())
    }

    /// From the root down, and each of several memdevs.
    fn bring_hardware_back(&mut self, place: Place) -> Result<(), Error> {
        self.write(File::Bind(Driver::Acpi, place), "")?;
        for driver in [Driver::Pci, Driver::Memdev] {
            for _ in 0..self.eyes.functions(place).count() {
                self.write(File::Bind(driver, place), "")?;
            }
        }
        Ok(())
    }

    /// The highest address first, as decoders want it.
    fn take_down_regions(&mut self) -> Result<(), Error> {
        let mut regions: Vec<(u64, Place)> = self
            .eyes
            .places()
            .filter_map(|place| {
                Some((self.eyes.region(place)?.resource.unwrap_or_default(), place))
            })
            .collect();
        regions.sort_unstable();
        for (_, place) in regions.into_iter().rev() {
            self.perform(&Operation::Run(Program::Destroy(place)))?;
        }
        let orphans: Vec<(String, String)> = self
            .eyes
            .snapshot()
            .regions
            .iter()
            .filter(|region| region.targets.iter().all(Option::is_none))
            .map(|region| (region.decoder.clone(), region.name.clone()))
            .collect();
        for (decoder, region) in orphans {
            let file = Path::new("/sys/bus/cxl/devices")
                .join(decoder)
                .join("delete_region");
            let answer = hands::write(&file, &region);
            println!("    home: {region} > {}: {answer}", file.display());
        }
        Ok(())
    }

    fn has_left_behind(&mut self, place: Place) -> Result<bool, Error> {
        let scene = self.look()?;
        Ok(scene
            .places
            .get(usize::from(place))
            .is_some_and(|spot| !spot.is_empty() && can_be_emptied(spot)))
    }

    /// Memory that stayed when its driver went: as the documentation says.
    fn take_back(&mut self, place: Place) -> Result<(), Error> {
        if self.eyes.region(place).is_none() {
            // The decoders are still programmed: memdevs that come back make the region anew, for the stock driver.
            for _ in 0..self.eyes.functions(place).count() {
                self.write(File::Unbind(Driver::Memdev, place), "")?;
            }
            self.bring_hardware_back(place)?;
        }
        self.write(File::Unbind(Driver::Stock, place), "")?;
        self.write(File::Bind(Driver::Sysram, place), "")?;
        self.perform(&Operation::Run(Program::Destroy(place)))
    }
}
