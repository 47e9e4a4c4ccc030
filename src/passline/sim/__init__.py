"""The account simulator: fills, ledger and rules in whole ticks and mills. Knows nothing of learning."""
