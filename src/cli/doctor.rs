//! `weir doctor`: a line for each thing that was looked at, and whether all is well as the exit code.

use std::process::ExitCode;

use serde_json::json;

use crate::doctor::{self, Finding, Level};

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    source: super::Source,
}

pub(super) fn doctor(arguments: &Arguments) -> ExitCode {
    let findings = doctor::examine(&arguments.source.config, &|name| std::env::var(name).ok());
    let count = |level| findings.iter().filter(|finding| finding.level == level).count();
    let (problems, warnings) = (count(Level::Problem), count(Level::Warning));
    if arguments.json {
        println!("{}", json!({ "findings": findings, "problems": problems, "warnings": warnings }));
    } else {
        print!("{}", lines(&findings));
        println!("{problems} problems, {warnings} warnings");
    }
    if problems == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A line for each finding, and one below it for what is to be done.
fn lines(findings: &[Finding]) -> String {
    let width = findings.iter().map(|finding| finding.what.chars().count()).max().unwrap_or(0);
    findings.iter().fold(String::new(), |text, Finding { level, what, found, advice }| {
        let advice = advice.as_ref().map(|advice| format!("{:9}{:width$}  → {advice}\n", "", "")).unwrap_or_default();
        format!("{text}{:<9}{what:<width$}  {found}\n{advice}", level.name())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_to_be_done_stands_below_what_was_found() {
        let finding = |level, what: &str, advice: Option<&str>| Finding {
            level,
            what: what.into(),
            found: "so".into(),
            advice: advice.map(str::to_owned),
        };
        let findings = [finding(Level::Ok, "clock", None), finding(Level::Problem, "channel a", Some("mend it"))];
        let text = "\
ok       clock      so
problem  channel a  so
                    → mend it
";
        assert_eq!(lines(&findings), text);
    }
}
