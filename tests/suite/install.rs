//! Installing: `bootstrap.sh` refuses bad options and downloads before it changes anything, and `service`
//! writes units.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

fn script() -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("bootstrap.sh")).unwrap()
}

fn piped(script: &str, words: &[&str]) -> (i32, String, Vec<String>) {
    piped_from("http://127.0.0.1:9/none", None, script, words)
}

/// Runs the script as `curl | bash -s -- WORDS` does, with a temporary home, releases from `releases`, and
/// only the programs of the directory `programs` if one is given.
fn piped_from(
    releases: &str,
    programs: Option<&Path>,
    script: &str,
    words: &[&str],
) -> (i32, String, Vec<String>) {
    let home = tempfile::tempdir().unwrap();
    let mut child = Command::new("/bin/bash")
        .envs(programs.map(|programs| ("PATH", programs)))
        .args(["-s", "--"])
        .args(words)
        .env_remove("SLOTH_RUNNER_TOKEN")
        .envs([("HOME", home.path()), ("TMPDIR", home.path())])
        .env("SLOTH_RUNNER_RELEASES", releases)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A script that ends early leaves the rest of itself unread.
    let _ = child.stdin.take().unwrap().write_all(script.as_bytes());
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let left = fs::read_dir(home.path()).unwrap().map(|entry| entry.unwrap().file_name());
    let left = left.map(|name| name.to_string_lossy().into_owned()).collect();
    (output.status.code().unwrap(), said, left)
}

#[test]
fn bad_options_are_refused_before_anything_is_changed() {
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path().join("bin");
    let at = place.to_str().unwrap();
    let master = ["--master", "127.0.0.1:1", "--no-systemd", "--no-sudo", "--install-dir", at];
    let with = |more: &[&'static str]| [&master[..], more].concat();
    let table: Vec<(Vec<&str>, i32, &str)> = vec![
        (vec!["--nonsense", "x"], 2, "unknown option: --nonsense"),
        (vec!["--name"], 2, "--name needs a value"),
        (vec!["--name", "a"], 2, "--master HOST:PORT is missing"),
        (vec!["--role", "boss"], 2, "--role is agent or master"),
        (vec!["--role", "master", "--name", "a"], 2, "a master takes only"),
        (vec!["--update", "--uninstall"], 2, "exclude each other"),
        (vec!["--master", "a b"], 2, "invalid --master a b"),
        (with(&["--name", "two words"]), 2, "invalid --name 'two words'"),
        (with(&["--name", "x'; touch y; '"]), 2, "invalid --name"),
        (with(&["--port", "70000"]), 2, "invalid --port 70000"),
        (with(&["--incus", "192.168.1.17"]), 2, "with the port that the host forwards"),
        (with(&["--incus", "1.2.3.4:5", "--report-address", "h:1"]), 2, "--incus sets --report-address"),
        (with(&["--token", "secret"]), 2, "invalid join token"),
        (with(&["--token-file", "/nonexistent"]), 2, "cannot be read"),
        (with(&["--label", "role"]), 2, "write KEY=VALUE"),
        (with(&["--version", "newest"]), 2, "invalid --version"),
        (with(&["--from", "/nonexistent"]), 1, "no such file"),
        (with(&["--from", "/etc/passwd"]), 1, "not a program for this machine"),
        (with(&[]), 1, "there is no release key in this script"),
        (
            with(&["--from", "https://127.0.0.1:9/sloth-runner.tar.gz"]),
            1,
            "there is no release key in this script",
        ),
    ];
    for (words, status, text) in table {
        let (found, said, left) = piped(&script(), &words);
        assert_eq!(found, status, "{words:?}: {said}");
        assert!(said.contains(text), "{words:?}: {said}");
        assert_eq!(left, Vec::<String>::new(), "{words:?}");
    }
    assert!(!place.exists());
}

/// Serves the files of a directory over HTTP, as a host of releases does. Returns the URL.
fn serve_releases(directory: PathBuf) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut request = String::new();
            let mut lines = BufReader::new(stream.try_clone().unwrap());
            while lines.read_line(&mut request).is_ok_and(|length| length > 2) {}
            let path = request.split(' ').nth(1).unwrap_or_default().trim_start_matches('/');
            let (status, body) =
                fs::read(directory.join(path)).map_or(("404 Not Found", vec![]), |body| ("200 OK", body));
            let head =
                format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            let _ = stream.write_all(&[head.as_bytes(), &body].concat());
        }
    });
    address
}

