//! The bytes of a link: both ends' greeting, frames in, what the outbox holds out, and whether the other end lives.
//!
//! What is to be sent is written by whoever puts it into the outbox, if nobody writes at that moment: a call on an idle link costs
//! no other task. With many calls under way it is left to the task that [`Wire::written`] runs in, which writes what has come
//! together meanwhile at once.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::{Buf as _, BytesMut};
use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use smallvec::SmallVec;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadHalf, WriteHalf};

use crate::frame::{BadFrame, Kind};
use crate::inbox::{BUDGET, Inbox, WINDOW};
use crate::outbox::{Batch, Outbox};

/// What every greeting begins with.
const MAGIC: [u8; 4] = *b"MSLK";
/// The version of what this crate writes. A peer of the version before or after understands it: it skips fields and kinds that it
/// does not know.
pub(crate) const VERSION: u16 = 1;
const GREETING_BYTES: usize = 16;
/// How long the other end may take to greet.
const GREETING_TIMEOUT: Duration = Duration::from_secs(3);
/// An end that has heard nothing for so long asks whether anybody is there.
const PING_AFTER: Duration = Duration::from_secs(1);
/// An end that has heard nothing for so long takes the other for dead.
const DEAD_AFTER: Duration = Duration::from_secs(3);
/// How often it looks.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Bytes that are read at a time: some frames of the largest size.
pub(crate) const READ_BYTES: usize = 256 << 10;
/// Bytes after which whoever reads or writes without a pause lets other tasks run.
const YIELD_BYTES: usize = 256 << 10;

/// A stream of bytes in both directions.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin + 'static> Duplex for S {}

/// Why a link ended.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// The stream did.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The other end closed it.
    #[error("the other end closed the connection")]
    Closed,
    /// Nothing was heard of the other end.
    #[error("nothing was heard of the other end for {DEAD_AFTER:?}")]
    Silent,
    /// The other end is something else, or of another version.
    #[error(
        "the other end speaks version {0} of the protocol for calls, this one {VERSION}; update the older one"
    )]
    Version(u16),
    /// The other end is something else.
    #[error("the other end does not speak the protocol for calls")]
    NotALink,
    /// What came is not what the protocol says.
    #[error("the other end does not keep to the protocol: {0}")]
    Protocol(String),
}

impl From<BadFrame> for Broken {
    fn from(error: BadFrame) -> Self {
        Self::Protocol(error.to_string())
    }
}

/// Says what this end is, and hears the same of the other one.
pub(crate) async fn greet<S: Duplex>(stream: &mut S) -> Result<(), Broken> {
    greet_as(stream, VERSION).await
}

pub(crate) async fn greet_as<S: Duplex>(stream: &mut S, version: u16) -> Result<(), Broken> {
    let mut greeting = [0; GREETING_BYTES];
    greeting[..4].copy_from_slice(&MAGIC);
    greeting[4..6].copy_from_slice(&version.to_le_bytes());
    let meet = async {
        stream.write_all(&greeting).await?;
        stream.flush().await?;
        let mut theirs = [0; GREETING_BYTES];
        stream.read_exact(&mut theirs).await?;
        Ok::<_, io::Error>(theirs)
    };
    let theirs = tokio::time::timeout(GREETING_TIMEOUT, meet).await.map_err(|_| Broken::Silent)??;
    let their_version = u16::from_le_bytes([theirs[4], theirs[5]]);
    if theirs[..4] != MAGIC {
        Err(Broken::NotALink)
    } else if their_version.abs_diff(version) > 1 {
        Err(Broken::Version(their_version))
    } else {
        Ok(())
    }
}

/// What both directions of a link share, with the calls of its end.
pub(crate) struct State<C> {
    pub(crate) outbox: Outbox,
    pub(crate) inbox: Inbox,
    pub(crate) calls: C,
}

impl<C> State<C> {
    /// Of a link on which nothing was sent yet.
    pub(crate) fn new(calls: C) -> Self {
        Self { outbox: Outbox::new(WINDOW), inbox: Inbox::new(WINDOW, BUDGET), calls }
    }

    /// Tells the other end what it may send, if that has changed.
    pub(crate) fn tell_limits(&mut self) {
        for (call, limit) in self.inbox.take_limits() {
            self.outbox.control(Kind::Limit, call, Some(limit));
        }
    }
}

