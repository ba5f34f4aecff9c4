# The .deb packages: mrlock (library, command, manual pages) and libmrlock-dev (what a program is linked with). debhelper
# makes them from what `make install` puts below /usr.

deb_tree = $(dist)/deb

.PHONY: deb

deb: dist-tree
	@command -v dh >/dev/null || { echo "make deb: there is no dh: install the Debian package debhelper" >&2; false; }
	mkdir $(deb_tree)
	cp -R packaging/debian $(deb_tree)
	sed -e 's|@VERSION@|$(VERSION)|' -e "s|@DATE@|$$(date --utc --rfc-email --date=@$(epoch))|" packaging/debian/changelog.in \
		> $(deb_tree)/debian/changelog
	install -m 644 -D --target-directory=$(deb_tree)/documents $(addprefix $(dist)/$(package)/,CHANGELOG.md README.md THIRD-PARTY)
	cp -R packaging/recipes $(deb_tree)/documents
	$(MAKE) install LIBRARY=$(dist)/libmrlock.so COMMAND=$(dist)/mrlock DESTDIR=$(deb_tree)/tree \
		PREFIX=/usr BINDIR=/usr/bin LIBDIR=/usr/lib/x86_64-linux-gnu INCLUDEDIR=/usr/include DATADIR=/usr/share MANDIR=/usr/share/man
	cd $(deb_tree) && env -u MAKEFLAGS -u MAKEOVERRIDES DH_QUIET=1 SOURCE_DATE_EPOCH=$(epoch) debian/rules --silent binary
