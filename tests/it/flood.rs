//! Forged requests in a flood beside genuine ones of the same source: the genuine ones are all accepted, and the record of
//! the forged ones takes no more disk than it may.

use std::{fs, path::Path, process::Stdio};

use serde_json::Value;
use tokio::{process::Command, time::Instant};

use crate::support::{Bridge, Figures, Provider, in_company, number_of, say, until};

use Provider::FastPix;

/// A journal, and a sink that costs nothing: what is measured is the way in.
const CONFIG: &str = r#"
[server]
listen = "127.0.0.1:0"
limits = { connections-per-address = 1024 }
[admin]
listen = "127.0.0.1:0"
[rejected]
[sources.fastpix]
provider = "fastpix"
secrets = [{ file = "fastpix.secret" }]
ack = "journal"
ack-timeout = "30s"
[sinks.memory]
type = "memory"
keep = 100
[[routes]]
name = "all"
to = [{ sink = "memory" }]
"#;

/// Connections of each kind.
const CONNECTIONS: u64 = 64;

/// What one load generator is to do, in a process of its own.
struct Load<'s> {
    secret: &'s Path,
    rate: u64,
    seconds: u64,
    /// The number of its first event: none is sent twice.
    first: u64,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn genuine_requests_are_accepted_beside_a_flood_of_forged_ones() {
    let _in_company = in_company().await;
    let seconds = number_of("HOOKBUS_TEST_SECONDS", 2);
    let rate = number_of("HOOKBUS_TEST_RATE", 100);
    let forged_rate = number_of("HOOKBUS_TEST_FORGED", 500);
    let mut bridge = Bridge::start_with(CONFIG).await;
    let secret = bridge.path("fastpix.secret");
    let other = bridge.path("other.secret");
    let record = bridge.path("hookbus-data/rejected");
    fs::write(&other, FastPix.wrong_secret().expose()).unwrap();

    let load = |secret, rate, first| Load { secret, rate, seconds, first };
    // What is made once is made before anything is measured.
    run(&bridge, Load { seconds: 1, ..load(&secret, rate, 0) }).await;
    let (begun, cpu) = (Instant::now(), cpu_millis(&bridge));
    let alone = run(&bridge, load(&secret, rate, rate * 10)).await;
    let (alone_took, alone_cpu) = (begun.elapsed(), cpu_millis(&bridge) - cpu);
    let (begun, cpu) = (Instant::now(), cpu_millis(&bridge));
    let (beside, forged) = tokio::join!(
        run(&bridge, load(&secret, rate, rate * (20 + seconds))),
        run(&bridge, load(&other, forged_rate, 0))
    );
    let (took, flood_cpu) = (begun.elapsed(), cpu_millis(&bridge) - cpu);

    // They are written behind their answers.
    until("some are kept", || size(&record) > 0).await;
    let page = bridge.admin("/metrics").await;
    let figures = Figures::parse(std::str::from_utf8(&page.body).unwrap());
    let of = |name: &str| figures.get(name, &[("source", "fastpix")]);
    let (written, disk) = (of("hookbus_rejected_written_bytes_total"), of("hookbus_rejected_disk_bytes"));
    let kept = of("hookbus_rejected_kept_total");
    let shown = |report: &Value| {
        let latency = &report["latency_us"];
        format!(
            "{:.0}/s, p50 {} us, p99 {} us, p999 {} us, statuses {}, errors {}, unsent {}",
            report["per_second"].as_f64().unwrap(),
            latency["p50"],
            latency["p99"],
            latency["p999"],
            report["statuses"],
            report["errors"],
            report["unsent"]
        )
    };
    say(&format!(
        "flood, genuine alone:  {}\nflood, genuine beside: {}\nflood, forged:         {}\nflood: {kept} of {} forged ones \
         kept, {written} bytes written, {disk} on disk; bridge CPU {:.2} of a core alone, {:.2} beside the flood",
        shown(&alone),
        shown(&beside),
        shown(&forged),
        forged["requests"],
        alone_cpu as f64 / alone_took.as_millis() as f64,
        flood_cpu as f64 / took.as_millis() as f64,
    ));
    for report in [&alone, &beside] {
        let answered = report["statuses"].as_object().unwrap();
        assert_eq!(answered.keys().collect::<Vec<_>>(), ["200"], "{report:#}");
        assert_eq!(
            (&report["errors"], &report["unanswered"]),
            (&serde_json::json!({}), &0.into()),
            "{report:#}"
        );
    }
    assert_eq!(forged["statuses"].as_object().unwrap().keys().collect::<Vec<_>>(), ["401"], "{forged:#}");
    // Twenty in any second, and no more for how many there were.
    let most = 20.0 * (took.as_secs_f64() + 1.0).ceil();
    assert!(kept <= most, "{kept} kept in {took:?}");
    assert!(written <= most * 4096.0, "{written} bytes for requests of 1.5 KB");
    let size = size(&record) as f64;
    assert!(0.0 < size && size <= most * 4096.0, "{size} bytes on disk");
    assert_eq!(bridge.times_logged("all-refused"), 0, "genuine requests verify beside them");
    bridge.stop().await;
}

/// Runs a load generator and reads its report.
async fn run(bridge: &Bridge, load: Load<'_>) -> Value {
    let Load { secret, rate, seconds, first } = load;
    // Each event is sent once.
    let events = rate * (seconds + 1);
    let mut command = Command::new(env!("CARGO_BIN_EXE_load"));
    command.arg(bridge.address().to_string()).arg("--secret-file").arg(secret);
    for (name, value) in [
        ("rate", rate),
        ("seconds", seconds),
        ("first", first),
        ("events", events),
        ("connections", CONNECTIONS),
    ] {
        command.arg(format!("--{name}")).arg(value.to_string());
    }
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output().await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Milliseconds of processor time of the bridge so far.
fn cpu_millis(bridge: &Bridge) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", bridge.pid().as_raw_nonzero())).unwrap();
    // Behind the name, which may hold anything: the 14th and 15th field of all are ticks.
    let fields: Vec<_> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    ticks * 1000 / rustix::param::clock_ticks_per_second()
}

fn size(dir: &Path) -> u64 {
    fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum()
}
