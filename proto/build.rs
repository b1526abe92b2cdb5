//! Generates the wire's types from `sloth/*/*.proto`, and has the program linked so that it starts quickly.
//!
//! protox compiles the files in Rust, so that no protoc has to be installed.

use std::{
    env,
    error::Error,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use prost::Message as _;

/// The version of the GNU C library that knows packed relocations.
const PACKED_SINCE: (u32, u32) = (2, 36);

const FILES: [&str; 5] = ["v2/common", "v2/enrollment", "v2/agent", "v2/control", "v1/agent"];

fn main() -> Result<(), Box<dyn Error>> {
    let files: Vec<String> = FILES.iter().map(|name| format!("proto/sloth/{name}.proto")).collect();
    for file in &files {
        println!("cargo:rerun-if-changed={file}");
    }
    let descriptors = protox::compile(&files, ["proto"])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        .bytes(".sloth.v2")
        .build_transport(false)
        .codec_path("crate::wire::codec::ExactCodec")
        .compile_fds(descriptors)?;
    if env::var("CARGO_CFG_TARGET_ENV").as_deref() == Ok("gnu") {
        link_unwinder();
        pack_relocations();
    }
    Ok(())
}

/// Has the linker find the C compiler's unwinder in an archive before it finds it in `libgcc_s.so`, as with gcc's
/// `-static-libgcc`: loading that library and its constructors take a tenth of a millisecond of every command. Without
/// the archive all stays as it is.
fn link_unwinder() {
    let asked = cc::Build::new().get_compiler().to_command().arg("-print-file-name=libgcc_eh.a").output();
    let answer = asked.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    if let Ok(archive) = answer
        && let Some(directory) = Path::new(&archive).parent().filter(|directory| directory.is_absolute())
    {
        println!("cargo:rustc-link-search=native={}", directory.display());
        println!("cargo:rustc-link-lib=static=gcc_eh");
    }
}

/// Has the linker write down the 20,000 addresses that are corrected at each start as a bitmap, which is a fiftieth as long
/// and takes less time to go through: two tenths of a millisecond of every command. The C library understands that since
/// [`PACKED_SINCE`]; the program does not start with an older one, so only the one of this machine counts.
fn pack_relocations() {
    if env::var("HOST") != env::var("TARGET") {
        return;
    }
    let asked = Command::new("getconf").arg("GNU_LIBC_VERSION").output();
    let answer =
        asked.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default();
    let version = answer.strip_prefix("glibc ").and_then(|version| version.split_once('.'));
    let version = version.and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)));
    if version.is_some_and(|version: (u32, u32)| version >= PACKED_SINCE) {
        println!("cargo:rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}
