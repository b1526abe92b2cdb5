//! A rate limit: a burst, and a number of calls per second.

use std::time::Duration;

use tokio::time::Instant;

/// A token bucket: it fills at a rate, and holds no more than a burst.
#[derive(Debug, Clone)]
pub(crate) struct Rate {
    /// The time in which the bucket gains one token.
    each: Duration,
    /// The time in which an empty bucket becomes full.
    burst: Duration,
    /// When the bucket is full again; in the past if it is full.
    paid_until: Instant,
}

impl Rate {
    /// Creates a full bucket, which gains `a_second` tokens per second and holds `at_once`.
    #[must_use]
    pub(crate) fn new(a_second: u32, at_once: u32) -> Self {
        let each = Duration::from_secs(1) / a_second.max(1);
        Self { each, burst: each * at_once, paid_until: Instant::now() }
    }

    /// Reports whether a token may be taken now.
    #[must_use]
    pub(crate) fn is_ready(&self) -> bool {
        self.paid_until <= Instant::now() + self.burst
    }

    /// Reports whether the bucket is full.
    #[must_use]
    pub(crate) fn is_full(&self) -> bool {
        self.paid_until <= Instant::now()
    }

    /// Waits until a token may be taken.
    pub(crate) async fn ready(&self) {
        tokio::time::sleep_until(self.paid_until.checked_sub(self.burst).unwrap_or(self.paid_until)).await;
    }

    /// Takes a token, even if this exceeds the rate.
    pub(crate) fn take(&mut self) {
        self.take_of(1.0);
    }

    /// Takes a number of tokens, even if this exceeds the rate.
    pub(crate) fn take_of(&mut self, count: f64) {
        self.paid_until = self.paid_until.max(Instant::now()) + self.each.mul_f64(count.max(0.0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_is_taken_at_once_and_then_the_rate_is_kept() {
        let begun = Instant::now();
        let mut rate = Rate::new(10, 5);
        let mut taken = 0;
        while rate.is_ready() {
            rate.take();
            taken += 1;
        }
        assert_eq!(taken, 6, "five, and the one that makes it wait");
        for _ in 0..20 {
            rate.ready().await;
            assert!(rate.is_ready());
            rate.take();
        }
        let took = begun.elapsed();
        assert!((Duration::from_millis(1_900)..Duration::from_millis(2_200)).contains(&took), "{took:?}");
        tokio::time::sleep(Duration::from_mins(1)).await;
        let free = std::iter::from_fn(|| rate.is_ready().then(|| rate.take())).count();
        assert_eq!(free, 6, "what was not used does not add up");
    }
}
