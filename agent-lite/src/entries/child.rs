//! `journalctl` as a child: what it writes comes in pieces, and no faster than they are taken.
//!
//! It ends with the agent: dropped, it is killed; after a SIGKILL of the agent it finds its pipe closed, which
//! journalctl watches for while it waits (systemd `journalctl.c` `wait_for_change`: `POLLHUP` of its output).

use std::path::Path;
use std::process::Stdio;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::Command;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Bytes of one piece.
const PIECE: usize = 64 * 1024;
/// Pieces that wait to be taken.
const PIECES: usize = 2;
/// Of what it says on its standard error, this is passed on.
const MAX_WORDS: usize = 400;
const MAX_MESSAGES: u32 = 10;

/// What came from the child.
#[derive(Debug)]
pub(super) enum Piece {
    /// The next bytes of its output.
    Bytes(Bytes),
    /// It ended, or never began; nothing follows.
    Ended(String),
}

#[derive(Debug)]
pub(super) struct Child {
    pieces: mpsc::Receiver<Piece>,
    task: JoinHandle<()>,
}

impl Child {
    pub(super) fn start(binary: &Path, arguments: &[String]) -> Self {
        let (to, pieces) = mpsc::channel(PIECES);
        let mut command = Command::new(binary);
        // A Ctrl-C is meant for the agent, which ends its child when it is through.
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.process_group(0).kill_on_drop(true).env("LC_ALL", "C").env("TZ", "UTC");
        Self { pieces, task: tokio::spawn(run(command, to)) }
    }

    /// What came, if anything did.
    pub(super) fn take(&mut self) -> Option<Piece> {
        match self.pieces.try_recv() {
            Ok(piece) => Some(piece),
            Err(mpsc::error::TryRecvError::Empty) => None,
            Err(mpsc::error::TryRecvError::Disconnected) => Some(Piece::Ended("its task is gone".into())),
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // The process goes with the task.
        self.task.abort();
    }
}

async fn run(mut command: Command, to: mpsc::Sender<Piece>) {
    let end = match command.spawn() {
        Ok(mut child) => {
            let (output, words) = (child.stdout.take(), child.stderr.take());
            tokio::join!(pass_on(output, &to), say(words));
            match child.wait().await {
                Ok(status) => status.to_string(),
                Err(error) => error.to_string(),
            }
        }
        Err(error) => format!("it cannot be started: {error}"),
    };
    // Nobody may be there to be told.
    let _ = to.send(Piece::Ended(end)).await;
}

async fn pass_on(output: Option<impl AsyncRead + Unpin>, to: &mpsc::Sender<Piece>) {
    let Some(mut output) = output else { return };
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(PIECE);
        match (&mut output).take(PIECE as u64).read_buf(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {
                if to.send(Piece::Bytes(buffer.split().freeze())).await.is_err() {
                    return;
                }
            }
        }
    }
}

async fn say(words: Option<impl AsyncRead + Unpin>) {
    let Some(mut words) = words else { return };
    let mut buffer = [0; 4096];
    let mut messages = 0;
    while let Ok(length @ 1..) = words.read(&mut buffer).await {
        messages += 1;
        if messages <= MAX_MESSAGES {
            let text = String::from_utf8_lossy(&buffer[..length.min(MAX_WORDS)]);
            tracing::warn!(said = text.trim(), "journalctl");
        }
    }
}
