# The wheel, for `pip install`: the files of the tarball, and a module that says where the library is. hatchling makes it,
# and auditwheel says where it runs.

HATCHLING  := 1.33.0
AUDITWHEEL := 6.8.2
hatch      := $(TARGET)/hatchling-$(HATCHLING)-auditwheel-$(AUDITWHEEL)
wheel_tree  = $(dist)/wheel

.PHONY: wheel

wheel: dist-tree | $(hatch)
	cp -R packaging/wheel $(wheel_tree)
	cp -R $(addprefix $(dist)/$(package)/,include share README.md LICENSE THIRD-PARTY) $(wheel_tree)
	echo $(VERSION) > $(wheel_tree)/VERSION
	mkdir $(wheel_tree)/bin $(wheel_tree)/lib
	mv $(wheel_tree)/mrlock-run $(wheel_tree)/bin
	install -m 755 $(dist)/mrlock $(wheel_tree)/bin
	install -m 755 $(dist)/libmrlock.so $(wheel_tree)/lib/libmrlock.so.0
	install -m 644 packaging/mrlock-overlap.bt $(wheel_tree)/lib
	cd $(wheel_tree) && SOURCE_DATE_EPOCH=$(epoch) PYTHONPATH=$(hatch) python3 -m hatchling build --target wheel --directory $(dist)
	PYTHONPATH=$(hatch) python3 -m auditwheel show $(dist)/mrlock-$(VERSION)-*.whl > $(wheel_tree)/auditwheel
