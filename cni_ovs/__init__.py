"""cni-ovs attaches containers to Open vSwitch: `plugin` is the CNI plugin, `cli` the operator's command."""

__version__ = "0.1.0"
