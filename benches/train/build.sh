#!/usr/bin/env bash
# Builds Weir for use: once to record which of its code the works of the comparison run, then with what was recorded.
#
# The second build alone is what `cargo build --release` makes, and all there is with TRAIN=no, or where the tool that
# reads profiles does not understand this compiler's.
set -euo pipefail
cd "$(dirname "$0")/../.."

CARGO=${CARGO:-cargo}
TARGET=$(realpath -sm "${CARGO_TARGET_DIR:-target}")
readonly CARGO TARGET
readonly FOLDER=$TARGET/train
readonly PROFILE=$FOLDER/weir.profdata

say() { printf 'release: %s\n' "$*" >&2; }

# What a profile is true of.
sources() {
    rustc -vV
    find Cargo.toml Cargo.lock src filters benches/train benches/load/src -type f \( -name '*.rs' -o -name 'Cargo.*' -o -name '*.py' -o -name '*.sh' \) -print0 |
        sort -z | xargs -0 sha256sum
}

# Each step says itself what went wrong.
record() {
    say 'building to record what is used'
    # With any other setting of cargo's the functions would have other names, and the profile none of the second build's.
    RUSTFLAGS="-Cprofile-generate=$FOLDER/raw" CARGO_TARGET_DIR=$FOLDER \
        "$CARGO" build --locked --release --bin weir &&
        CARGO_TARGET_DIR=$TARGET/bench/load \
            "$CARGO" build --locked --release --manifest-path benches/load/Cargo.toml &&
        # Macros that ran while it was built have written theirs.
        rm -rf "$FOLDER/raw" &&
        python3 -m benches.train "$FOLDER/release/weir" &&
        llvm-profdata-19 merge -o "$PROFILE" "$FOLDER"/raw/*.profraw
}

plain() {
    [[ -z ${1:-} ]] || say "$1: this build goes without a profile"
    exec "$CARGO" build --locked --release --bin weir
}

[[ ${TRAIN:-yes} != no ]] || plain
type -P llvm-profdata-19 >/dev/null || plain 'there is no llvm-profdata-19'
mkdir -p "$FOLDER"
current=$(sources | sha256sum)
if [[ ! -e $PROFILE || $(cat "$FOLDER/of" 2>/dev/null) != "$current" ]]; then
    record || plain 'what is used could not be recorded'
    printf '%s' "$current" > "$FOLDER/of"
fi
# What was never run is not made smaller for it: no training runs all.
RUSTFLAGS="-Cprofile-use=$PROFILE -Cllvm-args=-pgo-warn-missing-function=0 -Cllvm-args=-pgso=false" \
    "$CARGO" build --locked --release --bin weir
