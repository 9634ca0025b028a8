# The image that puts the plugin on a Kubernetes node: the two frozen forms of `ovs` and their installer, on busybox.
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
RUN mkdir -p /image/bin /image/opt/cni-ovs \
    && cp /bin/busybox /image/bin/busybox \
    && for applet in $(busybox --list); do [ $applet = busybox ] || ln -s busybox /image/bin/$applet; done \
    && cp -RP LICENSE build/install dist/ovs dist/ovs.d /image/opt/cni-ovs/

FROM scratch
LABEL org.opencontainers.image.title="cni-ovs" \
      org.opencontainers.image.description="Installs the CNI plugin for Open vSwitch on a node"
COPY --from=builder /image/ /
ENTRYPOINT ["/opt/cni-ovs/install"]
CMD ["--folder", "/host/opt/cni/bin"]
