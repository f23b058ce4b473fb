// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! What a request means for a device as it is, or why it is refused.

use core::fmt;

use crate::census::BlockCounts;
use crate::errno;
use crate::online_type::OnlineType;
use crate::request::{OnlineTarget, Request};
use crate::state::DeviceState;
use crate::zone::ZoneKind;

/// The work that fulfils a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transition {
    /// The device is what was asked for.
    Nothing,
    /// Bring every block that is absent or offline up with this online type, and leave those that
    /// are online alone.
    Plug(OnlineType),
    /// Take every block offline and remove it.
    Unplug,
}

/// Why a request is refused. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// The region's policy forbids this target.
    Policy {
        /// The policy.
        policy: OnlineType,
        /// What was asked for.
        target: OnlineTarget,
    },
    /// Blocks are online in another way than was asked for.
    Busy {
        /// What the blocks are.
        counts: BlockCounts,
        /// What was asked for.
        target: OnlineTarget,
    },
}

impl Refusal {
    /// The error number that the writer gets.
    #[must_use]
    pub const fn errno(self) -> i32 {
        match self {
            Self::Policy { .. } => errno::EPERM,
            Self::Busy { .. } => errno::EBUSY,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Policy { policy, target } => write!(
                f,
                "{target} refused: the region's policy is {policy}; ask for {policy}, or destroy the \
                 region and choose another policy"
            ),
            Self::Busy { counts, target } => write!(
                f,
                "{target} refused: memory is online already ({counts}) and an online block is never \
                 moved to another zone; unplug the device first"
            ),
        }
    }
}

/// Decides what a request means.
///
/// `counts` is what the blocks are, `last_requested` the last request that was fulfilled, and
/// `policy` what the owner of the region chose (`None` for a device without a region driver).
///
/// Asking for what is there changes nothing. An unplug is always possible to ask for. A device with
/// blocks online accepts only what completes it: the missing blocks join the zone of the others.
///
/// # Errors
/// [`Refusal::Policy`] if the policy names a zone and the target is not that policy;
/// [`Refusal::Busy`] if blocks are online and the request is not to complete them.
pub fn decide(
    counts: BlockCounts,
    last_requested: Option<OnlineType>,
    request: Request,
    policy: Option<OnlineType>,
) -> Result<Transition, Refusal> {
    let state = DeviceState::observe(counts, last_requested);
    let target = match request {
        Request::Unplug if state == DeviceState::Unplugged => return Ok(Transition::Nothing),
        Request::Unplug => return Ok(Transition::Unplug),
        Request::Online(target) => target,
    };
    if is_fulfilled(state, last_requested, target) {
        return Ok(Transition::Nothing);
    }
    if let Some(policy) = policy.filter(|policy| !permits(*policy, target)) {
        return Err(Refusal::Policy { policy, target });
    }
    let zone = match (counts.kernel, counts.movable) {
        (0, 0) => return Ok(Transition::Plug(target.into())),
        (_, 0) => ZoneKind::Kernel,
        (0, _) => ZoneKind::Movable,
        (_, _) => return Err(Refusal::Busy { counts, target }),
    };
    if counts.missing() != 0 && target.accepts(zone) {
        Ok(Transition::Plug(OnlineType::in_zone(zone)))
    } else {
        Err(Refusal::Busy { counts, target })
    }
}

fn is_fulfilled(
    state: DeviceState,
    last_requested: Option<OnlineType>,
    target: OnlineTarget,
) -> bool {
    match (state, target) {
        (DeviceState::Online, OnlineTarget::Online)
        | (DeviceState::OnlineKernel, OnlineTarget::OnlineKernel)
        | (DeviceState::OnlineMovable, OnlineTarget::OnlineMovable) => true,
        // The kernel was asked to choose and chose the movable zone: asking again is no change.
        (DeviceState::OnlineMovable, OnlineTarget::Online) => {
            last_requested == Some(OnlineType::Online)
        }
        _ => false,
    }
}

