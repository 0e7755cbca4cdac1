# bora: build, test, install. `make help` lists the targets.
#
# Every folder under daemon/ is a layer and becomes one archive; a unit test links its own layer and those below
# it, so that a dependency pointing the wrong way does not link.

BUILD   ?= build
PREFIX  ?= /usr/local
DESTDIR ?=
CC      ?= gcc
VERSION := $(shell cat VERSION)
SANITIZE ?=

.DEFAULT_GOAL := all
MAKEFLAGS += --no-builtin-rules
.DELETE_ON_ERROR:

# For the targets that build and then run: as many compilers as there are processors, unless -j says how many.
PARALLEL = $(if $(filter -j%,$(MAKEFLAGS)),,-j$(shell nproc 2>/dev/null || echo 1))

# ---- what Debian has -----------------------------------------------------------------------------------------

PACKAGES := gcc make pkg-config libzmq3-dev libmsgpack-dev libsqlite3-dev libopenblas-dev libinih-dev \
            libjansson-dev libxxhash-dev libpcre2-dev libsystemd-dev libedit-dev libcmocka-dev systemd

PKGS_DAEMON := libzmq msgpack sqlite3 inih jansson libxxhash libpcre2-8 libsystemd
PKGS_CLIENT := libzmq msgpack jansson libedit
PKGS_TEST   := cmocka

# ---- flags -----------------------------------------------------------------------------------------------------

WARNINGS := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith -Wformat=2 -Wvla -Werror
OPT      ?= -O2
# -ffp-contract=off: a multiply and an add stay two roundings unless the source says fma, whatever the compiler.
CFLAGS   ?= -g $(OPT)
BORA_CFLAGS   = -std=c11 $(WARNINGS) -fvisibility=hidden -fPIC -ffp-contract=off -pthread $(SANITIZE)
BORA_CPPFLAGS = -D_GNU_SOURCE -DBORA_VERSION='"$(VERSION)"' -DBORA_PREFIX='"$(PREFIX)"' \
                -Idaemon -Iplugins/include -Iproto -Iclient/libbora/include
BORA_LDFLAGS  = -pthread $(SANITIZE)

PKG_CFLAGS  = $(shell pkg-config --cflags $(sort $(PKGS_DAEMON) $(PKGS_CLIENT) openblas) 2>/dev/null)
LIBS_DAEMON = $(shell pkg-config --libs $(PKGS_DAEMON) 2>/dev/null) -ldl -lm
LIBS_MODEL  = $(shell pkg-config --libs jansson libxxhash libpcre2-8 inih 2>/dev/null) -ldl -lm
LIBS_CLIENT = $(shell pkg-config --libs libzmq msgpack 2>/dev/null) -lm
LIBS_CLI    = $(LIBS_CLIENT) $(shell pkg-config --libs jansson libedit 2>/dev/null)
LIBS_TEST   = $(shell pkg-config --libs $(PKGS_TEST) 2>/dev/null)

# ---- sources ---------------------------------------------------------------------------------------------------

# From the bottom up; each may use those before it.
LAYERS := base model grammar kernels plugin engine session house server

sources_of = $(sort $(shell find $(1) -name '*.c' 2>/dev/null))
objects_of = $(patsubst %.c,$(BUILD)/obj/%.o,$(1))

