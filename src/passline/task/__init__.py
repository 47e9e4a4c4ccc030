"""What the agent sees, what it may do, and what it is paid for."""
