//! How parts of the screen look. A state is told by words as well: colours only help to find it.

use millstream_proto::event::Decision;
use millstream_proto::status::PipelineState;
use millstream_proto::summary::HealthState;
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::Span;

/// What a text says about its subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    /// Nothing to look at.
    Plain,
    /// A heading.
    Strong,
    /// Something good.
    Good,
    /// Something to look at.
    Warn,
    /// Something bad.
    Bad,
}

/// How the screen is made for whoever looks at it.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Look {
    /// Whether the terminal takes colours, and the person wants them.
    pub(in super::super) has_colors: bool,
    /// A time of the cluster's, in milliseconds since the Unix epoch, as a person reads it.
    pub(in super::super) local_time: fn(u64) -> String,
}

impl Look {
    /// A text in a tone.
    pub(super) fn span(self, text: impl Into<String>, tone: Tone) -> Span<'static> {
        let style = match tone {
            Tone::Plain => Style::new(),
            Tone::Strong => Style::new().add_modifier(Modifier::BOLD),
            _ if !self.has_colors => Style::new(),
            Tone::Good => Style::new().fg(Color::Green),
            Tone::Warn => Style::new().fg(Color::Yellow),
            Tone::Bad => Style::new().fg(Color::Red),
        };
        Span::styled(text.into(), style)
    }
}

/// The tone of a decision.
pub(super) fn of_decision(decision: &Decision) -> Tone {
    match decision {
        Decision::RolledBack { .. } | Decision::Evicted { .. } | Decision::Alarm { raised: true } => {
            Tone::Bad
        }
        Decision::Pending { .. }
        | Decision::Shed { .. }
        | Decision::Aborted { .. }
        | Decision::ReplicaFailed { .. } => Tone::Warn,
        _ => Tone::Plain,
    }
}

/// Word and tone of a cluster's health.
pub(super) fn of_health(state: HealthState) -> (&'static str, Tone) {
    match state {
        HealthState::Ok => ("ok", Tone::Good),
        HealthState::Degraded => ("degraded", Tone::Warn),
        HealthState::Failing => ("failing", Tone::Bad),
    }
}

/// Word and tone of a pipeline's state.
pub(super) fn of_pipeline(state: PipelineState) -> (&'static str, Tone) {
    match state {
        PipelineState::Starting => ("starting", Tone::Warn),
        PipelineState::Ready => ("ready", Tone::Good),
        PipelineState::Degraded => ("degraded", Tone::Warn),
        PipelineState::Failed => ("failed", Tone::Bad),
    }
}
