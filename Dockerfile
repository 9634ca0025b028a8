# The image that puts the plugin on a Kubernetes node: the frozen plugin and its installer, on busybox.
# It is run by conf/kubernetes/daemonset.yaml; the plugin itself runs on the node, started by the container runtime.
#
#   docker build -t cni-ovs .          (or podman build, or buildah bud)
#
# BASE is the Debian that freezes the plugin (tested: bookworm, with its Python 3.11). The frozen plugin brings Python and
# C library along, so it does not matter what the nodes have. Archive and package index are the ones that BASE is
# configured for; a site that has its own sets them up there (sources.list, pip.conf) and passes its image.
ARG BASE=debian:bookworm-slim

FROM ${BASE} AS builder
ARG DEBIAN_FRONTEND=noninteractive
RUN apt-get update \
    && apt-get install --yes --no-install-recommends \
        binutils busybox-static gcc libc6-dev libpython3-dev python3 python3-venv \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
# The locked packages first: this layer stays cached while only the plugin changes.
COPY build/pyinstaller build/requirements.lock build/
COPY build/frozen/ build/frozen/
RUN python3 -m venv .venv \
    && .venv/bin/pip install --no-cache-dir --require-hashes --requirement build/requirements.lock \
    && build/pyinstaller
COPY . .
RUN build/binary ovs
RUN mkdir -p /image/bin /image/opt/cni-ovs \
    && cp /bin/busybox /image/bin/busybox \
    && for applet in $(busybox --list); do [ $applet = busybox ] || ln -s busybox /image/bin/$applet; done \
    && cp LICENSE build/cni-ovs-install dist/ovs /image/opt/cni-ovs/

FROM scratch
LABEL org.opencontainers.image.title="cni-ovs" \
      org.opencontainers.image.description="Installs the CNI plugin for Open vSwitch on a node"
COPY --from=builder /image/ /
ENTRYPOINT ["/opt/cni-ovs/cni-ovs-install"]
CMD ["/host/opt/cni/bin"]
