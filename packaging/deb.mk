# The .deb packages: mrlock (library, command, manual pages) and libmrlock-dev (what a program is linked with). debhelper
# makes them from what `make install` puts below /usr.

deb_tree = $(stage)/deb
# Debian's name of the processor.
deb_cpu := $(patsubst aarch64,arm64,$(patsubst x86_64,amd64,$(CPU)))

.PHONY: deb

deb: dist-tree
	@command -v dh >/dev/null || { echo "make deb: there is no dh: install the Debian package debhelper" >&2; false; }
	mkdir $(deb_tree)
	cp -R packaging/debian $(deb_tree)
	sed -e 's|@VERSION@|$(VERSION)|' -e "s|@DATE@|$$(date --utc --rfc-email --date=@$(epoch))|" packaging/debian/changelog.in \
		> $(deb_tree)/debian/changelog
	install -m 644 -D --target-directory=$(deb_tree)/documents $(addprefix $(stage)/$(package)/,CHANGELOG.md README.md THIRD-PARTY)
	cp -R $(stage)/$(package)/recipes $(deb_tree)/documents
	$(MAKE) install $(packed) DESTDIR=$(deb_tree)/tree \
		PREFIX=/usr BINDIR=/usr/bin LIBDIR=/usr/lib/$(CPU)-linux-gnu INCLUDEDIR=/usr/include DATADIR=/usr/share MANDIR=/usr/share/man
	cd $(deb_tree) && env -u MAKEFLAGS -u MAKEOVERRIDES DH_QUIET=1 DEB_BUILD_OPTIONS=nocheck \
		SOURCE_DATE_EPOCH=$(epoch) CC='$(CC)' dpkg-architecture --host-arch $(deb_cpu) --command 'debian/rules --silent binary'