ARCHIVES     := $(foreach layer,$(LAYERS),$(BUILD)/lib/$(layer).a)
PROTO_A      := $(BUILD)/lib/proto.a
PLUGIN_DIRS  := $(sort $(dir $(wildcard plugins/*/*/*.c)))
plugin_of     = $(BUILD)/lib/bora/plugins/$(word 2,$(subst /, ,$(1)))-$(word 3,$(subst /, ,$(1))).so
PLUGINS      := $(foreach dir,$(PLUGIN_DIRS),$(call plugin_of,$(dir)))
LIBBORA_A    := $(BUILD)/lib/libbora.a
LIBBORA_SO   := $(if $(wildcard client/libbora/*.c),$(BUILD)/lib/libbora.so.0)
BINARIES     := $(if $(wildcard daemon/main.c),$(BUILD)/bin/borad) $(if $(wildcard client/bora/*.c),$(BUILD)/bin/bora) \
                $(if $(wildcard daemon/tool/*.c),$(BUILD)/bin/bora-model)

define layer_rule
$(BUILD)/lib/$(1).a: $(call objects_of,$(call sources_of,daemon/$(1)))
	@mkdir -p $$(@D)
	@rm -f $$@
	$(Q)ar rcs $$@ $$^
endef

# V=1 shows the commands.
Q := $(if $(V),,@)
say = $(if $(V),,@printf '  %-5s %s\n' '$(1)' '$(patsubst $(BUILD)/%,%,$@)')

all: $(BINARIES) $(PLUGINS) $(LIBBORA_SO) ## build everything into $(BUILD)

$(BUILD)/obj/%.o: %.c VERSION Makefile
	@mkdir -p $(@D)
	$(call say,CC)
	$(Q)$(CC) $(BORA_CPPFLAGS) $(CPPFLAGS) $(PKG_CFLAGS) $(BORA_CFLAGS) $(CFLAGS) -MMD -MP -c $< -o $@

# Tiles of hundreds of registers' worth of unrolled intrinsics: instrumented, one file takes minutes to compile. They hold
# no pointers but their arguments; tests/unit/kernels/test_packed_paths ends their buffers at pages that cannot be read.
$(BUILD)/obj/daemon/kernels/packed/avx%.o $(BUILD)/obj/plugins/attention/flash/tile_%.o: override SANITIZE :=

$(foreach layer,$(LAYERS),$(eval $(call layer_rule,$(layer))))

$(PROTO_A): $(call objects_of,$(call sources_of,proto))
$(LIBBORA_A): $(call objects_of,$(call sources_of,client/libbora) $(call sources_of,proto))
$(BUILD)/lib/support.a: $(call objects_of,$(wildcard tests/support/*.c))
$(PROTO_A) $(LIBBORA_A) $(BUILD)/lib/support.a:
	@mkdir -p $(@D)
	@rm -f $@
	$(Q)ar rcs $@ $^

$(BUILD)/lib/libbora.so.0: $(LIBBORA_A)
	$(call say,LD)
	$(Q)$(CC) -shared $(BORA_LDFLAGS) $(LDFLAGS) -Wl,-soname,libbora.so.0 -o $@ -Wl,--whole-archive $^ \
	    -Wl,--no-whole-archive $(LIBS_CLIENT)
	$(Q)ln -sf libbora.so.0 $(BUILD)/lib/libbora.so

# Linked from the top down.
reverse = $(if $(1),$(call reverse,$(wordlist 2,99,$(1))) $(firstword $(1)))
archives_to = $(foreach layer,$(call reverse,$(1)),$(BUILD)/lib/$(layer).a)

$(BUILD)/bin/borad: $(call objects_of,$(wildcard daemon/*.c)) $(call archives_to,$(LAYERS)) $(PROTO_A)
	@mkdir -p $(@D)
	$(call say,LD)
	$(Q)$(CC) $(BORA_LDFLAGS) $(LDFLAGS) -o $@ $^ $(LIBS_DAEMON)

$(BUILD)/bin/bora-model: $(call objects_of,$(call sources_of,daemon/tool)) \
                         $(call archives_to,base model grammar kernels plugin engine)
	@mkdir -p $(@D)
	$(call say,LD)
	$(Q)$(CC) $(BORA_LDFLAGS) $(LDFLAGS) -o $@ $^ $(LIBS_MODEL)

$(BUILD)/bin/bora: $(call objects_of,$(call sources_of,client/bora)) $(LIBBORA_A)
	@mkdir -p $(@D)
	$(call say,LD)
	$(Q)$(CC) $(BORA_LDFLAGS) $(LDFLAGS) -o $@ $^ $(LIBS_CLI)

# ---- plugins ---------------------------------------------------------------------------------------------------

define plugin_rule
$(call plugin_of,$(1)): $(call objects_of,$(wildcard $(1)*.c))
	@mkdir -p $$(@D)
	$$(call say,LD)
	$(Q)$(CC) -shared $(BORA_LDFLAGS) $(LDFLAGS) -o $$@ $$^ $(if $(filter %/blas/,$(1)),$(shell pkg-config --libs openblas 2>/dev/null)) -lm
endef
$(foreach dir,$(PLUGIN_DIRS),$(eval $(call plugin_rule,$(dir))))

# ---- tests -----------------------------------------------------------------------------------------------------

UNIT_SOURCES        := $(sort $(shell find tests/unit -name 'test_*.c'))
CONFORMANCE_SOURCES := $(wildcard tests/conformance/test_*.c)
INTEGRATION_SOURCES := $(wildcard tests/integration/test_*.c)
SUPPORT_A           := $(BUILD)/lib/support.a
test_binary          = $(patsubst tests/%.c,$(BUILD)/tests/%,$(1))
TESTS_UNIT          := $(call test_binary,$(UNIT_SOURCES))
TESTS_CONFORMANCE   := $(call test_binary,$(CONFORMANCE_SOURCES))
TESTS_INTEGRATION   := $(call test_binary,$(INTEGRATION_SOURCES))
TESTS_SHELL         := $(sort $(wildcard tests/integration/test_*.sh))
TESTS               := $(TESTS_UNIT) $(TESTS_CONFORMANCE) $(TESTS_INTEGRATION)

BORA_CPPFLAGS_TEST = -Itests -DBORA_BUILD_DIR='"$(abspath $(BUILD))"' -DBORA_SOURCE_DIR='"$(CURDIR)"'
$(BUILD)/obj/tests/%.o: BORA_CPPFLAGS += $(BORA_CPPFLAGS_TEST)

# tests/unit/<layer>/test_x.c links <layer> and everything below it; tests/unit/daemon and tests/unit/tool what borad
# and bora-model have besides main.
layers_to = $(if $(filter $(1),$(LAYERS)),$(call upto,$(1),$(LAYERS)),$(if $(filter tool daemon,$(1)),base model grammar kernels plugin engine))
upto      = $(firstword $(2)) $(if $(filter $(1),$(firstword $(2))),,$(call upto,$(1),$(wordlist 2,99,$(2))))
layer_in  = $(word 3,$(subst /, ,$(1)))
define unit_rule
$(call test_binary,$(1)): $(call objects_of,$(1)) $(SUPPORT_A) \
    $(if $(filter daemon,$(call layer_in,$(1))),$(call objects_of,$(filter-out daemon/main.c,$(wildcard daemon/*.c)))) \
    $(if $(filter tool,$(call layer_in,$(1))),$(call objects_of,$(filter-out daemon/tool/main.c,$(wildcard daemon/tool/*.c)))) \
    $(call archives_to,$(call layers_to,$(call layer_in,$(1)))) \
    $(if $(filter proto client,$(call layer_in,$(1))),$(LIBBORA_A),$(if $(filter server,$(call layer_in,$(1))),$(PROTO_A)))
	@mkdir -p $$(@D)
	$$(call say,LD)
	$(Q)$(CC) $(BORA_LDFLAGS) $(LDFLAGS) -o $$@ $$^ $(LIBS_TEST) $(LIBS_DAEMON)
endef
$(foreach source,$(UNIT_SOURCES),$(eval $(call unit_rule,$(source))))

$(TESTS_CONFORMANCE): $(BUILD)/tests/%: $(BUILD)/obj/tests/%.o $(SUPPORT_A) \
                      $(call archives_to,base model kernels plugin)
	@mkdir -p $(@D)
	$(call say,LD)
	$(Q)$(CC) $(BORA_LDFLAGS) $(LDFLAGS) -o $@ $^ $(LIBS_TEST) $(LIBS_DAEMON)

$(TESTS_INTEGRATION): $(BUILD)/tests/%: $(BUILD)/obj/tests/%.o $(SUPPORT_A) $(LIBBORA_A) $(BUILD)/lib/base.a
	@mkdir -p $(@D)
	$(call say,LD)
	$(Q)$(CC) $(BORA_LDFLAGS) $(LDFLAGS) -o $@ $^ $(LIBS_TEST) $(LIBS_CLIENT) $(shell pkg-config --libs jansson sqlite3 libpcre2-8 2>/dev/null)

-include $(shell find $(BUILD)/obj -name '*.d' 2>/dev/null)

include tests/tests.mk $(wildcard tests/*/*.mk)

# ---- the two commands, and the rest ----------------------------------------------------------------------------

deps: ## install what is missing (Debian packages)
	@./tests/deps.sh $(PACKAGES)

demo: deps ## build, start a private daemon on the embedded model, chat
	@$(MAKE) $(PARALLEL) --no-print-directory all
	@./tests/demo.sh $(BUILD)

check: deps ## build and run all tests
	@$(MAKE) $(PARALLEL) --no-print-directory run-tests

check-asan: deps ## the same under AddressSanitizer and UBSan
	@$(MAKE) $(PARALLEL) --no-print-directory BUILD=build-asan OPT=-O1 \
	    SANITIZE='-fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer' run-tests

check-tsan: deps ## the threads under ThreadSanitizer
	@BORA_TEST_TIMEOUT=$${BORA_TEST_TIMEOUT:-1200} $(MAKE) $(PARALLEL) --no-print-directory BUILD=build-tsan OPT=-O1 \
	    SANITIZE='-fsanitize=thread' run-tests

check-long: ## all of these, then ten minutes of many clients and of fuzzing per target
	@BORA_TEST_LONG=1 $(MAKE) --no-print-directory check
	@$(MAKE) --no-print-directory check-asan
	@$(MAKE) --no-print-directory check-tsan
	@$(MAKE) --no-print-directory soak SOAK_SECONDS=600
	@$(MAKE) --no-print-directory fuzz FUZZ_SECONDS=600

format: ## lay out the sources with clang-format
	@clang-format -i $(shell git ls-files '*.c' '*.h')

format-check: ## fail if clang-format would change anything
	@clang-format --dry-run -Werror $(shell git ls-files '*.c' '*.h')

install-sdk: ## install the plugin SDK alone: its header
	install -d $(DESTDIR)$(PREFIX)/include/bora
	install -m 644 plugins/include/bora/plugin.h $(DESTDIR)$(PREFIX)/include/bora

install: all install-sdk ## install under $(DESTDIR)$(PREFIX)
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/lib/bora/plugins $(DESTDIR)$(PREFIX)/include/bora \
	    $(DESTDIR)$(PREFIX)/share/bora/models $(DESTDIR)$(PREFIX)/share/doc/bora \
	    $(DESTDIR)$(PREFIX)/share/man/man1 $(DESTDIR)$(PREFIX)/share/man/man5 $(DESTDIR)$(PREFIX)/share/man/man8 \
	    $(DESTDIR)$(PREFIX)/lib/systemd/user $(DESTDIR)$(PREFIX)/lib/pkgconfig
	install -m 755 $(BINARIES) $(DESTDIR)$(PREFIX)/bin
	install -m 755 $(PLUGINS) $(DESTDIR)$(PREFIX)/lib/bora/plugins
	install -m 755 $(LIBBORA_SO) $(DESTDIR)$(PREFIX)/lib
	ln -sf libbora.so.0 $(DESTDIR)$(PREFIX)/lib/libbora.so
	install -m 644 $(LIBBORA_A) $(DESTDIR)$(PREFIX)/lib
	install -m 644 client/libbora/include/bora/client.h $(DESTDIR)$(PREFIX)/include/bora
	install -m 644 models/bora-tiny/bora-tiny-q8_0.gguf $(DESTDIR)$(PREFIX)/share/bora/models
	install -m 644 models/bora-tiny/README.md $(DESTDIR)$(PREFIX)/share/bora/models/bora-tiny.md
	install -m 644 README.md proto/PROTOCOL.md etc/borad.conf $(DESTDIR)$(PREFIX)/share/doc/bora
	install -m 644 man/*.1 $(DESTDIR)$(PREFIX)/share/man/man1
	install -m 644 man/*.5 $(DESTDIR)$(PREFIX)/share/man/man5
	install -m 644 man/*.8 $(DESTDIR)$(PREFIX)/share/man/man8
	for unit in borad.socket borad.service; do \
	    sed 's|@BINDIR@|$(PREFIX)/bin|g' systemd/$$unit > $(DESTDIR)$(PREFIX)/lib/systemd/user/$$unit; done
	sed 's|@PREFIX@|$(PREFIX)|g; s|@VERSION@|$(VERSION)|g' client/libbora/bora.pc.in \
	    > $(DESTDIR)$(PREFIX)/lib/pkgconfig/bora.pc

clean: ## remove what was built
	rm -rf build build-asan build-tsan build-fuzz

help: ## this list
	@echo 'make TARGET, with PREFIX=/usr/local DESTDIR= BUILD=build V=1 as you like:'
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/; s/\$$(BUILD)/build/' | \
	    awk -F'\t' '{printf "  %-14s %s\n", $$1, $$2}'

.PHONY: all deps demo check check-asan check-tsan check-long format format-check install install-sdk clean help
.SECONDARY:
