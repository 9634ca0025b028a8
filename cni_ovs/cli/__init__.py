"""The operator's command `cni-ovs`. Unlike the plugin it may use libraries: nobody waits for its start."""
