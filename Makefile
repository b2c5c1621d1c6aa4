# Holdpoint's build. `make help` lists the targets.
#
# Nothing here needs a tool besides make and sh until something is compiled:
# on a bare machine `make run` and `make test` install the rest first
# (scripts/bootstrap.sh), so pkg-config is asked lazily, inside recipes.
#
# Switches:  SAN=address,undefined   sanitizers      CC=clang   the other compiler
#            COVERAGE=1              gcov counters   BUILD=dir  another build directory
#            TORTURE=1               calls can be made to fail (make torture)
#            MUTANT=name             without the guard `name`   V=1  show commands
#            FUZZER=1                with libFuzzer and its sanitizers (make fuzz)

VERSION := 0.1.0
PREFIX ?= /usr/local
DESTDIR ?=

# libFuzzer is clang's, and finds little without the sanitizers.
ifneq ($(FUZZER),)
CC := clang
SAN := address,undefined
OPTIMISE := -O1
BUILD ?= build-fuzz
endif

# A variant has a build directory of its own; only the plain build writes ./holdpoint.
ifneq ($(TORTURE),)
BUILD ?= build-torture
SAN ?= address,undefined
endif
ifneq ($(SAN),)
BUILD ?= build-san
else ifneq ($(COVERAGE),)
BUILD ?= build-coverage
else ifneq ($(MUTANT),)
BUILD ?= build-mutant-$(MUTANT)
endif
BUILD ?= build

ifeq ($(origin CC),default)
CC := gcc
endif
AR ?= ar

# --- rooms: each may include only those left of it (scripts/check-deps) ------

ROOMS := base core script net store testing plugin runtime api cli
UP_base := base
UP_core := core $(UP_base)
UP_script := script $(UP_core)
UP_net := net $(UP_script)
UP_store := store $(UP_net)
UP_testing := testing $(UP_store)
UP_plugin := plugin $(UP_testing)
UP_runtime := runtime $(UP_plugin)
UP_api := api $(UP_runtime)
UP_cli := cli $(UP_api)

room_sources = $(filter-out engine/cli/main.c,$(sort $(wildcard engine/$1/*.c engine/$1/*/*.c)))
objects = $(patsubst engine/%.c,$(BUILD)/obj/%.o,$1)
libs_up_to = $(foreach r,$(UP_$1),$(BUILD)/lib$r.a)

# --- flags ------------------------------------------------------------------

PACKAGES := libpq libcurl lua5.4 jansson libcrypto libmicrohttpd
PLUGIN_PACKAGES := libcares # of plugins/dns; the program does not have it
# Asked once, at first use: the variable replaces itself by its value.
PKG_CFLAGS = $(eval PKG_CFLAGS := $$(shell pkg-config --cflags $(PACKAGES)))$(PKG_CFLAGS)
PKG_LIBS = $(eval PKG_LIBS := $$(shell pkg-config --libs $(PACKAGES)))$(PKG_LIBS)
CHECK_LIBS = $(eval CHECK_LIBS := $$(shell pkg-config --libs check))$(CHECK_LIBS)

OPTIMISE := -O2
HARDEN := -fstack-protector-strong -D_FORTIFY_SOURCE=2
VARIANT :=
ifneq ($(SAN),)
# Fortify's checked functions hide what the sanitizers look for.
HARDEN := -fstack-protector-strong -fno-omit-frame-pointer
VARIANT += -fsanitize=$(SAN) -fno-sanitize-recover=all
endif
ifneq ($(COVERAGE),)
OPTIMISE := -O0
HARDEN := -fstack-protector-strong
VARIANT += --coverage -fprofile-update=atomic
WRAP_LDFLAGS := -Wl,--wrap=_exit -Wl,--wrap=kill -Wl,--wrap=fexecve
WRAP_OBJECTS := $(BUILD)/obj/tests/lib/coverage.o
endif
ifneq ($(FUZZER),)
VARIANT += -fsanitize=fuzzer-no-link
endif
ifneq ($(TORTURE),)
OPTIMISE := -O0
WRAP_LDFLAGS := -Wl,--wrap=fork
WRAP_OBJECTS := $(patsubst %,$(BUILD)/obj/tests/torture/%.o,torture calls)
# Calls of the engine that can fail get other names (tests/torture/calls.c): what has to be
# asked for by the libraries, too, has one of its own. alloc.c and arena.c are what they end in;
# the store in memory is a tool of tests, and stops when it has none (mem.h).
rename = $(if $(filter base/json,$1),objcopy --redefine-sym hp_alloc=torture_json_alloc $@;) \
	$(if $(filter script/sandbox,$1),objcopy --redefine-sym hp_realloc=torture_lua_realloc $@;) \
	$(if $(filter base/alloc base/arena store/mem/%,$1),,objcopy --redefine-syms=$(BUILD)/torture.symbols $@)
