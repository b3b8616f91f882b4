//! One direction of one connection.

use std::io;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::tcp::{ReadHalf, WriteHalf},
    sync::watch,
    time::sleep,
};

use super::{
    Direction, Fault,
    weather::{Now, Weather},
};

/// Bytes read at once, and so held at most.
const BUFFER: usize = 16 << 10;

pub(super) struct Pump<'c> {
    direction: Direction,
    from: ReadHalf<'c>,
    to: WriteHalf<'c>,
    weather: &'c Weather,
    watch: watch::Receiver<Now>,
    /// How often there had been a cut when the connection was made.
    born: u64,
    /// This direction was ended: what still comes is read and goes nowhere.
    ended: bool,
}

/// What a fault means for one direction.
enum Effect {
    Pass,
    /// So many of these bytes pass, and none behind them.
    Allowance,
    Hold,
    Lose,
    Corrupt,
    Delay(std::time::Duration),
    End,
}

impl Effect {
    fn of(fault: Option<Fault>, direction: Direction) -> Self {
        let answers = direction == Direction::ToSink;
        match fault {
            Some(Fault::CutAfter(cut, _)) if cut == direction => Self::Allowance,
            Some(Fault::HoldAnswers { .. }) if answers => Self::Allowance,
            Some(Fault::Stall) => Self::Hold,
            Some(Fault::LoseAnswers) if answers => Self::Lose,
            Some(Fault::CorruptAnswers) if answers => Self::Corrupt,
            Some(Fault::Delay(time)) => Self::Delay(time),
            Some(Fault::HalfClose(half)) if half == direction => Self::End,
            _ => Self::Pass,
        }
    }
}

impl<'c> Pump<'c> {
    pub(super) fn new(
        direction: Direction,
        from: ReadHalf<'c>,
        to: WriteHalf<'c>,
        weather: &'c Weather,
        born: u64,
    ) -> Self {
        let mut watch = weather.watch();
        watch.mark_changed();
        Self { direction, from, to, weather, watch, born, ended: false }
    }

    /// Passes on until the sender has ended, and then ends too.
    ///
    /// # Errors
    /// Where one of the two ends has broken off, and so the other shall.
    pub(super) async fn run(mut self) -> io::Result<()> {
        let mut buffer = vec![0; BUFFER];
        loop {
            let read = tokio::select! {
                // An end has to come at once, not with the next byte.
                Ok(()) = self.watch.changed() => {
                    self.settle().await?;
                    continue;
                }
                read = self.from.read(&mut buffer) => read?,
            };
            self.pass(&mut buffer[..read]).await?;
            if read == 0 {
                self.settle().await?;
                return if self.ended { Ok(()) } else { self.to.shutdown().await };
            }
        }
    }

    /// Waits while nothing passes, and ends the direction where that is the fault.
    async fn settle(&mut self) -> io::Result<()> {
        loop {
            let now = *self.watch.borrow_and_update();
            if now.cuts > self.born {
                return Err(io::ErrorKind::ConnectionReset.into());
            }
            match Effect::of(now.fault, self.direction) {
                Effect::Hold => self.changed().await,
                Effect::End if !self.ended => {
                    self.ended = true;
                    return self.to.shutdown().await;
                }
                _ => return Ok(()),
            }
        }
    }

    /// Passes on a piece, as the fault of each moment has it.
    async fn pass(&mut self, mut piece: &mut [u8]) -> io::Result<()> {
        while !piece.is_empty() {
            self.settle().await?;
            if self.ended {
                return Ok(());
            }
            let fault = self.watch.borrow().fault;
            let passes = match Effect::of(fault, self.direction) {
                Effect::Allowance => {
                    let passes = self.weather.take(piece.len());
                    if passes == 0 && matches!(fault, Some(Fault::HoldAnswers { .. })) {
                        self.changed().await;
                        continue;
                    }
                    passes
                }
                Effect::Corrupt => {
                    piece.iter_mut().for_each(|byte| *byte ^= 0x80);
                    piece.len()
                }
                Effect::Delay(time) => {
                    sleep(time).await;
                    piece.len()
                }
                Effect::Lose => return Ok(()),
                Effect::Hold | Effect::End => continue,
                Effect::Pass => piece.len(),
            };
            // Counted first: whoever gets the bytes may ask at once how many there were.
            self.weather.passed(self.direction, passes);
            self.to.write_all(&piece[..passes]).await?;
            piece = &mut piece[passes..];
            if matches!(fault, Some(Fault::CutAfter(cut, _)) if cut == self.direction)
                && self.weather.is_used_up()
            {
                // The next turn of the loop finds the cut, before anything more passes.
                self.weather.cut_now();
                self.settle().await?;
            }
        }
        Ok(())
    }

    async fn changed(&mut self) {
        // Invariant: the proxy's connections end with what they watch, so there is always a next fault to wait for.
        let _ = self.watch.changed().await;
    }
}
