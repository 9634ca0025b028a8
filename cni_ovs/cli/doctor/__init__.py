"""`cni-ovs doctor`: the checks, what they look at, and how what they find is told."""
