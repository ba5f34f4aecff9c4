# The targets: make, make check, make demo, make test, make test-clients, make test-gpu, make model, make miri, make fuzz,
# make bench, make fixtures, make header, make clean; make install, make uninstall (packaging/install.mk), make dist,
# make packages, make tarball (packaging/dist.mk).

TARGET   := $(abspath $(or $(CARGO_TARGET_DIR),target))
# Where cargo puts the library, whatever CARGO_BUILD_TARGET, build.target and build.target-dir say.
# For another processor than this machine's: make TARGET_TRIPLE=aarch64-unknown-linux-gnu, with Debian's cross compiler
# (gcc-aarch64-linux-gnu) and `rustup target add aarch64-unknown-linux-gnu`.
HOST     := $(shell uname -m)-unknown-linux-gnu
TRIPLE   := $(or $(TARGET_TRIPLE),$(HOST))
CPU      := $(firstword $(subst -, ,$(TRIPLE)))
# The target directory is last: the rule of IOCTL_LIBRARY appends to it.
RELEASE  := --release --target $(TRIPLE) --target-dir $(TARGET)
LIBRARY  := $(TARGET)/$(TRIPLE)/release/libmrlock.so
# The same without the names of libibverbs.
IOCTL_LIBRARY := $(TARGET)/$(TRIPLE)/release/libmrlock-ioctl.so
FIXTURES := $(TARGET)/fixtures$(if $(filter-out $(HOST),$(TRIPLE)),-$(CPU))
CLIENTS  := $(FIXTURES)/clients
CARGO    ?= cargo
RUSTC    ?= rustc
ifneq ($(TRIPLE),$(HOST))
ifeq ($(origin CC),default)
CC       := $(CPU)-linux-gnu-gcc
endif
OBJCOPY  ?= $(CPU)-linux-gnu-objcopy
LINKER   := CARGO_TARGET_$(shell echo $(TRIPLE) | tr a-z- A-Z_)_LINKER
export $(LINKER) = $(CC)
endif
OBJCOPY  ?= objcopy
CFLAGS   ?= -O2 -g -Wall -Wextra -Werror
# -I: the fake <infiniband/verbs.h> comes before an installed one. -MMD records what a file includes, for the next make.
COMPILE   = @echo "  CC $(notdir $(@D))/$(@F)"; $(CC) $(CFLAGS) -std=gnu11 -pthread -Itests/fake_libibverbs -Iinclude -MMD -MP -MF $@.d -MT $@

second   := $(FIXTURES)/lib/libibverbs-second.so.1
verbs    := $(foreach build,lib bsymbolic old,$(FIXTURES)/$(build)/libibverbs.so.1) $(second)
watched  := $(FIXTURES)/tsan/libibverbs.so.1
linked   := $(addprefix $(CLIENTS)/,stress outcomes abi_1_0 relaxed_ordering plugin_host_linked fork thread_ends slow_holder signals \
              single_step register_in_destructors many_threads bypass c_api frees_and_registrations children let_through \
              inside_together on_demand ended_inside gives_up_root held forked_before drained_stderr reused_descriptor pairs which_memory \
              one_after_another interrupted_wait left_wait buffers checkpointed)
unlinked := $(addprefix $(CLIENTS)/,heap plugin_host reload_plugin dlopen_verbs without_libibverbs optional_rdma registered_before_main ioctl_calls \
              uverbs_commands raw_syscalls raw_syscalls_static spawn exits full_stderr without_shared_mappings)
benches  := $(addprefix $(CLIENTS)/,cost contend call_times.so) $(addprefix $(FIXTURES)/peers/,pthread.so empty.so)
# These set the trap flag of an x86_64 processor.
ifneq ($(CPU),x86_64)
linked   := $(filter-out $(addprefix $(CLIENTS)/,signals single_step),$(linked))
endif
objects  := $(addprefix $(CLIENTS)/,slow_free.so calling_driver.so fake_driver.so plugin.so plugin_second.so libregister_in_constructor.so other_ioctl.so other_reg_mr.so old_dlsym.so wrapped_dlsym.so registering_preload.so wrong_region.so no_device.so exec_by_qemu.so)
rust     := $(CLIENTS)/rust_ioctl
cuda     := $(FIXTURES)/cuda/libcuda.so.1
gpu      := $(addprefix $(FIXTURES)/gpu/,memory frees section witness.so)
# The fake libibverbs as the device of a transfer engine, and a libmlx5 beside it.
engine   := $(addprefix $(FIXTURES)/engine/,libibverbs.so.1 libmlx5.so.1)

