# make install, make uninstall. DESTDIR is put before every path, and written into no file.

PREFIX     ?= /usr/local
BINDIR     ?= $(PREFIX)/bin
LIBDIR     ?= $(PREFIX)/lib
INCLUDEDIR ?= $(PREFIX)/include
DATADIR    ?= $(PREFIX)/share
MANDIR     ?= $(DATADIR)/man

# A path in LD_PRELOAD cannot contain a blank or a colon. Other characters are special to a shell, a linker or sed.
letters := a b c d e f g h i j k l m n o p q r s t u v w x y z A B C D E F G H I J K L M N O P Q R S T U V W X Y Z
letters += 0 1 2 3 4 5 6 7 8 9 . _ + / -
without  = $(if $(1),$(call without,$(wordlist 2,$(words $(1)),$(1)),$(subst $(firstword $(1)),,$(2))),$(2))
check = $(if $(and $(filter 1,$(words $($(1)))),$(filter /%,$($(1)))),$(if $(call without,$(letters),$($(1))),$(bad)),$(bad))
bad   = $(error $(1)=$($(1)): an absolute path of letters, digits and . _ + / - is needed)
$(foreach directory,$(if $(PREFIX),PREFIX) BINDIR LIBDIR INCLUDEDIR DATADIR MANDIR,$(call check,$(directory)))

relative  = $(shell realpath -ms --relative-to=$(1) $(2))
COMMAND  := $(TARGET)/$(TRIPLE)/release/mrlock
# The manual pages of the command, and its completions.
PAGES    := $(TARGET)/pages
VERSION  := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml)

release: $(IOCTL_LIBRARY) $(COMMAND) $(PAGES)

# After `make`, `sudo make install` has nothing to build: root may have no cargo.
$(LIBRARY) $(IOCTL_LIBRARY): build.rs Cargo.toml Cargo.lock $(filter-out %/tests.rs,$(shell find src -name '*.rs'))
$(LIBRARY):
	$(CARGO) build $(RELEASE)
	@touch -c $@

# In a directory of its own: cargo gives it the other library's name.
$(IOCTL_LIBRARY):
	$(CARGO) build $(RELEASE)/ioctl --no-default-features
	@install -D $(TARGET)/ioctl/$(TRIPLE)/release/libmrlock.so $@

# Apart from the library: cargo would give both the features that either of them needs.
$(COMMAND): cli/Cargo.toml Cargo.toml Cargo.lock $(shell find cli/src -name '*.rs')
	$(CARGO) build $(RELEASE) --package mrlock-cli --bin mrlock
	@touch -c $@

