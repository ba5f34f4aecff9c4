# An image that brings mrlock into a pod whose nodes do not have it. Its one step is the init container of kubernetes-init.yaml:
#
#     docker build --tag your-registry/mrlock --file init.Dockerfile DIRECTORY-OF-THE-TARBALL
FROM busybox
ADD mrlock-*-x86_64-linux-gnu.tar.gz /
CMD ["sh", "-c", "cp -R /mrlock-*/. /opt/mrlock"]
