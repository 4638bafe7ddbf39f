"""What were we told? Files and environment in, one frozen Snapshot (or a list of faults) out."""
