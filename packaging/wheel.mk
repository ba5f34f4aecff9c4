# The wheel, for `pip install`: the files of the tarball, and a module that says where the library is. hatchling makes it,
# and auditwheel says where it runs.

HATCHLING  := 1.33.0
AUDITWHEEL := 6.8.2
hatch      := $(TARGET)/hatchling-$(HATCHLING)-auditwheel-$(AUDITWHEEL)
wheel_tree  = $(stage)/wheel

.PHONY: wheel

wheel: dist-tree | $(hatch)
	cp -R packaging/wheel $(wheel_tree)
	cp -R $(addprefix $(stage)/$(package)/,include share README.md LICENSE THIRD-PARTY) $(wheel_tree)
	echo $(VERSION) > $(wheel_tree)/VERSION
	echo $(CPU) > $(wheel_tree)/PROCESSOR
	mkdir $(wheel_tree)/bin $(wheel_tree)/lib
	mv $(wheel_tree)/mrlock-run $(wheel_tree)/bin
	install -m 755 $(stage)/mrlock $(wheel_tree)/bin
	install -m 755 $(stage)/libmrlock.so $(wheel_tree)/lib/libmrlock.so.0
	install -m 755 $(stage)/libmrlock-ioctl.so $(wheel_tree)/lib/libmrlock-ioctl.so.0
	install -m 644 packaging/mrlock-overlap.bt $(wheel_tree)/lib
	cd $(wheel_tree) && SOURCE_DATE_EPOCH=$(epoch) PYTHONPATH=$(hatch) python3 -m hatchling build --target wheel --directory $(dist)
	PYTHONPATH=$(hatch) python3 -m auditwheel show $(dist)/mrlock-$(VERSION)-*_$(CPU).whl > $(wheel_tree)/auditwheel
