# For releases whose glibc does not do this by itself.
ldconfig
