# The words of this project: make demo, make test, make fixtures, make clean.

TARGET   := $(abspath $(or $(CARGO_TARGET_DIR),target))
FIXTURES := $(TARGET)/fixtures
CLIENTS  := $(FIXTURES)/clients
CARGO    ?= cargo
CC       ?= cc
CFLAGS   ?= -O2 -g -Wall -Wextra -Werror
# -I: our <infiniband/verbs.h> comes before any installed one. -MMD: what a file includes, for the next make.
COMPILE   = @echo "  CC $(notdir $(@D))/$(@F)"; $(CC) $(CFLAGS) -std=gnu11 -pthread -Itests/embedded -MMD -MP -MF $@.d -MT $@

verbs    := $(foreach build,lib bsymbolic old,$(FIXTURES)/$(build)/libibverbs.so.1)
linked   := $(addprefix $(CLIENTS)/,stress outcomes abi_1_0 relaxed)
unlinked := $(addprefix $(CLIENTS)/,host handle orphan early)
objects  := $(addprefix $(CLIENTS)/,plugin.so libearly_dep.so)

.PHONY: release fixtures demo test clean

release:
	$(CARGO) build --release

fixtures: $(verbs) $(linked) $(unlinked) $(objects)

demo: release fixtures
	@sh tests/demo.sh $(TARGET)/release/libmrlock.so $(FIXTURES)

test:
	@tests/run.sh $(TARGET)/test.log

# Not `cargo clean`: it would take the VM's downloaded kernel and clients (target/vm) with it.
clean:
	rm -rf $(FIXTURES) $(TARGET)/debug $(TARGET)/release

# libibverbs in software: Debian's way; inner calls bound at link time, as Ubuntu does; and before ibv_reg_mr_iova2.
$(FIXTURES)/bsymbolic/libibverbs.so.1: variant := -Wl,-Bsymbolic-functions
$(FIXTURES)/old/libibverbs.so.1: variant := -DEMBEDDED_WITHOUT_IOVA2
# -fsemantic-interposition: the compiler, too, must leave calls of public functions to the loader.
$(verbs): tests/embedded/verbs.c tests/embedded/libibverbs.map Makefile
	@mkdir -p $(@D)
	@$(CC) -E -P -xc $(filter -D%,$(variant)) tests/embedded/libibverbs.map -o $(@D)/libibverbs.map
	$(COMPILE) $(variant) -fPIC -fsemantic-interposition -shared $< -o $@ \
		-Wl,-soname,libibverbs.so.1 -Wl,--version-script=$(@D)/libibverbs.map
	@ln -sf libibverbs.so.1 $(@D)/libibverbs.so

# Clients link to the first of them, without a run path: LD_LIBRARY_PATH says which one they get.
$(linked) $(objects): libs := -L$(FIXTURES)/lib -libverbs
$(CLIENTS)/host $(CLIENTS)/handle: libs := -ldl
$(CLIENTS)/relaxed: libs += -ldl
# Weak references that nothing defines at link time must still be looked up at load time.
$(CLIENTS)/orphan: libs := -fPIC -Wl,-z,dynamic-undefined-weak
$(CLIENTS)/early: libs := -L$(CLIENTS) -learly_dep -Wl,-rpath,'$$ORIGIN' -Wl,-rpath-link,$(FIXTURES)/lib
$(CLIENTS)/early: $(CLIENTS)/libearly_dep.so

$(linked) $(unlinked): $(CLIENTS)/%: tests/clients/%.c Makefile | $(FIXTURES)/lib/libibverbs.so.1
	@mkdir -p $(@D)
	$(COMPILE) $< -o $@ $(libs)

$(CLIENTS)/plugin.so: tests/clients/plugin.c
$(CLIENTS)/libearly_dep.so: tests/clients/early_dep.c
$(objects): Makefile | $(FIXTURES)/lib/libibverbs.so.1
	@mkdir -p $(@D)
	$(COMPILE) -fPIC -shared $(filter %.c,$^) -o $@ $(libs)

-include $(wildcard $(FIXTURES)/*/*.d)