endif
ifneq ($(MUTANT),)
DEFINE_MUTANT := -DHP_MUTANT_$(MUTANT)
endif

WARN := -Wall -Wextra -Wstrict-prototypes -Wconversion
DEFINES := -D_GNU_SOURCE -DHP_VERSION='"$(VERSION)"' -DHP_SHARE_DIR='"$(PREFIX)/share/holdpoint"' \
	$(DEFINE_MUTANT)
COMMON_CFLAGS = -std=c11 -fPIE $(DEFINES) -Iengine -Itests $(WARN) $(VARIANT) \
	-ffile-prefix-map=$(CURDIR)/= $(PKG_CFLAGS) $(CFLAGS)
ALL_CFLAGS = -g $(OPTIMISE) $(HARDEN) $(COMMON_CFLAGS)
# What a test says itself is run once: compiling it well takes longer than running it.
TEST_CFLAGS = -g -O0 $(COMMON_CFLAGS)
ALL_LDFLAGS = -pie -Wl,-z,relro -Wl,-z,now -Wl,--as-needed $(VARIANT) $(WRAP_LDFLAGS) $(LDFLAGS)
ALL_LIBS = $(PKG_LIBS) -lev -lm -ldl -lpthread

# What the scripts need to know about this build.
export HP_BUILD := $(BUILD)
export HP_BIN := $(abspath $(BUILD))/holdpoint

# Short lines unless V=1.
say = $(if $(V),,@printf '  %-5s %s\n' $1 $2;)

# Fails with a sentence when a script is not there.
need = @test -x $1 || { echo "make $@: $1 is missing or not executable" >&2; exit 1; }

# --- targets ----------------------------------------------------------------

.DEFAULT_GOAL := all
.DELETE_ON_ERROR:
.SUFFIXES:
.PHONY: all run demo test unit contract integration authors e2e check-deep chaos differential mutants fuzz bench check-deps explore-core coverage torture \
	bootstrap packages install clean help format build-tests FORCE

PROGRAM := $(BUILD)/holdpoint
ifeq ($(BUILD),build)
PROGRAM += holdpoint
endif

NATIVE_PLUGINS := plugins/dns/dns.so

all: $(PROGRAM) $(NATIVE_PLUGINS) ## build the program and the native plugins (the default)

run: ## install what is missing, build, start everything with simulated providers
	@sh scripts/bootstrap.sh run
	@$(MAKE) --no-print-directory -j"$$(nproc)" all
	$(call need,scripts/run.sh)
	@scripts/run.sh

demo: ## like run, without a person; exits 0 only if everything was seen
	@sh scripts/bootstrap.sh run
	@$(MAKE) --no-print-directory -j"$$(nproc)" all
	$(call need,scripts/demo.sh)
	@scripts/demo.sh

test: ## all suites: check-deps, unit, contract, integration, authors, end to end, chaos (short)
	@sh scripts/bootstrap.sh test
	@sh scripts/test.sh

unit contract integration authors e2e: ## one suite of `make test`
	@sh scripts/bootstrap.sh test
	@sh scripts/test.sh $@

check-deep: ## sanitizers, valgrind, each fuzzing target, calls that fail (over an hour)
	@sh scripts/bootstrap.sh deep
	$(call need,scripts/check-deep.sh)
	@scripts/check-deep.sh

chaos: ## faults of every kind, up to 30 minutes; SCENARIO=storm one of them, TIME=… SEED=…
	@sh scripts/bootstrap.sh chaos
	@$(MAKE) --no-print-directory -j"$$(nproc)" all
	$(call need,scripts/chaos.sh)
	@TIME="$(TIME)" SEED="$(SEED)" scripts/chaos.sh $(if $(SHORT),--short) $(SCENARIO)

explore-core: ## every interleaving of small worlds, TIME=14 seconds of CPU for each: 2 minutes on 2 cores
	@sh scripts/bootstrap.sh test
	@$(MAKE) --no-print-directory -j"$$(nproc)" BUILD=build-explore build-explore/tests/explore_core
	@build-explore/tests/explore_core --full --seconds $(or $(TIME),14) $(if $(TIME),,--states 5000000)

differential: ## both stores under the same OPS (20000) operations, HP_SEED=… repeats; all interleavings of SQL
	@sh scripts/bootstrap.sh test
	@$(MAKE) --no-print-directory -j"$$(nproc)" $(DIFFERENTIAL) $(BUILD)/tests/integration/store_interleave
	@OPS=$(or $(OPS),20000) sh scripts/differential.sh

coverage: ## what the suites reach: core's branches, the engine's lines; SUITES="unit …" fewer
	@sh scripts/bootstrap.sh deep
	$(call need,scripts/coverage.sh)
	@scripts/coverage.sh $(SUITES)

torture: ## fail each call once: memory, system calls, libraries; SUITE=core_machine, TIME=600
	@sh scripts/bootstrap.sh test
	$(call need,scripts/torture.sh)
	@TIME=$(TIME) scripts/torture.sh $(SUITE)

mutants: ## remove each guard in turn; the suites must notice every time
	@sh scripts/bootstrap.sh test
	$(call need,scripts/mutants.sh)
	@scripts/mutants.sh

fuzz: ## every target for TIME seconds (60) under libFuzzer, or one: TARGET=cron
	@sh scripts/bootstrap.sh deep
	$(call need,scripts/fuzz.sh)
	@TIME=$(or $(TIME),60) TARGET=$(TARGET) scripts/fuzz.sh

bench: ## durable steps per second against the one-row-per-commit baseline
	@sh scripts/bootstrap.sh run
	@$(MAKE) --no-print-directory -j"$$(nproc)" all build-bench
	$(call need,scripts/bench.sh)
	@scripts/bench.sh

check-deps: ## rooms include one way, core is pure, lengths, banned functions
	$(call need,scripts/check-deps)
	@scripts/check-deps

bootstrap: ## only install what `make test` needs
	@sh scripts/bootstrap.sh test

install: all ## into $(DESTDIR)$(PREFIX)
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/share/holdpoint \
		$(DESTDIR)$(PREFIX)/share/bash-completion/completions
	install -m 0755 $(BUILD)/holdpoint $(DESTDIR)$(PREFIX)/bin/holdpoint
	cp -R migrations plugins workflows $(DESTDIR)$(PREFIX)/share/holdpoint/
	rm -f $(DESTDIR)$(PREFIX)/share/holdpoint/plugins/*/*.[ch]
	install -d $(DESTDIR)$(PREFIX)/include
	install -m 0644 engine/plugin/hp_plugin.h $(DESTDIR)$(PREFIX)/include/hp_plugin.h
	install -m 0644 scripts/completion.bash \
		$(DESTDIR)$(PREFIX)/share/bash-completion/completions/holdpoint

clean: ## remove every build directory (data in .holdpoint/ stays)
	rm -rf build build-* holdpoint $(NATIVE_PLUGINS)

format: ## lay out all C files with clang-format
	clang-format -i $$(find engine tests plugins -path '*/node_modules' -prune -o -name '*.[ch]' -print)

