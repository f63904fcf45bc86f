# Penstock. `make run` and `make test` need Python 3.11+, a Rust toolchain, a C compiler and make; the rest they install.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CARGO ?= cargo
ARGS ?=
ROWS ?= P1
SECONDS ?= 6
JOBS ?= 1
# Tests at once: most wait for somebody. PARALLEL= runs one by one.
PARALLEL ?= -n 6

.DEFAULT_GOAL := help
.PHONY: help build run test test-rust test-python lint lint-rust lint-python fmt fuzz bench compare profile safety safety-table wheel mitmproxy debian clean

help: ## List the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Penstock needs Python 3.11 or newer")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --group dev --group bench "maturin>=1.16,<2"
	touch $@

RUST := Cargo.toml Cargo.lock $(shell find crates -name '*.rs' -o -name Cargo.toml 2>/dev/null)

# What `make profile` wrote, if it did. A build with it has its own objects: the two would make each other anew.
PROFILE := $(wildcard $(CURDIR)/target/profile/penstock.profdata)
TRAINED := $(if $(PROFILE),CARGO_TARGET_DIR=$(CURDIR)/target/profile/objects RUSTFLAGS="-Cprofile-use=$(PROFILE)")

# The extension is installed in place: the package is read from python/, so that a change of Python needs no build.
$(VENV)/.built: $(VENV)/.installed $(RUST) $(PROFILE)
	$(TRAINED) $(BIN)/maturin develop --quiet --release
	touch $@

build: $(VENV)/.built ## Set up .venv and build the release extension: afterwards .venv/bin/penstock works

run: build ## Set everything up and start the demo
	$(BIN)/penstock demo $(ARGS)

test: test-rust test-python ## Run every test of both languages

# All targets are what has tests: no crate has examples in its docs, for which each would be read once more.
test-rust: $(VENV)/.installed
	$(CARGO) test --quiet --workspace --all-targets --locked

test-python: build
	$(BIN)/python -m pytest $(PARALLEL) $(ARGS)

lint: lint-rust lint-python ## Check style, types, layers and the border's stub

# The two share nothing but .venv, so that `make -j2 lint` checks Rust while the extension is linked.
lint-rust: $(VENV)/.installed
	$(CARGO) fmt --all --check
	$(CARGO) clippy --quiet --workspace --all-targets --locked -- -D warnings
	cd fuzz && $(CARGO) check --quiet --locked --target-dir ../target

lint-python: build
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m mypy.stubtest penstock._native

fmt: $(VENV)/.installed ## Format both languages
	$(CARGO) fmt --all
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .

fuzz: build ## Fuzz each target for SECONDS (6 unless given), JOBS at once
	nice -n 19 $(BIN)/python -m fuzz --seconds $(SECONDS) --jobs $(JOBS)

bench: build ## Measure side by side with the peers that are installed (make debian)
	$(CARGO) build --quiet --release --locked -p penstock-bench
	$(BIN)/python -m bench $(ARGS)

compare: build ## Measure this tree beside BASE=REVISION, ROWS=P1,P14 (ARGS="--calls --instructions")
	@test -n "$(BASE)" || { echo 'make compare BASE=REVISION'; exit 2; }
	$(CARGO) build --quiet --release --locked -p penstock-bench
	$(BIN)/python -m bench.compare $(BASE) --rows $(ROWS) $(ARGS)

safety: build ## Run the catalogue of attacks and faults and print its table; PEER=host:port: another proxy's
	$(BIN)/python -m $(if $(PEER),tests.safety --peer $(PEER) $(if $(ORIGIN),--origin $(ORIGIN)),pytest $(PARALLEL) --safety) $(ARGS)

safety-table: build ## Run it with nginx and HAProxy beside (make debian) and rewrite the table in docs/safety.md
	$(BIN)/python -m tests.safety --write $(ARGS)

profile: $(VENV)/.installed ## Let builds be made for how Penstock runs: what the bench's rows do (make debian; 10 minutes). Releases are
	if command -v rustup >/dev/null; then rustup component add llvm-tools; fi
	$(BIN)/python -m bench.train

wheel: $(VENV)/.installed ## Build the abi3 wheel and try it in an empty environment
	$(TRAINED) $(BIN)/maturin build --quiet --release --out dist
	rm -rf dist/try && $(PYTHON) -m venv dist/try
	dist/try/bin/python -m pip install --quiet --upgrade pip
	dist/try/bin/python -m pip install --quiet dist/penstock-*.whl
	cd dist && try/bin/penstock version && try/bin/penstock demo --once
	rm -rf dist/try

mitmproxy: ## Install mitmdump for row P9 of the bench, beside everything else
	test -x target/mitmproxy/bin/python || $(PYTHON) -m venv target/mitmproxy
	target/mitmproxy/bin/python -m pip install --quiet "mitmproxy>=11"

debian: ## Install the Debian packages that only tests and the bench use
	apt-get update -qq
	apt-get install -y -qq --no-install-recommends chromium curl dnsmasq-base haproxy iperf3 iproute2 libnginx-mod-stream nginx-light nghttp2-client openssh-client openssh-server postgresql redis squid wrk

clean: ## Remove everything that was built
	rm -rf $(VENV) target fuzz/target dist
