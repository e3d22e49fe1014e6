//! This crate's frames.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use bytes::Bytes;
use millstream_calls::call::{
    self, CallContext, CallEvent, CallRequest, PendingCall, ReplicaClient, ResponseMode,
};
use millstream_calls::{ReplicaId, RequestId};
use millstream_link::{Caller, Duplex, serve};
use millstream_values::Value;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

use crate::{Calls, Done, PARTS_PER_S, Socket};

/// A replica that echoes, or makes parts.
struct Replica(tokio::runtime::Handle);

impl ReplicaClient for Replica {
    fn call(&self, _: &ReplicaId, request: CallRequest) -> PendingCall {
        let (reply, pending) = call::channel(request.parts());
        if request.answer == ResponseMode::Whole {
            reply.finish(Ok(request.inputs));
            return pending;
        }
        self.0.spawn(async move {
            let mut tick = tokio::time::interval(Duration::from_secs(1) / PARTS_PER_S);
            while !reply.is_cancelled() {
                tick.tick().await;
                reply.delta(Value::map([("text", Value::from("word"))]));
            }
        });
        pending
    }
}

pub(crate) struct Frames(Caller);

async fn run(caller: &Caller, stream: impl Duplex) {
    let Err(error) = caller.run(stream).await;
    println!("the link ended: {error}");
}

async fn answer(stream: impl Duplex) {
    let replica = Arc::new(Replica(tokio::runtime::Handle::current()));
    let _ = serve(stream, replica, CancellationToken::new()).await;
}

pub(crate) fn connect(socket: Socket, folder: &Path, here: &Runtime, there: &Runtime) -> Result<Frames> {
    let caller = Caller::default();
    let running = caller.clone();
    match socket {
        Socket::Unix => {
            let path = folder.join("calls.sock");
            let listener = {
                let _entered = there.enter();
                UnixListener::bind(&path)?
            };
            there.spawn(async move {
                answer(listener.accept().await?.0).await;
                anyhow::Ok(())
            });
            here.spawn(async move {
                run(&running, UnixStream::connect(path).await?).await;
                anyhow::Ok(())
            });
        }
        Socket::Tcp => {
            let listener = there.block_on(TcpListener::bind("127.0.0.1:0"))?;
            let address = listener.local_addr()?;
            there.spawn(async move {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                answer(stream).await;
                anyhow::Ok(())
            });
            here.spawn(async move {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                run(&running, stream).await;
                anyhow::Ok(())
            });
        }
    }
    Ok(Frames(caller))
}

fn request(payload: Bytes, answer: ResponseMode) -> CallRequest {
    CallRequest {
        context: CallContext::new(RequestId::new("0123456789abcdef0123456789abcdef")),
        inputs: Value::map([("text", Value::Bytes(payload))]),
        answer,
        timed: false,
    }
}

impl Calls for Frames {
    fn echo(&self, payload: Bytes) -> Done {
        let mut pending = self.0.call(&ReplicaId::new("p-model-1"), request(payload, ResponseMode::Whole));
        Box::pin(async move {
            match pending.next().await {
                CallEvent::Done(answer) => match answer.get("text") {
                    Some(Value::Bytes(bytes)) => Ok(bytes.len()),
                    other => bail!("{other:?}"),
                },
                other => bail!("{other:?}"),
            }
        })
    }

    fn stream(&self) -> Done {
        let mut pending =
            self.0.call(&ReplicaId::new("p-model-1"), request(Bytes::new(), ResponseMode::Stream));
        Box::pin(async move {
            loop {
                let event = pending.next().await;
                anyhow::ensure!(matches!(event, CallEvent::Delta(_)), "{event:?}");
            }
        })
    }
}
