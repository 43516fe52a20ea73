# Parallax. `make help` lists what there is.

SHELL        := /bin/bash
.SHELLFLAGS  := -eu -o pipefail -c
.DEFAULT_GOAL := help

GO      ?= go
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS := -s -w -X main.version=$(VERSION)
WEB     := ui/web
WEB_SRC := $(shell find $(WEB)/src $(WEB)/index.html $(WEB)/package-lock.json $(WEB)/vite.config.ts -type f 2>/dev/null)
ARGS    ?=

.PHONY: help run build web deps test test-go test-web lint generate generate-check manifests bench soak clean

help: ## List the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  \033[1m%-16s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: ## Install what is missing, build, and show this machine and a demo cluster at http://127.0.0.1:12000
	@scripts/deps.sh run
	@$(MAKE) --no-print-directory build
	bin/parallax up --demo $(ARGS)

build: $(WEB)/dist/index.html ## Build bin/parallax with the page in it
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/parallax ./cmd/parallax

web: $(WEB)/dist/index.html ## Build the page only

$(WEB)/node_modules/.package-lock.json: $(WEB)/package-lock.json
	cd $(WEB) && npm ci --no-audit --no-fund --loglevel=error
	@touch $@

$(WEB)/dist/index.html: $(WEB)/node_modules/.package-lock.json $(WEB_SRC)
	cd $(WEB) && npm run --silent build
	@touch $@

deps: ## Install all that tests and generators need (Debian packages, the ClickHouse engine)
	@scripts/deps.sh test

test: deps build lint generate-check test-web test-go ## Every test, with whatever they need installed

test-go: ## The Go tests: unit, kernel, storage, end to end (root)
	PARALLAX_BIN=$(CURDIR)/bin/parallax $(GO) test -timeout 20m $(ARGS) ./...

test-web: $(WEB)/node_modules/.package-lock.json ## Type check and tests of the page
	cd $(WEB) && npm run --silent check && npm run --silent test

lint: ## gofmt, go vet, shell syntax
	@out=$$(gofmt -l $$(git ls-files '*.go')); if [ -n "$$out" ]; then echo "gofmt needed:"; echo "$$out"; exit 1; fi
	$(GO) vet ./...
	@for f in scripts/*.sh .ci/run; do bash -n $$f; done

generate: ## Make the BPF objects anew (clang-19)
	$(GO) generate ./bpf/...

generate-check: ## Fail if what is generated and committed is stale
	@scripts/generate-check.sh

manifests: ## Render the Helm chart anew: deploy/manifests and the goldens
	scripts/install-tool.sh helm
	$(GO) test ./deploy -run 'TestRendered|TestCopies' -count=1 -update

bench: build ## Run all benchmarks; writes docs/benchmarks.md and docs/benchmarks.json
	@scripts/deps.sh test
	$(GO) run ./internal/bench

soak: build ## An hour of the demo under load: no loss, no leak
	@scripts/soak.sh

clean: ## Remove what was built
	rm -rf bin $(WEB)/node_modules && find $(WEB)/dist -mindepth 1 ! -name .keep -delete
