//! The `cluster` command on a pseudo-terminal: what a person types, and what is on the screen then.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::num::NonZero;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use anyhow::Result;
use millstream_tests::{cluster_binary, eventually};
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

/// How large a terminal is.
#[derive(Clone, Copy)]
pub(crate) struct Size {
    /// Characters of a line.
    pub(crate) columns: u16,
    /// Lines.
    pub(crate) rows: u16,
}

/// A command on a terminal of its own; killed when dropped.
pub(crate) struct Terminal {
    child: Child,
    controller: Option<File>,
    /// Whether nobody looks at the terminal any more.
    is_over: Arc<AtomicBool>,
    screen: Arc<Mutex<vt100::Parser>>,
    reader: Option<std::thread::JoinHandle<()>>,
}

/// How a command has left its terminal.
pub(crate) struct Left {
    /// What is on the screen.
    pub(crate) text: String,
    /// The command's exit code; `None` after a signal.
    pub(crate) code: Option<i32>,
    /// Whether keys are echoed and read by the line, and the cursor is seen on the usual screen.
    pub(crate) is_as_before: bool,
}

impl Terminal {
    /// Starts `cluster` with these arguments.
    pub(crate) fn start(folder: &Path, size: Size, args: &[&str]) -> Result<Self> {
        let Size { columns, rows } = size;
        let controller = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        grantpt(&controller)?;
        unlockpt(&controller)?;
        tcsetwinsize(&controller, Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 })?;
        let path = ptsname(&controller, Vec::new())?.to_string_lossy().into_owned();
        let terminal = || -> Result<Stdio> { Ok(File::options().read(true).write(true).open(&path)?.into()) };
        // In a session of its own, whose `/dev/tty` this terminal is, and not that of whoever runs the test.
        let child = Command::new("setsid")
            .arg("--ctty")
            .arg(cluster_binary())
            .args(args)
            .current_dir(folder)
            .env("TERM", "xterm")
            .env("XDG_RUNTIME_DIR", folder)
            .env("MILLSTREAM_DATA_DIR", folder.join("data"))
            .env_remove("NO_COLOR")
            .stdin(terminal()?)
            .stdout(terminal()?)
            .stderr(terminal()?)
            .spawn()?;
        let size = |number: u16| NonZero::new(number).expect("a terminal has rows and columns");
        let screen = vt100::Parser::new(size(rows), size(columns), 0);
        let screen = Arc::new(Mutex::new(screen));
        let controller = File::from(controller);
        let mut output = controller.try_clone()?;
        let shown = Arc::clone(&screen);
        let is_over = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&is_over);
        let reader = std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            // It fails once nobody has the terminal open any more.
            while let Ok(count @ 1..) = output.read(&mut bytes) {
                shown.lock().unwrap().process(&bytes[..count]);
                if told.load(Ordering::Relaxed) {
                    return;
                }
            }
        });
        Ok(Self { child, controller: Some(controller), is_over, screen, reader: Some(reader) })
    }

    /// What is on the screen.
    pub(crate) fn text(&self) -> String {
        let parser = self.screen.lock().unwrap();
        let (_, columns) = parser.screen().size();
        let rows: Vec<String> =
            parser.screen().rows(0, columns.get()).map(|row| row.trim_end().to_owned()).collect();
        rows.join("\n").trim_end().to_owned()
    }

    /// Waits until the screen is as it should be; what is on it then.
    pub(crate) fn shows(&self, what: &str, is_shown: impl Fn(&str) -> bool) -> String {
        eventually(what, || Some(self.text()).filter(|text| is_shown(text)))
    }

    /// Types these bytes.
    pub(crate) fn types(&mut self, keys: &str) -> Result<()> {
        Ok(self.controller.as_mut().expect("it is there until the end").write_all(keys.as_bytes())?)
    }

    /// Sends a signal to the command.
    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        Ok(kill_process(Pid::from_child(&self.child), signal)?)
    }

    /// Closes the terminal, as a connection that breaks does; the command's exit code. It writes something now and then.
    pub(crate) fn hang_up(mut self) -> Option<i32> {
        self.controller = None;
        self.is_over.store(true, Ordering::Relaxed);
        eventually("the command has ended", || self.child.try_wait().unwrap()).code()
    }

    /// How the terminal is left once the command has ended by itself.
    pub(crate) fn end(mut self) -> Left {
        let status = eventually("the command has ended", || self.child.try_wait().unwrap());
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap();
        }
        let usual = LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG;
        let controller = self.controller.as_ref().expect("it is there until the end");
        let is_usual = tcgetattr(controller).unwrap().local_modes.contains(usual);
        let is_seen = {
            let parser = self.screen.lock().unwrap();
            !parser.screen().alternate_screen() && !parser.screen().hide_cursor()
        };
        Left { text: self.text(), code: status.code(), is_as_before: is_usual && is_seen }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- screen ---\n{}", self.text());
        }
    }
}
