"""Compares Weir with nginx, HAProxy and Envoy on the same work. `make bench` runs it; ../README.md explains it."""
