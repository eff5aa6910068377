# Every target uses .venv, made from requirements-dev.lock (hashes checked by pip).
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.stamp

.PHONY: venv demo report hil hil-all test check docs sim mutants mutate bench conform lock clean

venv: $(STAMP)

$(STAMP): requirements-dev.lock pyproject.toml
	rm -rf .venv
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $(STAMP)

# make demo            until Ctrl-C, short proving times
# make demo FULL=1     the times of a real pod
# make demo LINKS=all  DSX, Sparkplug and Home Assistant beside the native tree
# make demo FOR=90     90 seconds, one closing line, exit code says whether the pod reached NORMAL without an overrun
demo: $(STAMP)
	$(BIN)/python -m hil demo $(if $(FOR),--seconds $(FOR)) $(if $(FULL),--full) \
	    $(if $(filter all,$(LINKS)),--enclosure profiles/enclosures/reference-pod-all-links.toml)

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -q tests/tidy_test.py

test: check
	$(BIN)/python -m pytest -q

# make hil             the real-time selection, one scenario of each family at least, within 25 minutes
# make hil FAST=1      every scenario that runs in virtual time, but for the long ones
# make hil-all         everything: all in virtual time that can, then all in real time, hours
# Traces and reports go to build/hil.
# make report          one scenario (SCENARIO=B1 unless another is named) in virtual time, judged and drawn
hil: $(STAMP)
	$(BIN)/python -m hil run $(if $(FAST),--fast) --report build/hil

report: $(STAMP)
	$(BIN)/python -m hil run $(or $(SCENARIO),B1) --fast --report build/hil

hil-all: $(STAMP)
	$(BIN)/python -m hil run --fast --all --report build/hil
	$(BIN)/python -m hil run --all --report build/hil

docs: $(STAMP)
	$(BIN)/python docs/generate.py

# make bench                     every measurement, half an hour; writes docs/performance.md, fails where a bar is missed
# make bench RESUME=1            only what this commit has no full run of yet
# make bench ONLY=wrong-values   one measurement anew; the others stay on the page as they are
# make bench QUICK=1             fewer repetitions; writes no page
bench: $(STAMP)
	$(BIN)/python -m hil.bench $(or $(ONLY),all) $(if $(RESUME),--resume) $(if $(QUICK),--quick,--write docs/performance.md)

# make conform                   the BMS contract against its bars and real peers, an hour; writes docs/performance.md too
# make conform QUICK=1           the same peers and bars with fewer repetitions, five minutes; writes no page
# Needs mosquitto, mosquitto-clients, nats-server, npm, and PODKEEPER_CONTRACTS (docs/conformance.md); what is missing fails.
conform: $(STAMP)
	PODKEEPER_PEERS=required $(BIN)/python -m pytest -q tests/conform tests/northbound \
	    --ignore tests/conform/modbus_peers_test.py
	$(BIN)/python -m hil.bench northbound $(if $(QUICK),--quick,--write docs/performance.md)

# make sim                              20 runs of 30 minutes: the whole engine against faults drawn from a seed
# make sim RUNS=200 MINUTES=30 SEED=1   what the release needs; LOG=1 adds a row to docs/simulation.md
# make sim SEED=17 RUNS=1               one run again, to the bit
# make sim ENCLOSURE=profiles/enclosures/two-rack-box.toml   another enclosure
sim: $(STAMP)
	$(BIN)/python -m tests.sim --runs $(or $(RUNS),20) --minutes $(or $(MINUTES),30) --seed $(or $(SEED),1) \
	    $(if $(ENCLOSURE),--enclosure $(ENCLOSURE)) $(if $(LOG),--log)

# make mutants                          who finds each of 40 bugs planted on purpose; an hour
# make mutants ONLY=gate-does-not-ramp  one of them
mutants: $(STAMP)
	$(BIN)/python -m tests.sim.mutants $(ONLY)

# make mutate FILES="points commands"   every token of these files of the core wrong once: which does no test notice?
# make mutate FILES=slots AGAIN=1       only those that lived the last time
# Needs mutmut 2.5.1 in a folder of its own, build/mutmut (docs/mutation.md); minutes for each file.
mutate: $(STAMP)
	PYTHONPATH=build/mutmut $(BIN)/python -m tests.mutate $(FILES) $(if $(AGAIN),--survivors)

# Needs pip-tools; run it by hand after changing the dependencies in pyproject.toml.
lock:
	pip-compile --generate-hashes --strip-extras --allow-unsafe --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-emit-options --no-header -q -o requirements.lock pyproject.toml
	pip-compile --generate-hashes --strip-extras --allow-unsafe --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-emit-options --no-header -q --extra bench --extra dev -c requirements.lock -o requirements-dev.lock pyproject.toml

clean:
	rm -rf .venv build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
