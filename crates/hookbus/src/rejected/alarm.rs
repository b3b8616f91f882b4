//! Whether a source's requests have all begun to be refused: its secret was changed at the provider, or here.
//!
//! Forged requests are refused too, and anybody can send them. So they alone say nothing: it takes that no request
//! verifies any more, for longer than this source is silent as a rule.

use std::time::Duration;

/// Refused requests that it takes at least.
const REFUSED: u64 = 5;
/// Looks at which there were some: one burst is no trend.
const LOOKS: u32 = 3;
/// A source is given so many times the longest silence that was seen between two requests of it.
const SILENCES: u32 = 3;
/// That long at most.
const MOST_PATIENCE: Duration = Duration::from_secs(3600);
/// Where no silence was seen yet, so many times what is given at least.
const UNKNOWN: u32 = 5;

/// How a source stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Nothing is known against it.
    #[default]
    Fine,
    /// It verified before, and now nothing but refused requests come.
    AllRefused,
    /// Nothing of it has ever verified since the start, and refused requests come.
    NeverVerified,
}

impl Standing {
    /// What is wrong, for metrics.
    pub(crate) const ALARMS: [Self; 2] = [Self::AllRefused, Self::NeverVerified];

    /// The state in lower case.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Fine => "ready",
            Self::AllRefused => "all-refused",
            Self::NeverVerified => "never-verified",
        }
    }
}

/// What changed at a look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Something is wrong from now on; so many requests were refused since the last one that verified.
    Begun { standing: Standing, refused: u64 },
    /// It verifies again, or at last.
    Ended { standing: Standing },
}

/// Looks at a source's counters from time to time.
#[derive(Debug, Default)]
pub(super) struct Alarm {
    standing: Standing,
    verified: u64,
    refused: u64,
    /// When a request was last seen to have verified.
    last: Option<Duration>,
    /// The longest silence between two of them; shorter ones take an eighth off.
    silence: Option<Duration>,
    run: Option<Run>,
}

/// Refused requests since the last one that verified.
#[derive(Debug)]
struct Run {
    since: Duration,
    refused: u64,
    looks: u32,
}

impl Alarm {
    /// Looks at how many requests have verified and been refused by now. `now` counts from any fixed moment; `after` is
    /// how long there must have been nothing but refused ones at least.
    pub(super) fn look(
        &mut self,
        now: Duration,
        (verified, refused): (u64, u64),
        after: Duration,
    ) -> Option<Change> {
        let any_verified = verified > std::mem::replace(&mut self.verified, verified);
        let more = refused.saturating_sub(std::mem::replace(&mut self.refused, refused));
        if any_verified {
            if let Some(last) = self.last.replace(now) {
                let seen = now.saturating_sub(last);
                self.silence = Some(self.silence.map_or(seen, |usual| seen.max(usual - usual / 8)));
            }
            self.run = None;
            let before = std::mem::take(&mut self.standing);
            return (before != Standing::Fine).then_some(Change::Ended { standing: before });
        }
        if more == 0 {
            return None;
        }
        let run = self.run.get_or_insert(Run { since: now, refused: 0, looks: 0 });
        run.refused += more;
        run.looks += 1;
        if self.standing != Standing::Fine
            || run.refused < REFUSED
            || run.looks < LOOKS
            || now.saturating_sub(run.since) < after
        {
            return None;
        }
        let standing = match self.last {
            Some(last) if now.saturating_sub(last) < patience(self.silence, after) => return None,
            Some(_) => Standing::AllRefused,
            None => Standing::NeverVerified,
        };
        self.standing = standing;
        Some(Change::Begun { standing, refused: run.refused })
    }
}

fn patience(silence: Option<Duration>, after: Duration) -> Duration {
    let usual = silence.map_or(after * UNKNOWN, |silence| silence * SILENCES);
    usual.min(MOST_PATIENCE).max(after)
}

#[cfg(test)]
mod tests {
    use super::*;

