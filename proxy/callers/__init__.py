"""Who is asking? One file per way of recognising a caller; nothing in here waits or looks outside."""
