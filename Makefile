# Everything people and CI run. A bare Debian 12 with root, make and python3 is enough: what is missing gets installed.
#
# CLUSTER=existing uses the cluster your kubeconfig names; otherwise a real one is started on this machine.

.DEFAULT_GOAL := help
.PHONY: help demo demo-down test test-fast check generate cluster-up cluster-down images bench bench-runtime bench-serving bench-report bench-llama gpu gpu-test gpu-bench gpu-collect soak python cluster
SHELL := /bin/bash

BIN := .venv/bin
BOOTSTRAP := python3 devcluster/bootstrap.py
PYTEST := $(BIN)/pytest
PYTHON ?= python3
# Nothing of ours is installed where a GPU is: the machine's own Python finds it by path.
WITH_SOURCES := PYTHONPATH=$(CURDIR):$(CURDIR)/operator:$(CURDIR)/backend:$(CURDIR)/kernels
export COMMIT CLUSTER NODES GPUS GPU_PRODUCT REGISTRY TAG BASE_IMAGE EXTRAS OMIT PACKAGE_INDEX TORCH_INDEX

help: ## List what make can do
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-13s %s\n", $$1, $$2}' Makefile

demo: cluster ## Show it all: a cluster, the operator, a model served, replicas that follow load
	@$(BIN)/python -m nemotron_devcluster.demo

demo-down: python ## Remove what the demo made, the local cluster included
	@$(BIN)/python -m nemotron_devcluster.demo --down

test: check gpu-collect cluster ## Run every test: unit, contract, integration, then a real cluster with two nodes
	$(PYTEST) -n 2 tests/unit tests/contract
	$(PYTEST) tests/integration
	$(PYTEST) tests/cluster

test-fast: python ## Run the tests that start no server: a few minutes
	$(PYTEST) -n 2 tests/unit tests/contract

check: python ## Lint, formatting, types, import rules
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

generate: python ## Write the CRDs and docs/reference.md from the API types
	@$(BIN)/python -m nemotron_api.crd manifests/crds
	@$(BIN)/python -m nemotron_api.crd charts/nemotron-operator/files/crds
	@$(BIN)/python -m nemotron_api.reference docs/reference.md

cluster-up: cluster ## Start a local cluster: NODES=2 GPUS=4 GPU_PRODUCT=NVIDIA-H200
	@$(BIN)/nemotron-devcluster up

cluster-down: python ## Stop it and leave the machine as it was
	@$(BIN)/nemotron-devcluster down

images: cluster ## Build both images for a registry: REGISTRY=… TAG=… BASE_IMAGE=… EXTRAS=… TORCH_INDEX=…
	@$(BOOTSTRAP) images
	@$(BIN)/python -m nemotron_devcluster.registry_images

bench: bench-runtime bench-serving bench-report ## Run every benchmark and write docs/performance.md

bench-runtime: python ## Measure the runtime beside its peers: BENCH='--quick --only REGEX'
	@$(BIN)/python -m benchmarks.runtime $(BENCH)
	@$(BIN)/python -m benchmarks.profile $(BENCH)
	@$(BIN)/python -m benchmarks.long_context $(BENCH)

bench-serving: python ## Measure what the server and the backend cost around an engine
	@$(BIN)/python -m benchmarks.serving

bench-report: python ## Write benchmarks/results into docs/performance.md
	@$(BIN)/python -m benchmarks.report

bench-llama: python ## Build llama.cpp for bench-runtime, in its own environment: minutes
	@$(BOOTSTRAP) llama

gpu: ## Test and measure on this machine's CUDA device, with the Python that is there: PYTHON=… BENCH=… COMMIT=…
	@$(MAKE) --no-print-directory --keep-going gpu-test gpu-bench

gpu-collect: ## Run what of make gpu needs no GPU, with the libraries of the machines that have one
	@$(BOOTSTRAP) gpu
	@.venv-gpu/bin/python -m pytest -qq --collect-only tests/gpu
	@.venv-gpu/bin/python -m pytest --quiet --device cpu tests/gpu

soak: cluster ## Change everything under load for SOAK_MINUTES, an hour by default
	@$(PYTEST) -s tests/cluster/soak.py

# What the targets above stand on.
python:
	@$(BOOTSTRAP) python

gpu-test:
	@$(WITH_SOURCES) $(PYTHON) -m pytest --device cuda tests/gpu

gpu-bench:
	@$(WITH_SOURCES) $(PYTHON) -m benchmarks.gpu_kernels $(BENCH)
	@$(WITH_SOURCES) $(PYTHON) -m benchmarks.gpu $(BENCH)

cluster:
	@$(BOOTSTRAP) python $(if $(filter existing,$(CLUSTER)),,cluster)
