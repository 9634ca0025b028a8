"""Machinery of the tests: a private Open vSwitch, container namespaces, running the plugin, and finding what it left.

How the pieces depend on each other (an arrow reads "uses"):

    Node ──> PrivateOpenVSwitch ──> Namespace   (the namespace that plays the host; Open vSwitch runs inside it)
      ├────> Namespace …                        (one per container: a "sandbox")
      └────> Attachment … ──> Plugin ──> Target (one process per command, run inside the host namespace)

Nothing here imports the plugin's code (but forkserver.py in the process that it starts, for the operator's command):
what it did is read back from the kernel (pyroute2) and from Open vSwitch (`ovs-vsctl`, and the `ovs` library's IDL).
"""
