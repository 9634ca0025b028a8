"""`cni-ovs test`: whether containers reach each other, and how well."""
