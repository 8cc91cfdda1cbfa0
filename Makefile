# make build | test | lint | check | bench | soak | image | chart | manifests | pebble

build: ## the binary
	go build -o tentagate ./cmd/tentagate

test: ## the tests; those that need redis-server say so when it is missing
	go test ./... ./integration/...

lint: ## what the linter says, in the version that .ci/run has
	go run github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$$(sed -n 's/^GOLANGCI=//p' .ci/run) run ./... ./integration/...

check: ## all that is asked of a change (Debian, as root)
	.ci/run

bench: ## CPU per request beside stock Caddy and other gateways (nginx, wrk)
	go run ./bench

soak: ## memory and goroutines over 20 million requests and a new configuration every five seconds
	go run ./bench -soak 20000000

image: ## builds the image twice with buildah, compares the two, and runs one hardened (Debian, as root)
	.ci/image

chart: ## lints, packages and renders the Helm chart, and runs its pod
	.ci/chart

manifests: ## kubeconform and kube-score over manifests, overlays, components, the chart and the objects that pages show
	.ci/manifests

pebble: ## certificates that three gateways share, from a test server of Let's Encrypt
	.ci/pebble

.PHONY: build test lint check bench soak image chart manifests pebble
