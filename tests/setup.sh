#!/usr/bin/env bash
# Installs what is lacking, and only that: tests/setup.sh build|ui|browser|train|external|bench|trust|scanners|deny|fuzz ...
#
# Programs that Debian has come from Debian. The rest goes below the build's own folder, where
# `make clean` removes it; one of the right version that is already on the PATH is used instead.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly VIDAIMOCK=0.3.1 CARGO_DENY=0.20.2 CARGO_FUZZ=0.13.2
readonly TARGET=${CARGO_TARGET_DIR:-target}
readonly TOOLS=$TARGET/tools
# Debian's servers are where only root looks.
PATH=$TOOLS/bin:$PATH:/usr/sbin

say() { printf 'setup: %s\n' "$*" >&2; }

as_root() {
    if [[ $(id -u) == 0 ]]; then "$@"; else sudo "$@"; fi
}

update_once() {
    [[ -n ${updated:-} ]] || as_root apt-get -qq update
    updated=1
}

# packages PACKAGE...: Debian's packages, without what they recommend.
packages() {
    local lacking=() package
    for package in "$@"; do
        [[ $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) == installed ]] || lacking+=("$package")
    done
    [[ ${#lacking[@]} == 0 ]] && return
    say "installing ${lacking[*]}"
    update_once
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends "${lacking[@]}" >/dev/null
}

# crate NAME VERSION COMMAND OPTION...: a program from crates.io, unless COMMAND prints that version.
crate() {
    local name=$1 version=$2 command=$3
    shift 3
    [[ $($command --version 2>/dev/null) == *" $version" ]] && return
    say "compiling $name $version; this takes some minutes"
    cargo install --quiet --locked --root "$TOOLS" --version "$version" "$@" "$name"
}

# What the crates with C in them are built with.
build() {
    packages build-essential cmake ca-certificates
}

# What the console is built with.
ui() {
    type -P npm >/dev/null || packages nodejs npm
    node -e 'process.exit(Number(process.versions.node.split(".")[0]) < 18 ? 1 : 0)' || { say 'Node 18 or later is needed'; exit 1; }
}

# What opens the console as a person's browser would.
browser() {
    ui
    packages chromium fonts-noto-cjk
    cmp -s tests/browser/package-lock.json tests/browser/node_modules/.wanted && return
    say 'installing the packages of tests/browser'
    npm ci --silent --prefix tests/browser
    cp tests/browser/package-lock.json tests/browser/node_modules/.wanted
}

# What reads the profile of a build that was made to record one. Without it a build is only slower.
train() {
    interpreter
    type -P llvm-profdata-19 >/dev/null || packages llvm-19 || say 'there is no llvm-19 to be had'
}

# The providers' SDKs, schemathesis, vidaimock, prometheus, curl, and what looks at the unit for systemd.
external() {
    packages curl ca-certificates systemd strace util-linux
    python
    # It need not be fast, and an optimised build takes twice as long.
    crate vidaimock "$VIDAIMOCK" vidaimock --debug
    prometheus
}

python() {
    interpreter
    environment tests/sdk/requirements.txt "$TARGET/venv"
    environment tests/tools/requirements.txt "$TARGET/venv-schemathesis"
}

interpreter() {
    python3 -c 'import ensurepip, venv' 2>/dev/null || packages python3 python3-venv
    python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { say 'Python 3.11 or later is needed'; exit 1; }
}

# environment REQUIREMENTS FOLDER: Python's packages, unless these are there.
environment() {
    local wanted=$1 folder=$2
    cmp -s "$wanted" "$folder/requirements.txt" && return
    say "installing the packages of $wanted"
    python3 -m venv --clear "$folder"
    "$folder/bin/pip" install --quiet --disable-pip-version-check -r "$wanted"
    cp "$wanted" "$folder/requirements.txt"
}

# The proxies that Weir is compared with, and what draws the plot.
bench() {
    rivals
    interpreter
    environment benches/compare/requirements.txt "$TARGET/venv-bench"
}

# Debian's packages would start servers of their own.
rivals() {
    local program lacking=()
    for program in nginx haproxy; do
        type -P "$program" >/dev/null || lacking+=("$program")
    done
    [[ ${#lacking[@]} == 0 ]] || without_services packages "${lacking[@]}"
}

# What the scorecard is tested with.
trust() {
    rivals
    packages nghttp2-client slowhttptest strace faketime
    interpreter
    environment tests/trust/requirements.txt "$TARGET/venv-trust"
}

# What only the scorecard's long checks are tested with: a scanner of TLS, and the providers' SDKs for Node.
scanners() {
    packages testssl.sh openssl
    type -P npm >/dev/null || packages nodejs npm
    local folder=$TARGET/node-trust
    local wanted=(openai@7.55.0 @anthropic-ai/sdk@1.10.0 @google/genai@3.1.0)
    [[ $(cat "$folder/wanted" 2>/dev/null) == "${wanted[*]}" ]] && return
    say "installing ${wanted[*]}"
    mkdir -p "$folder"
    npm install --silent --no-audit --no-fund --prefix "$folder" "${wanted[@]}"
    echo "${wanted[*]}" >"$folder/wanted"
}

# without_services COMMAND: what it installs does not start, and is left as Debian's policy has it afterwards.
without_services() {
    local policy=/usr/sbin/policy-rc.d
    if [[ -e $policy ]]; then "$@"; return; fi
    printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
    as_root chmod 755 "$policy"
    "$@" || { as_root rm "$policy"; return 1; }
    as_root rm "$policy"
}

# Unpacked and not installed: Debian's package would start a server.
prometheus() {
    local folder=$TOOLS/prometheus
    type -P promtool >/dev/null && type -P prometheus >/dev/null && return
    [[ -x $folder/usr/bin/promtool && -x $folder/usr/bin/prometheus ]] && return
    say 'unpacking prometheus and promtool'
    update_once
    local fetched
    fetched=$(mktemp -d)
    (cd "$fetched" && apt-get -qq -o APT::Sandbox::User=root download prometheus >/dev/null)
    rm -rf "$folder"
    mkdir -p "$folder"
    dpkg-deb --fsys-tarfile "$fetched"/prometheus_*.deb | tar -x -C "$folder" ./usr/bin/promtool ./usr/bin/prometheus
    rm -r "$fetched"
}

deny() {
    crate cargo-deny "$CARGO_DENY" 'cargo deny'
}

fuzz() {
    build
    crate cargo-fuzz "$CARGO_FUZZ" 'cargo fuzz'
}

[[ $# -gt 0 ]] || { say 'what for? build, ui, browser, train, external, bench, trust, scanners, deny or fuzz'; exit 2; }
for part in "$@"; do
    case $part in
        build | ui | browser | train | external | bench | trust | scanners | deny | fuzz) "$part" ;;
        *)
            say "there is no part '$part'"
            exit 2
            ;;
    esac
done
