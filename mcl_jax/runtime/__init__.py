"""The process and its machine: platform settings, device mesh, several hosts, preemption."""