.PHONY: release fixtures demo check test test-clients test-gpu model miri fuzz bench peers header debian-roots validator ray metrics gvisor newest-rdma nfpm rattler ruff clean

# cargo does not rewrite an unchanged library: touch makes it newer than its sources, for make.
release:
	$(CARGO) build $(RELEASE)
	@touch -c $(LIBRARY)

fixtures: $(verbs) $(watched) $(engine) $(linked) $(unlinked) $(objects) $(rust) $(cuda) $(FIXTURES)/peers/pthread.so

# The fast part of `make test`: format, lints, unit tests, and tests on the fake libibverbs. It leaves out the tests that take
# long, such as tests/library/survival.rs, which waits for seconds, and tests/product/thread_sanitizer.rs, which builds the library again.
check:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --quiet --workspace --all-targets -- --deny warnings
	$(CARGO) test --quiet -p mrlock-cli
	$(CARGO) test --quiet --lib --test library -- $(addprefix --skip ,gpu_memory:: ordinary_programs:: other_tools:: survival:: \
		ways_to_load::)

test:
	@tests/run.sh $(TARGET)/test.log

# Real programs in the virtual machine: a part of `make test`.
test-clients:
	@tests/vm/prepare-programs
	@MRLOCK_TEST_ALL=1 $(CARGO) test --test machine clients_vm::

# Needs an NVIDIA GPU, and is not in `make test`. The last parts need torch: mooncake also Mooncake's wheel, nccl two GPUs.
# PARTS="memory frees section" leaves them out.
test-gpu: release $(verbs) $(gpu) $(engine)
	@tests/gpu/run.sh $(LIBRARY) $(FIXTURES) $(PARTS)

# The lock's models that end without a bound on preemptions, without it. Takes some minutes. `make test` runs them with a bound.
model:
	cd tests/loom && MODEL_WITHOUT_BOUND=1 $(CARGO) test --quiet --target-dir $(TARGET)/loom -- --exact two_that_spin \
		two_that_sleep two_that_reserve two_that_reserve_asleep two_that_reserve_and_see_old_values

# The tests of tests/loom under miri. Not in `make test`, which uses the stable toolchain: this needs
# `rustup toolchain install nightly --component miri,rust-src`. (Each test of an ended holder runs by itself: the world of the model is one for each process.)
NIGHTLY ?= nightly
miri:
	cd tests/loom && for which in "--skip a_holder" a_holder_that_has_ended_and_one a_holder_that_has_ended_and_two; do MIRIFLAGS=-Zmiri-many-seeds=0..64 \
		$(CARGO) +$(NIGHTLY) miri test --quiet --target-dir $(TARGET)/miri -- $$which || exit; done

# `make test` gives each fuzz target 100,000 inputs; this gives it ten million, with AddressSanitizer, which needs a nightly
# toolchain.
FUZZ_INPUTS ?= 10000000
fuzz:
	tests/fuzz/run $(FUZZ_INPUTS) $(NIGHTLY)

bench: release fixtures $(benches) peers
	$(CARGO) bench --bench cost --bench end_to_end

VALIDATOR := 1.37.0
RAY       := 2.60.0
METRICS   := 0.26.0
RATTLER   := 0.73.0
RUFF      := 0.17.6
validator := $(TARGET)/kubernetes-validate-$(VALIDATOR)
ray       := $(TARGET)/ray-$(RAY)
metrics   := $(TARGET)/prometheus-client-$(METRICS)
rattler   := $(TARGET)/py-rattler-build-$(RATTLER)
ruff      := $(TARGET)/ruff-$(RUFF)