/// See the module.
pub(crate) struct Wire<C> {
    pub(crate) state: Mutex<State<C>>,
    writer: Mutex<Option<Writer>>,
    /// Of the task that writes.
    waker: AtomicWaker,
}

struct Writer {
    half: WriteHalf<Box<dyn Duplex>>,
    batch: Batch,
    /// Of the task that writes: whoever meets a full socket leaves the rest to it.
    waker: Waker,
    error: Option<io::Error>,
}

impl<C> Wire<C> {
    /// Without a stream: what is put into the outbox waits for one.
    pub(crate) fn new(calls: C) -> Self {
        Self { state: Mutex::new(State::new(calls)), writer: Mutex::new(None), waker: AtomicWaker::new() }
    }

    /// Asks the other end whether it is there.
    pub(crate) fn ping(&self) {
        self.state.lock().outbox.control(Kind::Ping, 0, None);
        self.flush();
    }

    /// From now on what is to be sent is written here.
    pub(crate) fn open(&self, half: WriteHalf<Box<dyn Duplex>>) {
        let (batch, waker) = (Batch::default(), Waker::noop().clone());
        *self.writer.lock() = Some(Writer { half, batch, waker, error: None });
    }

    /// Nothing is written any more.
    pub(crate) fn close(&self) {
        *self.writer.lock() = None;
    }

    /// Writes what is there, unless somebody else does.
    pub(crate) fn flush(&self) {
        loop {
            // Whoever holds it looks again after letting go.
            let Some(mut guard) = self.writer.try_lock() else { return };
            let Some(writer) = &mut *guard else { return };
            let waker = writer.waker.clone();
            match writer.write(&self.state, &mut Context::from_waker(&waker)) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => {
                    writer.error = Some(error);
                    self.waker.wake();
                    return;
                }
                Poll::Pending => return,
            }
            drop(guard);
            if self.state.lock().outbox.is_empty() {
                return;
            }
        }
    }

    /// Has what is there written by the task that writes, together with what comes until it runs.
    pub(crate) fn flush_soon(&self) {
        self.waker.wake();
    }

    /// Writes whenever there is something to write; ends when the stream does.
    pub(crate) async fn written(&self) -> io::Error {
        std::future::poll_fn(|cx| {
            self.waker.register(cx.waker());
            let mut guard = self.writer.lock();
            let Some(writer) = &mut *guard else { return Poll::Pending };
            writer.waker.clone_from(cx.waker());
            if let Some(error) = writer.error.take() {
                return Poll::Ready(error);
            }
            match writer.write(&self.state, cx) {
                Poll::Ready(Err(error)) => Poll::Ready(error),
                Poll::Ready(Ok(())) | Poll::Pending => Poll::Pending,
            }
        })
        .await
    }

    /// Waits until all is written, and says that nothing more comes.
    pub(crate) async fn shut_down(&self) -> io::Result<()> {
        std::future::poll_fn(|cx| {
            let mut guard = self.writer.lock();
            let Some(writer) = &mut *guard else { return Poll::Ready(Ok(())) };
            match writer.write(&self.state, cx) {
                Poll::Ready(Ok(())) => Pin::new(&mut writer.half).poll_shutdown(cx),
                unfinished => unfinished,
            }
        })
        .await
    }
}

