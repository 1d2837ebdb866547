# Every step that a person or CI runs. `make demo` and `make test` need nothing but Debian 12 with Rust;
# what else they need they install.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.DEFAULT_GOAL := help

CARGO ?= cargo
TARGET := $(or $(CARGO_TARGET_DIR),target)
FUZZ_SECONDS ?= 600
TRAIN ?= yes
PREFIX ?= /usr/local
DESTDIR ?=
UNITS ?= /etc/systemd/system
BENCH_ROUNDS ?= 5
TRUST_ONLY ?=
BENCH_ONLY ?=
BENCH_OPTIONS ?=
GROWTH_ROUNDS ?= 3
FUZZ_TARGETS := sse json body config journal import reassemble

# What the console is made of: it is built anew only when some of it has changed.
UI_SOURCES := $(shell find ui -path ui/node_modules -prune -o -path ui/dist -prune -o -type f -print)

.PHONY: install help setup ui demo test unit external fuzz-build fuzz bench bench-growth bench-programs microbench trust check run build release clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: ## Install what the build lacks
	@tests/setup.sh build

ui: ui/dist/index.html ## Build the console, which the program has in it: needs Node 18 or later

ui/dist/index.html: $(UI_SOURCES)
	@tests/setup.sh ui
	npm ci --prefix ui
	npm --prefix ui run build

demo: setup ui ## Show what Weir does: gateway, mock providers and one key, on this machine alone
	@$(CARGO) build --locked --bin weir
	exec $(TARGET)/debug/weir demo

test: setup ui unit external ## Run every test that CI runs

unit: ui ## The tests in Rust and those of the console, and the fuzz targets' compilation
	@$(CARGO) fmt --all --check
	$(CARGO) test --locked --workspace
	npm --prefix ui test
	$(MAKE) --no-print-directory fuzz-build

# The binary is the one that the tests in Rust were built with: one build for all tests.
external: ## The demo's proof, and the tests with programs that others wrote
	@$(CARGO) test --locked --workspace --no-run --quiet
	$(TARGET)/debug/weir demo --once
	tests/setup.sh external trust browser
	tests/run-external.sh

fuzz-build:
	@cd tests/fuzz && CARGO_TARGET_DIR=$(abspath $(TARGET))/fuzz $(CARGO) check --locked

fuzz: ## Fuzz each target for FUZZ_SECONDS
	@tests/setup.sh fuzz
	export PATH="$(abspath $(TARGET))/tools/bin:$$PATH" CARGO_TARGET_DIR="$(abspath $(TARGET))/fuzz"
	cd tests/fuzz
	for target in $(FUZZ_TARGETS); do
		PATH="$(abspath $(TARGET))/tools/bin:$$PATH" RUSTC_BOOTSTRAP=1 $(CARGO) fuzz run --fuzz-dir . "$$target" -- \
			-max_total_time=$(FUZZ_SECONDS) -rss_limit_mb=4096 -timeout=10
	done

microbench: setup ## What single parts cost (benches/micro.md): instructions, if valgrind is there, and time
	@micro=($(CARGO) bench --locked --workspace --bench filters --bench gateway)
	if command -v valgrind > /dev/null; then
		"$${micro[@]}" -- --instructions
	fi
	"$${micro[@]}" -- --noplot

# BENCH_ONLY=json,connect measures only these works; BENCH_OPTIONS are more options of benches/compare.
bench: bench-programs ## Compare Weir with nginx, HAProxy and Envoy: benches/README.md
	@PATH="$$PATH:/usr/sbin" $(TARGET)/venv-bench/bin/python -m benches.compare --rounds $(BENCH_ROUNDS) $(if $(BENCH_ONLY),--only $(BENCH_ONLY)) $(BENCH_OPTIONS)

# BENCH_ONLY=keys,streams measures only these; BENCH_OPTIONS are more options of benches/growth.
bench-growth: bench-programs ## Cost as keys, channels, streams and threads grow: benches/README.md
	@$(TARGET)/venv-bench/bin/python -m benches.growth --rounds $(GROWTH_ROUNDS) $(if $(BENCH_ONLY),--only $(BENCH_ONLY)) $(BENCH_OPTIONS)

bench-programs: release
	@tests/setup.sh bench
	"$(TARGET)/venv-bench/bin/python" -m unittest benches.compare.tests benches.growth.tests
	CARGO_TARGET_DIR="$(abspath $(TARGET))/bench/load" $(CARGO) build --locked --release --manifest-path benches/load/Cargo.toml

# TRUST_ONLY=1,9 runs only these, and replaces only their lines.
trust: release ## What an operator may believe, tested in full: tests/trust/README.md
	@tests/setup.sh trust external scanners deny fuzz
	cd tests && WEIR_BIN="$(abspath $(TARGET))/release/weir" CARGO_TARGET_DIR="$(abspath $(TARGET))" \
		"$(abspath $(TARGET))/venv-trust/bin/python" -m trust --long $(if $(TRUST_ONLY),--only $(TRUST_ONLY))

check: setup ## Formatting, lints, documentation, licences
	@$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --workspace --no-deps
	tests/setup.sh deny
	PATH="$(abspath $(TARGET))/tools/bin:$$PATH" $(CARGO) deny --offline check licenses bans sources

build: setup ## Build for development
	@$(CARGO) build --locked

# Twice: the first build records what the second is laid out for. TRAIN=no makes only the second, without that.
release: setup ui ## Build for use: benches/README.md, "The build"
	@[[ $(TRAIN) == no ]] || tests/setup.sh train
	TRAIN=$(TRAIN) CARGO=$(CARGO) benches/train/build.sh

# PREFIX and DESTDIR as everywhere. What is in /etc/weir is left as it is.
install: ## Install the program, its units for systemd, and a first configuration
	@program=$(TARGET)/release/weir
	[[ -x $$program ]] || { echo 'there is no program yet: make release' >&2; exit 1; }
	install -D -m 755 "$$program" "$(DESTDIR)$(PREFIX)/bin/weir"
	install -d "$(DESTDIR)$(UNITS)"
	for unit in weir.service weir.socket; do
		sed 's|/usr/local|$(PREFIX)|g' "systemd/$$unit" > "$(DESTDIR)$(UNITS)/$$unit"
		chmod 644 "$(DESTDIR)$(UNITS)/$$unit"
	done
	install -D -m 644 systemd/README.md "$(DESTDIR)$(PREFIX)/share/doc/weir/README.md"
	install -D -m 644 conf/record.schema.json "$(DESTDIR)$(PREFIX)/share/doc/weir/record.schema.json"
	install -D -m 644 conf/prometheus/rules.yml "$(DESTDIR)$(PREFIX)/share/doc/weir/prometheus-rules.yml"
	install -D -m 644 conf/grafana/weir.json "$(DESTDIR)$(PREFIX)/share/doc/weir/grafana-dashboard.json"
	for file in weir.yaml prices.yaml; do
		[[ -e "$(DESTDIR)/etc/weir/$$file" ]] || install -D -m 644 "conf/$$file" "$(DESTDIR)/etc/weir/$$file"
	done

run: release ## Run the gateway with conf/weir.yaml
	@exec $(TARGET)/release/weir run -c conf/weir.yaml

clean: ## Remove what was built
	@$(CARGO) clean
