"""Executed trades under a firm's rules: vendors' files in, verdicts out."""