$(PAGES): cli/src/arguments.rs cli/Cargo.toml Cargo.toml Cargo.lock $(wildcard cli/examples/*)
	@rm -rf $@.new && mkdir -p $@.new
	$(CARGO) run --quiet --target $(HOST) --target-dir $(TARGET) --package mrlock-cli --example pages -- $@.new
	@rm -rf $@ && mv $@.new $@ && touch $@

bindir     = '$(DESTDIR)$(BINDIR)'
libdir     = '$(DESTDIR)$(LIBDIR)'
includedir = '$(DESTDIR)$(INCLUDEDIR)'
mandir     = '$(DESTDIR)$(MANDIR)'
datadir    = '$(DESTDIR)$(DATADIR)'
# The places that these shells look in.
bash_completions = $(datadir)/bash-completion/completions
fish_completions = $(datadir)/fish/vendor_completions.d
zsh_completions  = $(datadir)/zsh/site-functions
real      := libmrlock.so.$(VERSION)
real_ioctl := libmrlock-ioctl.so.$(VERSION)

# The variable `prefix` of mrlock.pc, which the user can override.
PC_PREFIX ?= $(PREFIX)
in_prefix  = $(patsubst $(PREFIX)/%,$${prefix}/%,$(1))
fill_in    = @sed -e 's|@VERSION@|$(VERSION)|' -e 's|@PREFIX@|$(PC_PREFIX)|' \
	-e 's|@LIBDIR@|$(call in_prefix,$(LIBDIR))|' -e 's|@INCLUDEDIR@|$(call in_prefix,$(INCLUDEDIR))|' \
	-e 's|@INCLUDE_FROM_LIB@|$(call relative,$(LIBDIR),$(INCLUDEDIR))|' packaging/$(1).in \
	| install -m 644 /dev/stdin $(2)/$(1)

.PHONY: install uninstall

# Other processes may preload the library at any moment: the rename replaces it at once, so it is never absent or incomplete.
# The command finds the library one directory up from its own file, and the script for bpftrace beside it, whatever BINDIR and
# LIBDIR are.
install: $(LIBRARY) $(IOCTL_LIBRARY) $(COMMAND) $(PAGES)
	install -d $(bindir) $(libdir)/mrlock $(libdir)/pkgconfig $(libdir)/cmake/mrlock $(includedir) \
		$(mandir)/man1 $(mandir)/man7 $(bash_completions) $(fish_completions) $(zsh_completions)
	install -m 755 $(LIBRARY) $(libdir)/$(real).new
	mv -f $(libdir)/$(real).new $(libdir)/$(real)
	install -m 755 $(IOCTL_LIBRARY) $(libdir)/$(real_ioctl).new
	mv -f $(libdir)/$(real_ioctl).new $(libdir)/$(real_ioctl)
	ln -sf $(real) $(libdir)/libmrlock.so.0
	ln -sf libmrlock.so.0 $(libdir)/libmrlock.so
	ln -sf $(real_ioctl) $(libdir)/libmrlock-ioctl.so.0
	install -m 755 $(COMMAND) $(libdir)/mrlock/mrlock.new
	mv -f $(libdir)/mrlock/mrlock.new $(libdir)/mrlock/mrlock
	install -m 644 packaging/mrlock-overlap.bt $(libdir)/mrlock
	ln -sf $(call relative,$(BINDIR),$(LIBDIR)/mrlock/mrlock) $(bindir)/mrlock
	ln -sf mrlock $(bindir)/mrlock-run
	install -m 644 include/mrlock.h $(includedir)
	install -m 644 $(PAGES)/*.1 $(mandir)/man1
	install -m 644 packaging/mrlock.7 $(mandir)/man7
	install -m 644 $(PAGES)/mrlock.bash $(bash_completions)/mrlock
	install -m 644 $(PAGES)/mrlock.fish $(fish_completions)
	install -m 644 $(PAGES)/_mrlock $(zsh_completions)
	$(call fill_in,mrlock.pc,$(libdir)/pkgconfig)
	$(call fill_in,mrlock-config.cmake,$(libdir)/cmake/mrlock)
	$(call fill_in,mrlock-config-version.cmake,$(libdir)/cmake/mrlock)

# Once the library is gone, every program that is started complains of a line that still names it.
preload    = '$(DESTDIR)'/etc/ld.so.preload
uninstall:
	@! grep -Eqs '(^|[[:space:]:])($(subst .,\.,$(LIBDIR))/)?libmrlock(-ioctl)?\.so' $(preload) || echo "mrlock:" $(preload) \
		"still names the library: delete it there, or every program will print an error of ld.so" >&2
	rm -f $(libdir)/$(real) $(libdir)/libmrlock.so.0 $(libdir)/libmrlock.so $(libdir)/$(real_ioctl) \
		$(libdir)/libmrlock-ioctl.so.0 $(bindir)/mrlock $(bindir)/mrlock-run $(includedir)/mrlock.h $(mandir)/man1/mrlock.1 $(mandir)/man1/mrlock-*.1 $(mandir)/man7/mrlock.7 \
		$(libdir)/pkgconfig/mrlock.pc $(bash_completions)/mrlock $(fish_completions)/mrlock.fish \
		$(zsh_completions)/_mrlock
	rm -rf $(libdir)/mrlock $(libdir)/cmake/mrlock
