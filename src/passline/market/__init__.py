"""Facts about instruments and time: contracts, calendar, bars, formats, the built-in market."""
