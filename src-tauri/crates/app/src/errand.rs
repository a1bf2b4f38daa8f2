//! The owner's end of a child that does one long piece of work, a converter or an installer: started, told to wait or to stop,
//! listened to, and ended whatever happens.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use embedbar_contract::{Failure, FailureCode};
use embedbar_wire::errand::{Begin, FromChild, Progress, ToChild, from_line, to_line};
use embedbar_wire::{Hello, Role};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use crate::jobs::Wish;

/// How long a child may take to answer a cancel: it looks up after each block, and at the disk's mercy when it removes.
const PATIENCE: Duration = Duration::from_secs(3);

/// How long it may take to end once it has said its last word.
const FAREWELL: Duration = Duration::from_secs(1);

/// The program that becomes a child, and what it is called.
#[derive(Clone, Debug)]
pub(crate) struct ChildProgram {
    /// The program, usually `embedbar`.
    pub(crate) program: PathBuf,
    /// Its arguments, usually `converter` or `installer`.
    pub(crate) arguments: Vec<OsString>,
    /// What a person calls it.
    pub(crate) name: &'static str,
}

impl ChildProgram {
    /// `program` as the child that goes by `name`, which is also its argument.
    pub(crate) fn new(program: PathBuf, name: &'static str) -> Self {
        Self { program, arguments: vec![OsString::from(name)], name }
    }
}

/// Has an order carried out in a process of its own. `wishes` says meanwhile whether to wait or to stop, `tell` is told how far
/// it is. The process has ended when this returns; one that does not answer a cancel in a few seconds is killed.
pub(crate) async fn run<Order: Serialize, Done: DeserializeOwned>(
    program: &ChildProgram,
    order: Order,
    wishes: &mut watch::Receiver<Wish>,
    mut tell: impl FnMut(Progress),
) -> Result<Done, Failure> {
    let begin = ToChild::Begin(Begin { owner: Hello::ours(Role::Owner), order });
    let order = to_line(&begin).map_err(|error| {
        let name = program.name;
        Failure::new(FailureCode::InvalidRequest, format!("the {name} cannot be told what to do: {error}"))
            .hint("Paths must be UTF-8 text; rename the folder.")
    })?;
    let mut child = Running::start(program)?;
    child.write(&order).await;
    let mut give_up: Option<Instant> = None;
    let outcome = loop {
        tokio::select! {
            heard = child.hear() => match heard {
                Ok(Some(FromChild::Progress(progress))) => tell(progress),
                Ok(Some(FromChild::Done(done))) => break Ok(done),
                Ok(Some(FromChild::Failed(failure))) | Err(failure) => break Err(failure),
                Ok(None) => return Err(died(program.name, &child.end().await)),
            },
            Ok(()) = wishes.changed() => {
                let wish = *wishes.borrow_and_update();
                child.say(&word(wish)).await;
                if wish == Wish::Stop {
                    give_up = Some(Instant::now() + PATIENCE);
                }
            }
            () = reached(give_up) => {
                tracing::warn!(child = program.name, "it does not answer a cancel and is killed");
                let _ = child.process.start_kill(); // it may have ended by itself in the meantime
                break Err(Failure::new(FailureCode::Cancelled, "the work was cancelled"));
            }
        }
    };
    child.end().await;
    outcome
}

/// Waits until work may begin: what is to wait from the beginning needs no process for that.
pub(crate) async fn turn(wishes: &mut watch::Receiver<Wish>) -> Result<(), Failure> {
    match wishes.wait_for(|wish| !matches!(wish, Wish::Wait(_))).await.map(|wish| *wish) {
        Ok(Wish::Go | Wish::Wait(_)) => Ok(()),
        Ok(Wish::Stop) | Err(_) => Err(Failure::new(FailureCode::Cancelled, "the work was cancelled before it began")),
    }
}

fn word(wish: Wish) -> ToChild<()> {
    match wish {
        Wish::Go => ToChild::Resume,
        Wish::Wait(_) => ToChild::Pause,
        Wish::Stop => ToChild::Cancel,
    }
}

