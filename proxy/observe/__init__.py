"""What happened? One Record per request becomes metrics and one log line."""
