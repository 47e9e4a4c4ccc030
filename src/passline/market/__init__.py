"""Facts about instruments and time: contracts, calendar, bars, file formats, the built-in market."""