impl Writer {
    /// Writes until nothing is left, or the stream takes no more.
    fn write<C>(&mut self, state: &Mutex<State<C>>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut total = 0;
        loop {
            if total >= YIELD_BYTES {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            if self.batch.is_empty() && !state.lock().outbox.take(&mut self.batch) {
                return Pin::new(&mut self.half).poll_flush(cx);
            }
            let Batch { frames, piece } = &self.batch;
            let slices: SmallVec<[io::IoSlice<'_>; 6]> = std::iter::once(&frames[..])
                .chain(piece.iter().map(|bytes| &bytes[..]))
                .filter(|bytes| !bytes.is_empty())
                .map(io::IoSlice::new)
                .collect();
            let written = Pin::new(&mut self.half).poll_write_vectored(cx, &slices);
            drop(slices);
            match written {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(written)) => {
                    total += written;
                    self.batch.advance(written);
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

/// Lets other tasks run after so much has been read without a pause.
#[derive(Debug, Default)]
pub(crate) struct Pace(usize);

impl Pace {
    /// So much was read, and handled.
    pub(crate) async fn after(&mut self, num_bytes: usize) {
        self.0 += num_bytes;
        // What is less than a piece came by itself.
        if num_bytes < crate::frame::MAX_PIECE {
            self.0 = 0;
        } else if self.0 >= YIELD_BYTES {
            self.0 = 0;
            tokio::task::yield_now().await;
        }
    }
}

/// Whether the other end lives, by when it was heard last.
#[derive(Debug)]
pub(crate) struct Liveness {
    heard: Instant,
    looked: Instant,
}

/// What follows from it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// Nothing.
    Fine,
    /// It is to be asked.
    Ask,
    /// It is gone.
    Dead,
}

impl Liveness {
    /// Heard just now.
    pub(crate) fn new(now: Instant) -> Self {
        Self { heard: now, looked: now }
    }

    /// Something came.
    pub(crate) fn heard(&mut self, now: Instant) {
        self.heard = now;
    }

    /// To be asked every [`LOOK_EVERY`].
    pub(crate) fn look(&mut self, now: Instant) -> Look {
        let absent = now.saturating_duration_since(self.looked);
        self.looked = now;
        if absent > LOOK_EVERY * 2 {
            // This process did not run itself: what came meanwhile has not been read yet.
            self.heard = now;
        }
        match now.saturating_duration_since(self.heard) {
            silence if silence >= DEAD_AFTER => Look::Dead,
            silence if silence >= PING_AFTER => Look::Ask,
            _ => Look::Fine,
        }
    }
}

/// Reads what has come; its number of bytes.
pub(crate) async fn read(
    reader: &mut ReadHalf<Box<dyn Duplex>>,
    buffer: &mut BytesMut,
) -> Result<usize, Broken> {
    match reader.read_buf(buffer).await? {
        0 => Err(Broken::Closed),
        num_bytes => Ok(num_bytes),
    }
}

/// Takes a whole frame's payload off the front of what was read, once all of it is there.
pub(crate) fn payload_of(buffer: &BytesMut, header: crate::frame::Header) -> Option<&[u8]> {
    buffer.get(crate::frame::HEADER_BYTES..crate::frame::HEADER_BYTES + header.length)
}

/// Drops it.
pub(crate) fn drop_frame(buffer: &mut BytesMut, header: crate::frame::Header) {
    buffer.advance(crate::frame::HEADER_BYTES + header.length);
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;

    use super::*;

    #[tokio::test]
    async fn ends_within_a_version_of_one_another_understand_one_another() {
        for (theirs, is_taken) in [(VERSION, true), (VERSION + 1, true), (VERSION + 2, false)] {
            let (mut here, mut there) = duplex(1024);
            let (ours, other) = tokio::join!(greet(&mut here), greet_as(&mut there, theirs));
            assert_eq!((ours.is_ok(), other.is_ok()), (is_taken, is_taken), "{theirs}");
        }
        let (mut here, mut there) = duplex(1024);
        there.write_all(b"HTTP/1.1 400 Bad Request\r\n").await.unwrap();
        assert!(matches!(greet(&mut here).await, Err(Broken::NotALink)));
        let (mut here, there) = duplex(1024);
        drop(there);
        assert!(matches!(greet(&mut here).await, Err(Broken::Io(_))));
    }

    #[tokio::test(start_paused = true)]
    async fn an_end_that_says_nothing_is_not_waited_for() {
        let (mut here, _there) = duplex(1024);
        assert!(matches!(greet(&mut here).await, Err(Broken::Silent)));
    }

    #[test]
    fn silence_is_asked_about_and_then_believed_but_not_that_of_our_own_absence() {
        let start = millstream_clock::now();
        let mut liveness = Liveness::new(start);
        let mut look = |ms: u64| liveness.look(start + Duration::from_millis(ms));
        let looks: Vec<_> = (1..=6).map(|at| look(at * 500)).collect();
        assert_eq!(looks, [Look::Fine, Look::Ask, Look::Ask, Look::Ask, Look::Ask, Look::Dead]);
        let mut liveness = Liveness::new(start);
        let mut look = |ms: u64| liveness.look(start + Duration::from_millis(ms));
        assert_eq!(look(60_000), Look::Fine, "stopped for a minute");
        assert_eq!(look(61_000), Look::Ask);
    }
}