include packaging/install.mk packaging/wheel.mk packaging/deb.mk packaging/rpm.mk packaging/dist.mk

# Without the manual pages, which are built in a profile of their own.
demo: $(LIBRARY) $(COMMAND) $(FIXTURES)/lib/libibverbs.so.1
	@sh tests/demo.sh $(TARGET)

# The libraries that the benchmarks compare mrlock with. Debian packages are downloaded and unpacked, not installed. If one is
# missing, its row of the result says so.
debian := $(FIXTURES)/peers/debian
peers:
	$(CARGO) build --quiet --release --examples --manifest-path benches/peers/Cargo.toml --target-dir $(TARGET)/peers
	@[ -d $(debian)/usr ] || { mkdir -p $(debian) && cd $(debian) && \
		apt-get -qq -o APT::Sandbox::User=root download libeatmydata1 libjemalloc2 && for i in *.deb; do dpkg -x $$i .; done; } || true

# include/mrlock.h, from src/api.rs, src/record/counters.rs and cbindgen.toml.
header:
	@MRLOCK_HEADER=include/mrlock.h $(CARGO) test --quiet --test product -- --exact header::is_up_to_date

# A Debian 11, 12 and 13 in a directory each, for the tests that install packages: they work on copies. (tests/vm/prepare-releases
# copies the last, and sid.) The namespace is for what debootstrap leaves mounted.
roots := $(addprefix $(TARGET)/debian-,bullseye bookworm trixie)
debian-roots: $(roots)
$(roots) $(TARGET)/debian-sid: $(TARGET)/debian-%:
	rm -rf $@.new
	unshare --mount debootstrap --variant=minbase $* $@.new >$@.log || { cat $@.log >&2; false; }
	rm -rf $@.new/var/cache/apt $@.new/var/lib/apt/lists $@.log
	mv $@.new $@

# For the tests of packaging/recipes and of the RPMs; each prints where it is. (packaging/dist.mk fetches them as it fetches its own tools.)
nfpm: $(nfpm)
	@echo $<
validator: $(validator)
	@echo $<
ray: $(ray)
	@echo $<
# For the tests of packaging/conda and packaging/spack.
rattler: $(rattler)
	@echo $<
ruff: $(ruff)
	@echo $<
# For the test of `mrlock status --openmetrics`.
metrics: $(metrics)
	@echo $<
# apt-get for the packages of another release: $(1) is a directory for its lists, $(2) the file that names the release.
apt = apt-get -qq $(addprefix -o ,Dir::State::lists=$(1)/lists Dir::State::status=/dev/null Dir::Cache=$(1) Dir::Etc::sourcelist=$(2) \
	Dir::Etc::sourceparts=- APT::Sandbox::User=root)

# gVisor, from Debian 13. For tests/machine/gvisor.rs.
gvisor := $(TARGET)/gvisor
trixie := $(TARGET)/debian-trixie
gvisor: $(gvisor)
	@echo $</usr/bin/runsc
$(gvisor): trixie-apt = $(call apt,$@.new,$(trixie)/etc/apt/sources.list) -o Dir::Etc::trustedparts=$(trixie)/etc/apt/trusted.gpg.d
$(gvisor): | $(trixie)
	rm -rf $@.new && mkdir -p $@.new/lists/partial
	$(trixie-apt) update && cd $@.new && $(trixie-apt) download runsc && dpkg -x runsc_*.deb .
	mv $@.new $@

# The newest libibverbs, and the newest headers of it and of the kernel, from Debian sid. For tests/product/newest_rdma.rs.
newest-rdma := $(TARGET)/newest-rdma
newest-rdma: sid-apt = $(call apt,$(newest-rdma),$(newest-rdma)/sources.list) -o APT::Update::Error-Mode=any -o Acquire::Retries=2
newest-rdma:
	@mkdir -p $(newest-rdma)/lists/partial && cd $(newest-rdma) && rm -rf *.deb usr
	@echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg target=Packages] http://deb.debian.org/debian sid main" \
		>$(newest-rdma)/sources.list
	@$(sid-apt) update
	@cd $(newest-rdma) && $(sid-apt) download libibverbs1 libibverbs-dev linux-libc-dev && \
		for package in *.deb; do dpkg -x $$package . || exit; done
	@echo $(newest-rdma)

