#!/usr/bin/env bash
# Installs sloth-runner on this machine: an agent, or the master.
#
#   curl -fsSL URL/bootstrap.sh | bash -s -- --name web-1 --master 192.168.1.29:50053
#   ./bootstrap.sh --role master
#
# Everything stands in one block, so that a download that was cut off runs nothing at all.
{
set -euo pipefail

# Empty when it is read from a pipe; inside a function it would not be.
script=${BASH_SOURCE[0]:-}
# What releases are signed with, and which one this script belongs to: filled in when a release is made
# (assets/released-bootstrap). Without a key nothing is downloaded.
RELEASE_KEY=''
RELEASE_VERSION=''
RELEASES=${SLOTH_RUNNER_RELEASES:-https://github.com/chalkan3-sloth/sloth-runner/releases}

usage() {
  cat <<'USAGE'
usage: bootstrap.sh [--role agent] --master HOST:PORT [--name NAME] [options]
       bootstrap.sh --role master [options]
       bootstrap.sh --update | --uninstall

  --role agent|master         what to install [agent]
  --name NAME                 the agent's name [the host name]
  --master HOST:PORT          the master that the agent dials
  --port PORT                 the agent's port for a direct link, or the master's port
  --bind-address ADDRESS      the address to listen on
  --report-address HOST:PORT  the address that the master dials in its place, behind NAT
  --incus HOST:PORT           in an Incus or LXC container behind a proxy device: listens on all addresses and reports
                              HOST:PORT
  --token TOKEN               a join token (better in SLOTH_RUNNER_TOKEN or a file: other users can read command lines)
  --token-file FILE           a file that holds one
  --ca-fingerprint DIGITS     the fingerprint of the master's CA
  --label KEY=VALUE           a label to propose; may be given several times
  --user USER                 the user that the service runs as [root]
  --install-dir DIRECTORY     where the program goes [/usr/local/bin; ~/.local/bin without root]
  --version VERSION           the release to install [the one that this script belongs to]
  --from FILE|URL|source      a program or an archive of it; or build it from the clone that this script lies in
  --no-systemd                no service: a daemon that does not outlive a reboot
  --no-sudo                   never become root
  --update                    install another version of the program, and restart its services
  --uninstall                 remove services and program; data stays
USAGE
}

say() { printf '%s\n' "$*"; }
die() { printf 'bootstrap.sh: %s\n' "$*" >&2; exit 1; }
# Bad input, as opposed to something that went wrong.
misuse() { printf 'bootstrap.sh: %s\n(bootstrap.sh --help shows the options)\n' "$*" >&2; exit 2; }

have() { command -v "$1" >/dev/null 2>&1; }

parse() {
  role=agent name='' master='' port='' bind='' report='' incus='' token=${SLOTH_RUNNER_TOKEN:-} token_file=''
  fingerprint='' user='' install_dir='' version='' from='' systemd=yes sudo=yes action=install
  labels=()
  while [ $# -gt 0 ]; do
    local flag=$1 value=''
    shift
    case $flag in
      --help | -h) usage; exit 0 ;;
      --no-systemd) systemd=no; continue ;;
      --no-sudo) sudo=no; continue ;;
      --update | --uninstall)
        [ "$action" = install ] || misuse "--update and --uninstall exclude each other"
        action=${flag#--}
        continue
        ;;
      --*=*) value=${flag#*=} flag=${flag%%=*} ;;
      --*)
        [ $# -gt 0 ] || misuse "$flag needs a value"
        value=$1
        shift
        ;;
      *) misuse "unexpected word: $flag" ;;
    esac
    [ -n "$value" ] || misuse "$flag needs a value"
    case $flag in
      --role) role=$value ;;
      --name) name=$value ;;
      --master) master=$value ;;
      --port) port=$value ;;
      --bind-address) bind=$value ;;
      --report-address) report=$value ;;
      --incus) incus=$value ;;
      --token) token=$value ;;
      --token-file) token_file=$value ;;
      --ca-fingerprint) fingerprint=$value ;;
      --label) labels+=("$value") ;;
      --user) user=$value ;;
      --install-dir) install_dir=$value ;;
      --version) version=${value#v} ;;
      --from) from=$value ;;
      *) misuse "unknown option: $flag" ;;
    esac
  done
  [ "$action" = install ] || return 0
  case $role in agent | master) ;; *) misuse "--role is agent or master, not $role" ;; esac
}

