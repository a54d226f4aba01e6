# make alone prints the targets.
SHELL := /bin/bash
.DEFAULT_GOAL := help
export CGO_ENABLED := 0
GO ?= go
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null)
LDFLAGS := -s -w -X main.release=$(VERSION)
SOAK ?= 2m
DATA_DIR ?= /var/lib/castellan
MOBY ?= v2.0.0-beta.24

.PHONY: help up demo demo-down build lambda install check lint test soak moby peers compare race bench generate generated seed golden fuzz clean setup-test

help: ## print the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

up: build ## install what is missing, build, and run server and agent here (as root)
	test/setup/docker.sh up
	exec bin/castellan up --data-dir $(DATA_DIR)

demo: build ## start a small shop as containers to look at
	test/setup/docker.sh up
	test/setup/demo.sh
	$(GO) run ./demo up

demo-down: ## remove the shop
	$(GO) run ./demo down

build: ## build bin/castellan
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/castellan ./cmd/castellan

lambda: ## build the function for AWS Lambda: bin/castellan-lambda-{arm64,amd64}.zip, the same bytes each time
	$(GO) run ./test/lambda -release '$(VERSION)' -o bin

install: build ## put castellan into /usr/local/bin
	install -m 0755 bin/castellan /usr/local/bin/castellan

check: lint ## formatting, vet, staticcheck and the fast tests; needs only Go
	$(GO) test -short ./cmd/... ./internal/... ./demo/...

lint: ## formatting, vet and staticcheck
	@test -z "$$(gofmt -l cmd demo internal proto test)" || { gofmt -l cmd demo internal proto test; echo "gofmt would change these files"; exit 1; }
	$(GO) vet ./...
	GOARCH=arm64 $(GO) vet ./cmd/... ./internal/...
	$(GO) tool staticcheck ./...

setup-test: ## install what the tests need
	test/setup/docker.sh
	test/setup/demo.sh
	$(GO) run ./demo prepare
	test/setup/vm.sh
	test/setup/browser.sh
	test/setup/ci.sh

# What is downloaded and what is vetted wait for different things. lint has
# vetted all by the time the tests begin, so they don't once more in their way.
test: ## the tests, with what they need installed: all but soak, peers and race
	$(MAKE) -j 2 lint setup-test
	CASTELLAN_TEST_REQUIRE=root,bpf,docker,vm,vm-arm64,browser $(GO) test -timeout 55m -vet off -p 2 ./...

soak: setup-test ## real services learned, monitored, protected and attacked, for as long as SOAK each; takes a Debian of 900 MB
	test/setup/services.sh
	CASTELLAN_TEST_REQUIRE=root,bpf,docker $(GO) test -timeout 4h -count 1 -v -run 'OrdinaryWorkUnderProtect|PublicSuites|OrdinaryServices|CodeThatInterpreters|Storm|RunsUnheld|HeldInTime' ./test/docker -long $(SOAK)

moby: setup-test ## the tests of admission with a newer dockerd, images kept by it and by containerd; it is built once, ten minutes of a core
	test -x bin/moby/dockerd || GOBIN=$(CURDIR)/bin/moby $(GO) install -tags 'exclude_graphdriver_btrfs no_systemd' github.com/moby/moby/v2/cmd/dockerd@$(MOBY)
	for snapshots in '' 1; do CASTELLAN_TEST_SNAPSHOTS=$$snapshots CASTELLAN_TEST_DOCKERD=$(CURDIR)/bin/moby/dockerd CASTELLAN_TEST_REQUIRE=root,docker $(GO) test -count 1 \
		-run 'Ways|NewerEngines|Plugin|Authorization|CallsOfTheECSAgent|RestartOfTheEngine|StartsAreDecided' ./test/docker || exit 1; done

peers: ## hold what is found and signed against peers; modules of their own (cosign is built once, seven minutes of a core)
	cd test/peers && $(GO) vet ./... && $(GO) test ./...
	cd test/gitleaks && $(GO) vet ./... && $(GO) test ./...
	cd test/cosign && $(GO) vet ./... && $(GO) test -timeout 40m ./...
	cd test/notation && $(GO) vet ./... && $(GO) test ./...

compare: ## build the scanner's peers, which takes half an hour, and record anew what they find in the images of test/peers
	test/setup/compare.sh $(PEERS)

race: ## the concurrent packages under the race detector; needs gcc
	CGO_ENABLED=1 $(GO) test -race ./internal/agent/... ./internal/server/... ./internal/link/... ./internal/adapter/docker/...

bench: build ## measure, and print a table of ratios
	test/setup/bench.sh
	$(GO) run ./test/bench

generate: ## make generated files anew: BPF objects, templates, agent link
	test/setup/generate.sh
	GOBIN=$(CURDIR)/bin $(GO) install google.golang.org/protobuf/cmd/protoc-gen-go connectrpc.com/connect/cmd/protoc-gen-connect-go
	$(GO) generate ./...

generated: generate ## fail if generated files differ from what is checked in
	git diff --exit-code

seed: build ## compile the advisories that the program carries anew, from FEEDS
	bin/castellan scan db seed --feeds $(or $(FEEDS),../shared/feeds) internal/scan/seed

golden: ## rewrite golden files; read the diff afterwards
	CASTELLAN_GOLDEN=write $(GO) test ./cmd/... ./internal/admit ./internal/detect ./internal/event ./internal/scan/... ./internal/server/...

fuzz: ## run every fuzz target for FUZZTIME (10s)
	test/setup/fuzz.sh $(or $(FUZZTIME),10s)

clean: ## remove what was built
	rm -rf bin
