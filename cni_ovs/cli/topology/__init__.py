"""`cni-ovs show`: what hangs where, as a tree, as JSON, as a picture, and how much passes."""
