# The RPMs: mrlock (library, command, manual pages) and mrlock-devel (what a program is linked with). nfpm makes them from what
# `make install` puts below /usr.

NFPM     := 2.48.0
nfpm     := $(TARGET)/nfpm-$(NFPM)
rpm_tree  = $(stage)/rpm
fill_rpm  = sed -e 's|@VERSION@|$(VERSION)|g' -e 's|@ARCH@|$(CPU)|' \
	-e "s|@DATE@|$$(date --utc --iso-8601=seconds --date=@$(epoch) | sed 's/+00:00/Z/')|"

.PHONY: rpm

# In an RPM, manual pages are compressed, and the recipes name the library where it is then.
rpm: dist-tree | $(nfpm)
	mkdir -p $(rpm_tree)/share/doc/mrlock
	$(MAKE) install $(packed) DESTDIR=$(rpm_tree)/tree \
		PREFIX=/usr BINDIR=/usr/bin LIBDIR=/usr/lib64 INCLUDEDIR=/usr/include DATADIR=/usr/share MANDIR=/usr/share/man
	mv $(rpm_tree)/tree/usr/share/man $(rpm_tree)/share
	gzip -9n $(rpm_tree)/share/man/*/*
	cp -R $(addprefix $(stage)/$(package)/,CHANGELOG.md README.md recipes) $(rpm_tree)/share/doc/mrlock
	sed -i 's,/usr/lib/$(CPU)-linux-gnu/,/usr/lib64/,g' $(rpm_tree)/share/doc/mrlock/recipes/*
	cp packaging/rpm/*.sh $(addprefix $(stage)/$(package)/,LICENSE THIRD-PARTY) $(rpm_tree)
	for file in changelog mrlock mrlock-devel; do \
		$(fill_rpm) packaging/rpm/$$file.yaml > $(rpm_tree)/$$file.yaml || exit; \
	done
	cd $(rpm_tree) && find share -type f -printf '  - {src: %p, dst: /usr/%p, type: doc}\n' | sort >> mrlock.yaml
	find $(rpm_tree) -exec touch --no-dereference --date=@$(epoch) {} +
	cd $(rpm_tree) && for name in mrlock mrlock-devel; do \
		SOURCE_DATE_EPOCH=$(epoch) $(nfpm)/bin/nfpm package --packager rpm --config $$name.yaml --target $(dist) >/dev/null || exit; \
	done
