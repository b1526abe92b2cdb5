//! Generates the wire's types from `sloth/v1/*.proto`, and links the unwinder in.
//!
//! protox compiles the files in Rust, so that no protoc has to be installed.

use std::{
    env,
    error::Error,
    fs,
    path::{Path, PathBuf},
};

use prost::Message as _;

const FILES: [&str; 4] = ["common", "enrollment", "agent", "control"];

fn main() -> Result<(), Box<dyn Error>> {
    let files: Vec<String> = FILES.iter().map(|name| format!("proto/sloth/v1/{name}.proto")).collect();
    for file in &files {
        println!("cargo:rerun-if-changed={file}");
    }
    let descriptors = protox::compile(&files, ["proto"])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure().bytes(".sloth.v1").build_transport(false).compile_fds(descriptors)?;
    link_unwinder();
    Ok(())
}

/// Has the linker find the C compiler's unwinder in an archive before it finds it in `libgcc_s.so`, as with gcc's
/// `-static-libgcc`: loading that library and its constructors take a tenth of a millisecond of every command. Without
/// the archive, or with another C library, all stays as it is.
fn link_unwinder() {
    if env::var("CARGO_CFG_TARGET_ENV").as_deref() != Ok("gnu") {
        return;
    }
    let asked = cc::Build::new().get_compiler().to_command().arg("-print-file-name=libgcc_eh.a").output();
    let answer = asked.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    if let Ok(archive) = answer
        && let Some(directory) = Path::new(&archive).parent().filter(|directory| directory.is_absolute())
    {
        println!("cargo:rustc-link-search=native={}", directory.display());
        println!("cargo:rustc-link-lib=static=gcc_eh");
    }
}