/// Waits for a moment, for ever where there is none.
async fn reached(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

struct Running {
    process: Child,
    name: &'static str,
    input: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Running {
    fn start(ChildProgram { program, arguments, name }: &ChildProgram) -> Result<Self, Failure> {
        let mut process = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Ctrl-C in a terminal is for the owner, which ends its converter itself.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| {
                let program = program.display();
                Failure::new(FailureCode::WorkerFailed, format!("cannot start the {name} `{program}`: {error}"))
                    .hint("Reinstall Embedbar, or set EMBEDBAR_WORKER to the `embedbar` program.")
            })?;
        let pipes = (process.stdin.take(), process.stdout.take(), process.stderr.take());
        let (Some(input), Some(output), Some(errors)) = pipes else {
            return Err(Failure::internal("a child was started without its pipes"));
        };
        tokio::spawn(copy_to_log(errors, name, process.id()));
        Ok(Self { process, name, input, lines: BufReader::new(output).lines() })
    }

    async fn say(&mut self, message: &ToChild<()>) {
        self.write(&to_line(message).expect("a word is always JSON. This is a bug.")).await;
    }

    /// Whether anybody is there to read it is for [`Self::hear`] to find out.
    async fn write(&mut self, line: &str) {
        let _ = self.input.write_all(line.as_bytes()).await;
    }

    /// The next thing that it says; `None` where it says nothing any more. What was half heard when this is dropped is not lost.
    async fn hear<Done: DeserializeOwned>(&mut self) -> Result<Option<FromChild<Done>>, Failure> {
        let Ok(Some(line)) = self.lines.next_line().await else { return Ok(None) };
        let name = self.name;
        let message = from_line(&line)
            .map_err(|error| Failure::internal(format!("the {name} said something that is not understood: {error}")))?;
        Ok(Some(message))
    }

    /// Waits a moment for the process to end by itself, else kills it; says how it ended.
    async fn end(self) -> String {
        let Self { mut process, input, .. } = self;
        drop(input);
        if let Ok(ended) = timeout(FAREWELL, process.wait()).await {
            return ended
                .map_or_else(|error| format!("its end could not be read: {error}"), |status| status.to_string());
        }
        let _ = process.kill().await; // it may have ended by itself in the meantime
        "killed, because it had fallen silent".to_owned()
    }
}

async fn copy_to_log(errors: ChildStderr, child: &'static str, pid: Option<u32>) {
    let mut lines = BufReader::new(errors).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        tracing::info!(target: "child", child, pid, "{line}");
    }
}

fn died(name: &str, how: &str) -> Failure {
    Failure::new(FailureCode::WorkerFailed, format!("the {name} ended in the middle of its work ({how})")).hint(
        "What was there before is untouched. Try again; if the system killed it for memory, close something large first.",
    )
}

#[cfg(test)]
mod tests {
    use embedbar_contract::{ConvertFormat, ConvertPrecision};
    use embedbar_wire::converter::{Made, Order};

    use super::*;

    /// A converter that is a shell script.
    fn script(text: &str) -> ChildProgram {
        let arguments = ["-c", text].map(OsString::from).into();
        ChildProgram { program: "/bin/sh".into(), arguments, name: "converter" }
    }

    fn order() -> Order {
        Order {
            source: "/source".into(),
            target: "/target.gguf".into(),
            precision: ConvertPrecision::Int8,
            format: ConvertFormat::Gguf,
        }
    }

    async fn outcome(text: &str, wish: Wish) -> (Result<Made, Failure>, Vec<Progress>) {
        let (sender, mut wishes) = watch::channel(Wish::Go);
        let mut told = Vec::new();
        let outcome = run(&script(text), order(), &mut wishes, |progress| {
            told.push(progress);
            sender.send_replace(wish);
        })
        .await;
        (outcome, told)
    }

    const PROGRESS: &str = r#"echo '{"say":"progress","phase":"converting","item":"","bytes_done":1,"bytes_total":2}'"#;

    #[tokio::test]
    async fn what_it_says_is_told_and_its_last_word_is_the_outcome() {
        let done = r#"echo '{"say":"done","bytes_read":2,"bytes_written":1,"sha256":"00","notes":[]}'"#;
        let (made, told) = outcome(&format!("read -r order; {PROGRESS}; {done}"), Wish::Go).await;
        assert_eq!(made.map(|made| made.bytes_written), Ok(1));
        assert_eq!(told.len(), 1);
    }

    #[tokio::test]
    async fn its_death_is_a_failure_that_says_how() {
        let (made, told) = outcome(&format!("read -r order; {PROGRESS}; kill -9 $$"), Wish::Go).await;
        let failure = made.expect_err("it died");
        assert_eq!((failure.code, told.len()), (FailureCode::WorkerFailed, 1));
        assert!(failure.message.contains('9') && failure.hint.is_some(), "{failure}");
    }

    #[tokio::test]
    async fn a_pause_and_a_cancel_are_passed_on() {
        let echo = r#"read -r order; P; read -r word; case "$word" in *SAY*) echo '{"say":"failed","code":"cancelled","message":"as asked","hint":null,"retryable":false}';; esac"#;
        let wait = Wish::Wait(crate::jobs::Reason::Person);
        for (wish, say) in [(Wish::Stop, "cancel"), (wait, "pause")] {
            let (made, _) = outcome(&echo.replace("P;", &format!("{PROGRESS};")).replace("SAY", say), wish).await;
            assert_eq!(made.expect_err("it was told so").message, "as asked", "{say}");
        }
    }

    #[tokio::test]
    async fn one_that_does_not_answer_a_cancel_is_killed() {
        let (made, _) =
            outcome(&format!("trap '' TERM INT; read -r order; {PROGRESS}; exec sleep 1000"), Wish::Stop).await;
        assert_eq!(made.expect_err("it was cancelled").code, FailureCode::Cancelled);
    }

    #[tokio::test]
    async fn one_that_talks_nonsense_or_cannot_be_started_is_a_failure() {
        let (made, _) = outcome("read -r order; echo nonsense; exec sleep 1000", Wish::Go).await;
        assert_eq!(made.expect_err("it is not understood").code, FailureCode::Internal);
        let program = ChildProgram::new("/no/such/program".into(), "converter");
        let (_sender, mut wishes) = watch::channel(Wish::Go);
        let failure = run::<_, Made>(&program, order(), &mut wishes, |_| {}).await.expect_err("it is not there");
        assert!(failure.message.contains("/no/such/program"), "{failure}");
    }
}
