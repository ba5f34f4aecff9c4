# Once the library is gone, every program that is started complains of a line that still names it.
list=/etc/ld.so.preload
ours='(^|[[:space:]:])((/usr)?/(lib64|\$LIB|\$\{LIB\})/)?libmrlock(-ioctl)?\.so'
# $1: how many versions of the package stay.
if [ "$1" = 0 ] && grep -Eqs "$ours" $list; then
    echo "mrlock: $list still names the library: delete it there, or every program will print an error of ld.so" >&2
fi
