//! A forecast as retention puts it on the index's board.

use indexer::{
    DiskForecast, Ends, Forecast, Going, Risk, RiskCause, RuleForecast, StreamForecast, TierBytes,
    TierForecast,
};

use super::epoch;

/// Of a disk that is too small for what rule 1 promises.
pub fn forecast() -> Forecast {
    let at = epoch();
    Forecast {
        at,
        complete: true,
        disk: DiskForecast {
            total_bytes: 1_000_000_000_000,
            free_bytes: 400_000_000_000,
            reserve_bytes: 10_000_000_000,
            footage_bytes: 475_200_000_000,
            other_bytes: 124_800_000_000,
            bitrate_bps: 8_000_000,
            full_at: Some(at.plus_micros(388_800_000_000)),
            days_to_full: Some(4.5),
            days_in_balance: Some(10.0),
        },
        tiers: vec![TierForecast {
            tier: archive::Tier::Warm,
            bytes: 0,
            capacity_bytes: Some(20_000_000_000_000),
            balance_bytes: None,
            full_at: None,
            days_to_full: Some(200.0),
        }],
        rules: vec![RuleForecast {
            rule: Some(1),
            cameras: vec!["*".to_owned()],
            streams: vec!["*".to_owned()],
            min_days: Some(30.0),
            max_days: None,
            governs: 1,
            bytes: 475_200_000_000,
            bitrate_bps: 8_000_000,
            days_will_hold: Some(30.0),
            at_risk: true,
            risks: vec![Risk {
                cause: RiskCause::Disk,
                at: at.plus_micros(388_800_000_000),
                days: 4.5,
                why: "it does not fit".to_owned(),
            }],
        }],
        streams: vec![StreamForecast {
            camera: "lobby".parse().expect("id"),
            stream: "main".parse().expect("id"),
            rule: Some(1),
            recorded: true,
            bitrate_bps: 8_000_000,
            bytes: TierBytes {
                hot: 475_200_000_000,
                warm: 0,
                cold: 0,
            },
            oldest: Some(at),
            days_held: Some(5.5),
            days_will_hold: Some(30.0),
            ends: Some(Ends::Space),
        }],
        next: vec![Going {
            camera: "lobby".parse().expect("id"),
            stream: "main".parse().expect("id"),
            until: at,
            bytes: 75_000_000,
            at: at.plus_micros(388_800_000_000),
            reason: Ends::Space,
        }],
    }
}
