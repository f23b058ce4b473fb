// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! Devices that go to another driver together, or stay where they are together.

/// The devices, by number.
pub trait Devices {
    /// Why a step failed.
    type Error;

    /// Gives a device to the new driver. When this fails the device may be without a driver.
    ///
    /// # Errors
    /// The driver did not take the device.
    fn hand_over(&mut self, device: usize) -> Result<(), Self::Error>;

    /// Gives a device to the driver that it had before.
    ///
    /// # Errors
    /// That driver did not take it either: the device is without one.
    fn put_back(&mut self, device: usize) -> Result<(), Self::Error>;
}

/// A handover that did not succeed, and was undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure<E> {
    /// Why.
    pub error: E,
    /// How many devices could not be put back.
    pub stranded: usize,
}

/// Hands `count` devices over, one after the other; if one of them fails, all are put back, the last
/// one first.
///
/// # Errors
/// [`Failure`] if a device was not taken. Putting back goes on when it fails for a device: as few as
/// possible shall be without a driver.
pub fn hand_over<D: Devices>(devices: &mut D, count: usize) -> Result<(), Failure<D::Error>> {
    for device in 0..count {
        if let Err(error) = devices.hand_over(device) {
            let mut stranded: usize = 0;
            for before in (0..=device).rev() {
                if devices.put_back(before).is_err() {
                    stranded = stranded.saturating_add(1);
                }
            }
            return Err(Failure { error, stranded });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{hand_over, Devices, Failure};

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Driver {
        Old,
        New,
        None,
    }

    /// Which devices the new driver refuses, and which the old one does not take back, bit by bit.
    struct Model {
        drivers: Vec<Driver>,
        refused: u32,
        lost: u32,
    }

    impl Devices for Model {
        type Error = usize;

        fn hand_over(&mut self, device: usize) -> Result<(), usize> {
            assert_eq!(self.drivers[device], Driver::Old);
            let taken = self.refused & (1 << device) == 0;
            self.drivers[device] = if taken { Driver::New } else { Driver::None };
            taken.then_some(()).ok_or(device)
        }

        fn put_back(&mut self, device: usize) -> Result<(), usize> {
            assert_ne!(self.drivers[device], Driver::Old);
            let taken = self.lost & (1 << device) == 0;
            self.drivers[device] = if taken { Driver::Old } else { Driver::None };
            taken.then_some(()).ok_or(device)
        }
    }

    #[test]
    fn all_or_none_whatever_fails() {
        for count in 0..=4 {
            for refused in 0..1u32 << count {
                for lost in 0..1u32 << count {
                    let mut model = Model {
                        drivers: vec![Driver::Old; count],
                        refused,
                        lost,
                    };
                    let result = hand_over(&mut model, count);
                    if refused == 0 {
                        assert_eq!(result, Ok(()));
                        assert_eq!(model.drivers, vec![Driver::New; count]);
                        continue;
                    }
                    let first = refused.trailing_zeros() as usize;
                    let reached = (1u32 << (first + 1)) - 1;
                    let stranded = (lost & reached).count_ones() as usize;
                    assert_eq!(
                        result,
                        Err(Failure {
                            error: first,
                            stranded
                        })
                    );
                    assert!(!model.drivers.contains(&Driver::New));
                    let without = model.drivers.iter().filter(|d| **d == Driver::None);
                    assert_eq!(without.count(), stranded);
                }
            }
        }
    }
}
