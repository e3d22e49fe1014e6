//! Which requests of this process's ingress are traced, and where traces go.

use std::sync::Arc;

use clap::{Args, ValueEnum};
use millstream_ingress::TraceConfig;
use millstream_otlp::{Config, Otlp, Sending, Transport};

use crate::exit::Failure;

/// Flags of `cluster up` about traces.
#[derive(Debug, Args)]
pub(crate) struct TraceArgs {
    /// Send traces to the collector at this address by OTLP: those of requests that fail or are slow, and a part of the rest.
    #[arg(long, value_name = "URL", env = "OTEL_EXPORTER_OTLP_ENDPOINT", hide_env_values = true)]
    pub(crate) otlp_endpoint: Option<String>,
    /// How the collector is talked to.
    #[arg(long, value_enum, env = "OTEL_EXPORTER_OTLP_PROTOCOL", default_value_t = OtlpProtocol::Grpc)]
    pub(crate) otlp_protocol: OtlpProtocol,
    /// The part of the requests whose traces are sent whatever becomes of them. A client's own `traceparent` decides for its
    /// requests.
    #[arg(long, value_name = "PERCENT", default_value = "1%", value_parser = parse_part)]
    pub(crate) trace_sample: f64,
    /// Trace no requests, not even for `cluster trace` and the dashboard.
    #[arg(long, conflicts_with = "otlp_endpoint")]
    pub(crate) no_traces: bool,
}

/// How a collector is talked to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum OtlpProtocol {
    /// gRPC, usually on port 4317.
    Grpc,
    /// HTTP with protobuf, usually on port 4318.
    #[value(name = "http/protobuf", alias = "http")]
    Http,
}

/// Percent as a part, 0 to 1.
fn parse_part(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').unwrap_or(text).trim().parse::<f64>().ok();
    let percent = number.filter(|percent| (0.0..=100.0).contains(percent));
    percent
        .map(|percent| percent / 100.0)
        .ok_or_else(|| "is not a part of the requests; write percent from 0 to 100, such as `1%`".to_owned())
}

impl TraceArgs {
    /// What the ingress is told, and what sends traces in the background.
    pub(crate) fn start(&self, node_name: &str) -> Result<(TraceConfig, Option<Sending>), Failure> {
        let mut config = TraceConfig { is_on: !self.no_traces, ..TraceConfig::default() };
        let Some(endpoint) = self.otlp_endpoint.clone().filter(|endpoint| !endpoint.is_empty()) else {
            return Ok((config, None));
        };
        let transport = match self.otlp_protocol {
            OtlpProtocol::Grpc => Transport::Grpc,
            OtlpProtocol::Http => Transport::Http,
        };
        let collector = Config { endpoint, transport, node: node_name.to_owned() };
        let (otlp, sending) = Otlp::start(&collector).map_err(|error| Failure::usage(error.to_string()))?;
        config.sampled_ratio = self.trace_sample;
        config.exporter = Some(Arc::new(move |trace| otlp.export(trace)));
        Ok((config, Some(sending)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_percent() {
        let table = [("1%", Some(0.01)), ("0", Some(0.0)), ("12.5 %", Some(0.125)), ("100%", Some(1.0))];
        for (text, part) in table {
            assert_eq!(parse_part(text).ok(), part, "{text}");
        }
        for bad in ["", "%", "101%", "-1%", "all", "NaN"] {
            assert!(parse_part(bad).is_err(), "{bad}");
        }
    }
}
