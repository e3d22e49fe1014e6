//! Compiles the `.proto` files with protox (pure Rust), so that a clone builds with cargo alone.

use std::path::PathBuf;

use prost::Message as _;
use protox::prost_reflect::prost_types::FileDescriptorSet;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let own = compile(&["v1/node.proto", "v1/route.proto", "v1/control.proto", "v1/kept.proto", PIPELINES])?;
    let inference = compile(&["inference/grpc_service.proto", "inference/model_config.proto"])?;
    #[expect(
        clippy::disallowed_methods,
        reason = "cargo says in the environment where a build script may write"
    )]
    let out_dir = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
    let public = own.file.iter().filter(|file| file.name() == PIPELINES).chain(&inference.file);
    let public = FileDescriptorSet { file: public.cloned().collect() };
    std::fs::write(out_dir.join("descriptors.bin"), own.encode_to_vec())?;
    std::fs::write(out_dir.join("public_descriptors.bin"), public.encode_to_vec())?;
    tonic_prost_build::configure().bytes(".").compile_fds(own)?;
    let mut builder = tonic_prost_build::configure().bytes(".").generate_default_stubs(true);
    // The same pages are told as JSON over HTTP.
    for page in ["ServerMetadataResponse", "ModelMetadataResponse", "RepositoryIndexResponse"]
        .into_iter()
        .chain(["ModelStatistics", "ModelStatisticsResponse", "InferStatistics", "StatisticDuration"])
    {
        builder = builder.message_attribute(format!(".inference.{page}"), "#[derive(serde::Serialize)]");
    }
    builder.compile_fds(inference)?;
    Ok(())
}

/// Those of clients.
const PIPELINES: &str = "v1/pipelines.proto";

fn compile(files: &[&str]) -> Result<FileDescriptorSet, protox::Error> {
    for file in files {
        println!("cargo:rerun-if-changed={file}");
    }
    protox::compile(files, ["."])
}