help: ## this list
	@awk -F ':.*## ' '/^[a-z][a-z0-9 -]*:.*## / { printf "  make %-38s %s\n", $$1, $$2 }' Makefile
	@sed -n '/^# Switches:/,/^$$/s/^# */  /p' Makefile

# --- program and libraries --------------------------------------------------

packages:
	@command -v pkg-config >/dev/null && command -v $(CC) >/dev/null && pkg-config --exists $(PACKAGES) $(PLUGIN_PACKAGES) || \
	{ echo "make: the compiler or a library is missing; 'make bootstrap' installs what is" >&2; exit 1; }

# Holds the flags of the last build; everything is rebuilt when they change.
$(BUILD)/.build_opts: packages FORCE
	@mkdir -p $(BUILD)
	@printf '%s\n' "$(subst ",\",$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) $(ALL_LIBS))" >$@.new
	@if cmp -s $@ $@.new; then rm $@.new; else mv $@.new $@; fi

$(BUILD)/obj/tests/%.o: tests/%.c $(BUILD)/.build_opts
	@mkdir -p $(@D)
	$(call say,CC,$<) $(CC) $(TEST_CFLAGS) -MMD -MP -c $< -o $@

# What measures, or has millions of states to go through, is built like the engine.
define built_like_the_engine
$(BUILD)/obj/tests/$1/%.o: tests/$1/%.c $(BUILD)/.build_opts
	@mkdir -p $$(@D)
	$$(call say,CC,$$<) $$(CC) $$(ALL_CFLAGS) -MMD -MP -c $$< -o $$@
endef
$(foreach d,bench explore,$(eval $(call built_like_the_engine,$d)))

$(BUILD)/obj/%.o: engine/%.c $(BUILD)/.build_opts $(if $(TORTURE),$(BUILD)/torture.symbols)
	@mkdir -p $(@D)
	$(call say,CC,$<) $(CC) $(ALL_CFLAGS) -MMD -MP -c $< -o $@
	$(if $(TORTURE),@:; $(call rename,$*))

$(BUILD)/torture.symbols: tests/torture/calls.c $(BUILD)/obj/tests/torture/calls.o
	@nm $(BUILD)/obj/tests/torture/calls.o | sed -n 's/.* T torture_//p' | grep -vx -e json_alloc -e lua_realloc | \
		awk '{ print $$1, "torture_" $$1 }' >$@

# The list of members is a prerequisite too, so a deleted file leaves the library.
define room_rules
SRC_$1 := $$(call room_sources,$1)
$(BUILD)/lib$1.a: $$(call objects,$$(SRC_$1)) $(BUILD)/lib$1.members
	@rm -f $$@
	$$(call say,AR,$$@) $$(AR) rcs $$@ $$(filter %.o,$$^)
$(BUILD)/lib$1.members: FORCE
	@mkdir -p $$(@D)
	@echo "$$(SRC_$1)" | cmp -s - $$@ || echo "$$(SRC_$1)" >$$@
endef
$(foreach r,$(ROOMS),$(eval $(call room_rules,$r)))

$(BUILD)/holdpoint: $(BUILD)/obj/cli/main.o $(WRAP_OBJECTS) $(call libs_up_to,cli)
	$(call say,LINK,$@) $(CC) $(ALL_LDFLAGS) $^ $(ALL_LIBS) -o $@

ifeq ($(BUILD),build)
holdpoint: $(BUILD)/holdpoint
	@ln -f $< $@ 2>/dev/null || cp $< $@
endif

# --- native plugins ---------------------------------------------------------
# A plugin is not linked with the engine and never has its variants (a sanitizer's
# library must be loaded first): the same file serves every build.

PLUGIN_CFLAGS := -g -O2 -std=c11 -fPIC -fvisibility=hidden -D_GNU_SOURCE $(WARN) \
	-fstack-protector-strong -D_FORTIFY_SOURCE=2 -ffile-prefix-map=$(CURDIR)/=
