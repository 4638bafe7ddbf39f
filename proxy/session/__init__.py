"""One command beside a proxy of its own: its environment, its signals, its end, and what it asked for."""
