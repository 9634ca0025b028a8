# The image that puts the plugin on a Kubernetes node: the frozen plugin and its installer, on busybox.
# It is run by conf/kubernetes/daemonset.yaml; the plugin itself runs on the node, started by the container runtime.
#
#   docker build -t cni-ovs .          (or podman build, or buildah bud)
#
# BASE is the Debian that freezes the plugin. The frozen plugin brings its Python along but not the C library, so the
# nodes' glibc must not be older than BASE's (bookworm: 2.36). Archive and package index are the ones that BASE is
# configured for; a site that has its own sets them up there (sources.list, pip.conf) and passes its image.
ARG BASE=debian:bookworm-slim

FROM ${BASE} AS builder
ARG DEBIAN_FRONTEND=noninteractive
RUN apt-get update \
    && apt-get install --yes --no-install-recommends binutils busybox-static libpython3.11 python3 python3-venv \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
# The locked packages first: this layer stays cached while only the plugin changes.
COPY build/requirements.lock build/requirements.lock
RUN python3 -m venv .venv \
    && .venv/bin/pip install --no-cache-dir --require-hashes --requirement build/requirements.lock
COPY . .
RUN build/binary
# VERSION: the image has no C library, so that the installer cannot ask the plugin.
RUN mkdir -p /image/bin /image/opt/cni-ovs \
    && cp /bin/busybox /image/bin/busybox \
    && for applet in $(busybox --list); do [ $applet = busybox ] || ln -s busybox /image/bin/$applet; done \
    && cp -RP LICENSE build/cni-ovs-install dist/ovs.d /image/opt/cni-ovs/ \
    && sed -n 's/^__version__ = "\(.*\)"$/\1/p' cni_ovs/__init__.py > /image/opt/cni-ovs/VERSION

FROM scratch
LABEL org.opencontainers.image.title="cni-ovs" \
      org.opencontainers.image.description="Installs the CNI plugin for Open vSwitch on a node"
COPY --from=builder /image/ /
ENTRYPOINT ["/opt/cni-ovs/cni-ovs-install"]
CMD ["/host/opt/cni/bin"]
