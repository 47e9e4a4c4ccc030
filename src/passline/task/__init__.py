"""What the agent sees, may do and is paid for; phases are rows of data."""
