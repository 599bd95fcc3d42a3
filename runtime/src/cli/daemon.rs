//! `-daemon`: goes on in the background, its output and process id in files, as Kafka's start scripts do.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};

use super::ServeArgs;
use super::failure::{Failure, Out, Outcome};

/// Where output and process ids go: `$LOG_DIR`, or `logs` here.
fn folder() -> PathBuf {
    std::env::var_os("LOG_DIR").map_or_else(|| PathBuf::from("logs"), PathBuf::from)
}

/// Starts the same command line again without `--daemon`, and leaves.
pub(super) fn start(args: &ServeArgs, arguments: &[String], out: Out<'_>) -> Outcome<ExitCode> {
    let failed = |what: &str, error: std::io::Error| Failure::new(format!("cannot {what}: {error}"));
    let command = arguments.get(1).cloned().unwrap_or_default();
    let folder = folder();
    let (log, pid) = (folder.join(format!("{command}.out")), folder.join(format!("{command}.pid")));
    fs::create_dir_all(&folder).map_err(|e| failed(&format!("create {}", folder.display()), e))?;
    let output = File::create(&log).map_err(|e| failed(&format!("write {}", log.display()), e))?;
    let errors = output.try_clone().map_err(|e| failed(&format!("write {}", log.display()), e))?;
    let program = std::env::current_exe().map_err(|e| failed("find this program", e))?;
    let mut child = Command::new(program);
    child
        .args(arguments.iter().skip(1).filter(|argument| *argument != "--daemon"))
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(errors);
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(&mut child, 0);
    let child = child.spawn().map_err(|e| failed(&format!("start {:?} in the background", args.role), e))?;
    fs::write(&pid, child.id().to_string()).map_err(|e| failed(&format!("write {}", pid.display()), e))?;
    writeln!(out, "started as process {}, output in {}", child.id(), log.display())?;
    Ok(ExitCode::SUCCESS)
}

/// Asks the process that `command --daemon` started to stop.
pub(super) fn stop(command: &str, out: Out<'_>) -> Outcome {
    let path = folder().join(format!("{command}.pid"));
    let pid = fs::read_to_string(&path).ok().and_then(|text| text.trim().parse::<u32>().ok());
    let Some(pid) = pid else {
        return Err(Failure::new(format!("No kafka server to stop ({} names no process)", path.display())));
    };
    let status = Command::new("kill").arg("-TERM").arg(pid.to_string()).stderr(Stdio::null()).status();
    // The file has served its purpose whether or not the process was still there.
    let _ = fs::remove_file(&path);
    match status {
        Ok(status) if status.success() => {
            writeln!(out, "asked process {pid} to stop")?;
            Ok(())
        }
        Ok(_) => Err(Failure::new(format!("No kafka server to stop (process {pid} is gone)"))),
        Err(error) => Err(Failure::new(format!("cannot stop process {pid}: {error}"))),
    }
}
