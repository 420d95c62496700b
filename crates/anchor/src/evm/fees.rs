//! What to offer: pure arithmetic on what the chain asks for.

use crate::driver::Fees;
use crate::failure::Failure;

/// What the newest block and the nodes ask for, in wei per gas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Market {
    /// Base fee of the newest block.
    pub base_fee: u64,
    /// The priority fee: goes to the block's producer.
    pub priority_fee: u64,
}

/// Fees for a transaction: room for the base fee to double, at least an eighth above the replaced ones (nodes ask for a tenth), and never
/// above the cap. Fails if the cap is too low to be included, or to be accepted as a replacement.
pub fn choose(market: Market, cap: u64, above: Option<Fees>) -> Result<Fees, Failure> {
    let raised = |fee: u64| fee.saturating_add(fee.div_ceil(8)).saturating_add(1);
    let priority_floor = above.map_or(0, |fees| raised(fees.max_priority_fee));
    let max_priority_fee = market.priority_fee.max(priority_floor);
    let wanted = market.base_fee.saturating_mul(2).saturating_add(max_priority_fee);
    // Nodes would refuse lower fees.
    let floor = above.map_or(0, |fees| raised(fees.max_fee));
    let needed = market.base_fee.saturating_add(max_priority_fee).max(floor);
    if needed > cap {
        return Err(Failure::FeesAboveCap { needed, cap });
    }
    Ok(Fees { max_fee: wanted.max(floor).min(cap), max_priority_fee })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_chosen_can_be_included_replaces_and_keeps_the_cap(
            base_fee in any::<u64>(), priority_fee in any::<u64>(), cap in any::<u64>(),
            above in prop::option::of((any::<u32>(), any::<u32>())),
        ) {
            let above = above.map(|(max_fee, tip)| Fees { max_fee: max_fee.into(), max_priority_fee: tip.into() });
            match choose(Market { base_fee, priority_fee }, cap, above) {
                Ok(fees) => {
                    prop_assert!(fees.max_fee <= cap && fees.max_priority_fee <= fees.max_fee);
                    prop_assert!(fees.max_fee >= base_fee);
                    if let Some(above) = above {
                        prop_assert!(u128::from(fees.max_fee) * 10 > u128::from(above.max_fee) * 11);
                        prop_assert!(u128::from(fees.max_priority_fee) * 10 > u128::from(above.max_priority_fee) * 11);
                    }
                }
                Err(Failure::FeesAboveCap { needed, cap: reported }) => prop_assert!(needed > cap && reported == cap),
                Err(other) => prop_assert!(false, "{other}"),
            }
        }
    }

    #[test]
    fn a_quiet_chain_costs_what_it_asks_for_with_room_to_double() {
        let market = Market { base_fee: 10, priority_fee: 1 };
        assert_eq!(choose(market, 1000, None), Ok(Fees { max_fee: 21, max_priority_fee: 1 }));
        // A cap between the current fees and their double is no obstacle.
        assert_eq!(choose(market, 12, None), Ok(Fees { max_fee: 12, max_priority_fee: 1 }));
        assert_eq!(choose(market, 10, None), Err(Failure::FeesAboveCap { needed: 11, cap: 10 }));
    }
}
