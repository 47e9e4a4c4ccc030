"""The account simulator: fills, ledger and rules in whole ticks and mills; no learning."""
