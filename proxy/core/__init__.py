"""What is allowed? Values in, values out: nothing in here waits, reads a file, a clock or a socket."""