# Not `cargo clean`, which would also remove the downloads and clients of the virtual machine (target/vm).
clean:
	rm -rf $(TARGET)/fixtures* $(TARGET)/demo-* $(PAGES) $(TARGET)/debug $(TARGET)/release $(TARGET)/ioctl $(TARGET)/peers $(TARGET)/tsan $(TARGET)/miri $(TARGET)/fuzz \
		$(TARGET)/scratch $(dist) $(TARGET)/portable $(TARGET)/*-unknown-linux-gnu

# The builds of the fake libibverbs: like Debian's (lib); with inner calls bound at link time, like Ubuntu's (bsymbolic);
# without ibv_reg_mr_iova2 (old); a second copy for the same process, under another name; with ThreadSanitizer (tsan); and with what
# a transfer engine asks of its device (engine).
$(FIXTURES)/bsymbolic/libibverbs.so.1: variant := -Wl,-Bsymbolic-functions
$(FIXTURES)/old/libibverbs.so.1: variant := -DFAKE_IBV_WITHOUT_IOVA2
$(second): variant := -DFAKE_IBV_COPY=1u
$(watched): variant := -fsanitize=thread
# -fsemantic-interposition: the compiler must leave calls of public functions to the loader.
$(verbs) $(watched): tests/fake_libibverbs/verbs.c tests/fake_libibverbs/libibverbs.map Makefile
$(FIXTURES)/engine/libibverbs.so.1: variant := -DFAKE_IBV_ENGINE
$(FIXTURES)/engine/libibverbs.so.1: tests/fake_libibverbs/verbs.c tests/fake_libibverbs/engine.c tests/fake_libibverbs/libibverbs.map Makefile
$(FIXTURES)/engine/libmlx5.so.1: tests/fake_libibverbs/mlx5.c tests/fake_libibverbs/libmlx5.map Makefile
$(verbs) $(watched) $(engine):
	@mkdir -p $(@D)
	@$(CC) -E -P -xc $(filter -D%,$(variant)) $(filter %.map,$^) -o $@.map
	$(COMPILE) $(variant) -fPIC -fsemantic-interposition -shared $(filter %.c,$^) -o $@ \
		-Wl,-soname,$(@F) -Wl,--version-script=$@.map
	@ln -sf $(@F) $(basename $@)

# Clients are linked to the first build, without a run path: LD_LIBRARY_PATH selects the build at run time.
$(linked) $(objects): libs := -L$(FIXTURES)/lib -libverbs
$(CLIENTS)/plugin_second.so: libs := -L$(FIXTURES)/lib -libverbs-second
# The program itself calls no function of libibverbs.
$(CLIENTS)/plugin_host_linked: libs := -Wl,--no-as-needed -L$(FIXTURES)/lib -libverbs -ldl
$(CLIENTS)/other_ioctl.so $(CLIENTS)/other_reg_mr.so $(CLIENTS)/old_dlsym.so $(CLIENTS)/wrapped_dlsym.so $(CLIENTS)/wrong_region.so $(CLIENTS)/no_device.so $(CLIENTS)/exec_by_qemu.so: libs :=
$(CLIENTS)/plugin_host $(CLIENTS)/reload_plugin $(CLIENTS)/dlopen_verbs: libs := -ldl
$(CLIENTS)/relaxed_ordering $(CLIENTS)/c_api $(CLIENTS)/slow_free.so $(CLIENTS)/calling_driver.so $(CLIENTS)/fake_driver.so: libs += -ldl
$(CLIENTS)/signals: libs += -lrt -ldl
$(CLIENTS)/ioctl_calls: libs := -lutil
$(CLIENTS)/raw_syscalls_static: libs := -static
# Weak references that nothing defines at link time must still be looked up at load time.
$(CLIENTS)/without_libibverbs $(CLIENTS)/optional_rdma: libs := -fPIC -Wl,-z,dynamic-undefined-weak -ldl
$(CLIENTS)/registered_before_main: libs := -L$(CLIENTS) -lregister_in_constructor -Wl,-rpath,'$$ORIGIN' -Wl,-rpath-link,$(FIXTURES)/lib
$(CLIENTS)/registered_before_main: $(CLIENTS)/libregister_in_constructor.so
$(CLIENTS)/cost $(CLIENTS)/contend: libs := -L$(FIXTURES)/lib -libverbs
$(filter %.so,$(benches)): libs :=

# A client is built from the source file with its name. The exceptions are clients that are built twice, and those of benches/.
again    := $(addprefix $(CLIENTS)/,plugin_host_linked raw_syscalls_static)
$(filter-out $(again),$(linked) $(unlinked)): $(CLIENTS)/%: tests/clients/%.c
$(CLIENTS)/plugin_host_linked: tests/clients/plugin_host.c
$(CLIENTS)/raw_syscalls_static: tests/clients/raw_syscalls.c
$(CLIENTS)/cost $(CLIENTS)/contend: $(CLIENTS)/%: benches/%.c
$(linked) $(unlinked) $(CLIENTS)/cost $(CLIENTS)/contend: Makefile | $(verbs)
	@mkdir -p $(@D)
	$(COMPILE) $(filter %.c,$^) -o $@ $(libs)

$(CLIENTS)/plugin.so $(CLIENTS)/plugin_second.so: tests/clients/plugin.c
$(CLIENTS)/libregister_in_constructor.so: tests/clients/register_in_constructor.c
$(CLIENTS)/other_ioctl.so: tests/clients/other_ioctl.c
$(CLIENTS)/slow_free.so: tests/clients/slow_free.c
$(CLIENTS)/calling_driver.so: tests/clients/calling_driver.c
$(CLIENTS)/fake_driver.so: tests/clients/fake_driver.c
$(CLIENTS)/other_reg_mr.so: tests/clients/other_reg_mr.c
$(CLIENTS)/old_dlsym.so: tests/clients/old_dlsym.c
$(CLIENTS)/wrapped_dlsym.so: tests/clients/wrapped_dlsym.c
$(CLIENTS)/registering_preload.so: tests/clients/registering_preload.c
$(CLIENTS)/wrong_region.so: tests/clients/wrong_region.c
$(CLIENTS)/no_device.so: tests/clients/no_device.c
$(CLIENTS)/exec_by_qemu.so: tests/clients/exec_by_qemu.c
$(CLIENTS)/call_times.so: benches/call_times.c
$(filter $(FIXTURES)/peers/%,$(benches)): $(FIXTURES)/peers/%.so: benches/peers/%.c
$(objects) $(filter %.so,$(benches)): Makefile | $(verbs)
	@mkdir -p $(@D)
	$(COMPILE) -fPIC -shared $(filter %.c,$^) -o $@ $(libs)

$(filter-out %.so,$(gpu)): $(FIXTURES)/gpu/%: tests/gpu/%.c Makefile | $(verbs)
	@mkdir -p $(@D)
	$(COMPILE) $< -o $@ -L$(FIXTURES)/lib -libverbs -ldl
$(FIXTURES)/gpu/witness.so: tests/gpu/witness.c Makefile
	@mkdir -p $(@D)
	$(COMPILE) -fPIC -shared $< -o $@ -ldl

$(cuda): tests/fake_libcuda/cuda.c Makefile
	@mkdir -p $(@D)
	$(COMPILE) -fPIC -fvisibility=hidden -shared $< -o $@ -Wl,-soname,$(@F)

$(rust): tests/clients/rust_ioctl.rs Makefile
	@mkdir -p $(@D)
	@echo "  RUSTC $(notdir $(@D))/$(@F)"
	@$(RUSTC) --edition 2024 -O --target $(TRIPLE) -C linker=$(CC) $< -o $@

-include $(wildcard $(FIXTURES)/*/*.d)