/// Whether the policy leaves room for the target. One that names a zone admits only itself, and not
/// the kernel's choice, which may be the other zone.
fn permits(policy: OnlineType, target: OnlineTarget) -> bool {
    match policy {
        OnlineType::Offline | OnlineType::Online => true,
        OnlineType::OnlineKernel | OnlineType::OnlineMovable => policy == target.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::{decide, Refusal, Transition};
    use crate::census::BlockCounts;
    use crate::errno::{EBUSY, EPERM};
    use crate::online_type::OnlineType;
    use crate::request::{OnlineTarget, Request};

    const fn counts(absent: u64, offline: u64, kernel: u64, movable: u64) -> BlockCounts {
        BlockCounts {
            absent,
            offline,
            kernel,
            movable,
        }
    }

    fn errno(decision: Result<Transition, Refusal>) -> Result<Transition, i32> {
        decision.map_err(Refusal::errno)
    }

    const UNPLUGGED: BlockCounts = counts(8, 0, 0, 0);
    const OFFLINE: BlockCounts = counts(0, 8, 0, 0);
    const KERNEL: BlockCounts = counts(0, 0, 8, 0);
    const MOVABLE: BlockCounts = counts(0, 0, 0, 8);

    #[test]
    fn an_unplug_is_work_unless_nothing_is_plugged() {
        for device in [OFFLINE, KERNEL, MOVABLE, counts(2, 2, 2, 2)] {
            assert_eq!(
                decide(device, None, Request::Unplug, None),
                Ok(Transition::Unplug),
                "{device}"
            );
        }
        assert_eq!(
            decide(UNPLUGGED, None, Request::Unplug, None),
            Ok(Transition::Nothing)
        );
    }

    #[test]
    fn a_device_with_nothing_online_comes_up_as_asked() {
        for device in [UNPLUGGED, OFFLINE, counts(3, 5, 0, 0)] {
            for target in OnlineTarget::ALL {
                assert_eq!(
                    decide(device, None, Request::Online(target), None),
                    Ok(Transition::Plug(target.into()))
                );
            }
        }
    }

    #[test]
    fn asking_twice_is_no_change() {
        for (device, target) in [
            (KERNEL, OnlineTarget::Online),
            (KERNEL, OnlineTarget::OnlineKernel),
            (MOVABLE, OnlineTarget::OnlineMovable),
            (MOVABLE, OnlineTarget::Online),
        ] {
            assert_eq!(
                decide(device, Some(target.into()), Request::Online(target), None),
                Ok(Transition::Nothing),
                "{target} on {device}"
            );
        }
    }

    #[test]
    fn another_online_type_needs_an_unplug_first() {
        for (device, last_requested, target) in [
            (
                MOVABLE,
                OnlineType::OnlineMovable,
                OnlineTarget::OnlineKernel,
            ),
            (MOVABLE, OnlineType::OnlineMovable, OnlineTarget::Online),
            (KERNEL, OnlineType::Online, OnlineTarget::OnlineKernel),
            (KERNEL, OnlineType::OnlineKernel, OnlineTarget::Online),
            (KERNEL, OnlineType::Online, OnlineTarget::OnlineMovable),
            (counts(0, 0, 4, 4), OnlineType::Online, OnlineTarget::Online),
            (counts(0, 4, 2, 2), OnlineType::Online, OnlineTarget::Online),
            (
                counts(0, 4, 4, 0),
                OnlineType::Online,
                OnlineTarget::OnlineMovable,
            ),
        ] {
            assert_eq!(
                errno(decide(
                    device,
                    Some(last_requested),
                    Request::Online(target),
                    None
                )),
                Err(EBUSY),
                "{target} on {device}"
            );
        }
    }

    #[test]
    fn missing_blocks_join_the_zone_of_the_others() {
        for (device, target, online_type) in [
            (
                counts(0, 1, 7, 0),
                OnlineTarget::Online,
                OnlineType::OnlineKernel,
            ),
            (
                counts(1, 0, 7, 0),
                OnlineTarget::OnlineKernel,
                OnlineType::OnlineKernel,
            ),
            (
                counts(1, 1, 0, 6),
                OnlineTarget::Online,
                OnlineType::OnlineMovable,
            ),
            (
                counts(1, 1, 0, 6),
                OnlineTarget::OnlineMovable,
                OnlineType::OnlineMovable,
            ),
        ] {
            assert_eq!(
                decide(device, None, Request::Online(target), None),
                Ok(Transition::Plug(online_type))
            );
        }
    }

    #[test]
    fn a_policy_that_names_a_zone_admits_only_itself() {
        for policy in OnlineType::ALL {
            for target in OnlineTarget::ALL {
                let decision = decide(UNPLUGGED, None, Request::Online(target), Some(policy));
                let forbidden =
                    matches!(policy, OnlineType::OnlineKernel | OnlineType::OnlineMovable)
                        && OnlineType::from(target) != policy;
                if forbidden {
                    assert_eq!(errno(decision), Err(EPERM), "{target} under {policy}");
                } else {
                    assert_eq!(decision, Ok(Transition::Plug(target.into())));
                }
            }
        }
    }

    #[test]
    fn a_refusal_tells_rule_and_remedy() {
        let text = |device, target, policy| {
            decide(device, None, Request::Online(target), policy)
                .unwrap_err()
                .to_string()
        };
        assert_eq!(
            text(
                UNPLUGGED,
                OnlineTarget::Online,
                Some(OnlineType::OnlineMovable)
            ),
            "online refused: the region's policy is online_movable; ask for online_movable, or \
             destroy the region and choose another policy"
        );
        assert_eq!(
            text(MOVABLE, OnlineTarget::OnlineKernel, None),
            "online_kernel refused: memory is online already (8 blocks: 8 movable, 0 kernel, 0 \
             offline, 0 absent) and an online block is never moved to another zone; unplug the \
             device first"
        );
    }
}
