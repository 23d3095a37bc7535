# make demo   everything in one process, with an AWS IoT emulator
# make test   all tests, under the race detector
# make slow   the long runs: loads and backlogs of full size, three minutes
# make check  format, vet, staticcheck, known vulnerabilities
# make build  bin/sluice
# make bench  Sluice against a bare bridge, and what else is installed
# make faults N=100 schedules of faults, from FIRST=1 on; SEED=n repeats one
# make kill   the kill -9 test, 20 times in a row
# make fuzz   each fuzz target for FUZZTIME (default 30s)

SHELL := /bin/bash
GO ?= go
FUZZTIME ?= 30s
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LOG ?= /tmp/sluice-test.$(shell id -u).log

.PHONY: demo build test slow check peers fuzz bench kill faults

demo:
	$(GO) run ./cmd/sluice demo

build:
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags "-s -w -X main.version=$(VERSION)" -o bin/sluice ./cmd/sluice

# The real clients and brokers that some tests talk to. As root they are
# installed; otherwise the tests that miss them are skipped, and said so. What
# npm brings, for anybody, stays in a folder that git ignores; a copy of the
# lock file beside it tells what it was installed from.
PEERS := mosquitto:mosquitto mosquitto_pub:mosquitto-clients aws:awscli strace:strace node:nodejs npm:npm
SDKS := connector/awsiot/awsiottest/testdata/javascript
peers:
	@missing=""; for p in $(PEERS); do \
		command -v "$${p%%:*}" >/dev/null 2>&1 || [ -x "/usr/sbin/$${p%%:*}" ] || missing="$$missing $${p##*:}"; done; \
	[ -z "$$missing" ] && exit 0; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then \
		echo "installing$$missing, for the tests that talk to them"; \
		export DEBIAN_FRONTEND=noninteractive; \
		{ apt-get update -qq && apt-get install -qq -y --no-install-recommends $$missing; } >/dev/null 2>&1 || \
			echo "COULD NOT INSTALL$$missing: tests that need them are skipped"; \
	else echo "NOT INSTALLED:$$missing: tests that need them are skipped"; fi
	@cmp -s $(SDKS)/package-lock.json $(SDKS)/node_modules/.installed && exit 0; \
	command -v npm >/dev/null 2>&1 || exit 0; \
	echo "installing AWS's SDKs for JavaScript, for the test that runs them"; \
	{ (cd $(SDKS) && npm ci --loglevel=error >/dev/null && cp package-lock.json node_modules/.installed) || \
		echo "COULD NOT INSTALL AWS's SDKs for JavaScript: the test that needs them is skipped"; }

# A skipped test is said at the end, and is a failure where CI is set.
test: peers
	@export PATH="$$PATH:/usr/sbin"; \
	echo "go test -race ./...   (everything it prints: $(LOG))"; \
	$(GO) test -race -timeout 20m -v ./... >$(LOG) 2>&1; status=$$?; \
	if [ $$status != 0 ] && grep -q 'ThreadSanitizer: CHECK failed' $(LOG) && ! grep -q -E '^ *--- FAIL|DATA RACE' $(LOG); then \
		again="$$(awk '$$1 == "FAIL" && $$2 ~ /^sluice/ {print $$2}' $(LOG))"; \
		echo "the race detector itself broke down (ThreadSanitizer: CHECK failed); once more:" $$again; \
		$(GO) test -race -timeout 20m -v $$again >>$(LOG) 2>&1; status=$$?; fi; \
	grep -E '^(ok|FAIL|panic:|--- FAIL| +--- FAIL|WARNING: DATA RACE)' $(LOG); \
	[ $$status = 0 ] || { grep -v -E '^(=== |--- PASS| +--- PASS|PASS|ok )' $(LOG) | tail -n 150; }; \
	if grep -q -E '^ *--- SKIP' $(LOG); then \
		echo; echo "SKIPPED:"; grep -E -A2 '^ *--- SKIP' $(LOG); \
		[ -z "$$CI" ] || { echo "CI skips nothing."; exit 1; }; fi; \
	echo "$$(grep -c -E '^ *--- PASS' $(LOG)) passed, $$(grep -c -E '^ *--- FAIL' $(LOG)) failed"; \
	exit $$status

# What make test runs small, at full size: loads of a minute, AWS's ten stored
# commands a second, a million reports. A run that is too slow fails here.
slow:
	SLUICE_SLOW=1 $(GO) test -v -p 1 -timeout 30m -run 'TestPoolUnderLoad|TestCommandsWhileAway|TestSharedCommands|TestABacklogAfterAKill' ./test ./journal

STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.6.1
GOFUMPT := mvdan.cc/gofumpt@v0.9.1
GOVULNCHECK := golang.org/x/vuln/cmd/govulncheck@v1.1.4
check:
	@bad="$$($(GO) run $(GOFUMPT) -l .)"; [ -z "$$bad" ] || { echo "not formatted with gofumpt:"; echo "$$bad"; exit 1; }
	$(GO) vet ./...
	$(GO) run $(STATICCHECK) ./...
	$(GO) mod tidy -diff
	@if curl -sfm 10 -o /dev/null https://vuln.go.dev/index/db.json; then $(GO) run $(GOVULNCHECK) ./...; \
	else echo "govulncheck: its database is out of reach, not run"; fi

fuzz:
	@for p in $$($(GO) list ./...); do for f in $$($(GO) test -list '^Fuzz' $$p | grep '^Fuzz'); do \
		echo "$$p $$f"; $(GO) test -run '^$$' -fuzz "^$$f\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 20x $$p || exit 1; done; done

bench:
	$(GO) run ./bench

kill:
	$(GO) test -race -count=20 -timeout 30m -run '^TestKill$$' ./test

# A failing seed is printed with its schedule and what was wrong. CUTS=0 cuts
# the power at every sync.
N ?= 100
FIRST ?= 1
SEED ?=
CUTS ?= 200
faults:
	SLUICE_SEEDS=$(N) SLUICE_FIRST=$(FIRST) SLUICE_SEED=$(SEED) SLUICE_CUTS=$(CUTS) \
		$(GO) test -timeout 24h -v $(if $(SEED),-run '^TestSeeds$$') ./test/faults 2>&1 | grep -v '^=== '; exit $${PIPESTATUS[0]}