# Says what is wrong before anything is downloaded or changed.
check() {
  [ "$(uname -s)" = Linux ] || die "this is $(uname -s); sloth-runner runs on Linux"
  [ -z "$version" ] || [[ $version =~ ^[0-9]+\.[0-9]+\.[0-9]+[0-9A-Za-z.+-]*$ ]] || misuse "invalid --version $version: write 1.2.3"
  [ -z "$version" ] || [ -z "$from" ] || misuse "--version chooses a release; --from names the program itself"
  [ "$action" = install ] || return 0
  [ -z "$port" ] || [[ $port =~ ^[0-9]{1,5}$ && $port -ge 1 && $port -le 65535 ]] || misuse "invalid --port $port"
  if [ "$role" = master ]; then
    [ -z "$name$master$report$incus$fingerprint$token_file${labels[*]-}" ] ||
      misuse "a master takes only --port and --bind-address; the other options are the agent's"
    return 0
  fi
  [ -n "$master" ] || misuse "--master HOST:PORT is missing: where does the agent's master listen?"
  [[ $master =~ ^(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:[0-9]{1,5})?$ ]] || misuse "invalid --master $master: write HOST:PORT"
  [ -z "$name" ] || [[ $name =~ ^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$ ]] ||
    misuse "invalid --name '$name': use at most 63 letters, digits, '.', '_' and '-', with a letter or digit first"
  if [ -n "$incus" ]; then
    [ -z "$report" ] || misuse "--incus sets --report-address; give one of them"
    [ -z "$bind" ] || [ "$bind" = 0.0.0.0 ] || misuse "--incus sets --bind-address to 0.0.0.0; give one of them"
    [[ $incus =~ :[0-9]{1,5}$ ]] || misuse "invalid --incus $incus: write HOST:PORT, with the port that the host forwards"
    bind=0.0.0.0 report=$incus
  fi
  [ -z "$token" ] || [ -z "$token_file" ] || misuse "--token and --token-file are two of one kind; give one of them"
  if [ -n "$token_file" ]; then
    [ -r "$token_file" ] || misuse "--token-file $token_file cannot be read"
    token=$(tr -d '[:space:]' <"$token_file")
  fi
  [ -z "$token" ] || [[ $token =~ ^sloth1-[0-9A-Fa-f]+-[0-9A-Fa-f]+$ ]] ||
    misuse "invalid join token; \`sloth-runner master token create\` on the master's machine prints one"
  local label
  for label in "${labels[@]+"${labels[@]}"}"; do
    [[ $label =~ ^[^=]+=.+$ ]] || misuse "invalid --label $label: write KEY=VALUE"
  done
}

# Whether the program comes from elsewhere, and not from a file or the clone that this script lies in.
is_download() {
  case $from in
    '') [ -n "$version" ] || ! clone >/dev/null || ! have cargo ;;
    http://* | https://*) ;;
    *) return 1 ;;
  esac
}

# Nothing is downloaded that cannot be verified.
can_verify() {
  [ -n "$RELEASE_KEY" ] ||
    die "there is no release key in this script, so it can verify no download: take the bootstrap.sh of a release ($RELEASES), or install a program that is here with --from FILE (--from source in a clone)"
  have ssh-keygen || openssl_verifies ||
    die "neither ssh-keygen nor an openssl of version 3, which verify downloads, is there: install openssh-client, or a program that is here with --from FILE"
  have curl || die "curl is not there to download the program: install it, or a program that is here with --from FILE"
}

# Whether openssl can verify an Ed25519 signature.
openssl_verifies() {
  have openssl && openssl pkeyutl -help 2>&1 | grep -q -- -rawin
}

# Whether the release key has signed a file, for sloth-runner and nothing else. Where ssh-keygen is not there, as in many
# containers, openssl verifies the same: an Ed25519 signature over a short record (OpenSSH, PROTOCOL.sshsig).
is_signed() {
  local file=$1 signature=$2
  if have ssh-keygen; then
    printf 'release@sloth-runner namespaces="sloth-runner" %s\n' "$RELEASE_KEY" >"$work/signers"
    ssh-keygen -Y verify -f "$work/signers" -I release@sloth-runner -n sloth-runner -s "$signature" <"$file" >/dev/null 2>&1
    return
  fi
  # The key behind the head that openssl expects (RFC 8410); it is the last 32 bytes of its line, as the signature is the
  # last 64 of its file.
  {
    printf '\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00'
    awk '{ print $2 }' <<<"$RELEASE_KEY" | base64 -d | tail -c 32
  } >"$work/key.der"
  sed '/^-----/d' "$signature" | base64 -d 2>/dev/null | tail -c 64 >"$work/signature" || return 1
  # The signed record: the namespace, an empty reserved field, the digest's name and the digest, each after its length.
  {
    printf 'SSHSIG\0\0\0\x0csloth-runner\0\0\0\0\0\0\0\x06sha512\0\0\0\x40'
    openssl dgst -sha512 -binary "$file"
  } >"$work/signed"
  openssl pkeyutl -verify -pubin -keyform DER -inkey "$work/key.der" -rawin -in "$work/signed" \
    -sigfile "$work/signature" >/dev/null 2>&1
}

