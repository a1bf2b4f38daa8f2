//! The owner's door for other programs on the same home: a Unix socket that only this user can open.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::sync::{Arc, Weak};

use embedbar_contract::{Failure, FailureCode, dispatch};
use embedbar_wire::owner::{FromOwner, ToOwner};
use embedbar_wire::{Frame, FrameError, Hello, Role};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;

use crate::app::App;

/// Starts to accept clients, until the application is dropped.
pub(crate) fn listen(app: &Arc<App>) -> Result<(), Failure> {
    let path = app.home.owner_socket()?;
    let failed = |error: std::io::Error| {
        Failure::new(FailureCode::Io, format!("cannot listen on `{}`: {error}", path.display()))
            .hint("Other programs cannot reach this one; check that the folder is yours.")
    };
    // We own the home, so a socket that lies there belongs to nobody any more.
    match fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let listener = UnixListener::bind(&path).map_err(failed)?;
    fs::set_permissions(&path, Permissions::from_mode(0o600)).map_err(failed)?;
    let app = Arc::downgrade(app);
    tokio::spawn(async move {
        while app.strong_count() > 0 {
            match listener.accept().await {
                Ok((stream, _)) => drop(tokio::spawn(converse(app.clone(), stream))),
                Err(error) => {
                    tracing::warn!(%error, "a client could not be accepted");
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                }
            }
        }
    });
    Ok(())
}

async fn converse(app: Weak<App>, stream: UnixStream) {
    match serve(app, stream).await {
        Ok(()) | Err(FrameError::Closed) => {}
        Err(error) => tracing::warn!(%error, "a client was let go"),
    }
}

async fn serve(app: Weak<App>, stream: UnixStream) -> Result<(), FrameError> {
    let (mut input, mut output) = stream.into_split();
    let greeting: Frame<ToOwner> = Frame::read_async(&mut input).await?;
    // The client compares the greetings too, and tells its user.
    Frame::from(FromOwner::Hello(Hello::ours(Role::Owner))).write_async(&mut output).await?;
    match greeting.header {
        ToOwner::Hello(hello) if hello.check(Role::Client).is_ok() => {}
        _ => return Ok(()),
    }
    let (replies, mut outbox) = mpsc::channel::<Frame<FromOwner>>(32);
    let writing = tokio::spawn(async move {
        while let Some(reply) = outbox.recv().await {
            if reply.write_async(&mut output).await.is_err() {
                return; // the client is gone; its calls notice that nobody listens
            }
        }
    });
    let outcome = read_calls(&app, &mut input, &replies).await;
    // A client that has left is not worth the model's time: dropping the writer ends the calls that still wait for it.
    writing.abort();
    outcome
}

async fn read_calls(
    app: &Weak<App>,
    input: &mut tokio::net::unix::OwnedReadHalf,
    replies: &mpsc::Sender<Frame<FromOwner>>,
) -> Result<(), FrameError> {
    loop {
        let frame: Frame<ToOwner> = Frame::read_async(input).await?;
        let Some(app) = app.upgrade() else { return Ok(()) };
        let replies = replies.clone();
        match frame.header {
            ToOwner::Call { id, method, params } => drop(tokio::spawn(async move {
                let outcome = tokio::select! {
                    outcome = dispatch(app.as_ref(), &method, params) => outcome,
                    () = replies.closed() => return,
                };
                let reply = match outcome {
                    Ok(value) => Frame {
                        header: FromOwner::Reply { id },
                        payload: String::from(Box::<str>::from(value)).into_bytes(),
                    },
                    Err(failure) => FromOwner::Failed { id, failure }.into(),
                };
                let _ = replies.send(reply).await; // the client may be gone
            })),
            ToOwner::Watch => drop(tokio::spawn(async move {
                let mut snapshots = app.snapshots();
                drop(app);
                loop {
                    let snapshot = Box::new(snapshots.borrow_and_update().as_ref().clone());
                    if replies.send(FromOwner::Snapshot(snapshot).into()).await.is_err()
                        || snapshots.changed().await.is_err()
                    {
                        return;
                    }
                }
            })),
            ToOwner::Hello(_) => return Ok(()),
        }
    }
}