fn shell(directory: &Path, script: &str) {
    let output = Command::new("bash").args(["-euc", script]).current_dir(directory).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Returns a directory with every program of this machine except these.
fn programs_without(left_out: &[&str]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for programs in std::env::split_paths(&std::env::var_os("PATH").unwrap()) {
        for program in fs::read_dir(programs).into_iter().flatten().flatten() {
            let name = program.file_name();
            if !left_out.iter().any(|left_out| name == *left_out) {
                // Of two programs with the same name the first one is used, as in PATH.
                let _ = std::os::unix::fs::symlink(program.path(), directory.path().join(name));
            }
        }
    }
    directory
}

#[test]
fn a_download_is_refused_without_a_program_that_verifies_it() {
    let programs = programs_without(&["ssh-keygen", "openssl"]);
    let script = script().replace("RELEASE_KEY=''", "RELEASE_KEY='ssh-ed25519 AAAA'");
    let script = script.replace("RELEASE_VERSION=''", "RELEASE_VERSION='1.2.3'");
    let words = ["--master", "127.0.0.1:1", "--no-systemd", "--no-sudo"];
    let (status, said, _) = piped_from("http://127.0.0.1:9/none", Some(programs.path()), &script, &words);
    assert!(status == 1 && said.contains("neither ssh-keygen nor an openssl"), "{said}");
}

#[test]
fn a_download_that_the_release_key_did_not_sign_is_not_installed() {
    refuses_what_is_not_signed(None);
}

#[test]
fn without_ssh_keygen_openssl_verifies_downloads() {
    refuses_what_is_not_signed(Some(programs_without(&["ssh-keygen"]).path()));
}

fn refuses_what_is_not_signed(programs: Option<&Path>) {
    let home = tempfile::tempdir().unwrap();
    let at = home.path();
    // Two releases of a program that prints its version and ignores its arguments, and the key of another
    // signer.
    let made = r#"
        machine=$(uname -m)
        for key in release other; do ssh-keygen -q -t ed25519 -N '' -C "$key" -f $key; done
        for version in 1.2.2 1.2.3; do
            mkdir -p stage v$version
            printf '#!/bin/sh\necho "sloth-runner %s"\n' $version >stage/sloth-runner
            chmod +x stage/sloth-runner
            name=sloth-runner-$version-$machine-linux.tar.gz
            tar -czf v$version/$name stage
            (cd v$version && sha256sum $name >$name.sha256)
            ssh-keygen -q -Y sign -f release -n sloth-runner v$version/$name.sha256
        done
        mkdir -p releases/download
        cp -r v1.2.2 v1.2.3 releases/download/
        ln -s releases/download/v1.2.3/sloth-runner-1.2.3-$machine-linux.tar.gz archive
    "#;
    shell(at, made);
    let assets = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/released-bootstrap");
    let filled = Command::new(assets).arg(at.join("release.pub")).arg("1.2.3").output().unwrap();
    let script = String::from_utf8(filled.stdout).unwrap();
    let releases = serve_releases(at.join("releases"));
    let place = at.join("bin");
    let install = |more: &[&str]| {
        let _ = fs::remove_dir_all(&place);
        let fixed = [
            "--master",
            "127.0.0.1:1",
            "--no-systemd",
            "--no-sudo",
            "--install-dir",
            place.to_str().unwrap(),
        ];
        let words = [&fixed[..], more].concat();
        let (status, said, left) = piped_from(&releases, programs, &script, &words);
        assert_eq!(left, Vec::<String>::new());
        let program = Command::new(place.join("sloth-runner")).output();
        let version = program.map(|output| String::from_utf8(output.stdout).unwrap().trim().to_owned()).ok();
        (status, said, version)
    };
    let is_installed = |(status, said, version): (i32, String, Option<String>), wanted: &str| {
        assert!(status == 0 && version.as_deref() == Some(wanted), "{said}");
    };
    is_installed(install(&[]), "sloth-runner 1.2.3");
    is_installed(install(&["--version", "1.2.2"]), "sloth-runner 1.2.2");
    let machine = String::from_utf8(Command::new("uname").arg("-m").output().unwrap().stdout).unwrap();
    let url = format!("{releases}/download/v1.2.2/sloth-runner-1.2.2-{}-linux.tar.gz", machine.trim());
    is_installed(install(&["--from", &url]), "sloth-runner 1.2.2");

    let forged = r"printf x >>$archive";
    let and_its_checksum = r"printf x >>$archive; (cd $(dirname $archive) && sha256sum $(basename $archive) >$(basename $archive).sha256)";
    let by_another_key =
        r"rm $archive.sha256.sig; ssh-keygen -q -Y sign -f other -n sloth-runner $archive.sha256";
    let for_something_else =
        r"rm $archive.sha256.sig; ssh-keygen -q -Y sign -f release -n git $archive.sha256";
    let older = r"for end in '' .sha256 .sha256.sig; do cp ${archive//1.2.3/1.2.2}$end $archive$end; done";
    for (attack, text) in [
        (forged, "is not what its checksum says"),
        (and_its_checksum, "is not signed with the release key"),
        (by_another_key, "is not signed with the release key"),
        (for_something_else, "is not signed with the release key"),
        (older, "is signed for sloth-runner-1.2.2-"),
        ("rm $archive.sha256.sig", "sig, without which nothing is installed"),
        (": >$archive.sha256.sig", "is not signed with the release key"),
    ] {
        shell(at, &format!("archive=$(readlink archive); {attack}"));
        let (status, said, version) = install(&[]);
        assert!(status == 1 && said.contains(text) && version.is_none(), "{attack}: {said}");
        shell(at, "rm -r releases/download/v1.2.3 && cp -r v1.2.3 releases/download/");
    }
    is_installed(install(&[]), "sloth-runner 1.2.3");
}

#[test]
fn a_truncated_script_fails_and_changes_nothing() {
    let whole = script();
    let cuts: Vec<usize> =
        whole.char_indices().map(|(at, _)| at).filter(|at| at % 997 == 0 && *at > 1_500).collect();
    for at in cuts.into_iter().chain([whole.rfind('}').unwrap()]) {
        let (status, said, left) = piped(&whole[..at], &["--master", "127.0.0.1:1"]);
        assert_ne!(status, 0, "cut at {at}: {said}");
        assert_eq!(left, Vec::<String>::new());
    }
}

fn print(words: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_sloth-runner"))
        .args(["service", "print"])
        .args(words)
        .env("SLOTH_RUNNER_TOKEN", format!("sloth1-{}-{}", "ab".repeat(16), "AB".repeat(32)))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_unit_has_the_flags_that_were_given_and_never_the_token() {
    let agent = print(&[
        "agent",
        "--name",
        "main",
        "--master",
        "192.168.1.29:50053",
        "--bind-address",
        "0.0.0.0",
        "--report-address",
        "192.168.1.17:50052",
        "--label",
        "role=web",
        "--label",
        "dc=ams",
        "--user",
        "root",
        "--program",
        "/bin/true",
    ]);
    let wanted = "ExecStart=/bin/true agent start \\
  --name main \\
  --master 192.168.1.29:50053 \\
  --bind-address 0.0.0.0 \\
  --report-address 192.168.1.17:50052 \\
  --label role=web \\
  --label dc=ams \\
  --token-file /etc/sloth-runner/agent-main.token
";
    assert!(agent.contains(wanted), "{agent}");
    assert!(!agent.contains("sloth1-"), "{agent}");
    for line in [
        "Description=Sloth Runner Agent - main",
        "KillMode=process",
        "RestartPreventExitStatus=2 3",
        "WorkingDirectory=/var/lib/sloth-runner",
    ] {
        assert!(agent.lines().any(|found| found == line), "{line}\n{agent}");
    }
    let master = print(&["master", "--port", "50054", "--program", "/bin/true"]);
    assert!(master.contains("ExecStart=/bin/true master start \\\n  --port 50054\n"), "{master}");
    assert!(master.contains("\nNoNewPrivileges=true\n") && master.contains("\nPrivateTmp=true\n"));
}