PLUGIN_LDFLAGS := -shared -Wl,-z,relro -Wl,-z,now -Wl,--as-needed
build_plugin = $(call say,SO,$@) $(CC) $(PLUGIN_CFLAGS) -Iengine/plugin $1 $(filter %.c,$^) -o $@

plugins/dns/dns.so: $(sort $(wildcard plugins/dns/*.c)) plugins/dns/dns_private.h plugins/dns/records.h \
		engine/plugin/hp_plugin.h | packages
	$(call build_plugin,$(PLUGIN_LDFLAGS)) $$(pkg-config --cflags --libs libcares jansson libcrypto)

# What plugins should not do, for tests: tests/plugins/.
BAD_PLUGINS := abi size symbol null name version no_activity twins loud small hollow unresolved init \
	init_crash init_hang load_crash load_hang load_exit latin_init latin_version
TEST_PLUGINS := $(BUILD)/tests/plugins/probe/probe.so \
	$(foreach b,$(BAD_PLUGINS),$(BUILD)/tests/plugins/bad_$b/bad_$b.so)

$(BUILD)/tests/plugins/probe/probe.so: tests/plugins/probe.c engine/plugin/hp_plugin.h
	@mkdir -p $(@D)
	$(call build_plugin,$(PLUGIN_LDFLAGS))
bad_way = $(patsubst bad_%.so,%,$(@F))
$(filter-out %/probe.so,$(TEST_PLUGINS)): tests/plugins/bad.c engine/plugin/hp_plugin.h
	@mkdir -p $(@D)
	$(call build_plugin,-DBAD_$(bad_way) -DNAME=bad_$(bad_way) $(PLUGIN_LDFLAGS))

# --- tests ------------------------------------------------------------------
# tests/unit/ROOM_TOPIC.c is linked with ROOM and the rooms below it only, so a
# broken room does not keep the others from being tested. Helpers shared by the
# programs of a suite are in tests/SUITE/lib/.

link_test = $(call say,LINK,$@) $(CC) $(ALL_LDFLAGS) $(filter %.o,$^) $(filter %.a,$^) $(CHECK_LIBS) $(ALL_LIBS) -o $@
suite_sources = $(sort $(wildcard tests/$1/*.c))
suite_helpers = $(patsubst tests/%.c,$(BUILD)/obj/tests/%.o,$(wildcard tests/$1/lib/*.c))

TESTS_unit := $(foreach r,$(ROOMS),$(patsubst tests/unit/%.c,$(BUILD)/tests/%,$(sort $(wildcard tests/unit/$r_*.c))))
TESTS_contract := $(patsubst tests/%.c,$(BUILD)/tests/%,$(call suite_sources,contract))
TESTS_integration := $(patsubst tests/%.c,$(BUILD)/tests/%,$(call suite_sources,integration))

define unit_rules
$(patsubst tests/unit/%.c,$(BUILD)/tests/%,$(wildcard tests/unit/$1_*.c)): $(BUILD)/tests/%: \
		$(BUILD)/obj/tests/unit/%.o $(WRAP_OBJECTS) $(call suite_helpers,unit) $(call libs_up_to,$1)
	@mkdir -p $$(@D)
	$$(link_test)
endef
$(foreach r,$(ROOMS),$(eval $(call unit_rules,$r)))

# The readers of records in plugins/dns are tested with the engine's flags.
$(BUILD)/obj/plugins/%.o: plugins/%.c $(BUILD)/.build_opts
	@mkdir -p $(@D)
	$(call say,CC,$<) $(CC) $(ALL_CFLAGS) -MMD -MP -c $< -o $@
$(BUILD)/tests/runtime_plugins: | $(TEST_PLUGINS) $(NATIVE_PLUGINS)
DNS_READERS := $(patsubst %,$(BUILD)/obj/plugins/dns/%.o,records spf dkim dmarc)
$(BUILD)/tests/plugin_dns: $(DNS_READERS)

$(TESTS_contract): $(BUILD)/tests/%: $(BUILD)/obj/tests/%.o $(WRAP_OBJECTS) $(call suite_helpers,contract) $(call libs_up_to,store)
	@mkdir -p $(@D)
	$(link_test)

$(TESTS_integration): $(BUILD)/tests/%: $(BUILD)/obj/tests/%.o $(WRAP_OBJECTS) $(call suite_helpers,integration) $(call libs_up_to,api)
	@mkdir -p $(@D)
	$(link_test)

# All interleavings of small worlds: one program of several files. Its short form is part
# of the contract suite; `make explore-core` runs it whole.
EXPLORE := $(BUILD)/tests/explore_core
TESTS_contract += $(EXPLORE)
$(EXPLORE): $(patsubst tests/%.c,$(BUILD)/obj/tests/%.o,$(call suite_sources,explore)) $(WRAP_OBJECTS) $(call libs_up_to,store)
	@mkdir -p $(@D)
	$(link_test)

# Fuzzing harnesses (tests/fuzz/lib/fuzz.h): a program each with libFuzzer, all of them
# in tests/unit/cli_corpora.c without.
FUZZ_TARGETS := $(patsubst tests/fuzz/%.c,%,$(call suite_sources,fuzz))
$(BUILD)/tests/cli_corpora: $(patsubst %,$(BUILD)/obj/tests/fuzz/%.o,$(FUZZ_TARGETS)) $(DNS_READERS)

$(BUILD)/obj/fuzz/%.o: tests/fuzz/%.c $(BUILD)/.build_opts
	@mkdir -p $(@D)
	$(call say,CC,$<) $(CC) $(ALL_CFLAGS) -DHP_FUZZER -MMD -MP -c $< -o $@
$(BUILD)/fuzz/%: $(BUILD)/obj/fuzz/%.o $(DNS_READERS) $(call libs_up_to,cli)
	@mkdir -p $(@D)
	$(call say,LINK,$@) $(CC) $(ALL_LDFLAGS) -fsanitize=fuzzer $^ $(ALL_LIBS) -o $@
.PHONY: build-fuzz list-fuzz
build-fuzz: $(patsubst %,$(BUILD)/fuzz/%,$(FUZZ_TARGETS))
list-fuzz: ; @echo $(FUZZ_TARGETS)

# Both stores under the same operations: one program, run by the contract suite (a short
# form) and by make differential.
DIFFERENTIAL := $(BUILD)/tests/differential/stores
$(DIFFERENTIAL): $(patsubst tests/%.c,$(BUILD)/obj/tests/%.o,$(wildcard tests/differential/*.c)) $(WRAP_OBJECTS) $(call libs_up_to,store)
	@mkdir -p $(@D)
	$(link_test)

# Not a suite: programs that measure, in BUILD/tests/bench/.
TESTS_bench := $(patsubst tests/%.c,$(BUILD)/tests/%,$(call suite_sources,bench))
$(TESTS_bench): $(BUILD)/tests/%: $(BUILD)/obj/tests/%.o $(WRAP_OBJECTS) $(call libs_up_to,base)
	@mkdir -p $(@D)
	$(link_test)

.PHONY: build-bench build-plugins build-unit build-contract build-integration list-unit list-contract list-integration
build-bench: $(TESTS_bench)
build-unit: $(TESTS_unit) build-plugins
build-plugins: $(TEST_PLUGINS)
build-contract: $(TESTS_contract) $(DIFFERENTIAL)
build-integration: $(TESTS_integration)
build-tests: build-unit build-contract build-integration build-bench ## build the test programs
list-unit: ; @echo $(TESTS_unit)
list-contract: ; @echo $(TESTS_contract) $(DIFFERENTIAL)
list-integration: ; @echo $(TESTS_integration)

# A unit test whose name begins with no room would never run: refuse it.
STRAY := $(filter-out $(patsubst %,tests/unit/%,$(addsuffix _%,$(ROOMS))),$(wildcard tests/unit/*.c))
ifneq ($(STRAY),)
$(error $(STRAY): the name must begin with a room ($(ROOMS)) and an underscore)
endif

-include $(shell test -d $(BUILD)/obj && find $(BUILD)/obj -name '*.d')
