"""Every order of events in small worlds, to exhaustion."""