# Who does what needs root: this user, or sudo.
privileges() {
  as_root=()
  if [ "$(id -u)" != 0 ]; then
    if [ "$sudo" = no ]; then
      [ -z "$user" ] || misuse "--user needs root; run this as root, or without --no-sudo"
      systemd=no
    else
      have sudo || die "this needs root, and sudo is not installed; run it as root, or with --no-sudo for this user alone"
      as_root=(sudo)
    fi
  fi
  [ -d /run/systemd/system ] || systemd=no
  if [ -z "$install_dir" ]; then
    install_dir=/usr/local/bin
    if [ "$(id -u)" != 0 ] && [ "$sudo" = no ]; then install_dir=$HOME/.local/bin; fi
  fi
  case $install_dir in /*) ;; *) misuse "--install-dir $install_dir is not an absolute path" ;; esac
  program=$install_dir/sloth-runner
}

root() { "${as_root[@]+"${as_root[@]}"}" "$@"; }

# A program that will be root comes over https alone, redirections included, but for one from this very machine.
download() {
  local protocols=https
  case $1 in
    http://127.0.0.1[:/]* | http://localhost[:/]* | 'http://[::1]'[:/]*) protocols=https,http ;;
    http://*) die "$1 could be changed by anybody on the way; give an https address, or a file" ;;
  esac
  say "downloading $1"
  curl -fsSL --proto "=$protocols" --proto-redir "=$protocols" --retry 2 --connect-timeout 20 -o "$2" -- "$1"
}

# An archive, its checksum, and the signature of that; nothing is unpacked that does not match.
fetch_archive() {
  local url=$1 name=${1##*/} archive=$work/archive.tar.gz wanted named found
  download "$url" "$archive" || die "cannot download $url; is there such a release? --from FILE installs a program that is here"
  download "$url.sha256" "$archive.sha256" || die "cannot download $url.sha256, without which nothing is installed"
  download "$url.sha256.sig" "$archive.sig" || die "cannot download $url.sha256.sig, without which nothing is installed"
  is_signed "$archive.sha256" "$archive.sig" ||
    die "$url.sha256 is not signed with the release key: it may have been replaced; nothing was installed"
  read -r wanted named <"$archive.sha256" || true
  [ "$named" = "$name" ] || die "$url.sha256 is signed for $named, not for $name; nothing was installed"
  found=$(sha256sum "$archive" | awk '{ print $1 }')
  [ "$wanted" = "$found" ] || die "$url is not what its checksum says ($found, not $wanted): broken; nothing was installed"
  unpack "$archive"
}

unpack() {
  mkdir -p "$work/unpacked"
  tar -xzf "$1" -C "$work/unpacked" || die "$1 cannot be unpacked"
  local found
  found=$(find "$work/unpacked" -type f -name sloth-runner -print -quit)
  [ -n "$found" ] || die "$1 has no sloth-runner in it"
  cp "$found" "$work/sloth-runner"
}

clone() {
  local here=$script
  [ -n "$here" ] && [ -f "$here" ] || return 1
  here=$(cd "$(dirname "$here")" && pwd)
  grep -qs '^name = "sloth-runner"' "$here/Cargo.toml" || return 1
  printf '%s\n' "$here"
}

build() {
  local here
  here=$(clone) || die "--from source needs a clone: run the bootstrap.sh that lies in it"
  have cargo || die "building needs Rust: https://rustup.rs; or install a release with --from URL"
  say "building in $here"
  (cd "$here" && cargo build --release --locked --quiet) || die "the build failed; nothing was installed"
  cp "${CARGO_TARGET_DIR:-$here/target}/release/sloth-runner" "$work/sloth-runner"
}

get_program() {
  local machine
  machine=$(uname -m)
  case $from in
    '')
      if is_download; then
        version=${version:-$RELEASE_VERSION}
        fetch_archive "$RELEASES/download/v$version/sloth-runner-$version-$machine-linux.tar.gz"
      else
        build
      fi
      ;;
    source) build ;;
    http://* | https://*) fetch_archive "$from" ;;
    *)
      [ -f "$from" ] || die "--from $from: no such file"
      case $from in *.tar.gz | *.tgz) unpack "$from" ;; *) cp -- "$from" "$work/sloth-runner" ;; esac
      ;;
  esac
  chmod 0755 "$work/sloth-runner"
  new_version=$("$work/sloth-runner" --version 2>/dev/null) ||
    die "the downloaded file is not a program for this machine ($machine); nothing was installed"
}

# The program that is there now is kept until the new one has proved itself.
put_program() {
  root mkdir -p "$install_dir"
  if [ -e "$program" ]; then
    root cp -p "$program" "$program.before"
    replaced=yes
  fi
  root install -m 0755 "$work/sloth-runner" "$program.new"
  root mv -f "$program.new" "$program"
  placed=yes
}

