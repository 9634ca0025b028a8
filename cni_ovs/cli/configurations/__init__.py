"""`cni-ovs validate`, `schema` and `migrate`: network configurations in files, and what is wrong with them."""
