//! What it costs to ask whether an event was accepted before: with 80 sealed segments on disk, about as many identities
//! as the filters have room for.

use std::{
    hint::black_box,
    num::NonZeroU32,
    sync::Arc,
    time::{Duration, SystemTime},
};

use criterion::{Criterion, Throughput};
use hookbus_core::RecordKey;
use hookbus_journal::{
    RealFolder,
    dedup::{Acceptance, Dedup, Identity, Settings},
};

const SEGMENTS: u64 = 80;
const EVENTS: u64 = 66_000;

fn identity(number: u64) -> Identity {
    // Well mixed, as a hash is; a hash itself would be most of what is measured.
    let mix = |number: u64| {
        let mixed = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    };
    let mixed =
        [mix(number.wrapping_mul(0x9e37_79b9_7f4a_7c15)), mix(number.wrapping_add(0x1234_5678_9abc_def1))];
    let mut bytes = mixed.into_iter().flat_map(u64::to_le_bytes);
    Identity::from_bytes(std::array::from_fn(|_| bytes.next().unwrap_or(0)))
}

fn acceptance(number: u64, destinations: &[NonZeroU32]) -> Acceptance<'_> {
    Acceptance { identity: identity(number), destinations, accepted: SystemTime::now(), sequence: number }
}

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(3))
        .configure_from_args();
    let folder = tempfile::tempdir().expect("a folder for the files");
    let folder = Arc::new(RealFolder::open(folder.path()).expect("it is there"));
    let key = RecordKey::new(&[7; 32]).expect("32 bytes");
    let settings = Settings { window: Duration::from_secs(3 * 86_400), max_size: 256 << 20 };
    let now = SystemTime::now();
    let (mut dedup, _) = Dedup::open(folder, &key, settings, now).expect("an empty folder");
    let destinations = [NonZeroU32::MIN];
    for segment in 0..SEGMENTS {
        for number in 0..EVENTS {
            dedup.insert(&acceptance(segment * EVENTS + number, &destinations));
        }
        let sealing = dedup.seal(segment, now);
        dedup.adopt(sealing.write().expect("room on the disk"), now).expect("nothing is removed");
    }
    assert_eq!((dedup.segments().count(), dedup.len()), (80, 5_280_000), "all of it fits");
    let mut number = SEGMENTS * EVENTS;
    (0..EVENTS / 2).for_each(|_| {
        number += 1;
        dedup.insert(&acceptance(number, &destinations));
    });

    let mut group = criterion.benchmark_group("dedup");
    group.throughput(Throughput::Elements(1));
    group.bench_function("find/new", |bench| {
        bench.iter(|| {
            number += 1;
            dedup.find(black_box(&identity(number)), now)
        });
    });
    group.bench_function("find/on-disk", |bench| {
        bench.iter(|| {
            number += 1;
            dedup.find(black_box(&identity(number * 7_919 % (SEGMENTS * EVENTS))), now)
        });
    });
    group.bench_function("find/in-memory", |bench| {
        bench.iter(|| {
            number += 1;
            dedup.find_in_memory(black_box(&identity(SEGMENTS * EVENTS + 1 + number % (EVENTS / 2))), now)
        });
    });
    group.bench_function("seal", |bench| {
        bench.iter(|| {
            let acceptances = (0..EVENTS).map(|number| acceptance(number, &destinations));
            dedup.rebuild(SEGMENTS, acceptances, now).write().expect("room on the disk");
            dedup.forget(SEGMENTS, now)
        });
    });
}