take_back() {
  [ "${placed:-no}" = yes ] || return 0
  placed=no
  if [ "${replaced:-no}" = yes ]; then
    root mv -f "$program.before" "$program"
  else
    root rm -f "$program"
  fi
}

# Runs whatever way this ends: nothing half done stays behind.
finish() {
  local status=$?
  if [ "$status" != 0 ]; then
    take_back || true
    if [ "${touched:-no}" = yes ]; then restart_services || true; fi
  else
    [ "${replaced:-no}" = no ] || root rm -f "$program.before" || true
  fi
  [ -z "${work:-}" ] || rm -rf "$work"
  exit "$status"
}

units() {
  find /etc/systemd/system -maxdepth 1 \( -name 'sloth-runner-agent.service' -o -name 'sloth-runner-agent@*.service' -o -name 'sloth-runner-master.service' \) -printf '%f\n' 2>/dev/null | sort
}

active_units() {
  local unit
  for unit in $(units); do
    if systemctl is-active --quiet "$unit"; then printf '%s\n' "$unit"; fi
  done
}

# The services that ran when this began, whatever became of them since.
restart_services() {
  local unit
  for unit in $running; do
    root systemctl reset-failed "$unit" 2>/dev/null || true
    root systemctl restart "$unit" 2>/dev/null || return 1
    say "$unit runs $("$program" --version)"
  done
}

install_agent() {
  local words=(--master "$master")
  [ -z "$name" ] || words+=(--name "$name")
  [ -z "$port" ] || words+=(--port "$port")
  [ -z "$bind" ] || words+=(--bind-address "$bind")
  [ -z "$report" ] || words+=(--report-address "$report")
  [ -z "$fingerprint" ] || words+=(--ca-fingerprint "$fingerprint")
  local label
  for label in "${labels[@]+"${labels[@]}"}"; do words+=(--label "$label"); done
  if [ "$systemd" = yes ]; then
    [ -z "$user" ] || words+=(--user "$user")
    with_token "$program" service install agent "${words[@]}"
  else
    with_token "$program" agent start "${words[@]}" --daemon
  fi
}

# The token goes by the environment, where other users cannot read it.
with_token() {
  if [ -z "$token" ]; then
    root "$@"
  elif [ ${#as_root[@]} = 0 ]; then
    SLOTH_RUNNER_TOKEN=$token "$@"
  else
    SLOTH_RUNNER_TOKEN=$token sudo --preserve-env=SLOTH_RUNNER_TOKEN "$@"
  fi
}

install_master() {
  local words=()
  [ -z "$port" ] || words+=(--port "$port")
  [ -z "$bind" ] || words+=(--bind-address "$bind")
  if [ "$systemd" = yes ]; then
    [ -z "$user" ] || words+=(--user "$user")
    root "$program" service install master "${words[@]+"${words[@]}"}"
  else
    root "$program" master start "${words[@]+"${words[@]}"}" --daemon
  fi
}

do_install() {
  get_program
  put_program
  say "$new_version is installed as $program"
  if [ "$role" = master ]; then
    install_master
    say "On each other machine, with the line that this prints: $program master token create"
    return 0
  fi
  install_agent
}

do_update() {
  [ -x "$program" ] || die "there is no $program to update; --install-dir says where it is"
  local old_version
  old_version=$("$program" --version 2>/dev/null) || old_version='a program that does not run'
  running=''
  [ "$systemd" = no ] || running=$(active_units)
  get_program
  put_program
  touched=yes
  if [ "$systemd" = yes ]; then
    restart_services || die "a service does not start with $new_version; going back to $old_version"
  fi
  say "$program was $old_version and is $new_version"
  [ "$systemd" = yes ] || say "Daemons use the old program until they are restarted."
}

do_uninstall() {
  local unit instance
  if [ "$systemd" = yes ]; then
    for unit in $(units); do
      case $unit in
        sloth-runner-agent@*)
          instance=${unit#sloth-runner-agent@}
          root "$program" service remove agent --instance "${instance%.service}"
          ;;
        sloth-runner-agent.service) root "$program" service remove agent ;;
        sloth-runner-master.service) root "$program" service remove master ;;
      esac
    done
  fi
  [ -e "$program" ] || die "there is no $program; nothing else was removed"
  root rm -f "$program"
  say "$program is removed. Data stays in /var/lib/sloth-runner (and ~/.local/share/sloth-runner of users)."
}

main() {
  parse "$@"
  check
  [ "$action" = uninstall ] || ! is_download || can_verify
  privileges
  work=$(mktemp -d)
  trap finish EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM HUP
  case $action in
    install) do_install ;;
    update) do_update ;;
    uninstall) do_uninstall ;;
  esac
}

main "$@"
}
