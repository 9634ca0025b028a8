"""`cni-ovs explain`: ADD itself, carried out where nothing of it reaches the machine, and what it has sent."""
