"""The CNI plugin `ovs`: the standard library only, and little of it (docs/design.md tells why)."""
