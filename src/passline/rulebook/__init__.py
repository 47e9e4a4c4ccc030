"""What a firm demands, as data. Knows nothing of bars and nothing of the simulator."""
