//! Compiles the `.proto` files with protox (pure Rust), so that a clone builds with cargo alone.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = ["v1/value.proto", "v1/node.proto", "v1/route.proto", "v1/control.proto", "v1/replica.proto"];
    for file in files {
        println!("cargo:rerun-if-changed={file}");
    }
    let descriptors = protox::compile(files, ["."])?;
    tonic_prost_build::configure().bytes(".").compile_fds(descriptors)?;
    Ok(())
}