    const AFTER: Duration = Duration::from_secs(120);
    const BEGUN: fn(Standing, u64) -> Change = |standing, refused| Change::Begun { standing, refused };

    /// Looks every five seconds; each part of the plot is so many looks with so many verified and refused at each, and
    /// returns what changed in it, and at which look.
    fn plot(parts: &[(u64, u64, u64)]) -> Vec<Vec<(u64, Change)>> {
        let (mut alarm, mut now, mut seen) = (Alarm::default(), Duration::ZERO, (0, 0));
        let each = parts.iter().map(|(looks, verified, refused)| {
            let changes = (0..*looks).filter_map(|look| {
                now += Duration::from_secs(5);
                seen = (seen.0 + verified, seen.1 + refused);
                Some((look, alarm.look(now, seen, AFTER)?))
            });
            changes.collect()
        });
        each.collect()
    }

    #[test]
    fn a_source_that_verified_and_is_only_refused_since() {
        let busy = (60, 10, 0);
        let begun = |look, refused| vec![(look, BEGUN(Standing::AllRefused, refused))];
        let ended = vec![(0, Change::Ended { standing: Standing::AllRefused })];
        // It begins once, and ends with the first that verifies.
        assert_eq!(plot(&[busy, (100, 0, 10), (3, 1, 9)]), [vec![], begun(24, 250), ended.clone()]);
        // A change of the secret with few requests: five refused ones, over more than two minutes.
        let few = plot(&[busy, (20, 0, 0), (1, 0, 1), (15, 0, 0), (4, 0, 1), (100, 0, 0)]);
        assert_eq!(few.concat(), [], "five requests, but not yet for two minutes");
        let few = plot(&[busy, (1, 0, 1), (15, 0, 0), (3, 0, 1), (1, 0, 1), (30, 0, 0), (1, 0, 1)]);
        assert_eq!(few[6], begun(0, 6));
        // And again after it was well.
        let again = plot(&[busy, (30, 0, 1), busy, (30, 0, 1)]);
        assert_eq!((&again[1], &again[2], &again[3]), (&begun(24, 25), &ended, &begun(24, 25)));
    }

    #[test]
    fn forged_requests_alone_say_nothing() {
        for (what, parts) in [
            ("a flood beside genuine traffic", vec![(60, 10, 0), (1000, 10, 50_000)]),
            ("one beside little traffic", [(11, 0, 50_000), (1, 1, 50_000)].repeat(50)),
            ("a burst while nothing else comes", vec![(60, 10, 0), (2, 0, 1000), (1000, 0, 0)]),
            ("one that ended long ago", vec![(60, 10, 0), (10, 0, 1000), (1000, 0, 0)]),
            // An event every ten minutes, and twenty minutes of forged requests between two.
            ("a flood while the source is as silent as ever", {
                let mut parts = [(119, 0, 0), (1, 1, 0)].repeat(5);
                parts.push((240, 0, 100));
                parts
            }),
            ("one before the rhythm is known", vec![(1, 1, 0), (100, 0, 100)]),
        ] {
            assert_eq!(plot(&parts).concat(), [], "{what}");
        }
    }

    #[test]
    fn a_quiet_source_is_given_longer() {
        let mut parts = [(119, 0, 0), (1, 1, 0)].repeat(5);
        parts.push((1000, 0, 1));
        let changes = plot(&parts).concat();
        // Three times ten minutes.
        assert_eq!(changes, [(359, BEGUN(Standing::AllRefused, 360))]);
    }

    #[test]
    fn a_source_that_never_verified_has_its_own_word() {
        let never = BEGUN(Standing::NeverVerified, 25);
        let ended = Change::Ended { standing: Standing::NeverVerified };
        assert_eq!(plot(&[(100, 0, 1), (10, 1, 0)]), [vec![(24, never)], vec![(0, ended)]]);
        assert_eq!(plot(&[(1000, 0, 0)]).concat(), []);
    }
}
